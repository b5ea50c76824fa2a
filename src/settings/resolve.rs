//! The sources of the settings, and the order in which they win: flag, environment variable, the server's
//! own section of the config file, its top level, default.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::settings::kind::{self, Kind, Written};
use crate::settings::table::{Given, Settings, variable};
use crate::settings::tables::Redaction;
use crate::settings::{Environment, File, server_name};

/// A value and its origin.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Environment(String),
    File { path: PathBuf, line: usize },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Environment(name) => f.write_str(name),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A value that cannot be used. Its text names the setting, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    /// The setting or table; `None` for a name or a line that is unknown.
    pub setting: Option<&'static str>,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// A config file that exists, or that the user named, and that cannot be read.
#[derive(Debug)]
pub struct FileError {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config file `{}` cannot be read: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for FileError {}

/// Everything that settings come from, read once.
pub struct Sources<'a> {
    given: Given,
    environment: Environment<'a>,
    path: Option<PathBuf>,
    file: Result<Option<File>, FileError>,
}

impl<'a> Sources<'a> {
    /// Reads the config file: `--config`, else `SPANTAP_CONFIG`, else `config.toml` in `config_dir`. A file
    /// of the current folder is never read: a cloned repository must not steer the proxy.
    pub fn read(given: Given, environment: Environment<'a>, config_dir: Option<&Path>) -> Sources<'a> {
        let (path, is_named) = config_file(&given, environment, config_dir).unzip();
        let missing = || io::Error::other("the file does not exist");
        let file = match path.as_deref().map(File::read).transpose() {
            Ok(None | Some(None)) if is_named == Some(true) => Err(missing()),
            Ok(file) => Ok(file.flatten()),
            Err(error) => Err(error),
        };
        let file = file.map_err(|error| FileError { path: path.clone().unwrap_or_default(), error });
        Sources { given, environment, path, file }
    }

    /// Makes sources of a config file that was read already.
    pub fn with_file(given: Given, environment: Environment<'a>, file: File) -> Sources<'a> {
        Sources { given, environment, path: None, file: Ok(Some(file)) }
    }

    /// Returns the path of the config file, which need not exist.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the config file, if there is one.
    ///
    /// # Errors
    /// If the file exists, or the user named it, and it cannot be read.
    pub fn file(&self) -> Result<Option<&File>, &FileError> {
        self.file.as_ref().map(Option::as_ref)
    }

    /// Returns the name of the server that `command` starts: the configured name, else one derived from the
    /// command.
    pub(crate) fn server_name(&self, command: &[OsString]) -> String {
        self.resolver("").server().value.unwrap_or_else(|| server_name::server_name(command))
    }

    /// Returns a resolver of single settings of the server `server_name`.
    pub(crate) fn resolver(&'a self, server_name: &'a str) -> Resolver<'a> {
        let file = self.file.as_ref().ok().and_then(Option::as_ref);
        let problems = file.map(File::problems).unwrap_or_default();
        Resolver { given: &self.given, environment: self.environment, file, server_name, problems }
    }

    /// Resolves every setting of the server `server_name`. A value that cannot be used is a problem of the
    /// result, and the next source counts. If the config file cannot be read, its redaction is not known: no
    /// free text is written.
    pub fn settings(&self, server_name: &str) -> Settings {
        let mut settings = self.resolver(server_name).settings();
        if self.file.is_err() {
            settings.redaction = Redaction::Unusable;
        }
        for text in [&mut settings.session_id, &mut settings.user_id, &mut settings.otlp_endpoint] {
            text.value.take_if(|text| text.is_empty());
        }
        for path in [&mut settings.log_dir, &mut settings.hash_key_file] {
            path.value = path.value.take().map(kind::expand_home);
        }
        settings
    }
}

/// Returns the path of the config file, and true if the user named it.
pub(crate) fn config_file(
    given: &Given,
    environment: Environment<'_>,
    config_dir: Option<&Path>,
) -> Option<(PathBuf, bool)> {
    let named = given.config.clone().or_else(|| environment("SPANTAP_CONFIG").map(PathBuf::from));
    let usual = || Some((config_dir?.join("config.toml"), false));
    named.map(|path| (path, true)).or_else(usual)
}

/// Resolves settings one by one, and collects the values that cannot be used.
pub(crate) struct Resolver<'a> {
    pub(super) given: &'a Given,
    environment: Environment<'a>,
    pub(super) file: Option<&'a File>,
    pub(super) server_name: &'a str,
    pub(super) problems: Vec<Problem>,
}

impl Resolver<'_> {
    /// Returns the value of the first source of the setting `name` that `kind` can parse. `given` is the
    /// value of its flag.
    pub(super) fn get<G, T: From<G>>(
        &mut self,
        name: &'static str,
        kind: &Kind<G>,
        given: Option<G>,
        default: impl FnOnce() -> T,
    ) -> Setting<T> {
        if let Some(value) = given {
            return Setting { value: value.into(), origin: Origin::Flag };
        }
        if self.given.unusable.contains(&name) {
            self.refuse(name, kind.expected, Origin::Flag);
        }
        for written in self.written(name) {
            match (kind.parse)(&written) {
                Some(value) => return Setting { value: value.into(), origin: written.origin },
                None => self.refuse(name, kind.expected, written.origin),
            }
        }
        Setting { value: default(), origin: Origin::Default }
    }

    /// Returns the texts of the setting `name` in the environment and the config file.
    fn written(&self, name: &str) -> impl Iterator<Item = Written> + use<> {
        let variable = variable(name);
        let environment = (self.environment)(&variable)
            .filter(|text| !text.is_empty())
            .map(|text| Written { texts: vec![text], origin: Origin::Environment(variable) });
        let file = self.file.map(|file| file.scalars(self.server_name, name)).unwrap_or_default();
        environment.into_iter().chain(file)
    }

    pub(super) fn refuse(&mut self, name: &'static str, expected: &str, origin: Origin) {
        let text = format!("`{name}` is not {expected}; ignoring it");
        self.problems.push(Problem { origin, setting: Some(name), text });
    }

    /// Returns the problems in the order of the file.
    pub(super) fn problems(&mut self) -> Vec<Problem> {
        let mut problems = std::mem::take(&mut self.problems);
        problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line, .. } => line,
            _ => 0,
        });
        problems
    }
}
