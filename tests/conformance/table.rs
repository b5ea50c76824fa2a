//! A host, a wrapper and the party server, brought into a state for the lifecycle cases.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::noise::Endless;
use crate::party::SEED;
use crate::rig::{Host, Rig, Verdict, deadline, eventually, expect, last_words};
use crate::sys;

/// The activity on the streams when an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Idle,
    /// Half a line is under way on every stream.
    MidLine,
    /// Both sides write as fast as they can, on all streams.
    Flood,
    /// The server writes to stderr, which the host does not read, until it blocks.
    StderrBlocked,
}

pub const STATES: [(State, &str); 4] = [
    (State::Idle, "idle"),
    (State::MidLine, "mid-line"),
    (State::Flood, "flood"),
    (State::StderrBlocked, "stderr-blocked"),
];

/// Number of bytes that fills the pipes and buffers of every wrapper on the way.
const STEADY: u64 = 1 << 20;
/// Length of half a line. The noise has no line end there on any stream.
const HALF: usize = 1_003;

/// The connection to a party server, beside the streams.
pub struct Control {
    to: TcpStream,
    from: BufReader<TcpStream>,
    pub server: u32,
    signals: Vec<i32>,
    failures: Vec<String>,
}

/// The place where a party server will connect.
pub struct Meeting {
    listener: TcpListener,
    /// Its address.
    pub socket: String,
}

impl Meeting {
    pub fn new() -> Result<Meeting, String> {
        let text = |error: std::io::Error| error.to_string();
        let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
        let socket = listener.local_addr().map_err(text)?.to_string();
        Ok(Meeting { listener, socket })
    }

    /// Waits for the server.
    pub fn control(&self) -> Result<Control, String> {
        let text = |error: std::io::Error| error.to_string();
        self.listener.set_nonblocking(true).map_err(text)?;
        let accepted = std::cell::RefCell::new(None);
        eventually("the server reports", || {
            *accepted.borrow_mut() = self.listener.accept().ok();
            accepted.borrow().is_some()
        })?;
        let (to, _) = accepted.into_inner().ok_or("no server")?;
        to.set_nonblocking(false).map_err(text)?;
        to.set_nodelay(true).map_err(text)?;
        to.set_read_timeout(Some(deadline())).map_err(text)?;
        let from = BufReader::new(to.try_clone().map_err(text)?);
        let mut control = Control { to, from, server: 0, signals: Vec::new(), failures: Vec::new() };
        let hello = control.answer("hello")?;
        control.server = hello.parse().map_err(|_| "no pid")?;
        Ok(control)
    }
}

/// The numbers of bytes that a server has read and written.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    pub stdin: u64,
    pub stdin_ended: bool,
    pub outputs: [u64; 2],
}

impl Control {
    pub fn tell(&mut self, command: &str) -> Verdict {
        let line = format!("{command}\n");
        self.to.write_all(line.as_bytes()).map_err(|error| format!("`{command}` to the server: {error}"))
    }

    /// Returns the rest of the next line that begins with `word`. Lines before it that were not asked for are
    /// kept.
    pub fn answer(&mut self, word: &str) -> Result<String, String> {
        loop {
            let mut line = String::new();
            match self.from.read_line(&mut line) {
                Ok(1..) => {}
                Ok(0) => return Err(format!("the server is gone; waited for `{word}`")),
                Err(error) => return Err(format!("the server does not say `{word}`: {error}")),
            }
            let line = line.trim_end();
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            if first == word {
                return Ok(rest.to_owned());
            }
            match first {
                "signal" => self.signals.push(rest.parse().unwrap_or(0)),
                "failed" => self.failures.push(rest.to_owned()),
                _ => {}
            }
        }
    }

    pub fn ask(&mut self, command: &str, word: &str) -> Result<String, String> {
        self.tell(command)?;
        self.answer(word)
    }

