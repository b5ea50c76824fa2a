//! Limits and names that HTTP and gRPC have in common.

use std::path::Path;

use anyhow::Context;

/// Most bytes that are read of an answer.
pub(super) const MAX_ANSWER: u64 = 64 << 10;
/// A distribution puts its own product in front of the exporter's.
pub(super) const USER_AGENT: &str =
    concat!("spantap/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust");

/// Reads a certificate or key file.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))
}
