use std::process::ExitCode;

use clap::Args;

use super::Out;

#[derive(Debug, Args)]
pub struct TailArgs {}

impl TailArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct SessionsArgs {}

impl SessionsArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct ShowArgs {}

impl ShowArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct StatsArgs {}

impl StatsArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}

#[derive(Debug, Args)]
pub struct ReportArgs {}

impl ReportArgs {
    pub fn run(self, _out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not written yet")
    }
}
