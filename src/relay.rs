//! The relay: bytes only.
//!
//! [`Relay::start`] starts the server and one pump a stream, or starts nothing at all. [`Relay::wait`]
//! forwards signals until the server has ended and its last bytes are written. [`process::mirror`] then exits
//! with the server's status or signal. No file of this room parses JSON. A pump waits for
//! the observer only with `--overload=wait`.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub mod chunk;
pub mod editing_pump;
pub mod line_editor;
pub mod pump;
pub mod ring;

use crate::system::activity::Activity;
use crate::system::clock::{Moment, now};
use crate::system::descriptor::{self, OwnedDescriptor, RawDescriptor};
use crate::system::process;
use crate::system::server::{ExitStatus, SpawnError, StartedServer, TraceEnv};
use crate::system::signals::{self, MainThread, SignalMask, Woken};
use crate::system::{allocator, memory, processes, stdio};
use chunk::Stream;
use editing_pump::EditingPump;
use line_editor::LineEditor;
use pump::{Descriptor, Pump, PumpState, WhenFull};
use ring::{Consumer, Producer, Ring};

/// Time for the processes that an ended server left behind and that hold its pipes. Bytes that the server itself wrote
/// are waited for without limit, as long as the host can still read them.
struct Leftovers {
    /// spantap exits once the pipes were silent for this long.
    silence: Duration,
    /// spantap exits after this time, also while a process writes.
    limit: Duration,
}

const LEFTOVERS: Leftovers = Leftovers { silence: Duration::from_millis(500), limit: Duration::from_secs(1) };
/// The same after a signal that asks to leave. A host counts from its signal: Claude Code sends SIGKILL after 0.4 s.
const LEFTOVERS_WHEN_ASKED: Leftovers =
    Leftovers { silence: Duration::from_millis(100), limit: Duration::from_millis(200) };
/// After the server's end, the host's pipe is enlarged if the host has not read everything after this time.
const SLOW_HOST: Duration = Duration::from_millis(100);
/// Longest wait for a host that reads nothing of the server's stderr after the server's end, if its pipe cannot be
/// enlarged. A host that reads stderr does it all the time; one that does not must still see the end. Stdout is waited
/// for without limit, and so is a terminal, which a person can stop for a while.
const UNREAD_STDERR: Duration = Duration::from_secs(1);
/// Longest wait for the host once a signal has asked spantap to exit after the server's end.
const HURRY: Duration = Duration::from_millis(250);
/// Interval of the check whether a server that has closed its stderr goes on. If the system does not say what the
/// server does, it goes on after this time.
const STDERR_GRACE: Duration = Duration::from_millis(20);
/// CPU time with which a server goes on that has closed its stderr. A program that exits needs less.
const GOES_ON: Duration = Duration::from_millis(50);
/// Interval of the check whether the host still lives, once stdin has ended.
const HOST_CHECK: Duration = Duration::from_secs(1);
/// Default of [`RelayOptions::orphan_grace`].
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// A running server with its pumps.
pub struct Relay {
    pub pid: i32,
    /// Time at which the server process was started.
    pub spawned: Moment,
    stdin: RelayedStream,
    stdout: OutputStream,
    stderr: OutputStream,
    host: i32,
    orphan_grace: Duration,
    /// The host's stdout and stderr are one stream.
    pub outputs_are_one: bool,
    stderr_closed: bool,
}

/// The pump of a stream, and the ring to which it publishes.
struct RelayedStream {
    pump: Arc<PumpState>,
    ring: Arc<Ring>,
}

/// State of the server's stdout or stderr that the end of the session needs.
struct OutputStream {
    relayed: RelayedStream,
    /// The server's pipe and the host's stream. The pump owns them and closes them at its end. A number that
    /// is reused after that is only queried, never read or written.
    from: RawDescriptor,
    to: RawDescriptor,
    /// The host reads a pipe or socket.
    has_peer: bool,
}

/// The observer's ends of the three rings: the server's stdin, stdout and stderr.
pub struct StreamReaders {
    pub stdin: Consumer,
    pub stdout: Consumer,
    pub stderr: Consumer,
}

