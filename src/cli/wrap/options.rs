//! Options that `wrap` writes into entries.

use std::path::{Path, PathBuf};

use clap::Parser;

use crate::cli::run::RunArgs;
use crate::cli::{Cli, Hinted};
use crate::settings::paths;
use crate::settings::{self, Config, Environment, File, process_environment};

/// What the shell says and a host's stripped environment will not: where the config file and the logs
/// are, when that is not where an entry without options would look.
pub(super) fn inherited(given: &[String]) -> Vec<String> {
    let is_given =
        |flag: &str| given.iter().any(|word| word == flag || word.starts_with(&format!("{flag}=")));
    let mut options = Vec::new();
    let mut add = |flag: &str, path: PathBuf| {
        let path = std::path::absolute(&path).unwrap_or(path);
        options.extend([flag.to_owned(), path.to_string_lossy().into_owned()]);
    };
    let here = settings::file_path(&RunArgs::default(), &process_environment, paths::config_dir().as_deref());
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

/// Where an entry without `--config` looks: hosts pass on no more than the home folder.
fn config_file_of_hosts() -> Option<PathBuf> {
    Some(etcetera::home_dir().ok()?.join(".config/spantap/config.toml"))
}

/// The folder of session logs by this environment and the config file that holds here; with
/// `is_stripped`, as without the XDG variables.
fn log_dir(environment: Environment<'_>, is_stripped: bool) -> Option<PathBuf> {
    let path = settings::file_path(&RunArgs::default(), &process_environment, paths::config_dir().as_deref());
    let file = path.as_deref().and_then(|path: &Path| File::read(path).ok().flatten());
    let config = Config::resolve(&RunArgs::default(), environment, file.as_ref(), "");
    let default = || match is_stripped {
        true => Some(etcetera::home_dir().ok()?.join(".local/state/spantap/sessions")),
        false => paths::sessions_dir(),
    };
    config.log_dir.value.or_else(default)
}

/// An option that `run` refuses would keep every wrapped server from starting.
///
/// # Errors
/// The first option that `run` would not take, or that `wrap` writes itself.
pub(super) fn check(options: &[String]) -> anyhow::Result<()> {
    let is_ours = |word: &String| word == "--" || word == "--wrapped" || word == "--server";
    if let Some(word) = options.iter().find(|word| is_ours(word)) {
        return Err(refused(anyhow::anyhow!("`{word}` cannot be among the options passed on")));
    }
    let line =
        ["spantap", "run"].into_iter().chain(options.iter().map(String::as_str)).chain(["--", "server"]);
    Cli::try_parse_from(line).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        refused(anyhow::anyhow!("{first}"))
    })?;
    Ok(())
}

fn refused(error: anyhow::Error) -> anyhow::Error {
    Hinted { error, hint: "options after -- are those of `spantap run --help`".to_owned(), status: 2 }.into()
}
