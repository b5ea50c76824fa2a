//! What has been sent: remembered for the next run, shown while it goes on.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::export::otlp::OtlpSettings;
use crate::export::otlp::settings::SignalTarget;
use crate::query::files::Source;
use crate::settings::paths;
use crate::text::hex;

/// How many lines of each file have been taken, and where to.
#[derive(Default)]
pub(super) struct Progress(HashMap<String, u64>);

impl Progress {
    fn file() -> Option<PathBuf> {
        Some(paths::state_dir()?.join("exported.json"))
    }

    /// What earlier runs remember; nothing where that cannot be read.
    pub(super) fn load() -> Progress {
        let text = Progress::file().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        Progress(serde_json::from_slice(&text).unwrap_or_default())
    }

    pub(super) fn lines(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, key: &str, lines: u64) {
        self.0.insert(key.to_owned(), lines);
    }

    /// # Errors
    /// When there is no place to remember in.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let file = Progress::file().context("no home folder to remember in")?;
        let folder = file.parent().context("no folder")?;
        std::fs::create_dir_all(folder)?;
        let temporary = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&temporary, &self.0)?;
        temporary.persist(&file).with_context(|| format!("failed to write `{}`", file.display()))?;
        Ok(())
    }
}

/// Which file, and where to. An endpoint may hold credentials: it is hashed.
pub(super) fn key(settings: &OtlpSettings, source: &Source) -> String {
    let path = source.path().map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    let endpoint = |target: &Option<SignalTarget>| {
        target.as_ref().map(|target| target.endpoint.clone()).unwrap_or_default()
    };
    let path = path.unwrap_or_default();
    let what = format!("{}\n{}\n{}", endpoint(&settings.traces), endpoint(&settings.logs), path.display());
    hex::text(&Sha256::digest(what))
}

/// Shows how far we are, where somebody is watching.
pub(super) struct Bar {
    files: usize,
    watched: bool,
}

impl Bar {
    pub(super) fn new(files: usize) -> Bar {
        Bar { files, watched: std::io::stderr().is_terminal() }
    }

    pub(super) fn show(&self, file: usize, source: &Source, records: u64) {
        if self.watched {
            let name = source.name();
            let name = crate::present::format::clean(&name);
            let name = name.rsplit('/').next().unwrap_or_default();
            let text = format!("\r\x1b[K{}/{} {name}, {records} records sent", file + 1, self.files);
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.watched {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
