//! `spantap schema`: prints the JSON Schema of the log record.

use std::process::ExitCode;

use clap::Args;

use crate::cli::Out;
use crate::record::schema;

#[derive(Debug, Args)]
pub struct SchemaArgs {}

impl SchemaArgs {
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        writeln!(out, "{:#}", schema::schema())?;
        Ok(ExitCode::SUCCESS)
    }
}