pub struct RelayOptions {
    pub when_full: WhenFull,
    /// Size of the ring of stdin and of stdout, in bytes.
    pub ring_size: usize,
    /// Size of the ring of stderr, in bytes.
    pub stderr_ring_size: usize,
    /// Time that a server whose host is gone has before SIGTERM, and again before SIGKILL.
    pub orphan_grace: Duration,
}

impl Default for RelayOptions {
    /// Returns rings that hold a burst of 200,000 messages of 100 bytes, even if the observer runs only after
    /// the burst and each message and each newline is a read of its own. Of 100,000 messages in one direction, each
    /// takes 16 + 100 and 16 + 1 bytes, rounded up to 120 and 24, and their 14.4 MB need 110 segments, of which at most
    /// 4 KiB stay empty. The rings have 112. Untouched pages cost nothing.
    fn default() -> RelayOptions {
        RelayOptions {
            when_full: WhenFull::Lose,
            ring_size: 29 << 19,
            stderr_ring_size: 1 << 20,
            orphan_grace: ORPHAN_GRACE,
        }
    }
}

impl Relay {
    /// Starts `command` and its pumps, and blocks all signals. The main thread must call this before any other
    /// thread exists. The pumps call `help` when a ring is a quarter full. `editor` may add to the lines of stdin.
    /// Fails only before anything has been read from the host.
    pub fn start(
        command: &[OsString],
        trace_env: &TraceEnv,
        options: &RelayOptions,
        editor: Option<Box<dyn LineEditor>>,
        help: impl Fn() + Send + Sync + Clone + 'static,
    ) -> Result<(Relay, StreamReaders), SpawnError> {
        let host = process::parent();
        let host_mask = SignalMask::block_all().map_err(SpawnError::Own)?;
        memory::share_heap_if_scarce();
        // Without memory for the rings the server is not started.
        let ([stdin_in, stdout_in, stderr_in], readers) = options.rings().map_err(SpawnError::Own)?;
        let editing = editor.map(EditingPump::new).transpose();
        let editing = editing.map_err(|error| SpawnError::Own(error.into()))?;
        // The same holds without a process, a thread or a descriptor for it.
        let forked = process::fork(command, trace_env, &host_mask)?;
        let main = MainThread::this();
        let relayed = |producer: &Producer| RelayedStream {
            pump: PumpState::new(options.when_full, help.clone(), move || main.wake()),
            ring: Arc::clone(producer.ring()),
        };
        let [stdin, stdout, stderr] = [&stdin_in, &stdout_in, &stderr_in].map(relayed);
        let stdin_pump = stdin.start_pump(stdin_in, editing)?;
        let stdout_pump = stdout.start_pump(stdout_in, None)?;
        let stderr_pump = stderr.start_pump(stderr_in, None)?;
        stdio::prepare_for_lost_peers().map_err(SpawnError::Own)?;
        let (to_stdout, to_stderr) = take_outputs().map_err(SpawnError::Own)?;
        let outputs_are_one = matches!(to_stderr, Descriptor::Owned(_));
        allocator::keep_slack();

        let StartedServer { pid, stdin: to_server, stdout: from_server, stderr: errors } = forked.exec()?;
        allocator::relay_begins(main);
        let spawned = now();
        if outputs_are_one {
            stdio::silence(descriptor::STDOUT);
            stdio::silence(descriptor::STDERR);
        }
        let stdout = stdout.into_output(&from_server, descriptor::raw(&to_stdout));
        let stderr = stderr.into_output(&errors, to_stderr.raw());
        stdin_pump.start(Descriptor::Standard(descriptor::STDIN), Descriptor::Owned(to_server));
        stdout_pump.start(Descriptor::Owned(from_server), Descriptor::Owned(to_stdout));
        stderr_pump.start(Descriptor::Owned(errors), to_stderr);
        let (orphan_grace, stderr_closed) = (options.orphan_grace, outputs_are_one);
        let relay =
            Relay { pid, spawned, stdin, stdout, stderr, host, orphan_grace, outputs_are_one, stderr_closed };
        Ok((relay, readers))
    }

    /// The streams: stdin, stdout and stderr of the server.
    fn streams(&self) -> [&RelayedStream; 3] {
        [&self.stdin, &self.stdout.relayed, &self.stderr.relayed]
    }

    /// Bytes that were read and not observed, once an observer has stopped.
    pub fn not_observed(&self) -> u64 {
        self.streams().iter().map(|stream| stream.ring.not_taken()).sum()
    }

