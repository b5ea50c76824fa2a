//! The sources of the settings, and the order in which they win: flag, environment variable, the server's
//! own section of the config file, its top level, default.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::settings::kind::{SettingKind, SettingText};
use crate::settings::origin::{Setting, SettingOrigin, SettingProblem};
use crate::settings::redaction::RedactionTable;
use crate::settings::table::{GivenSettings, NOTIFY, SettingLookup, Settings, names, variable};
use crate::settings::{ConfigFile, Environment, server_name};
use crate::system::files::home::expand_home;

/// A config file that exists, or that the user named, and that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("config file `{}` cannot be read: {error}", path.display())]
pub struct ConfigFileError {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

pub struct SettingSources<'a> {
    given: GivenSettings,
    environment: Environment<'a>,
    path: Option<PathBuf>,
    /// True if a flag or a variable names the file.
    is_named: bool,
    file: Result<Option<ConfigFile>, ConfigFileError>,
}

impl<'a> SettingSources<'a> {
    /// Reads the config file: `--config`, else `SPANTAP_CONFIG`, else `config.toml` in `config_dir`. A file
    /// of the current folder is never read: a cloned repository must not steer the proxy.
    pub fn read(
        given: GivenSettings,
        environment: Environment<'a>,
        config_dir: Option<&Path>,
    ) -> SettingSources<'a> {
        let (path, is_named) = config_file(&given, environment, config_dir).unzip();
        let missing = || io::Error::other("the file does not exist");
        let file = match path.as_deref().map(ConfigFile::read).transpose() {
            Ok(None | Some(None)) if is_named == Some(true) => Err(missing()),
            Ok(file) => Ok(file.flatten()),
            Err(error) => Err(error),
        };
        let file = file.map_err(|error| ConfigFileError { path: path.clone().unwrap_or_default(), error });
        SettingSources { given, environment, path, is_named: is_named == Some(true), file }
    }

    /// Makes the sources of the settings from a config file that was read already.
    pub fn with_file(
        given: GivenSettings,
        environment: Environment<'a>,
        file: ConfigFile,
    ) -> SettingSources<'a> {
        SettingSources { given, environment, path: None, is_named: false, file: Ok(Some(file)) }
    }

    /// Returns the path of the config file, which need not exist.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the config file, if there is one.
    pub fn file(&self) -> Result<Option<&ConfigFile>, &ConfigFileError> {
        self.file.as_ref().map(Option::as_ref)
    }

    /// Returns the name of the section of the server that `command` starts: the configured name, else one
    /// derived from the command. It may contain a secret and must not be shown.
    pub(crate) fn section_name(&self, command: &[OsString]) -> String {
        let given = self.resolver("").server().value.filter(|name| !name.is_empty());
        given.unwrap_or_else(|| server_name::section_name(command))
    }

    /// Returns a resolver of single settings of the server `server_name`.
    pub(crate) fn resolver(&'a self, server_name: &'a str) -> SettingResolver<'a> {
        let file = self.file.as_ref().ok().and_then(Option::as_ref);
        SettingResolver {
            given: &self.given,
            environment: self.environment,
            is_named: self.is_named,
            file,
            server_name,
            problems: Vec::new(),
        }
    }

    /// Resolves every setting of the server `server_name`. A value that cannot be used is a problem of the
    /// result, and the next source counts. If the config file cannot be read, its redaction is not known: no
    /// free text is written.
    pub fn settings(&self, server_name: &str) -> Settings {
        let mut resolver = self.resolver(server_name);
        resolver.problems =
            resolver.file.map(|file| file.problems(names().chain([NOTIFY]))).unwrap_or_default();
        let mut settings = resolver.single_settings();
        settings.cost_per_call = resolver.cost_per_call();
        settings.cost_models = resolver.cost_models();
        settings.thrash_tools = resolver.thrash_tools();
        settings.notify = resolver.notify();
        settings.redaction = resolver.redaction();
        settings.otlp_tables = resolver.otlp_tables();
        settings.problems = resolver.problems();
        if self.file.is_err() {
            settings.redaction = RedactionTable::Unusable;
        }
        for text in [
            &mut settings.session_id,
            &mut settings.user_id,
            &mut settings.otlp_endpoint,
            &mut settings.collect_forward,
        ] {
            text.value.take_if(|text| text.is_empty());
        }
        for path in [&mut settings.log_dir, &mut settings.hash_key_file, &mut settings.collect_token_file] {
            // The reading commands give a path that the shell has expanded.
            path.value = path.value.take().map(|path| expand_home(path.clone()).unwrap_or(path));
        }
        settings
    }
}

/// Returns the path of the config file, and true if the user named it.
pub(crate) fn config_file(
    given: &GivenSettings,
    environment: Environment<'_>,
    config_dir: Option<&Path>,
) -> Option<(PathBuf, bool)> {
    let named = given.config.clone().or_else(|| environment("SPANTAP_CONFIG").map(PathBuf::from));
    let named = named.map(|path| expand_home(path.clone()).unwrap_or(path));
    let usual = || Some((config_dir?.join("config.toml"), false));
    named.map(|path| (path, true)).or_else(usual)
}

/// The consequence for a value that cannot be used.
pub(super) const IGNORED: &str = "ignoring it";

/// Resolves settings one by one, and collects the values that cannot be used.
pub(crate) struct SettingResolver<'a> {
    pub(super) given: &'a GivenSettings,
    pub(super) environment: Environment<'a>,
    pub(super) is_named: bool,
    pub(super) file: Option<&'a ConfigFile>,
    pub(super) server_name: &'a str,
    pub(super) problems: Vec<SettingProblem>,
}

impl SettingLookup for SettingResolver<'_> {
    fn given(&self) -> &GivenSettings {
        self.given
    }

    fn get<G, T: From<G>>(
        &mut self,
        name: &'static str,
        kind: &SettingKind<G>,
        given: Option<G>,
        default: impl FnOnce() -> T,
    ) -> Setting<T> {
        if let Some(value) = given {
            return Setting { value: value.into(), origin: SettingOrigin::Flag };
        }
        if self.given.unusable.contains(&name) {
            self.refuse(name, kind.expected, SettingOrigin::Flag);
        }
        for written in self.written(name) {
            match (kind.parse)(&written) {
                Some(value) => return Setting { value: value.into(), origin: written.origin },
                None => self.refuse(name, kind.expected, written.origin),
            }
        }
        Setting { value: default(), origin: SettingOrigin::Default }
    }
}

impl SettingResolver<'_> {
    /// Returns the texts of the setting `name` in the environment and the config file.
    fn written(&self, name: &str) -> impl Iterator<Item = SettingText> + use<> {
        let variable = variable(name);
        let environment = (self.environment)(&variable)
            .filter(|text| !text.is_empty())
            .map(|text| SettingText { texts: vec![text], origin: SettingOrigin::Environment(variable) });
        let file = self.file.map(|file| file.scalars(self.server_name, name)).unwrap_or_default();
        environment.into_iter().chain(file)
    }

    pub(super) fn refuse(&mut self, name: &'static str, expected: &str, origin: SettingOrigin) {
        let text = format!("`{name}` is not {expected}");
        self.problems.push(SettingProblem { origin, setting: Some(name), text, consequence: IGNORED });
    }

    /// Returns the problems in the order of the file.
    fn problems(&mut self) -> Vec<SettingProblem> {
        let mut problems = std::mem::take(&mut self.problems);
        problems.sort_by_key(|problem| match problem.origin {
            SettingOrigin::File { line, .. } => line,
            _ => 0,
        });
        problems
    }
}
