//! The live files: connections that run now, and those whose proxy was killed.

use std::path::Path;
use std::time::Duration;

use crate::record::live::{self, LiveState};
use crate::system::{files, procfs};

/// How often a file that is being overwritten is read again.
const ATTEMPTS: u32 = 5;
/// Most files that are read.
const MOST_FILES: usize = 2_000;

/// The state of the proxy of a live file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    Running,
    /// The proxy left its file and does not run.
    Killed,
    /// The file is of another boot or of another pid namespace.
    Unknown,
}

/// A connection with a live file.
#[derive(Clone, Debug)]
pub(crate) struct LiveConnection {
    pub(crate) state: LiveState,
    pub(crate) liveness: Liveness,
}

/// Reads the live files in `folder`, in the order in which the connections began. Returns also one line for each
/// file that cannot be read.
pub(crate) fn connections(folder: &Path) -> (Vec<LiveConnection>, Vec<String>) {
    connections_of(folder, MOST_FILES)
}

/// Does the same for at most `most` files.
pub(super) fn connections_of(folder: &Path, most: usize) -> (Vec<LiveConnection>, Vec<String>) {
    let (states, problems) = states(folder, live::EXTENSION, most);
    let connection = |state: LiveState| {
        let proxy = &state.proxy;
        let running = procfs::is_running(&proxy.boot_id, &proxy.namespace, proxy.pid, proxy.start_ticks);
        let liveness = match running {
            Some(true) => Liveness::Running,
            Some(false) => Liveness::Killed,
            None => Liveness::Unknown,
        };
        LiveConnection { state, liveness }
    };
    let mut connections: Vec<LiveConnection> = states.into_iter().map(connection).collect();
    connections.sort_by(|a, b| {
        let key = |connection: &LiveConnection| {
            (connection.state.started_at, connection.state.connection_id.clone())
        };
        key(a).cmp(&key(b))
    });
    (connections, problems)
}

/// Reads at most `most` files with this extension.
pub(super) fn states(folder: &Path, extension: &str, most: usize) -> (Vec<LiveState>, Vec<String>) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Default::default(),
        Err(error) => return (Vec::new(), vec![format!("{}: {error}", folder.display())]),
    };
    let (mut states, mut problems) = (Vec::new(), Vec::new());
    let paths = entries.flatten().map(|entry| entry.path());
    let own = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    for (number, path) in own.enumerate() {
        if number >= most {
            problems.push(format!("{}: only {most} live files are read", folder.display()));
            break;
        }
        match read(&path) {
            Ok(state) => states.extend(state),
            Err(problem) => problems.push(format!("{}: {problem}", path.display())),
        }
    }
    (states, problems)
}

/// Reads one file; `None` if its connection has ended meanwhile.
fn read(path: &Path) -> Result<Option<LiveState>, String> {
    let mut problem = "";
    for _ in 0..ATTEMPTS {
        let bytes = match files::read_limited(path, live::LIMIT as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        match LiveState::decode(&bytes) {
            Ok(state) => return Ok(Some(state)),
            Err(found) => problem = found,
        }
        // The proxy writes a state in one call, which takes microseconds.
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(problem.to_owned())
}