    /// Changes what the pumps do when a ring is full, for a setting that becomes known after the start.
    pub fn set_when_full(&self, when_full: WhenFull) {
        self.streams().iter().for_each(|stream| stream.pump.set_when_full(when_full));
    }

    /// Forwards signals until the server has ended and its bytes have been written onward. Returns how the
    /// server ended.
    pub fn wait(&mut self) -> ServerExit {
        let mut requests = Requests::default();
        let mut orphan = Orphan::default();
        let mut stderr_end: Option<StderrEnd> = None;
        loop {
            let stdin_ended = self.stdin.pump.has_ended();
            let stderr_ended = self.stderr.relayed.pump.has_ended();
            if stderr_ended
                && !self.stderr_closed
                && stderr_end.get_or_insert_with(|| StderrEnd::of(self.pid)).server_goes_on()
            {
                self.close_stderr();
            }
            if stdin_ended && process::parent() != self.host && self.has_no_reader() {
                orphan.check(self.pid, self.orphan_grace);
            }
            let timeout = match (stderr_ended && !self.stderr_closed, stdin_ended) {
                (true, _) => Some(STDERR_GRACE),
                (false, true) => Some(HOST_CHECK.min(self.orphan_grace)),
                (false, false) => None,
            };
            let woken = signals::wait(timeout);
            match woken {
                Woken::Forward(signal) => {
                    requests.note(signal);
                    requests.forwarded |= 1 << signal;
                    process::send(self.pid, signal);
                }
                Woken::Kernel(signal) => {
                    requests.note(signal);
                    if signals::is_for_the_leader(signal) {
                        process::send(self.pid, signal);
                    }
                }
                Woken::LookAround | Woken::Timeout => {}
            }
            if woken.asks_to_look()
                && let Some(status) = process::reap(self.pid)
            {
                let ended_by_signal = requests.explain(status);
                let asked = ended_by_signal || self.input_ended_first();
                let at = now();
                let hurried = self.drain(if ended_by_signal { &LEFTOVERS_WHEN_ASKED } else { &LEFTOVERS });
                return ServerExit { status, asked, hurried, at, orphan_killed: orphan.is_killed };
            }
            if requests.to_stop && process::has_stopped(self.pid) {
                requests.to_stop = false;
                signals::stop_self();
            }
        }
    }

    /// Waits until the bytes of the ended server have been written onward, however long the host takes to read stdout,
    /// and a short time for other processes that hold its pipes. Returns true if a signal cut the wait short.
    fn drain(&self, leftovers: &Leftovers) -> bool {
        let ended = now();
        let mut hurried_at: Option<Moment> = None;
        let [mut stdout, mut stderr] = [(); 2].map(|()| Owed::since(ended));
        loop {
            let waits_for_stdout = stdout.is_waited_for(&self.stdout, leftovers, hurried_at);
            let waits_for_stderr = stderr.is_waited_for(&self.stderr, leftovers, hurried_at);
            if !waits_for_stdout && !waits_for_stderr {
                return hurried_at.is_some();
            }
            // The pumps wake this thread at their end. The server is gone, so signals are not forwarded.
            if let Woken::Forward(signal) | Woken::Kernel(signal) =
                signals::wait(Some(Duration::from_millis(50)))
                && signals::asks_to_leave(signal)
            {
                hurried_at.get_or_insert_with(now);
            }
        }
    }

    /// Returns true if the server's input ended before its output, or so long after it that the server had
    /// only closed its output. Otherwise the host closed the input because the server had ended.
    fn input_ended_first(&self) -> bool {
        match (self.stdin.pump.ended_at(), self.stdout.relayed.pump.ended_at()) {
            (Some(input), Some(output)) => input < output || input.since(output) > LEFTOVERS.limit,
            (input, _) => input.is_some(),
        }
    }

    /// Returns true if the host's end of the server's output is closed. A host that ended may have left a reader
    /// behind. A file, a device or a terminal has no other end, and an output that the server closed itself
    /// says nothing about the host.
    fn has_no_reader(&self) -> bool {
        let OutputStream { relayed: RelayedStream { pump, .. }, to, has_peer, .. } = &self.stdout;
        let write_failed = pump.has_ended() && pump.ended_at().is_none();
        *has_peer && (write_failed || (!pump.has_ended() && stdio::has_lost_peer(*to)))
    }

