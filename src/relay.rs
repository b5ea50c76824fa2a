//! Floor 1: bytes only.
//!
//! [`Relay::start`] starts the server first thing, then one pump a stream; [`Relay::wait`] forwards
//! signals until the server has ended and its last bytes are out; [`child::mirror`] leaves as it left.
//! Nothing in here knows JSON, and nothing in here waits for an observer.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub mod child;
mod clock;
pub mod pump;
pub mod ring;
pub mod signals;
mod stdio;
pub mod tap;

pub use clock::now;

use child::{Server, SpawnError, Status, TraceEnv};
use pump::{Descriptor, Pulse};
use ring::{Consumer, Producer, Ring};
use signals::{MainThread, Mask, Woken};
use tap::{Moment, Stream};

/// How long the server's pipes may be silent after its end before we leave, when somebody else (a
/// process that the server left behind) still holds them.
const SILENCE: Duration = Duration::from_millis(500);
/// How long a server may live on with its stderr closed before ours is closed too; until then our own
/// last words can still be said there.
const STDERR_GRACE: Duration = Duration::from_millis(20);
/// How often we look whether the host still lives, once stdin has ended.
const HOST_CHECK: Duration = Duration::from_secs(1);
/// How long an orphaned server has to leave before SIGTERM, and again before SIGKILL.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// A server behind its pumps.
pub struct Relay {
    pub pid: libc::pid_t,
    /// When the server process was started.
    pub spawned: Moment,
    pulses: [Arc<Pulse>; 3],
    rings: [Arc<Ring>; 3],
    host: libc::pid_t,
    stderr_closed: bool,
}

/// The observer's ends of the three rings: stdin, stdout, stderr of the server.
pub struct Taps {
    pub stdin: Consumer,
    pub stdout: Consumer,
    pub stderr: Consumer,
}

/// What the relay is told about its surroundings.
pub struct Settings {
    pub when_full: pump::WhenFull,
    /// Size of the ring of stdin and of stdout, in bytes.
    pub ring_size: usize,
    /// Size of the ring of stderr, in bytes.
    pub stderr_ring_size: usize,
}

impl Default for Settings {
    /// A burst of 200,000 messages of 100 bytes fits into 16 MiB each way even if nobody looks; pages
    /// that are not touched cost nothing.
    fn default() -> Settings {
        Settings { when_full: pump::WhenFull::Lose, ring_size: 16 << 20, stderr_ring_size: 1 << 20 }
    }
}

impl Relay {
    /// Starts `command` and its pumps. To be called by the main thread before any other exists; blocks
    /// all signals. `help` is called when a ring is a quarter full.
    ///
    /// # Errors
    /// When the server cannot be started; nothing has been read from the host then.
    pub fn start(
        command: &[OsString],
        trace_env: &TraceEnv,
        settings: &Settings,
        help: impl Fn() + Send + Sync + Clone + 'static,
    ) -> Result<(Relay, Taps), SpawnError> {
        let host = child::parent();
        let host_mask = Mask::block_all();
        let server = child::spawn(command, trace_env, &host_mask)?;
        let spawned = now();
        let stdout = stdio::take_stdout().map_err(SpawnError::Own)?;
        let Server { pid, stdin: to_server, stdout: from_server, stderr: errors } = server;
        let main = MainThread::this();
        let pulses = [(); 3].map(|()| Pulse::new(settings.when_full, help.clone(), move || main.wake()));
        let ring = |stream, size| ring::pair(stream, size).map_err(SpawnError::Own);
        let (stdin_in, stdin_out) = ring(Stream::Stdin, settings.ring_size)?;
        let (stdout_in, stdout_out) = ring(Stream::Stdout, settings.ring_size)?;
        let (stderr_in, stderr_out) = ring(Stream::Stderr, settings.stderr_ring_size)?;
        let rings = [&stdin_in, &stdout_in, &stderr_in].map(|producer| Arc::clone(producer.ring()));
        let pump = |name: &str, from, to, producer: Producer, pulse: &Arc<Pulse>| {
            let pulse = Arc::clone(pulse);
            let body = move || pump::run(from, to, producer, &pulse);
            std::thread::Builder::new().name(name.to_owned()).stack_size(64 << 10).spawn(body).map(drop)
        };
        let started = || -> io::Result<()> {
            pump("stdin", Descriptor::Standard(0), Descriptor::Owned(to_server), stdin_in, &pulses[0])?;
            pump("stdout", Descriptor::Owned(from_server), Descriptor::Owned(stdout), stdout_in, &pulses[1])?;
            pump("stderr", Descriptor::Owned(errors), Descriptor::Standard(2), stderr_in, &pulses[2])
        };
        started().map_err(SpawnError::Own)?;
        let taps = Taps { stdin: stdin_out, stdout: stdout_out, stderr: stderr_out };
        Ok((Relay { pid, spawned, pulses, rings, host, stderr_closed: false }, taps))
    }

