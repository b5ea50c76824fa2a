//! Progress of an export: saved for the next run, and shown on the terminal.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::export::otlp::OtlpSettings;
use crate::export::otlp::settings::SignalTarget;
use crate::present::Printable;
use crate::query::files::LogSource;
use crate::settings::paths;
use crate::text::hex;

/// Number of lines that a collector has taken, by file and collector.
#[derive(Default)]
pub(super) struct ExportProgress(HashMap<String, u64>);

impl ExportProgress {
    fn file() -> Option<PathBuf> {
        Some(paths::state_dir()?.join("exported.json"))
    }

    /// Loads the progress of earlier runs; empty if it cannot be read.
    pub(super) fn load() -> ExportProgress {
        let text = ExportProgress::file().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        ExportProgress(serde_json::from_slice(&text).unwrap_or_default())
    }

    pub(super) fn lines(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, key: &str, lines: u64) {
        self.0.insert(key.to_owned(), lines);
    }

    pub(super) fn save(&self) -> anyhow::Result<()> {
        let file = ExportProgress::file().context("no home folder to save the progress in")?;
        let folder = file.parent().context("no folder")?;
        std::fs::create_dir_all(folder)?;
        let temporary = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&temporary, &self.0)?;
        temporary.persist(&file).with_context(|| format!("failed to write `{}`", file.display()))?;
        Ok(())
    }
}

/// Returns the key of a file and a collector. It is a hash, because an endpoint can contain credentials.
pub(super) fn key(settings: &OtlpSettings, source: &LogSource) -> String {
    let path = source.path().map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    let endpoint = |target: &Option<SignalTarget>| {
        target.as_ref().map(|target| target.endpoint.clone()).unwrap_or_default()
    };
    let path = path.unwrap_or_default();
    let what = format!("{}\n{}\n{}", endpoint(&settings.traces), endpoint(&settings.logs), path.display());
    hex::text(&Sha256::digest(what))
}

/// Progress line on stderr, if stderr is a terminal.
pub(super) struct ProgressLine {
    files: usize,
    is_terminal: bool,
}

impl ProgressLine {
    pub(super) fn new(files: usize) -> ProgressLine {
        ProgressLine { files, is_terminal: std::io::stderr().is_terminal() }
    }

    pub(super) fn show(&self, file: usize, source: &LogSource, records: u64) {
        if self.is_terminal {
            let name = Printable::new(&source.name());
            let name = name.rsplit('/').next().unwrap_or_default();
            let text = format!("\r\x1b[K{}/{} {name}, {records} records sent", file + 1, self.files);
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_terminal {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