    pub fn count(&mut self) -> Result<Count, String> {
        let text = self.ask("count", "count")?;
        let words: Vec<&str> = text.split(' ').collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse().ok()).unwrap_or(0);
        expect(words.get(1) != Some(&"wrong"), "the server got other bytes on stdin")?;
        let stdin_ended = words.get(1) == Some(&"ended");
        Ok(Count { stdin: number(0), stdin_ended, outputs: [number(2), number(3)] })
    }

    /// Returns the next signal that reaches the server, or already has.
    #[cfg(unix)]
    pub fn signal(&mut self) -> Result<i32, String> {
        if self.signals.is_empty() {
            let signal = self.answer("signal")?;
            return signal.parse().map_err(|_| "no signal".to_owned());
        }
        Ok(self.signals.remove(0))
    }

    /// Returns signals that have arrived and were not asked for.
    #[cfg(unix)]
    pub fn further_signals(&mut self) -> Result<Vec<i32>, String> {
        self.count()?;
        Ok(std::mem::take(&mut self.signals))
    }

    /// Waits until a write of the server has failed.
    pub fn failure(&mut self) -> Result<String, String> {
        if self.failures.is_empty() {
            return self.answer("failed");
        }
        Ok(self.failures.remove(0))
    }
}

/// One of the server's outputs, which a thread reads and checks.
pub struct Reader {
    seen: Arc<AtomicU64>,
    /// The first bytes that the server has not written.
    wrong: Arc<OnceLock<Vec<u8>>>,
    ended: Arc<AtomicBool>,
    close: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub fn start(mut from: File, stream: u64) -> Reader {
        let (seen, wrong): (Arc<AtomicU64>, Arc<OnceLock<Vec<u8>>>) = Default::default();
        let (ended, close): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let flags = (Arc::clone(&seen), Arc::clone(&wrong), Arc::clone(&ended), Arc::clone(&close));
        let thread = std::thread::spawn(move || {
            let (seen, wrong, ended, close) = flags;
            let mut noise = Endless::new(SEED, stream);
            let mut buffer = vec![0; 1 << 16];
            while !close.load(Ordering::Relaxed) {
                if !sys::is_readable(&from, 10) {
                    continue;
                }
                match from.read(&mut buffer) {
                    Ok(count @ 1..) => {
                        let right = noise.matching(&buffer[..count]);
                        if right < count && (stream != 2 || last_words(&buffer[..count]).is_none()) {
                            let _ = wrong.set(buffer[right..count].iter().take(200).copied().collect());
                        }
                        seen.fetch_add(right as u64, Ordering::Release);
                    }
                    Ok(0) | Err(_) => return ended.store(true, Ordering::Release),
                }
            }
        });
        Reader { seen, wrong, ended, close, thread: Some(thread) }
    }

    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Closes the host's end.
    pub fn close(&mut self) {
        self.close.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Reads to the end. All bytes must be right, and at least `owed`.
    fn whole(&self, name: &str, owed: u64) -> Verdict {
        let ended = eventually(&format!("the end of {name}"), || self.has_ended());
        if let Some(bytes) = self.wrong.get() {
            return Err(format!("other bytes on {name}: `{}`", bytes.escape_ascii()));
        }
        ended?;
        let seen = self.seen();
        expect(seen >= owed, &format!("{seen} bytes of {owed} on {name}"))
    }
}

/// Writes noise to the server until it is stopped or fails.
struct Writer {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(File, Endless)>,
}

pub struct Table {
    pub host: Host,
    pub control: Control,
    pub stdout: Reader,
    /// `None` while the host does not read it.
    pub stderr: Option<Reader>,
    /// Bytes that the host has not read by the end of the wrapper must still arrive.
    owes_stderr: bool,
    noise: Option<Endless>,
    sent: u64,
    writer: Option<Writer>,
    _meeting: Meeting,
}

impl Table {
    /// Starts a wrapper around a party server and brings it into `state`.
    pub fn set(rig: &Rig, state: State) -> Result<Table, String> {
        let mut table = Table::lay(rig, state)?;
        table.bring_into(state)?;
        Ok(table)
    }

