//! The output that runs the user's `notify` command when a server died, did not start, hangs, or is called in a loop.
//!
//! The command gets a fixed environment and no text from the wire. A thread of its own starts it, so that a disk or a
//! process table that hangs stops only that thread. The end of the session waits for that start, and not for the
//! command.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::export::Output;
use crate::observe::Observer;
use crate::observe::event::{Direction, EndReason, Event, EventKind};
use crate::record::live::{LiveState, NOTIFIED_EXTENSION};
use crate::record::{Dropped, Record};
use crate::relay::chunk::Moment;
use crate::system::mutex::lock;
use crate::system::thread::{self, Duty};
use crate::system::{access, detached, files};

/// Shortest time between two notifications about one server.
const INTERVAL: Duration = Duration::from_secs(60);
/// Time after which the command is killed.
const LIMIT: Duration = Duration::from_secs(10);
/// Time for which the end of the session waits until the command has been started.
const START_LIMIT: Duration = Duration::from_millis(300);
/// Most characters of a server's name.
const NAME: usize = 64;
/// Stack of the thread that starts the command, in bytes.
const STACK: usize = 128 << 10;

/// An occasion to notify: the word of `SPANTAP_EVENT`, and the end of a sentence that begins with the server's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Occasion(&'static str, &'static str);

const DIED: Occasion = Occasion("died", "died");
const NOT_STARTED: Occasion = Occasion("did_not_start", "did not start");
const LOOPED: Occasion = Occasion("looped", "is called in a loop");
const HUNG: Occasion = Occasion("hung", "does not answer");

pub(crate) struct Notifier {
    start: Arc<NotifyStart>,
    /// True if a call was reported as pending since the last refresh.
    is_pending: bool,
    state: Arc<(Mutex<NotifyState>, Condvar)>,
}

#[derive(Default)]
struct NotifyState {
    /// True while a thread has not started its command yet.
    is_starting: bool,
    /// When the last command was started.
    last: Option<Instant>,
}

/// Everything that the thread needs.
struct NotifyStart {
    /// The command and its arguments, or `desktop`.
    command: Vec<String>,
    /// The server's name without unusual characters.
    server_name: String,
    /// The file whose time is that of the last notification about a server of this name.
    stamp: Option<PathBuf>,
}

impl Notifier {
    /// Returns an output that runs `command`. `folder` holds the times of the last notifications, for all connections.
    pub(crate) fn new(command: Vec<String>, server_name: &str, folder: Option<&Path>) -> Notifier {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let stamp = folder.map(|folder| folder.join(LiveState::ended_name(server_name)));
        let start = NotifyStart {
            command,
            server_name: server_name.chars().take(NAME).map(plain).collect(),
            stamp: stamp.map(|path| path.with_extension(NOTIFIED_EXTENSION)),
        };
        Notifier { start: Arc::new(start), is_pending: false, state: Arc::default() }
    }

    fn notify(&mut self, occasion: Occasion) {
        {
            let mut state = lock(&self.state.0);
            if state.is_starting || state.last.is_some_and(|last| last.elapsed() < INTERVAL) {
                return;
            }
            state.is_starting = true;
        }
        let (start, of_thread) = (Arc::clone(&self.start), Arc::clone(&self.state));
        let body = move || {
            let started = start.run(occasion);
            if let Err(error) = &started {
                // Not a warning, which would appear on stderr beside the last lines of the server.
                tracing::info!("the command of `notify` could not be started: {error}");
            }
            has_run(&of_thread, started.is_ok_and(|is_started| is_started));
        };
        if thread::spawn_with_stack(Duty::Notification, "notify", STACK, body).is_err() {
            has_run(&self.state, false);
        }
    }
}

/// Ends a start. A command that was not started does not begin the minute in which others wait.
fn has_run((state, changed): &(Mutex<NotifyState>, Condvar), is_started: bool) {
    let mut state = lock(state);
    state.is_starting = false;
    state.last = if is_started { Some(Instant::now()) } else { state.last };
    changed.notify_all();
}

impl NotifyStart {
    /// Starts the command, unless one was started for this server within a minute. Returns true if it was started.
    fn run(&self, occasion: Occasion) -> io::Result<bool> {
        let mut stamp = match self.stamp.as_deref().map(stamp_if_due) {
            Some(Stamp::NotDue) => return Ok(false),
            Some(Stamp::Due(file)) => Some(file),
            Some(Stamp::Unusable) | None => None,
        };
        let Occasion(event, text) = occasion;
        let summary = format!("{} {text}", self.server_name);
        let variable = |name: &str| std::env::var(name).ok().map(|value| format!("{name}={value}"));
        let path = detached::path();
        let mut environment = vec![
            format!("PATH={path}"),
            format!("SPANTAP_EVENT={event}"),
            format!("SPANTAP_SERVER_NAME={}", self.server_name),
            format!("SPANTAP_SUMMARY={summary}"),
        ];
        environment.extend(detached::HOME_VARIABLES.iter().filter_map(|name| variable(name)));
        let mut command = self.command.clone();
        if command == ["desktop"] {
            environment.extend(detached::DESKTOP_VARIABLES.iter().filter_map(|name| variable(name)));
            command = detached::desktop(&summary);
        }
        detached::start(&command, &environment, &path, LIMIT)?;
        if let Some(file) = &mut stamp {
            let _ = file.write_all(b"1");
        }
        Ok(true)
    }
}

