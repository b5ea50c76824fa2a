//! The options of `run` that `wrap` writes into entries.

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ContextKind;

use crate::cli::{Cli, exit_with};
use crate::hosts::splice::ORIGIN;
use crate::settings::{Environment, GivenSettings, SettingSources, config_file, paths, process_environment};
use crate::system::files::home;

/// Returns options for the config file and the log folder of this shell, if an entry without options would
/// use others: hosts do not pass on the variables that name them.
pub(super) fn inherited(given: &[String]) -> Vec<String> {
    let is_given =
        |flag: &str| given.iter().any(|word| word == flag || word.starts_with(&format!("{flag}=")));
    let mut options = Vec::new();
    let mut add = |flag: &str, path: PathBuf| {
        let path = std::path::absolute(&path).unwrap_or(path);
        options.extend([flag.to_owned(), path.to_string_lossy().into_owned()]);
    };
    let here = config_file(&GivenSettings::default(), &process_environment, paths::config_dir().as_deref());
    let here = here.map(|(path, _)| path);
    if let Some(file) = here.filter(|file| file.is_file() && Some(file) != config_file_of_hosts().as_ref())
        && !is_given("--config")
    {
        add("--config", file);
    }
    if let (Some(folder), Some(theirs)) = (log_dir(&process_environment, false), log_dir(&|_| None, true))
        && folder != theirs
        && !is_given("--log-dir")
    {
        add("--log-dir", folder);
    }
    options
}

/// Returns the config file of an entry without `--config`. Hosts pass on only the home folder.
fn config_file_of_hosts() -> Option<PathBuf> {
    Some(home::folder()?.join(".config/spantap/config.toml"))
}

/// Returns the folder of session logs. With `is_stripped`, the XDG variables are ignored.
fn log_dir(environment: Environment<'_>, is_stripped: bool) -> Option<PathBuf> {
    let here = config_file(&GivenSettings::default(), &process_environment, paths::config_dir().as_deref());
    let given = GivenSettings { config: here.map(|(path, _)| path), ..GivenSettings::default() };
    let settings = SettingSources::read(given, environment, None).settings("");
    let default = || match is_stripped {
        true => Some(home::folder()?.join(".local/state/spantap/sessions")),
        false => paths::sessions_dir(),
    };
    settings.log_dir.value.or_else(default)
}

/// Checks options before they are written: an option that `run` refuses would keep the servers from starting.
pub(super) fn check(options: &[String]) -> anyhow::Result<()> {
    let is_reserved = |word: &&str| ["--", "--wrapped", "--server", ORIGIN].contains(word);
    let flags = options.iter().map(|word| word.split_once('=').map_or(word.as_str(), |(flag, _)| flag));
    if let Some(word) = flags.into_iter().find(is_reserved) {
        return Err(refused(anyhow::anyhow!("`{word}` cannot be among the options passed on")));
    }
    let line =
        ["spantap", "run"].into_iter().chain(options.iter().map(String::as_str)).chain(["--", "server"]);
    Cli::try_parse_from(line).map_err(|error| {
        let context = |kind| error.get(kind).map(ToString::to_string);
        let option = context(ContextKind::InvalidArg).unwrap_or_default();
        let value = context(ContextKind::InvalidValue).filter(|value| !value.is_empty());
        let what = match value {
            Some(value) => format!("the value `{value}` of `{option}`"),
            None => format!("`{option}`"),
        };
        let reason = error.source().map(|reason| format!(": {reason}")).unwrap_or_default();
        refused(anyhow::anyhow!("`spantap run` does not accept {what}{reason}"))
    })?;
    Ok(())
}

fn refused(error: anyhow::Error) -> anyhow::Error {
    exit_with(2, error, "options after `--` are those of `spantap run --help`")
}
