//! What keeps an installation in order: old logs deleted, the record's schema, completions, the manual.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;

use crate::cli::run::RunArgs;
use crate::cli::{Cli, Out, config_file, done, hint};
use crate::export::log::retention::{self, Kept, Outcome};
use crate::present::format;
use crate::record::schema;
use crate::settings::paths;
use crate::settings::{Config, process_environment};

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Delete logs that were last written to longer ago than this, e.g. 30d
    #[arg(long, value_name = "AGE", value_parser = crate::text::duration::parse)]
    older_than: Duration,
    /// Say what would be deleted, and delete nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Folder of the session logs [default: see spantap doctor]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

impl PruneArgs {
    /// Deletes old logs, one line each, and a line with the sum; files in use stay.
    ///
    /// # Errors
    /// The folder cannot be read, or a file cannot be deleted (the others are, first).
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let is_named = self.log_dir.is_some();
        let folder = folder(self.log_dir)?.ok_or_else(|| {
            hint(anyhow::anyhow!("no folder for session logs is known"), "name one with --log-dir DIR")
        })?;
        let logs = match retention::session_logs(&folder) {
            // Nothing was ever recorded.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => Vec::new(),
            logs => logs.with_context(|| format!("failed to read folder `{}`", folder.display()))?,
        };
        // All is deleted that is old, whoever reads which.
        let mut said = Ok(());
        let limit = SystemTime::now().checked_sub(self.older_than);
        let is_old = |log: &Kept| limit.is_some_and(|limit| log.written < limit);
        let (mut deleted, mut size, mut in_use, mut failed) = (0, 0, 0, None);
        for log in logs.iter().filter(|log| is_old(log)) {
            let outcome = match self.dry_run {
                true => retention::is_in_use(&log.path)
                    .map(|in_use| if in_use { Outcome::InUse } else { Outcome::Deleted }),
                false => retention::delete(&log.path),
            };
            match outcome {
                Ok(Outcome::Deleted) => {
                    deleted += 1;
                    size += log.size;
                    said = said.and(writeln!(out, "{}", format::clean(&log.path.display().to_string())));
                }
                Ok(Outcome::InUse) => in_use += 1,
                Err(error) => {
                    let what = format!("failed to delete `{}`", log.path.display());
                    failed.get_or_insert(anyhow::Error::from(error).context(what));
                }
            }
        }
        let verb = if self.dry_run { "would delete" } else { "deleted" };
        let files = format::plural(deleted, "file");
        let kept = logs.len() as u64 - deleted;
        let busy = if in_use > 0 { format!(", {in_use} of them old but in use") } else { String::new() };
        let said = said.and(writeln!(out, "{verb} {files}, {}; kept {kept}{busy}", format::bytes(size)));
        match failed {
            Some(error) => Err(hint(error, "check who owns the file and its folder")),
            None => done(ExitCode::SUCCESS, said),
        }
    }
}

/// The folder that the proxy writes to with these settings.
///
/// # Errors
/// The config file, which may say where it is, cannot be read.
pub(super) fn folder(log_dir: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    let args = RunArgs { log_dir, ..RunArgs::default() };
    let file = config_file(&args)?;
    let config = Config::resolve(&args, &process_environment, file.as_ref(), "");
    Ok(config.log_dir.value.or_else(paths::sessions_dir))
}

#[derive(Debug, Args)]
pub struct SchemaArgs {}

impl SchemaArgs {
    /// Prints the JSON Schema of the log record.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        writeln!(out, "{:#}", schema::schema())?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that the script is for
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl CompletionsArgs {
    /// Prints a completion script.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        // The generator ends the process where it cannot write, so it writes into memory.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::whole(), env!("CARGO_PKG_NAME"), &mut script);
        out.write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command that the page is about [default: spantap itself]
    command: Option<String>,
}

impl ManArgs {
    /// Prints a manual page in roff, for `man -l -`.
    ///
    /// # Errors
    /// There is no such command; those of `out`.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let mut program = Cli::whole();
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => program
                .find_subcommand(name)
                .cloned()
                .with_context(|| format!("there is no command `{name}`"))
                .map_err(|error| hint(error, "`spantap help` lists them"))?,
        };
        // A command's page would name no version otherwise.
        clap_mangen::Man::new(page).source(format!("spantap {}", crate::VERSION)).render(out)?;
        Ok(ExitCode::SUCCESS)
    }
}
