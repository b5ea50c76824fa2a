//! Limits and names that HTTP and gRPC have in common.

use std::path::Path;

use anyhow::Context;

use crate::system::files::read_limited;

/// Most bytes that are read of an answer.
pub(super) const MAX_ANSWER: u64 = 64 << 10;
/// Largest certificate or key file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// A distribution puts its own product in front of the exporter's.
pub(super) const USER_AGENT: &str =
    concat!("spantap/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust");

pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_limited(path, MAX_FILE).with_context(|| format!("failed to read `{}`", path.display()))
}