    /// Starts a wrapper around a party server that does not read its stdin yet.
    pub fn set_silent(rig: &Rig) -> Result<Table, String> {
        Table::lay(rig, State::Idle)
    }

    fn lay(rig: &Rig, state: State) -> Result<Table, String> {
        let meeting = Meeting::new()?;
        let mut command = rig.command(&["role:party", &meeting.socket]);
        #[cfg(unix)]
        sys::own_group(&mut command);
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        drop(command);
        let control = meeting.control()?;
        let stdout = Reader::start(host.from.take().ok_or("no stdout")?, 1);
        let stderr = match state {
            State::StderrBlocked => None,
            _ => Some(Reader::start(host.errors.take().ok_or("no stderr")?, 2)),
        };
        let noise = Some(Endless::new(SEED, 0));
        let owes_stderr = stderr.is_some() || !rig.drops_unread_stderr;
        let (writer, _meeting) = (None, meeting);
        Ok(Table { host, control, stdout, stderr, owes_stderr, noise, sent: 0, writer, _meeting })
    }

    fn bring_into(&mut self, state: State) -> Verdict {
        self.control.tell("read")?;
        match state {
            State::Idle => Ok(()),
            State::MidLine => {
                for stream in 0..3 {
                    let mut noise = Endless::new(SEED, stream);
                    expect(noise.next(HALF).last() != Some(&b'\n'), "the case is wrong: a whole line")?;
                }
                self.send(HALF)?;
                self.control.ask(&format!("write 1 {HALF}"), "wrote")?;
                self.control.ask(&format!("write 2 {HALF}"), "wrote")?;
                self.all_delivered()
            }
            State::Flood => {
                self.control.tell("flood 1")?;
                self.control.tell("flood 2")?;
                self.flood();
                self.goes_on()
            }
            State::StderrBlocked => {
                self.control.tell("flood 2")?;
                let mut last = 0;
                loop {
                    std::thread::sleep(Duration::from_millis(30));
                    let count = self.control.count()?.outputs[1];
                    if count == last && count > 0 {
                        return Ok(());
                    }
                    last = count;
                }
            }
        }
    }

    /// Writes `count` further bytes to the server, unless a flood runs.
    pub fn send(&mut self, count: usize) -> Verdict {
        let noise = self.noise.as_mut().ok_or("a flood is on")?;
        let mut left = count;
        while left > 0 {
            let piece = noise.next(left);
            left -= piece.len();
            let piece = piece.to_vec();
            self.host.say(&piece)?;
            self.sent += piece.len() as u64;
        }
        Ok(())
    }