    /// Closes the host's stderr, because the server has closed its own and lives on.
    fn close_stderr(&mut self) {
        self.stderr_closed = true;
        stdio::silence(descriptor::STDERR);
        stdio::silence(descriptor::STDOUT);
    }
}

impl RelayedStream {
    /// Starts the pump, which waits for its two descriptors.
    fn start_pump(&self, producer: Producer, editing: Option<EditingPump>) -> Result<Pump, SpawnError> {
        let state = Arc::clone(&self.pump);
        let pump = match editing {
            None => Pump::new(producer, state, pump::run),
            Some(editing) => Pump::new(producer, state, |from, to, producer, state| {
                editing.run(from, to, producer, state);
            }),
        };
        pump.map_err(SpawnError::Own)
    }

    fn into_output(self, from: &OwnedDescriptor, to: RawDescriptor) -> OutputStream {
        OutputStream { relayed: self, from: descriptor::raw(from), to, has_peer: stdio::has_peer(to) }
    }
}

/// Part of the memory limit that one ring may take, as a divisor. Threads, tables and the program need the rest.
const SHARE_OF_RING: usize = 64;

impl RelayOptions {
    /// Makes the rings of the three streams.
    fn rings(&self) -> io::Result<([Producer; 3], StreamReaders)> {
        let limit = memory::limit() / SHARE_OF_RING;
        let (stdin_in, stdin) = ring(Stream::Stdin, self.ring_size.min(limit))?;
        let (stdout_in, stdout) = ring(Stream::Stdout, self.ring_size.min(limit))?;
        let (stderr_in, stderr) = ring(Stream::Stderr, self.stderr_ring_size.min(limit))?;
        Ok(([stdin_in, stdout_in, stderr_in], StreamReaders { stdin, stdout, stderr }))
    }
}

/// Makes a ring, a smaller one if the system refuses the memory.
fn ring(stream: Stream, size: usize) -> io::Result<(Producer, Consumer)> {
    match ring::pair(stream, size) {
        Err(_) if size > 0 => ring(stream, size / 4),
        made => made,
    }
}

/// Takes the host's stdout, and its stderr if both are one stream, because messages of spantap would then be among
/// those of the server.
fn take_outputs() -> io::Result<(OwnedDescriptor, Descriptor)> {
    let stderr = match stdio::outputs_are_one() {
        true => Descriptor::Owned(stdio::copy_stderr()?),
        false => Descriptor::Standard(descriptor::STDERR),
    };
    Ok((stdio::take_stdout()?, stderr))
}

/// Requests of the signals that came while the server ran.
#[derive(Default)]
struct Requests {
    /// The server is asked to leave.
    to_leave: bool,
    /// Job control asks for a stop. spantap stops only after the server has, because the server may refuse.
    to_stop: bool,
    /// Signals that were forwarded, as bits. Those that ask for nothing may still kill the server.
    forwarded: u128,
}

impl Requests {
    fn note(&mut self, signal: i32) {
        self.to_leave |= signals::asks_to_leave(signal);
        self.to_stop = (self.to_stop || signals::asks_to_stop(signal)) && !signals::asks_to_go_on(signal);
    }

    /// Returns true if a signal asked for an end with this status: it asked the server to leave, or was forwarded and
    /// killed it.
    fn explain(&self, status: ExitStatus) -> bool {
        self.to_leave || matches!(status, ExitStatus::Killed(signal) if self.forwarded >> signal & 1 == 1)
    }
}

/// Rest of one stream that the host is still to get after the server's end.
struct Owed {
    /// Time of the server's end.
    ended: Moment,
    /// Bytes that the server itself had written.
    bytes: u64,
    forwarded: u64,
    /// Time at which bytes were last written onward.
    moved: Moment,
    /// True if the host's pipe could be enlarged for the rest; `None` as long as that has not been tried.
    fits: Option<bool>,
}

impl Owed {
    fn since(ended: Moment) -> Owed {
        Owed { ended, bytes: 0, forwarded: 0, moved: ended, fits: None }
    }

