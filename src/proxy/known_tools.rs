//! The tool definitions of a server, remembered from one session to the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::settings::paths;
use crate::system::files::{read_limited, write_private};
use crate::text::hex;

/// The hash of each tool definition, by the tool's name.
pub(crate) type ToolHashes = BTreeMap<String, [u8; 32]>;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The file of one server and its content at the start of the session.
pub(crate) struct KnownTools {
    file: Option<PathBuf>,
    pub(crate) hashes: Option<ToolHashes>,
}

impl KnownTools {
    pub(crate) fn read(server_name: &str) -> KnownTools {
        let file = paths::tools_file(server_name);
        let hashes = file.as_deref().and_then(read);
        KnownTools { file, hashes }
    }

    /// Writes the tools of this session, if they differ from those at its start.
    pub(crate) fn update(&self, tools: &ToolHashes) {
        if let Some(file) = &self.file
            && self.hashes.as_ref() != Some(tools)
            && let Err(error) = write(file, tools)
        {
            tracing::info!("tool definitions are not remembered: {error}");
        }
    }
}

fn read(file: &Path) -> Option<ToolHashes> {
    let text = read_limited(file, MAX_FILE).ok()?;
    let hex: BTreeMap<String, String> = serde_json::from_slice(&text).ok()?;
    let decode = |hex: String| {
        let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
        (0..32).map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
    };
    hex.into_iter().map(|(name, hash)| Some((name, decode(hash)?))).collect()
}

fn write(file: &Path, tools: &ToolHashes) -> anyhow::Result<()> {
    let map: BTreeMap<&str, String> =
        tools.iter().map(|(name, hash)| (name.as_str(), hex::text(hash))).collect();
    Ok(write_private(file, &serde_json::to_vec(&map)?)?)
}