/// The time of the last notification about a server.
enum Stamp {
    /// It is less than a minute ago, or another spantap notifies at this moment.
    NotDue,
    /// It is longer ago. The file, which is locked while it is open, takes the time of the next one when it is written.
    Due(File),
    /// It cannot be known: each connection counts for itself.
    Unusable,
}

/// Returns the program of `command`, and why it cannot be started and what to do, if so.
pub(crate) fn look_up(command: &[String]) -> (String, Option<(String, String)>) {
    let words = if command == ["desktop"] { detached::desktop("") } else { command.to_vec() };
    let program = words.into_iter().next().unwrap_or_default();
    let path = detached::path();
    let problem = detached::find(&program, &path).err().map(|error| match error.kind() {
        io::ErrorKind::NotFound if detached::is_path(&program) => {
            (format!("`{program}` is not a file"), "correct the path in `notify`".to_owned())
        }
        io::ErrorKind::NotFound => (
            format!("`{program}` is not in PATH ({path})"),
            "install it, or set `notify` to the full path of a program".to_owned(),
        ),
        _ => (format!("`{program}` is not executable"), detached::way_to_execute(&program)),
    });
    (program, problem)
}

fn stamp_if_due(stamp: &Path) -> Stamp {
    let open = || {
        files::make_private_folder(stamp.parent().unwrap_or(Path::new("/")))?;
        access::private_options().write(true).create(true).truncate(false).open(stamp)
    };
    let Ok(file) = open() else { return Stamp::Unusable };
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Stamp::NotDue;
    }
    let known = file.metadata().ok().filter(|metadata| metadata.len() > 0);
    let age = known.and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
    if age.is_none_or(|age| age >= INTERVAL) { Stamp::Due(file) } else { Stamp::NotDue }
}

impl Output for Notifier {
    fn take(&mut self, event: &Event, _record: Option<&Record<'_>>) {
        match &event.kind {
            EventKind::SessionEnded(end) => match end.reason {
                EndReason::ServerExited => {}
                EndReason::ServerDied => self.notify(DIED),
                EndReason::SpawnFailed => self.notify(NOT_STARTED),
            },
            EventKind::AgentThrashing(alarm) if alarm.is_alarm => self.notify(LOOPED),
            EventKind::CallPending(_) => self.is_pending = true,
            _ => {}
        }
    }

    fn refresh(&mut self, observer: &Observer, _now: Moment) -> Option<Moment> {
        let waits_for_client = || {
            let mut requests = observer.open_requests();
            requests.any(|(facts, _)| facts.direction == Direction::ServerToClient)
        };
        // A server that asked the user a question does not hang.
        if std::mem::take(&mut self.is_pending) && !waits_for_client() {
            self.notify(HUNG);
        }
        None
    }

    /// A notification is not a record.
    fn dropped(&self) -> Vec<Dropped> {
        Vec::new()
    }

    fn begin_close(&mut self) {}

    fn finish_close(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).min(START_LIMIT);
        let (state, changed) = &*self.state;
        let _ = changed.wait_timeout_while(lock(state), left, |state| state.is_starting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_about_a_command_is_one_for_this_system() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes.txt");
        std::fs::write(&file, "no program").unwrap();
        let advice = |path: &Path| look_up(&[path.to_str().unwrap().to_owned()]).1.unwrap();
        let (problem, way_out) = advice(&file);
        assert!(problem.ends_with("is not executable"), "{problem}");
        assert_eq!(way_out.contains("chmod"), cfg!(unix), "{way_out}");
        let (problem, way_out) = advice(&folder.path().join("gone"));
        assert!(problem.ends_with("is not a file"), "{problem}");
        assert_eq!(way_out, "correct the path in `notify`");
    }

    /// A command of the system that exists and ends at once.
    const COMMAND: &[&str] = if cfg!(windows) { &["cmd.exe", "/c", "rem"] } else { &["true"] };

    #[test]
    fn a_notification_that_did_not_start_does_not_use_up_the_minute() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = folder.path().join("server.notified");
        let start = |command: &[&str]| NotifyStart {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            server_name: "server".to_owned(),
            stamp: Some(stamp.clone()),
        };
        assert!(start(&["no-program-has-this-name"]).run(DIED).is_err());
        assert!(matches!(stamp_if_due(&stamp), Stamp::Due(_)));
        assert!(start(COMMAND).run(DIED).unwrap());
        assert!(matches!(stamp_if_due(&stamp), Stamp::NotDue));
        assert!(!start(COMMAND).run(DIED).unwrap());
        for (command, uses_up) in [(&["no-program-has-this-name"][..], false), (COMMAND, true)] {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            let mut notifier = Notifier::new(command, "server", None);
            notifier.notify(DIED);
            notifier.finish_close(Instant::now() + Duration::from_secs(60));
            assert_eq!(lock(&notifier.state.0).last.is_some(), uses_up);
        }
        // Another spantap notifies.
        let other = folder.path().join("other.notified");
        let held = stamp_if_due(&other);
        assert!(matches!(held, Stamp::Due(_)));
        assert!(matches!(stamp_if_due(&other), Stamp::NotDue));
    }
}
