//! The live files: connections that run now, and those whose proxy was killed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::record::live::{self, LiveRequest, LiveState};
use crate::system::{files, processes};

/// Longest time for which one look at a folder waits for files that are being written. A file takes microseconds, but
/// its writer has the lowest priority, so on a busy machine it can be stopped between the two halves.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two looks at such a file.
const PAUSE: Duration = Duration::from_millis(2);
/// Age from which a file is not being written any more.
const WRITTEN: Duration = Duration::from_secs(2);
/// Most files that are read.
const MOST_FILES: usize = 2_000;

/// Greatest distance of two different times of files.
const CLOCK_TICK: Duration = Duration::from_millis(50);

/// The state of the proxy of a live file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    Running,
    /// The proxy left its file and does not run; or a later start of a spantap found that.
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

impl LiveConnection {
    /// Returns true if a request waits for its answer now. A subscription is open as long as its connection.
    pub(crate) fn waits(&self) -> bool {
        let is_open = |request: &LiveRequest| request.method != "subscriptions/listen";
        self.liveness == Liveness::Running && self.state.open.iter().any(is_open)
    }
}

/// Returns the connections of `live` whose proxy was killed. `has_ended` returns true for a connection whose end is
/// recorded: its proxy may have had no time to remove its file.
pub(crate) fn killed(
    live: &[LiveConnection],
    has_ended: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &LiveState> {
    let killed = live.iter().filter(|connection| connection.liveness == Liveness::Killed);
    killed.map(|connection| &connection.state).filter(move |state| !has_ended(&state.connection_id))
}

/// Reads the live files in `folder`, in the order in which the connections began. Returns also one line for each
/// file that cannot be read.
pub(crate) fn connections(folder: &Path) -> (Vec<LiveConnection>, Vec<String>) {
    LiveFolder::default().read(folder)
}

/// Reads at most `most` files of connections, and none of those that a later start found killed.
pub(super) fn connections_of(folder: &Path, most: usize) -> (Vec<LiveConnection>, Vec<String>) {
    LiveFolder::default().connections(folder, &[live::EXTENSION], most)
}

/// Reads at most `most` files with this extension.
pub(super) fn states(folder: &Path, extension: &str, most: usize) -> (Vec<LiveState>, Vec<String>) {
    let (states, problems) = LiveFolder::default().states(folder, &[extension], most);
    (states.into_iter().map(|(_, state)| state).collect(), problems)
}

/// The files of a folder that is read again and again: a file that has not changed is not read again.
#[derive(Debug, Default)]
pub(crate) struct LiveFolder {
    /// Each state with the time at which its file was written.
    known: HashMap<PathBuf, (SystemTime, LiveState)>,
}

impl LiveFolder {
    /// Like [`connections`].
    pub(crate) fn read(&mut self, folder: &Path) -> (Vec<LiveConnection>, Vec<String>) {
        self.connections(folder, &[live::EXTENSION, live::KILLED_EXTENSION], MOST_FILES)
    }

    fn connections(
        &mut self,
        folder: &Path,
        extensions: &[&str],
        most: usize,
    ) -> (Vec<LiveConnection>, Vec<String>) {
        let (states, problems) = self.states(folder, extensions, most);
        let connection = |(path, state): (PathBuf, LiveState)| {
            let was_killed = path.extension().is_some_and(|own| own == live::KILLED_EXTENSION);
            let liveness = if was_killed { Liveness::Killed } else { Liveness::of(&state) };
            LiveConnection { liveness, state }
        };
        let mut connections: Vec<LiveConnection> = states.into_iter().map(connection).collect();
        connections.sort_by(|a, b| {
            (a.state.started_at, &a.state.connection_id).cmp(&(b.state.started_at, &b.state.connection_id))
        });
        // A file that got its other extension meanwhile was found twice.
        connections.dedup_by(|a, b| a.state.connection_id == b.state.connection_id);
        (connections, problems)
    }

    fn states(
        &mut self,
        folder: &Path,
        extensions: &[&str],
        most: usize,
    ) -> (Vec<(PathBuf, LiveState)>, Vec<String>) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Default::default(),
            Err(error) => return (Vec::new(), vec![format!("{}: {error}", folder.display())]),
        };
        let mut before = std::mem::take(&mut self.known);
        let (mut states, mut problems) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + PATIENCE;
        let mut wait = || {
            std::thread::sleep(PAUSE);
            Instant::now() < deadline
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let is_own = |path: &PathBuf| {
            path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension))
        };
        let own = paths.filter(is_own);
        for (number, path) in own.enumerate() {
            if number >= most {
                problems.push(format!("{}: only {most} live files are read", folder.display()));
                break;
            }
            let written = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let written = written.unwrap_or(SystemTime::UNIX_EPOCH);
            let state = match before.remove(&path).filter(|(known, _)| *known == written) {
                Some((_, state)) => Ok(Some(state)),
                None => read(&path, &mut wait),
            };
            match state {
                Ok(Some(state)) => {
                    // A file that was written just now may be written again at the same time of its file system.
                    if written.elapsed().is_ok_and(|age| age > CLOCK_TICK) {
                        self.known.insert(path.clone(), (written, state.clone()));
                    }
                    states.push((path, state));
                }
                Ok(None) => {}
                Err(problem) => problems.push(format!("{}: {problem}", path.display())),
            }
        }
        (states, problems)
    }
}

