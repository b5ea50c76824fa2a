//! The tool definitions of a server, remembered from one session to the next.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::observe::redact::Redacted;
use crate::observe::tool_definition::Fingerprints;
use crate::observe::tools::{ToolSet, UnlistedTools};
use crate::settings::paths;
use crate::system::files::{read_limited, write_private};
use crate::text::hex;

/// Largest file, in bytes. Beyond it the servers that were used longest ago are forgotten.
const MAX_FILE: u64 = 1 << 20;
/// Servers of one name that are remembered.
const MAX_SERVERS: usize = 64;
/// Files that are kept. Beyond it those that were written longest ago are deleted.
const MAX_FILES: usize = 500;

/// The place of one server's tools: a file for its name, and in it an entry for its command and folder. Two
/// projects often have different servers of one name.
pub(crate) struct KnownTools {
    file: Option<PathBuf>,
    server: String,
}

/// The servers of one name, the one that was used last first.
#[derive(Default, Serialize, Deserialize)]
struct KnownServers {
    servers: Vec<KnownServer>,
}

#[derive(Serialize, Deserialize)]
struct KnownServer {
    /// Hash of the redacted command and of the folder.
    server: String,
    is_complete: bool,
    unlisted: u64,
    unlisted_hash: String,
    tools: Fingerprints,
}

impl KnownTools {
    pub(crate) fn of(server_name: &str, command: &[Redacted]) -> KnownTools {
        let folder = std::env::current_dir().unwrap_or_default();
        let mut hasher = Sha256::new_with_prefix(folder.as_os_str().as_encoded_bytes());
        for word in command {
            hasher.update([0]);
            hasher.update(word.as_str());
        }
        let server = hex::text(&hasher.finalize()[..16]);
        KnownTools { file: paths::tools_file(server_name), server }
    }

    /// Reads the tools of the last session with this server.
    pub(crate) fn read(&self) -> Option<ToolSet> {
        let known = self.servers().servers.into_iter().find(|known| known.server == self.server)?;
        known.tools()
    }

    /// Writes the tools of this session, unless they are those of the last one.
    pub(crate) fn update(&self, tools: &ToolSet) {
        let Some(file) = &self.file else { return };
        // Another session may have written the file meanwhile.
        let KnownServers { mut servers } = self.servers();
        if servers
            .first()
            .is_some_and(|first| first.server == self.server && first.tools().as_ref() == Some(tools))
        {
            return;
        }
        servers.retain(|known| known.server != self.server);
        servers.insert(0, KnownServer::new(self.server.clone(), tools));
        servers.truncate(MAX_SERVERS);
        let mut known = KnownServers { servers };
        let written = loop {
            match serde_json::to_vec(&known) {
                Ok(text) if text.len() as u64 > MAX_FILE && known.servers.len() > 1 => {
                    drop(known.servers.pop())
                }
                Ok(text) => break write_private(file, &text),
                Err(error) => break Err(error.into()),
            }
        };
        if let Err(error) = written {
            tracing::info!("tool definitions are not remembered: {error}");
        }
        self.delete_oldest();
    }

    /// Returns the servers in the file. A file that cannot be used has none; one of an earlier version has hashes
    /// that cannot be compared.
    fn servers(&self) -> KnownServers {
        let text = self.file.as_deref().and_then(|file| read_limited(file, MAX_FILE).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn delete_oldest(&self) {
        let Some(folder) = self.file.as_deref().and_then(std::path::Path::parent) else { return };
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<(SystemTime, PathBuf)> =
            files.filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path()))).collect();
        files.sort();
        let surplus = files.len().saturating_sub(MAX_FILES);
        for (_, file) in &files[..surplus] {
            let _ = std::fs::remove_file(file);
        }
    }
}

impl KnownServer {
    fn new(server: String, tools: &ToolSet) -> KnownServer {
        KnownServer {
            server,
            is_complete: tools.is_complete,
            unlisted: tools.unlisted.count,
            unlisted_hash: hex::text(&tools.unlisted.hash),
            tools: tools.fingerprints.clone(),
        }
    }

    fn tools(&self) -> Option<ToolSet> {
        let hash = hex::bytes(&self.unlisted_hash)?.try_into().ok()?;
        let mut tools = ToolSet::new(self.is_complete, UnlistedTools { count: self.unlisted, hash });
        self.tools.iter().for_each(|(name, fingerprint)| tools.add(name, fingerprint));
        Some(tools)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tool_definition::ToolFingerprint;

    fn set(tool: &str, hash: u8) -> ToolSet {
        let mut set = ToolSet::new(true, UnlistedTools::default());
        set.add(tool, &ToolFingerprint::of_hash([hash; 32]));
        set.unlisted.add([hash; 32]);
        set
    }

    #[test]
    fn each_server_of_a_name_is_remembered_in_a_file_of_limited_size() {
        let folder = tempfile::tempdir().unwrap();
        let known = |server: &str| KnownTools {
            file: Some(folder.path().join("tools/github.json")),
            server: server.to_owned(),
        };
        assert_eq!(known("a").read(), None);
        known("a").update(&set("x", 1));
        known("b").update(&set("x", 2));
        assert_eq!((known("a").read(), known("b").read()), (Some(set("x", 1)), Some(set("x", 2))));
        let mut large = ToolSet::default();
        (0..10_000).for_each(|tool| large.add(&format!("{tool:0250}"), &ToolFingerprint::of_hash([9; 32])));
        for server in 0..20 {
            known(&server.to_string()).update(&large);
            assert!(known("a").file.unwrap().metadata().unwrap().len() <= MAX_FILE);
        }
        assert_eq!(known("19").read(), Some(large));
        assert_eq!(known("a").read(), None);
    }

    #[test]
    fn a_file_that_is_not_ours_is_replaced_and_surplus_files_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let known = |name: &str| KnownTools { file: Some(folder.path().join(name)), server: "a".to_owned() };
        for text in ["", "{\"x\":\"00\"}", "{\"servers\":[{\"server\":\"a\"}]}", "[]"] {
            std::fs::write(folder.path().join("odd.json"), text).unwrap();
            assert_eq!(known("odd.json").read(), None, "{text}");
            known("odd.json").update(&set("x", 1));
            assert_eq!(known("odd.json").read(), Some(set("x", 1)));
        }
        (0..MAX_FILES + 5).for_each(|n| known(&format!("{n}.json")).update(&set("x", 1)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), MAX_FILES);
        assert_eq!(known("504.json").read(), Some(set("x", 1)));
    }
}
