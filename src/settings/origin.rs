//! The value of a setting with its origin, and the problem of a value that cannot be used.

use std::fmt;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Setting<T> {
    pub value: T,
    pub origin: SettingOrigin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    Flag,
    Environment(String),
    File { path: PathBuf, line: usize },
    Default,
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingOrigin::Flag => f.write_str("flag"),
            SettingOrigin::Environment(name) => f.write_str(name),
            SettingOrigin::File { path, line } => write!(f, "{}:{line}", path.display()),
            SettingOrigin::Default => f.write_str("default"),
        }
    }
}

/// A value that cannot be used. Its text names the setting, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    pub origin: SettingOrigin,
    /// The setting or table; `None` for a name or a line that is unknown, unless it may belong to `collect`.
    pub setting: Option<&'static str>,
    pub text: String,
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}
