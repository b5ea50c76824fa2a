//! `spantap completions`: prints a shell completion script.

use std::process::ExitCode;

use clap::Args;

use crate::cli::{Cli, Out};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that the script is for
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        // The generator panics if it cannot write, so it writes to memory.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::plain(), env!("CARGO_PKG_NAME"), &mut script);
        out.write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
