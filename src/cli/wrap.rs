use std::process::ExitCode;

use clap::Args;

use super::Out;

#[derive(Debug, Args)]
pub struct WrapArgs {}

impl WrapArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct UnwrapArgs {}

impl UnwrapArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct StatusArgs {}

impl StatusArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}
