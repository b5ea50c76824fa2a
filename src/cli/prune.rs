//! `spantap prune`: deletes old session logs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;

use crate::cli::{Out, done, help, hint, log_folder};
use crate::export::log::retention::{self, Deletion, SessionLog};
use crate::present::{Printable, format};

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Delete logs that were last written to longer ago than this, e.g. 30d
    #[arg(long, value_name = "AGE", value_parser = crate::text::duration::parse)]
    older_than: Duration,
    /// Print what would be deleted, and delete nothing
    #[arg(long, short_alias = 'n')]
    dry_run: bool,
    #[arg(long, value_name = "DIR", help = help::of("log_dir"))]
    log_dir: Option<PathBuf>,
}

impl PruneArgs {
    /// Deletes old logs and prints a line for each and a line with the sum. Files in use stay.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let is_named = self.log_dir.is_some();
        let folder = log_folder(self.log_dir.clone())?.ok_or_else(|| {
            hint(anyhow::anyhow!("no folder for session logs is known"), "name one with --log-dir DIR")
        })?;
        let logs = match retention::session_logs(&folder) {
            // No session has been recorded yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => Vec::new(),
            logs => logs.with_context(|| format!("failed to read folder `{}`", folder.display()))?,
        };
        let (mut deleted, mut size, mut in_use, mut failed, mut printed) = (0, 0, 0, None, Ok(()));
        let limit = SystemTime::now().checked_sub(self.older_than);
        let is_old = |log: &&SessionLog| limit.is_some_and(|limit| log.written < limit);
        // Every old log is deleted, even if the reader of the output is gone.
        for log in logs.iter().filter(is_old) {
            let outcome = match self.dry_run {
                true => {
                    log.is_in_use().map(|in_use| if in_use { Deletion::InUse } else { Deletion::Deleted })
                }
                false => log.delete(),
            };
            match outcome {
                Ok(Deletion::Deleted) => {
                    deleted += log.files.len();
                    size += log.size();
                    for file in &log.files {
                        let path = file.path.to_string_lossy();
                        printed = printed.and(writeln!(out, "{}", Printable::new(&path)));
                    }
                }
                Ok(Deletion::InUse) => in_use += log.files.len(),
                Err(error) => {
                    let first = log.files.first().map(|file| file.path.display().to_string());
                    let what = format!("failed to delete `{}`", first.unwrap_or_default());
                    failed.get_or_insert(anyhow::Error::from(error).context(what));
                }
            }
        }
        let verb = if self.dry_run { "would delete" } else { "deleted" };
        let files = format::plural(deleted as u64, "file");
        let kept = logs.iter().map(|log| log.files.len()).sum::<usize>() - deleted;
        let busy = if in_use > 0 { format!(", {in_use} of them old but in use") } else { String::new() };
        let printed =
            printed.and(writeln!(out, "{verb} {files}, {}; kept {kept}{busy}", format::bytes(size)));
        match failed {
            Some(error) => Err(hint(error, "check who owns the file and its folder")),
            None => done(ExitCode::SUCCESS, printed),
        }
    }
}
