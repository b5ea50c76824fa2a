//! `spantap schema`: prints the JSON Schema of the log record.

use std::process::ExitCode;

use crate::cli::Out;
use crate::record::schema;

pub(super) fn run(out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
    writeln!(out, "{:#}", schema::schema())?;
    Ok(ExitCode::SUCCESS)
}