impl Liveness {
    fn of(LiveState { proxy, .. }: &LiveState) -> Liveness {
        match processes::is_running(&proxy.boot_id, &proxy.namespace, proxy.pid, proxy.start_ticks) {
            Some(true) => Liveness::Running,
            Some(false) => Liveness::Killed,
            None => Liveness::Unknown,
        }
    }
}

/// Reads one file; `None` if its connection has ended meanwhile. While the file is being written, it is read again as
/// long as `wait` returns true.
fn read(path: &Path, wait: &mut dyn FnMut() -> bool) -> Result<Option<LiveState>, String> {
    let is_written = || {
        let written = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > WRITTEN))
    };
    loop {
        let bytes = match files::read_limited(path, live::LIMIT as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        match LiveState::decode(&bytes) {
            Ok(state) => return Ok(Some(state)),
            Err(live::INCOMPLETE) if !is_written() && wait() => {}
            Err(problem) => return Err(problem.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_after_it_was_written_and_forgotten_after_it_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.live");
        let mut live = LiveFolder::default();
        let mut names = || {
            let (found, problems) = live.read(folder.path());
            assert!(problems.is_empty(), "{problems:?}");
            found.into_iter().map(|found| found.state.server_name).collect::<Vec<_>>()
        };
        for (seconds, name) in [(30, "first"), (20, "second")] {
            let mut state = LiveState { server_name: name.to_owned(), ..LiveState::default() };
            std::fs::write(&path, state.encode()).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
            assert_eq!((names(), names()), (vec![name.to_owned()], vec![name.to_owned()]));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(names().is_empty());
    }

    #[test]
    fn a_file_is_read_again_while_its_writer_was_stopped_and_a_broken_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.live");
        let mut state = LiveState { server_name: "a".to_owned(), ..LiveState::default() };
        let whole = state.encode();
        for torn in [&whole[..0], &whole[..whole.len() / 2]] {
            std::fs::write(&path, torn).unwrap();
            // On a slow machine it would become too old between two looks.
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() + 100 * WRITTEN).unwrap();
            let mut waits = 0;
            let found = read(&path, &mut || {
                waits += 1;
                if waits == 100 {
                    std::fs::write(&path, &whole).unwrap();
                }
                true
            });
            assert_eq!((found, waits), (Ok(Some(state.clone())), 100));
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(read(&path, &mut || false).is_err(), "the patience has an end");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - 2 * WRITTEN).unwrap();
        assert!(read(&path, &mut || panic!("its writer is gone")).is_err());
        std::fs::write(&path, "spantap-live/9 1 a\n{").unwrap();
        assert!(read(&path, &mut || panic!("waiting makes it no older")).is_err());
    }
}