    fn flood(&mut self) {
        let (Some(mut to), Some(mut noise)) = (self.host.to.take(), self.noise.take()) else { return };
        let (sent, stop) = (Arc::new(AtomicU64::new(self.sent)), Arc::new(AtomicBool::new(false)));
        let (count, told) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let piece = noise.next(7_001);
                if to.write_all(piece).is_err() {
                    break;
                }
                count.fetch_add(piece.len() as u64, Ordering::Release);
            }
            (to, noise)
        });
        self.writer = Some(Writer { sent, stop, thread });
    }

    /// Ends the host's flood between two pieces.
    fn calm(&mut self) -> Verdict {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        writer.stop.store(true, Ordering::Relaxed);
        eventually("a write to the server returns", || writer.thread.is_finished())?;
        let (to, noise) = writer.thread.join().map_err(|_| "panic")?;
        self.sent = writer.sent.load(Ordering::Acquire);
        self.host.to = Some(to);
        self.noise = Some(noise);
        Ok(())
    }

    /// Checks that everything that was sent has arrived, in every direction that is read.
    fn all_delivered(&mut self) -> Verdict {
        let start = Instant::now();
        while start.elapsed() < deadline() {
            let count = self.control.count()?;
            let stderr = self.stderr.as_ref().map_or(count.outputs[1], Reader::seen);
            if count.stdin == self.sent
                && self.stdout.seen() == count.outputs[0]
                && stderr == count.outputs[1]
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("not delivered: {:?} of {} sent", self.control.count()?, self.sent))
    }

    /// Checks that the traffic goes on in every open direction: the flood continues, or new bytes pass.
    pub fn goes_on(&mut self) -> Verdict {
        if self.writer.is_some() {
            let before = self.control.count()?;
            let (stdout, stderr) = (self.stdout.seen(), self.stderr.as_ref().map_or(0, Reader::seen));
            let start = Instant::now();
            while start.elapsed() < deadline() {
                let now = self.control.count()?;
                let stderr_moves = self.stderr.as_ref().is_none_or(|reader| reader.seen() >= stderr + STEADY);
                let stdout_moves = self.stdout.seen() >= stdout + STEADY || self.stdout.thread.is_none();
                if now.stdin >= before.stdin + STEADY
                    && (stdout_moves || self.stdout.has_ended())
                    && stderr_moves
                {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            return Err(format!("the flood stopped: {before:?}, {:?}", self.control.count()?));
        }
        self.send(HALF)?;
        let mut outputs = Vec::new();
        if self.stdout.thread.is_some() && !self.stdout.has_ended() {
            outputs.push(1);
        }
        outputs.extend(self.stderr.is_some().then_some(2));
        for fd in outputs {
            self.control.ask(&format!("write {fd} {HALF}"), "wrote")?;
        }
        let (sent, stdout_closed) = (self.sent, self.stdout.thread.is_none() || self.stdout.has_ended());
        let start = Instant::now();
        while start.elapsed() < deadline() {
            let count = self.control.count()?;
            let stderr = self.stderr.as_ref().map_or(count.outputs[1], Reader::seen);
            if count.stdin == sent
                && (stdout_closed || self.stdout.seen() == count.outputs[0])
                && stderr == count.outputs[1]
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("bytes are missing: {:?} of {sent} sent", self.control.count()?))
    }

    /// Ends stdin at the host. The server must get all of it and its end.
    pub fn close_stdin(&mut self) -> Verdict {
        self.calm()?;
        self.host.close_stdin();
        let start = Instant::now();
        while start.elapsed() < deadline() {
            let count = self.control.count()?;
            if count.stdin_ended {
                return expect(
                    count.stdin == self.sent,
                    &format!("{} of {} bytes before the end of stdin", count.stdin, self.sent),
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("the server does not see the end of stdin".to_owned())
    }

    /// Waits for the end of the wrapper, whose status the caller checks, and then for the end of the streams,
    /// on which at least the bytes must arrive that the server had written by `count`.
    pub fn end(mut self, count: Count, judge: impl Fn(std::process::ExitStatus) -> bool) -> Verdict {
        let status = self.host.wait()?;
        expect(judge(status), &format!("status: {status}"))?;
        if self.writer.is_some() {
            self.calm().map_err(|_| "a write to a server that is gone blocks")?;
        }
        if self.stdout.thread.is_some() {
            self.stdout.whole("stdout", count.outputs[0])?;
        }
        let stderr = match self.stderr.take() {
            Some(reader) => reader,
            None => Reader::start(self.host.errors.take().ok_or("no stderr")?, 2),
        };
        stderr.whole("stderr", if self.owes_stderr { count.outputs[1] } else { 0 })
    }

    /// Lets the server exit with `code`, and checks everything.
    pub fn exit(mut self, code: i32) -> Verdict {
        let count = self.control.count()?;
        self.control.tell(&format!("exit {code}"))?;
        self.end(count, |status| status.code() == Some(code))
    }
}

/// Returns the wrapper's command as words for a helper that starts it.
pub fn words(command: &Command) -> Vec<String> {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
