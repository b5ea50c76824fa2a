//! The look at the control file of `spantap debug`, on the observer thread and without its lock: a state folder on a
//! disk that hangs must not hold up the other threads.

use std::path::PathBuf;
use std::time::Duration;

use crate::observe::DebugOrder;
use crate::observe::event::BodiesState;
use crate::record::debug_control::{DebugClock, DebugControl, LIMIT};
use crate::record::timestamp::Timestamp;
use crate::relay::chunk::Moment;
use crate::system::access::FileVersion;
use crate::system::{files, processes};

/// Time between two looks. The observer thread is awake more often without traffic.
const INTERVAL: Duration = Duration::from_secs(2);
/// A change of the end by less than this is a difference between the two clocks.
const TOLERANCE: Duration = Duration::from_secs(1);

pub(crate) struct DebugWatch {
    path: PathBuf,
    server_name: String,
    /// State of this session if the control file asks for bodies.
    bodies: BodiesState,
    next_look: Moment,
    /// The file at the last look.
    seen: Option<FileVersion>,
    /// The control file that is for this server, until its end.
    control: Option<DebugControl>,
    /// Identifies this boot; read with the first control file.
    boot_id: String,
    order: Option<DebugOrder>,
}

impl DebugWatch {
    pub(crate) fn new(path: PathBuf, server_name: &str, bodies: BodiesState) -> DebugWatch {
        DebugWatch {
            path,
            server_name: server_name.to_owned(),
            bodies,
            next_look: Moment(0),
            seen: None,
            control: None,
            boot_id: String::new(),
            order: None,
        }
    }

    /// Looks at the file if it is time. Returns the new order if it differs from the last one.
    pub(super) fn look(&mut self, now: Moment) -> Option<Option<DebugOrder>> {
        if now < self.next_look {
            return None;
        }
        self.next_look = now.after(INTERVAL);
        self.look_at(now, Timestamp::now())
    }

    fn look_at(&mut self, moment: Moment, wall: Timestamp) -> Option<Option<DebugOrder>> {
        let found = FileVersion::at(&self.path).ok();
        if found != self.seen {
            self.seen = found;
            self.control = found.and_then(|_| self.read());
        }
        let clock = DebugClock { moment, wall, boot_id: &self.boot_id };
        let order = match self.control.as_ref().map(|control| (control.left(&clock), control.bodies)) {
            None => None,
            Some((Ok(left), asks_for_bodies)) => {
                let bodies = if asks_for_bodies { self.bodies } else { BodiesState::Off };
                Some(DebugOrder { until: moment.after(left), bodies }).filter(|_| !left.is_zero())
            }
            Some((Err(problem), _)) => {
                self.warn(problem);
                None
            }
        };
        if order.is_none() {
            self.control = None;
        }
        let is_same = match (&self.order, &order) {
            (None, None) => true,
            (Some(before), Some(now)) => {
                let moved = before.until.since(now.until).max(now.until.since(before.until));
                before.bodies == now.bodies && moved < TOLERANCE
            }
            _ => false,
        };
        if is_same {
            return None;
        }
        self.order = order;
        order.into_iter().for_each(|order| announce(order.bodies));
        Some(order)
    }

    /// Reads the control file. Returns `None` if it is not for this server, or cannot be used.
    fn read(&mut self) -> Option<DebugControl> {
        if self.boot_id.is_empty() {
            self.boot_id = processes::boot_id();
        }
        let bytes = files::read_own(&self.path, LIMIT);
        match bytes.map(|bytes| DebugControl::decode(&bytes)) {
            Ok(Ok(control)) => Some(control).filter(|control| control.is_for(&self.server_name)),
            Ok(Err(problem)) => {
                self.warn(problem);
                None
            }
            // It was removed since.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                self.warn(error);
                None
            }
        }
    }

    fn warn(&self, problem: impl std::fmt::Display) {
        let path = self.path.display();
        tracing::warn!(
            "debug stays as it is: `{path}` is ignored: {problem}; `spantap debug off` removes it"
        );
    }
}

