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

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    pub origin: SettingOrigin,
    /// The setting or table; `None` for a name or a line that is unknown, unless it may belong to `collect`.
    pub setting: Option<&'static str>,
    /// Names the setting, never the value.
    pub text: String,
    /// The consequence, unless `--strict` is set; empty if the text has advice instead.
    pub consequence: &'static str,
}

impl SettingProblem {
    /// Returns origin and text without the consequence.
    pub(crate) fn cause(&self) -> String {
        format!("{}: {}", self.origin, self.text)
    }
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)?;
        match self.consequence {
            "" => Ok(()),
            consequence => write!(f, "; {consequence}"),
        }
    }
}
