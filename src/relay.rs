//! Floor 1: bytes only.
//!
//! [`Relay::start`] starts the server behind one pump a stream, or nothing at all; [`Relay::wait`] forwards
//! signals until the server has ended and its last bytes are out; [`process::mirror`] leaves as it left.
//! Nothing in here knows JSON, and nothing in here waits for an observer.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

pub mod chunk;
pub mod pump;
pub mod ring;

use crate::system::clock::{Moment, now};
use crate::system::process::{self, Server, SpawnError, Status, TraceEnv};
use crate::system::signals::{self, MainThread, Mask, Woken};
use crate::system::stdio;
use chunk::Stream;
use pump::{Descriptor, Pulse, Pump};
use ring::{Consumer, Ring};

/// How long the server's pipes may be silent after its end before we leave, when somebody else (a
/// process that the server left behind) still holds them.
const SILENCE: Duration = Duration::from_millis(500);
/// How long processes that the server left behind may keep us by writing on and on. What the server
/// itself wrote is waited for without limit, as long as the host may still read it.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// How long the host may be the slow one at the end before its pipe is made larger.
const SLOW_HOST: Duration = Duration::from_millis(100);
/// How long we still wait for the host once somebody has asked us to leave after the server's end.
const HURRY: Duration = Duration::from_millis(250);
/// How long a server may live on with its stderr closed before ours is closed too; until then our own
/// last words can still be said there.
const STDERR_GRACE: Duration = Duration::from_millis(20);
/// How often we look whether the host still lives, once stdin has ended.
const HOST_CHECK: Duration = Duration::from_secs(1);
/// Default of [`Settings::orphan_grace`].
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// A server behind its pumps.
pub struct Relay {
    pub pid: libc::pid_t,
    /// When the server process was started.
    pub spawned: Moment,
    pulses: [Arc<Pulse>; 3],
    outputs: [OutputStream; 2],
    host: libc::pid_t,
    orphan_grace: Duration,
    stderr_closed: bool,
}

/// What the end has to know of the server's stdout or stderr.
struct OutputStream {
    pulse: Arc<Pulse>,
    ring: Arc<Ring>,
    /// The server's pipe and the host's stream. The pump owns them and closes them at its end; a number
    /// that has come to mean something else by then is asked harmless questions only.
    from: RawFd,
    to: RawFd,
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
    /// How long a server whose host is gone has to leave before SIGTERM, and again before SIGKILL.
    pub orphan_grace: Duration,
}

impl Default for Settings {
    /// A burst of 200,000 messages of 100 bytes fits even if nobody looks until it is over, and each message
    /// and each newline is read by itself; pages that are not touched cost nothing.
    fn default() -> Settings {
        Settings {
            when_full: pump::WhenFull::Lose,
            ring_size: 19 << 20,
            stderr_ring_size: 1 << 20,
            orphan_grace: ORPHAN_GRACE,
        }
    }
}

impl Relay {
    /// Starts `command` behind its pumps. To be called by the main thread before any other exists; blocks
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
        let host = process::parent();
        let host_mask = Mask::block_all();
        // Where there is no memory for them the server is not started at all.
        let ring = |stream, size| ring::pair(stream, size).map_err(SpawnError::Own);
        let (stdin_in, stdin_out) = ring(Stream::Stdin, settings.ring_size)?;
        let (stdout_in, stdout_out) = ring(Stream::Stdout, settings.ring_size)?;
        let (stderr_in, stderr_out) = ring(Stream::Stderr, settings.stderr_ring_size)?;
        // Likewise where there is no process, no thread or no descriptor left.
        let forked = process::fork(command, trace_env, &host_mask)?;
        let main = MainThread::this();
        let pulses = [(); 3].map(|()| Pulse::new(settings.when_full, help.clone(), move || main.wake()));
        let [stdout_ring, stderr_ring] = [&stdout_in, &stderr_in].map(|end| Arc::clone(end.ring()));
        let pump = |producer, pulse| Pump::new(producer, Arc::clone(pulse)).map_err(SpawnError::Own);
        let stdin_pump = pump(stdin_in, &pulses[0])?;
        let stdout_pump = pump(stdout_in, &pulses[1])?;
        let stderr_pump = pump(stderr_in, &pulses[2])?;
        let stdout = stdio::take_stdout().map_err(SpawnError::Own)?;