/// Tells the user on stderr whether this session keeps bodies.
fn announce(bodies: BodiesState) {
    let reason = match bodies {
        BodiesState::Off => return,
        BodiesState::On => {
            tracing::warn!(
                "arguments and results are kept, redacted, in a file beside the log (`.bodies.jsonl`); \
                 `spantap debug off` ends this, and the file is deleted after a day"
            );
            return;
        }
        BodiesState::StrictMode => "redaction is in strict mode",
        BodiesState::RedactionSettings => {
            "the redaction settings cannot be applied; `spantap doctor` names them"
        }
        BodiesState::NoLog => "this session has no log",
    };
    tracing::warn!("debug is on, but no bodies are kept: {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::debug_control::LONGEST;

    const MINUTE: Duration = Duration::from_secs(60);
    const WALL: Timestamp = Timestamp(1_800_000_000_000_000);
    const START: Moment = Moment(7_000_000_000);

    struct Watched {
        #[cfg_attr(windows, expect(dead_code, reason = "it lives as long as the test"))]
        folder: tempfile::TempDir,
        watch: DebugWatch,
    }

    impl Watched {
        fn new() -> Watched {
            let folder = tempfile::tempdir().unwrap();
            let watch = DebugWatch::new(folder.path().join("debug.json"), "github", BodiesState::StrictMode);
            Watched { folder, watch }
        }

        fn write(&self, time: Duration, server: Option<&str>) {
            let clock = DebugClock { moment: START, wall: WALL, boot_id: &processes::boot_id() };
            let control = DebugControl::new(time, server.map(str::to_owned), &clock);
            files::write_private(&self.watch.path, &control.encode()).unwrap();
        }

        fn after(&mut self, time: Duration) -> Option<Option<DebugOrder>> {
            self.watch.look_at(START.after(time), WALL.plus_ms(time.as_secs_f64() * 1000.0))
        }
    }

    fn on(time: Duration) -> Option<Option<DebugOrder>> {
        Some(Some(DebugOrder { until: START.after(time), bodies: BodiesState::Off }))
    }

    #[test]
    fn a_file_turns_debug_on_until_its_end_and_its_removal_turns_it_off() {
        let mut watched = Watched::new();
        assert_eq!(watched.after(Duration::ZERO), None);
        watched.write(MINUTE, Some("git*"));
        assert_eq!(watched.after(Duration::from_secs(2)), on(MINUTE));
        assert_eq!(watched.after(Duration::from_secs(4)), None);
        watched.write(MINUTE * 2, None);
        assert_eq!(watched.after(Duration::from_secs(6)), on(MINUTE * 2));
        assert_eq!(watched.after(MINUTE), None);
        assert_eq!(watched.after(MINUTE * 2), Some(None), "the time is over");
        assert_eq!(watched.after(MINUTE), None, "and does not come back with the clock");
        watched.write(MINUTE * 9, None);
        assert_eq!(watched.after(MINUTE * 3), on(MINUTE * 9));
        std::fs::remove_file(&watched.watch.path).unwrap();
        assert_eq!(watched.after(MINUTE * 4), Some(None));
    }

    #[test]
    fn bodies_are_as_the_session_allows_them() {
        let mut watched = Watched::new();
        let clock = DebugClock { moment: START, wall: WALL, boot_id: &processes::boot_id() };
        let mut control = DebugControl::new(MINUTE, None, &clock);
        control.bodies = true;
        files::write_private(&watched.watch.path, &control.encode()).unwrap();
        let order = watched.after(Duration::ZERO).flatten().unwrap();
        assert_eq!(order.bodies, BodiesState::StrictMode);
    }

    #[test]
    fn the_wall_clock_is_a_second_limit() {
        let mut watched = Watched::new();
        watched.write(MINUTE, None);
        assert_eq!(watched.after(Duration::ZERO), on(MINUTE));
        // The wall clock was set forward.
        assert_eq!(watched.watch.look_at(START, WALL.plus_ms(60_000.0)), Some(None));
    }

    #[test]
    fn between_two_looks_the_file_is_not_looked_at() {
        let mut watched = Watched::new();
        assert_eq!(watched.watch.look(START), None);
        watched.write(MINUTE, None);
        // The wall clock of this test is the present one, at which the file has ended or not begun.
        assert_eq!(watched.watch.seen, None);
        watched.watch.look(START.after(INTERVAL / 2));
        assert_eq!(watched.watch.seen, None);
        watched.watch.look(START.after(INTERVAL));
        assert!(watched.watch.seen.is_some());
    }

    #[test]
    fn a_file_that_is_not_ours_not_private_or_not_readable_turns_nothing_on() {
        let mut watched = Watched::new();
        let path = watched.watch.path.clone();
        watched.write(MINUTE, Some("other"));
        assert_eq!(watched.after(Duration::ZERO), None, "of another server");
        watched.write(LONGEST + MINUTE, None);
        assert_eq!(watched.after(Duration::ZERO), None, "too long");
        watched.write(MINUTE, None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::{PermissionsExt, symlink};
            let moved = watched.folder.path().join("elsewhere");
            std::fs::rename(&path, &moved).unwrap();
            symlink(&moved, &path).unwrap();
            assert_eq!(watched.after(Duration::ZERO), None, "a link");
            std::fs::remove_file(&path).unwrap();
            std::fs::rename(&moved, &path).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o620)).unwrap();
            assert_eq!(watched.after(Duration::ZERO), None, "others can write it");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        assert_eq!(watched.after(Duration::ZERO), on(MINUTE), "the same file, private");
        for garbage in ["", "{", "{\"version\":2}"] {
            files::write_private(&path, garbage.as_bytes()).unwrap();
            watched.after(Duration::ZERO);
            assert_eq!(watched.watch.order, None, "{garbage}");
        }
        files::write_private(&path, &vec![b' '; LIMIT as usize + 1]).unwrap();
        assert_eq!(watched.after(Duration::ZERO), None, "too large");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(watched.after(Duration::ZERO), None, "a folder");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_another_user_turns_nothing_on() {
        let mut watched = Watched::new();
        watched.write(MINUTE, None);
        if std::os::unix::fs::chown(&watched.watch.path, Some(12_345), None).is_err() {
            // Only root can give a file away.
            return;
        }
        assert_eq!(watched.after(Duration::ZERO), None);
    }
}
