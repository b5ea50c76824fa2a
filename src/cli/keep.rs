use std::process::ExitCode;

use clap::Args;

use super::Out;

#[derive(Debug, Args)]
pub struct PruneArgs {}

impl PruneArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct SchemaArgs {}

impl SchemaArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {}

impl CompletionsArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct ManArgs {}

impl ManArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}