        let Server { pid, stdin: to_server, stdout: from_server, stderr: errors } = forked.exec()?;
        let spawned = now();
        let output = |pulse: &Arc<Pulse>, ring, from: RawFd, to: RawFd| {
            let pulse = Arc::clone(pulse);
            OutputStream { pulse, ring, from, to }
        };
        let outputs = [
            output(&pulses[1], stdout_ring, from_server.as_raw_fd(), stdout.as_raw_fd()),
            output(&pulses[2], stderr_ring, errors.as_raw_fd(), libc::STDERR_FILENO),
        ];
        stdin_pump.start(Descriptor::Standard(libc::STDIN_FILENO), Descriptor::Owned(to_server));
        stdout_pump.start(Descriptor::Owned(from_server), Descriptor::Owned(stdout));
        stderr_pump.start(Descriptor::Owned(errors), Descriptor::Standard(libc::STDERR_FILENO));
        let taps = Taps { stdin: stdin_out, stdout: stdout_out, stderr: stderr_out };
        let orphan_grace = settings.orphan_grace;
        Ok((Relay { pid, spawned, pulses, outputs, host, orphan_grace, stderr_closed: false }, taps))
    }

    /// Changes what a full ring means, for a setting that became known after the start.
    pub fn set_when_full(&self, when_full: pump::WhenFull) {
        self.pulses.iter().for_each(|pulse| pulse.set_when_full(when_full));
    }

    /// Forwards signals until the server has ended and what it wrote has been passed on. Returns how it
    /// ended, and whether it had been asked to: its stdin had ended first, or a signal was forwarded that asks
    /// to leave, or that it died of.
    pub fn wait(&mut self) -> Ended {
        let mut asked = false;
        // Others than those ask nobody to leave, and yet may be what the server dies of.
        let mut forwarded = 0_u128;
        let mut orphan = Orphan::default();
        // Job control asked for a stop: we stop when the server has, for it may well refuse.
        let mut stopping = false;
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
            if stdin_ended && process::parent() != self.host && self.nobody_reads() {
                orphan.look(self.pid, self.orphan_grace);
            }
            let timeout = match (errors_ended && !self.stderr_closed, stdin_ended) {
                (true, _) => Some(STDERR_GRACE),
                (false, true) => Some(HOST_CHECK.min(self.orphan_grace)),
                (false, false) => None,
            };
            let woken = signals::wait(timeout);
            match woken {
                Woken::Forward(signal) => {
                    asked |= signals::asks_to_leave(signal);
                    forwarded |= 1 << signal;
                    stopping = (stopping || signals::asks_to_stop(signal)) && signal != libc::SIGCONT;
                    process::send(self.pid, signal);
                }
                Woken::Kernel(signal) => {
                    asked |= matches!(signal, libc::SIGINT | libc::SIGQUIT | libc::SIGHUP);
                    stopping = (stopping || signals::asks_to_stop(signal)) && signal != libc::SIGCONT;
                    if signal == libc::SIGHUP && signals::leads_session() {
                        process::send(self.pid, signal);
                    }
                }
                Woken::LookAround | Woken::Timeout => {}
            }
            if matches!(woken, Woken::LookAround | Woken::Forward(libc::SIGCHLD))
                && let Some(status) = process::reap(self.pid)
            {
                let of_a_forwarded = matches!(status, Status::Killed(signal) if forwarded >> signal & 1 == 1);
                let asked = asked || of_a_forwarded || self.input_ended_first();
                let at = now();
                let hurried = self.drain();
                return Ended { status, asked, hurried, at };
            }
            if stopping && process::has_stopped(self.pid) {
                stopping = false;
                signals::stop_self();
            }
        }
    }

    /// The server has ended: waits until what it wrote has been passed on, whatever time the host takes
    /// for that, and a little for those who hold its pipes now. Returns whether somebody was in a hurry.
    fn drain(&self) -> bool {
        let ended = now();
        let mut hurried_at: Option<Moment> = None;
        let mut owed = [0; 2];
        let mut widened = [false; 2];
        loop {
            let mut waited_for = false;
            for (number, output) in self.outputs.iter().enumerate() {
                if output.pulse.has_ended() {
                    continue;
                }
                let OutputStream { ring, from, to, .. } = output;
                let since_end = now().since(ended);
                // More than once, for a pump may have bytes in hand that are in neither sum.
                if since_end < SLOW_HOST {
                    owed[number] = ring.bytes() + stdio::waiting(*from);
                }
                if ring.forwarded() >= owed[number] {
                    let silence = now().since(ring.last_read().max(ended));
                    waited_for |= hurried_at.is_none() && silence < SILENCE && since_end < LEFTOVERS;
                } else {
                    waited_for |= hurried_at.is_none_or(|at| now().since(at) < HURRY);
                    if since_end >= SLOW_HOST && !widened[number] {
                        widened[number] = true;
                        stdio::widen(*to, stdio::waiting(*from) + 2 * ring::MAX_READ as u64);
                    }
                }
            }
            if !waited_for {
                return hurried_at.is_some();
            }
            // The pumps wake us at their end; signals have nobody to reach any more.
            if let Woken::Forward(signal) | Woken::Kernel(signal) =
                signals::wait(Some(Duration::from_millis(50)))
                && signals::asks_to_leave(signal)
            {
                hurried_at.get_or_insert_with(now);
            }
        }
    }

    /// Whether the server's input ended before its output did, or so long after it that this server had only
    /// closed its output. Otherwise it is the host that took notice of a server's end.
    fn input_ended_first(&self) -> bool {
        match (self.pulses[0].ended_at(), self.pulses[1].ended_at()) {
            (Some(input), Some(output)) => input < output || input.since(output) > LEFTOVERS,
            (input, _) => input.is_some(),
        }
    }

    /// Whether what the server says reaches nobody. A host that ended may have left a reader behind.
    fn nobody_reads(&self) -> bool {
        self.outputs[0].pulse.has_ended() || stdio::has_no_reader(self.outputs[0].to)
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
    /// Its stdin had ended before (see `input_ended_first`), or somebody had sent it a signal through us.
    pub asked: bool,
    /// Somebody asked us to leave after that.
    pub hurried: bool,
    pub at: Moment,
}

/// What has been done about a server whose host is gone.
#[derive(Default)]
struct Orphan {
    since: Option<Moment>,
    sent: u32,
}

impl Orphan {
    /// The host is provably gone, and nobody reads in its place: SIGTERM after `grace`, SIGKILL after as much again.
    fn look(&mut self, pid: libc::pid_t, grace: Duration) {
        let open_for = now().since(*self.since.get_or_insert_with(now));
        for (number, signal) in [libc::SIGTERM, libc::SIGKILL].into_iter().enumerate() {
            let number = number as u32;
            if self.sent == number && open_for >= grace * (number + 1) {
                process::send(pid, signal);
                self.sent = number + 1;
            }
        }
    }
}