    /// Changes what a full ring means, for a setting that became known after the start.
    pub fn set_when_full(&self, when_full: pump::WhenFull) {
        self.pulses.iter().for_each(|pulse| pulse.set_when_full(when_full));
    }

    /// Forwards signals until the server has ended and what it wrote has been passed on. Returns how it
    /// ended, and whether it had been asked to: its stdin had ended, or a signal was forwarded.
    pub fn wait(&mut self) -> Ended {
        let mut asked = false;
        let mut orphaned_since: Option<Moment> = None;
        let mut killed = 0;
        let mut stderr_ended: Option<Moment> = None;
        loop {
            let [stdin_ended, _, errors_ended] =
                [0, 1, 2].map(|stream: usize| self.pulses[stream].has_ended());
            if errors_ended && !self.stderr_closed {
                let since = *stderr_ended.get_or_insert_with(now);
                if now().since(since) >= STDERR_GRACE {
                    self.close_stderr();
                }
            }
            if stdin_ended && child::parent() != self.host {
                let since = *orphaned_since.get_or_insert_with(now);
                let open_for = now().since(since);
                if killed == 0 && open_for >= ORPHAN_GRACE {
                    child::send(self.pid, libc::SIGTERM);
                    killed = 1;
                } else if killed == 1 && open_for >= 2 * ORPHAN_GRACE {
                    child::send(self.pid, libc::SIGKILL);
                    killed = 2;
                }
            }
            let timeout = match (errors_ended && !self.stderr_closed, stdin_ended) {
                (true, _) => Some(STDERR_GRACE),
                (false, true) => Some(HOST_CHECK),
                (false, false) => None,
            };
            match signals::wait(timeout) {
                Woken::LookAround => {
                    if let Some(status) = child::reap(self.pid) {
                        let asked = asked || self.pulses[0].has_ended();
                        let at = now();
                        self.drain();
                        return Ended { status, asked, at };
                    }
                }
                Woken::Forward(signal) => {
                    asked |= signal != libc::SIGCONT && signal != libc::SIGWINCH;
                    child::send(self.pid, signal);
                    if matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) {
                        signals::stop_self();
                    }
                }
                Woken::Kernel(signal) => {
                    asked |= matches!(signal, libc::SIGINT | libc::SIGQUIT | libc::SIGHUP);
                    if matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) {
                        signals::stop_self();
                    }
                }
                Woken::Timeout => {}
            }
        }
    }

    /// The server has ended: waits for its last bytes to be passed on. Pipes that somebody else holds
    /// are given up after a time of silence, but never while the host is the slow one.
    fn drain(&self) {
        let ended = now();
        loop {
            let open = [1, 2].map(|stream: usize| (!self.pulses[stream].has_ended(), &self.rings[stream]));
            let waited_for = open.iter().any(|(open, ring)| {
                let since = now().since(ring.last_read().max(ended));
                *open && (ring.is_writing() || since < SILENCE)
            });
            if !waited_for {
                return;
            }
            // The pumps wake us at their end; signals have nobody to reach any more.
            signals::wait(Some(Duration::from_millis(50)));
        }
    }

    /// Ends the host's stderr: the server has closed its own and lives on.
    fn close_stderr(&mut self) {
        self.stderr_closed = true;
        stdio::silence(libc::STDERR_FILENO);
        stdio::silence(libc::STDOUT_FILENO);
    }
}

/// How the server ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub status: Status,
    /// Its stdin had ended, or somebody had sent it a signal through us.
    pub asked: bool,
    pub at: Moment,
}
