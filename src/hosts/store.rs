//! Reads config files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::hosts::tree::FileFormat;
use crate::system::files::read_limited;

/// Content of a file when it was read.
#[derive(Clone, Debug)]
pub struct FileSnapshot {
    /// Path of the file itself, with links resolved.
    pub path: PathBuf,
    pub(super) bytes: Vec<u8>,
    has_bom: bool,
}

const BOM: &[u8] = b"\xef\xbb\xbf";
/// Size of the largest JSON file that is accepted: some hosts keep their history in the file of their servers.
const MAX_JSON: u64 = 64 << 20;
/// Size of the largest TOML or YAML file. Its syntax tree takes a hundred times as much memory.
const MAX_OTHER: u64 = 1 << 20;

impl FileSnapshot {
    /// Reads a file. A link is followed, and [`FileSnapshot::replace`] writes its target.
    pub fn read(path: &Path) -> io::Result<FileSnapshot> {
        let path = fs::canonicalize(path)?;
        let limit = if FileFormat::of(&path) == FileFormat::Json { MAX_JSON } else { MAX_OTHER };
        let bytes = read_limited(&path, limit)?;
        std::str::from_utf8(&bytes).map_err(|_| io::Error::other("not UTF-8"))?;
        let has_bom = bytes.starts_with(BOM);
        Ok(FileSnapshot { path, bytes, has_bom })
    }

    /// Returns the text without a byte order mark.
    pub fn text(&self) -> &str {
        let start = if self.has_bom { BOM.len() } else { 0 };
        std::str::from_utf8(&self.bytes[start..]).unwrap_or_default()
    }

    /// Returns the bytes of a file with this text, with a byte order mark if this file has one.
    pub(super) fn with_bom(&self, text: &str) -> Vec<u8> {
        let bom = if self.has_bom { BOM } else { b"" };
        [bom, text.as_bytes()].concat()
    }
}
