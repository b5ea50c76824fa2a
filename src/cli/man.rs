//! `spantap man`: prints a manual page.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::cli::{Cli, Out, hint};

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command that the page is about [default: spantap itself]
    command: Option<String>,
}

impl ManArgs {
    /// Prints a manual page in roff, for `man -l -`.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let mut program = Cli::whole();
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => program
                .find_subcommand(name)
                .cloned()
                .with_context(|| format!("unknown command `{name}`"))
                .map_err(|error| hint(error, "`spantap help` lists the commands"))?,
        };
        // The page of a command would not contain the version otherwise.
        clap_mangen::Man::new(page).source(format!("spantap {}", crate::VERSION)).render(out)?;
        Ok(ExitCode::SUCCESS)
    }
}