    /// Looks at the stream. Returns true if spantap waits for its rest, or for more bytes of the processes that hold its
    /// pipe. A signal asked spantap to exit at `hurried_at`.
    fn is_waited_for(
        &mut self,
        output: &OutputStream,
        leftovers: &Leftovers,
        hurried_at: Option<Moment>,
    ) -> bool {
        let OutputStream { relayed: RelayedStream { pump, ring }, from, to, .. } = output;
        if pump.has_ended() {
            return false;
        }
        let since_end = now().since(self.ended);
        // The sum is taken more than once, because a pump may hold bytes that are in neither part.
        if since_end < SLOW_HOST {
            self.bytes = ring.bytes() + stdio::waiting(*from);
        }
        let forwarded = ring.forwarded();
        if forwarded > std::mem::replace(&mut self.forwarded, forwarded) {
            self.moved = now();
        }
        if forwarded >= self.bytes {
            let silence = now().since(ring.last_read().max(self.ended));
            return hurried_at.is_none() && silence < leftovers.silence && since_end < leftovers.limit;
        }
        if since_end >= SLOW_HOST {
            let rest = || stdio::waiting(*from) + 2 * ring::MAX_READ as u64;
            self.fits.get_or_insert_with(|| stdio::widen(*to, rest()));
        }
        let is_unread = ring.stream() == Stream::Stderr
            && self.fits == Some(false)
            && !stdio::is_terminal(*to)
            && now().since(self.moved) >= UNREAD_STDERR;
        !is_unread && hurried_at.is_none_or(|at| now().since(at) < HURRY)
    }
}

/// How the server ended.
#[derive(Clone, Copy, Debug)]
pub struct ServerExit {
    pub status: ExitStatus,
    /// The server was asked to leave: its stdin had ended first (see `input_ended_first`), or spantap had
    /// forwarded a signal that asks to leave or that the server died of.
    pub asked: bool,
    /// A signal asked spantap to leave after that.
    pub hurried: bool,
    /// spantap killed the server, because it did not end when its host was gone.
    pub orphan_killed: bool,
    pub at: Moment,
}

/// The end of the server's stderr. A server that exits closes it a moment before its end, and until then spantap can
/// write its own last line to the host's. How long that moment is depends on the machine's load, so it is not measured.
struct StderrEnd {
    pid: i32,
    at: Moment,
    /// CPU time of the server at the end of its stderr.
    cpu: Option<Duration>,
}

impl StderrEnd {
    fn of(pid: i32) -> StderrEnd {
        StderrEnd { pid, at: now(), cpu: None }
    }

    /// Returns true if the server closed its stderr and does something else than exit.
    fn server_goes_on(&mut self) -> bool {
        match processes::activity_of(self.pid) {
            Some(Activity::Exits) => false,
            Some(Activity::Waits) => true,
            Some(Activity::Works(cpu)) => cpu >= *self.cpu.get_or_insert(cpu) + GOES_ON,
            None => now().since(self.at) >= STDERR_GRACE,
        }
    }
}

/// Steps taken against a server whose host is gone.
#[derive(Default)]
struct Orphan {
    since: Option<Moment>,
    is_asked: bool,
    is_killed: bool,
}

impl Orphan {
    /// Asks the server to leave after `grace` and kills it after twice that. The host is gone and nothing reads in its
    /// place.
    fn check(&mut self, pid: i32, grace: Duration) {
        let open_for = now().since(*self.since.get_or_insert_with(now));
        if open_for >= grace && !std::mem::replace(&mut self.is_asked, true) {
            process::ask_to_leave(pid);
        }
        if open_for >= grace * 2 && !std::mem::replace(&mut self.is_killed, true) {
            process::kill(pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::{Item, Room};

    #[test]
    fn a_ring_holds_the_promised_burst_whatever_its_reads() {
        let size = RelayOptions::default().ring_size;
        let (mut producer, mut consumer) = ring::pair(Stream::Stdin, size).unwrap();
        for length in [100, 1].repeat(100_000) {
            let room = producer.reserve();
            assert!(matches!(room, Room::Ring));
            producer.publish(&room, length, now());
        }
        consumer.snapshot();
        let mut bytes = 0;
        while consumer.peek().is_some() {
            consumer.take(|item| match item {
                Item::Chunk(chunk) => bytes += chunk.bytes.len(),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(bytes, 100_000 * 101);
    }
}
