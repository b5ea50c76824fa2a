//! Starts a wrapper as a host would. Every wait has a deadline.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sys;

/// The verdict of a case: success, or the promise that was not kept.
pub type Verdict = Result<(), String>;

thread_local! {
    /// Deadline of a case. Only a case that hangs reaches it, on any machine.
    static DEADLINE: Cell<Duration> = const { Cell::new(Duration::from_secs(90)) };
}

/// Deadline of this thread's case.
pub fn deadline() -> Duration {
    DEADLINE.get()
}

/// Shortens the deadline, for wrappers that are expected to hang.
#[cfg(target_os = "linux")]
pub fn be_impatient() {
    DEADLINE.set(Duration::from_secs(4));
}

/// Lines that a wrapper may write after the last byte of the server on stderr: a machine that is too busy
/// left it no time to finish its own work.
const LAST_WORDS: &[u8] = b"spantap: ";

/// Returns where the wrapper's own last lines begin in `bytes`.
pub fn last_words(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, LAST_WORDS)
}

/// Returns `bytes` without the own lines of the wrapper.
pub fn without_last_words(bytes: &[u8]) -> &[u8] {
    &bytes[..last_words(bytes).unwrap_or(bytes.len())]
}

pub fn expect(kept: bool, otherwise: &str) -> Verdict {
    if kept { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// Polls until the condition holds.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) -> Verdict {
    let start = Instant::now();
    while start.elapsed() < deadline() {
        if is_so() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!("{what}: not within {:?}", deadline()))
}

/// A wrapper's command with its environment.
pub struct Rig {
    pub wrapper: Vec<OsString>,
    pub home: tempfile::TempDir,
    /// The wrapper inserts trace context into requests.
    pub inserts_context: bool,
    /// The wrapper ends although a host that does not read stderr has not got all of it.
    pub drops_unread_stderr: bool,
}

/// Inheritable descriptors must not leak into processes that another of these cases starts meanwhile, around any
/// wrapper.
static SPAWNING: Mutex<()> = Mutex::new(());

impl Rig {
    pub fn new(wrapper: Vec<OsString>) -> Rig {
        let inserts_context = wrapper.iter().any(|word| word == "--propagate");
        let home = tempfile::tempdir().expect("a temporary folder");
        Rig { wrapper, home, inserts_context, drops_unread_stderr: false }
    }

    /// Returns the wrapper around `words`.
    pub fn bare(&self, words: &[&str]) -> Command {
        let mut line = self.wrapper.iter().cloned().chain(words.iter().map(OsString::from));
        let mut command = Command::new(line.next().unwrap_or_default());
        command.args(line);
        self.surroundings(&mut command);
        command
    }

    /// Returns the wrapper around a helper server.
    pub fn command(&self, role: &[&str]) -> Command {
        let this = std::env::current_exe().unwrap_or_default();
        let mut command = self.bare(&[]);
        if self.wrapper.is_empty() {
            command = self.direct(&[]);
        } else {
            command.arg(this);
        }
        command.args(role);
        command
    }

    /// Returns that command, started by the script `line` of `shell`, which has it in `"$@"`.
    #[cfg(unix)]
    pub fn scripted(&self, shell: &str, line: &str, role: &[&str]) -> Command {
        let wrapped = self.command(role);
        let mut command = Command::new(shell);
        command.args(["-c", line, shell]).arg(wrapped.get_program()).args(wrapped.get_args());
        self.surroundings(&mut command);
        command
    }

    /// Returns the helper server without a wrapper.
    pub fn direct(&self, role: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap_or_default());
        command.args(role);
        self.surroundings(&mut command);
        command
    }

    fn surroundings(&self, command: &mut Command) {
        for name in ["HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"] {
            command.env(name, self.home.path());
        }
        // spantap may take the time that it needs to finish its log. Nothing else changes.
        command.env("SPANTAP_TEST_FLUSH_BUDGET", "20000");
        for name in ["XDG_STATE_HOME", "XDG_CONFIG_HOME", "TRACEPARENT", "TRACESTATE"] {
            command.env_remove(name);
        }
    }

    pub fn start(&self, role: &[&str]) -> Result<Host, String> {
        let mut command = self.command(role);
        self.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    pub fn spawn(&self, command: &mut Command) -> Result<Host, String> {
        let mut child = command.spawn().map_err(|error| format!("the wrapper does not start: {error}"))?;
        let file = |end: sys::Owned| File::from(end);
        Ok(Host {
            to: child.stdin.take().map(|stream| file(stream.into())),
            from: child.stdout.take().map(|stream| file(stream.into())),
            errors: child.stderr.take().map(|stream| file(stream.into())),
            child,
        })
    }

    /// Lock of a case whose descriptors other processes must not inherit.
    pub fn alone(&self) -> MutexGuard<'_, ()> {
        SPAWNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A started wrapper and the host's ends of its streams.
pub struct Host {
    child: Child,
    pub to: Option<File>,
    pub from: Option<File>,
    pub errors: Option<File>,
}

impl Host {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn say(&mut self, bytes: &[u8]) -> Verdict {
        let to = self.to.as_mut().ok_or("stdin is closed")?;
        to.write_all(bytes).map_err(|error| format!("writing stdin: {error}"))
    }

    pub fn close_stdin(&mut self) {
        drop(self.to.take());
    }

    pub fn read_exact(&mut self, bytes: &mut [u8]) -> Verdict {
        let from = self.from.as_mut().ok_or("stdout is closed")?;
        within_deadline(self.child.id(), || from.read_exact(bytes))
            .map_err(|error| format!("reading stdout: {error}"))
    }

    /// Returns the next line of stdout without its newline.
    pub fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.read_exact(&mut byte)?;
            match byte {
                [b'\n'] => return String::from_utf8(line).map_err(|error| error.to_string()),
                [other] => line.push(other),
            }
        }
    }

    /// Returns the rest of stdout.
    pub fn read_all(&mut self) -> Result<Vec<u8>, String> {
        read_to_end(self.child.id(), self.from.take(), "stdout")
    }

    /// Returns the rest of stderr.
    pub fn read_errors(&mut self) -> Result<Vec<u8>, String> {
        let bytes = read_to_end(self.child.id(), self.errors.take(), "stderr")?;
        Ok(without_last_words(&bytes).to_vec())
    }

    pub fn wait(&mut self) -> Result<ExitStatus, String> {
        let pid = self.child.id();
        within_deadline(pid, || self.child.wait()).map_err(|error| error.to_string())
    }

    /// Waits for the end, and fails unless the wrapper ends with `code`. The message has what it said on stderr.
    pub fn ends_with(&mut self, code: i32) -> Verdict {
        let status = self.wait()?;
        if status.code() == Some(code) {
            return Ok(());
        }
        let said = read_to_end(self.child.id(), self.errors.take(), "stderr").unwrap_or_default();
        Err(format!("{code} became {status}. {}", String::from_utf8_lossy(&said)))
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: i32) {
        sys::kill(self.child.id(), signal);
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_to_end(pid: u32, from: Option<File>, name: &str) -> Result<Vec<u8>, String> {
    let mut from = from.ok_or_else(|| format!("{name} is closed"))?;
    let mut bytes = Vec::new();
    within_deadline(pid, || from.read_to_end(&mut bytes))
        .map_err(|error| format!("reading {name}: {error}"))?;
    Ok(bytes)
}

/// Runs something that may block. After the deadline the wrapper is killed, which unblocks it.
fn within_deadline<T>(pid: u32, act: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let (done, watch) = std::sync::mpsc::channel::<()>();
    let deadline = deadline();
    let watchdog = std::thread::spawn(move || {
        let late = matches!(watch.recv_timeout(deadline), Err(std::sync::mpsc::RecvTimeoutError::Timeout));
        if late {
            sys::end(pid);
        }
        late
    });
    let result = act();
    drop(done);
    match watchdog.join() {
        Ok(true) => Err(std::io::Error::other(format!("nothing for {deadline:?}"))),
        _ => result,
    }
}
