//! The tool definitions of a server, remembered from one session to the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::settings::paths;
use crate::text::hex;

/// The hash of each tool definition, by the tool's name.
pub(crate) type ToolHashes = BTreeMap<String, [u8; 32]>;

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
    let text = std::fs::read(file).ok()?;
    let hex: BTreeMap<String, String> = serde_json::from_slice(&text).ok()?;
    let decode = |hex: String| {
        let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
        (0..32).map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
    };
    hex.into_iter().map(|(name, hash)| Some((name, decode(hash)?))).collect()
}

/// Replaces the file as a whole, so that servers that end together do not mix their lines.
fn write(file: &Path, tools: &ToolHashes) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = file.parent().ok_or_else(|| anyhow::anyhow!("no folder"))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let map: BTreeMap<&str, String> =
        tools.iter().map(|(name, hash)| (name.as_str(), hex::text(hash))).collect();
    let temporary = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&temporary, &map)?;
    temporary.persist(file)?;
    Ok(())
}
