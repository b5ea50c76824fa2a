//! The redacted bodies of one operation, in the files beside its log.

use std::path::{Path, PathBuf};

use crate::record::body::BodyRecord;
use crate::record::file_name::SessionFileName;
use crate::record::words::BodyPart;
use crate::system::files;

/// Largest size of a part that is read.
const LONGEST_PART: u64 = 80 << 20;

/// A body that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBody {
    /// JSON text, redacted; absent if it was not seen whole.
    pub(crate) text: Option<String>,
    /// Length of the body as received, in bytes.
    pub(crate) size: u64,
}

/// The bodies of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationBodies {
    pub(crate) request: Option<KeptBody>,
    pub(crate) response: Option<KeptBody>,
}

impl OperationBodies {
    /// Reads the bodies of the operation with this span from the files of its connection in `folders`.
    pub(crate) fn read(folders: &[PathBuf], connection_id: &str, span_id: &str) -> OperationBodies {
        let mut bodies = OperationBodies::default();
        for path in folders.iter().flat_map(|folder| parts(folder, connection_id)) {
            let Ok(lines) = files::read_own(&path, LONGEST_PART) else { continue };
            let lines = lines.split(|byte| *byte == b'\n');
            let has_span = |line: &&[u8]| memchr::memmem::find(line, span_id.as_bytes()).is_some();
            for line in lines.filter(has_span) {
                if let Ok(record) = serde_json::from_slice::<BodyRecord<'_>>(line)
                    && record.span_id == span_id
                {
                    bodies.take(record);
                }
            }
        }
        bodies
    }

    fn take(&mut self, record: BodyRecord<'_>) {
        let kept = KeptBody { text: record.body.map(|body| body.into_owned()), size: record.size_bytes };
        match record.part {
            Some(BodyPart::Request) => self.request = Some(kept),
            Some(BodyPart::Response) => self.response = Some(kept),
            None => {}
        }
    }
}

/// Returns the files of bodies of a connection.
fn parts(folder: &Path, connection_id: &str) -> Vec<PathBuf> {
    let is_part = |name: &str| {
        SessionFileName::parse_bodies(name).is_some_and(|name| connection_id.ends_with(&name.connection))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_part));
    own.map(|entry| entry.path()).collect()
}
