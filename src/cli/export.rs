use std::process::ExitCode;

use clap::Args;

use super::Out;

#[derive(Debug, Args)]
pub struct ExportArgs {}

impl ExportArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}
