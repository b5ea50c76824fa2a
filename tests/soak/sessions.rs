//! The sessions of the test, and what is measured of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::books::{self, Books};

/// Number of messages of the short form.
const SHORT: u64 = 150_000;
/// Number of messages of each call: request, progress, answer.
const PER_CALL: u64 = 3;
/// Number of calls that are open at the same time.
const WINDOW: u64 = 256;
/// Number of requests that are never answered.
const UNANSWERED: u64 = 100_000;
/// Limit of resident memory for any traffic, in bytes: both rings and the queue of the log, full, the bounded
/// tables, and the program, whose code is larger if it is not optimised.
const CEILING: u64 = if cfg!(debug_assertions) { 72 << 20 } else { 64 << 20 };
/// The limit while the queue of the log is full: the allocator keeps some of the returned buffers.
const CEILING_OF_A_FULL_QUEUE: u64 = CEILING + (8 << 20);
/// Limit of growth after a fifth of the messages, in bytes. It is larger for the short form, in which the
/// bounded tables are still being filled.
const GROWTH: u64 = 4 << 20;
const GROWTH_WHILE_FILLING: u64 = 16 << 20;
/// CPU time that three idle seconds may take: a thousandth of a core.
const IDLE: Duration = Duration::from_millis(3);
/// Number of calls after which every table has dropped its oldest entries.
const FILLED: u64 = 500_000;

pub fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| first.strip_prefix("role:")) {
        let played = match role {
            "answer" => answer(),
            _ => io::copy(&mut standard(0), &mut io::sink()).map(drop),
        };
        return if played.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut words = arguments.iter();
    let (mut messages, mut filter) = (SHORT, "");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--messages" => messages = words.next().and_then(|text| text.parse().ok()).unwrap_or(SHORT),
            option if option.starts_with('-') => {}
            text => filter = text,
        }
    }
    let parts: [(&str, Part); 3] = [("calls", calls), ("unanswered", unanswered), ("unwritable", unwritable)];
    let mut failed = 0;
    for (name, part) in parts.into_iter().filter(|(name, _)| name.contains(filter)) {
        let start = Instant::now();
        let verdict = part(messages);
        let took = start.elapsed().as_secs();
        match verdict {
            Ok(note) => println!("test soak::{name} ... ok ({note}; {took} s)"),
            Err(error) => {
                failed += 1;
                println!("test soak::{name} ... FAILED\n---- {error}");
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n",
        3 - failed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Part = fn(u64) -> Result<String, String>;

fn text(error: io::Error) -> String {
    error.to_string()
}

fn expect(kept: bool, otherwise: String) -> Result<(), String> {
    if kept { Ok(()) } else { Err(otherwise) }
}

fn standard(fd: i32) -> File {
    let owned = match fd {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        _ => io::stdout().as_fd().try_clone_to_owned(),
    };
    File::from(owned.expect("an open standard stream"))
}

/// The server: a progress notification and an answer for each request.
fn answer() -> io::Result<()> {
    let mut output = standard(1);
    let mut input = BufReader::with_capacity(1 << 16, standard(0));
    let mut line = Vec::new();
    let mut answers = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let n = number(&line);
        write!(
            answers,
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{n},"progress":1}}}}"#
        )?;
        answers.push(b'\n');
        write!(
            answers,
            r#"{{"jsonrpc":"2.0","id":{n},"result":{{"content":[{{"type":"text","text":"{n}"}}]}}}}"#
        )?;
        answers.push(b'\n');
        // The input is empty, so the gathered output is written.
        if input.buffer().is_empty() {
            output.write_all(&answers)?;
            answers.clear();
        }
    }
}

/// Returns the digits after the first `"id":`.
fn number(line: &[u8]) -> u64 {
    let at = line.windows(5).position(|window| window == br#""id":"#).map_or(0, |at| at + 5);
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
}

/// Returns call number `n`: a tool, arguments and a progress token that no other call has. Every tenth is a
/// method that no other call has.
fn request(n: u64, out: &mut Vec<u8>) {
    let _ = if n.is_multiple_of(10) {
        write!(
            out,
            r#"{{"jsonrpc":"2.0","id":{n},"method":"x/{n}","params":{{"_meta":{{"progressToken":{n}}}}}}}"#
        )
    } else {
        write!(
            out,
            r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"tool-{n}","arguments":{{"n":{n}}},"_meta":{{"progressToken":{n}}}}}}}"#
        )
    };
    out.push(b'\n');
}

/// Starts spantap around a role of this program, with its log in `logs`.
struct Subject {
    child: Child,
    to: Option<File>,
    from: Option<File>,
}

impl Subject {
    fn start(logs: &Path, options: &[&str], role: &str) -> Result<Subject, String> {
        let this = std::env::current_exe().map_err(text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_spantap"));
        command.arg("--log-dir").arg(logs).args(["--server", "soak"]).args(options).arg("--").arg(this);
        command.arg(role).env("XDG_CONFIG_HOME", std::env::temp_dir().join("spantap-soak-no-config"));
        // No record of a long run may be dropped.
        command.env("SPANTAP_MAX_SESSION_SIZE", "100GiB");
        // The log must have the last record, on any machine. Release builds ignore the variable.
        command.env("SPANTAP_TEST_FLUSH_BUDGET", "60000");
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().map_err(text)?;
        let to = child.stdin.take().map(|stream| File::from(std::os::fd::OwnedFd::from(stream)));
        let from = child.stdout.take().map(|stream| File::from(std::os::fd::OwnedFd::from(stream)));
        Ok(Subject { child, to, from })
    }

    /// Returns a figure of proc_pid_status(5), in bytes.
    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|text| text.parse::<u64>().ok())
            .map_or(u64::MAX, |kib| kib << 10)
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).map_or(0, Iterator::count)
    }

    fn cpu(&self) -> Duration {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
        Duration::from_nanos(stats.filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Returns the CPU time of three idle seconds. On a busy machine the observer may be late for a while.
    fn idle(&self) -> Duration {
        let mut used = Duration::MAX;
        for _ in 0..100 {
            let before = self.cpu();
            std::thread::sleep(Duration::from_secs(3));
            used = self.cpu().saturating_sub(before);
            if used <= IDLE {
                break;
            }
        }
        used
    }

    /// Ends the session. Returns its standard error.
    fn end(mut self) -> Result<String, String> {
        drop(self.to.take());
        if let Some(mut from) = self.from.take() {
            io::copy(&mut from, &mut io::sink()).map_err(text)?;
        }
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).map_err(text)?;
        }
        let status = self.child.wait().map_err(text)?;
        expect(status.success(), format!("{status}: {said}"))?;
        Ok(said)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Many different calls: nothing grows, and each has its one record.
fn calls(messages: u64) -> Result<String, String> {
    let logs = tempfile::tempdir().map_err(text)?;
    // No record may be lost, so that every record can be counted.
    let options = ["--overload", "wait", "--max-log-size", "16M"];
    let mut subject = Subject::start(logs.path(), &options, "role:answer")?;
    let calls = messages.div_ceil(PER_CALL);
    let answered = Arc::new(AtomicU64::new(0));
    let (mut to, from) = (subject.to.take().ok_or("no stdin")?, subject.from.take().ok_or("no stdout")?);
    let progress = Arc::clone(&answered);
    let writer = std::thread::spawn(move || -> io::Result<File> {
        let mut batch = Vec::new();
        for n in 0..calls {
            request(n, &mut batch);
            while n >= progress.load(Ordering::Acquire) + WINDOW {
                to.write_all(&batch)?;
                batch.clear();
                std::thread::sleep(Duration::from_micros(50));
            }
            if batch.len() > 8 << 10 {
                to.write_all(&batch)?;
                batch.clear();
            }
        }
        to.write_all(&batch)?;
        Ok(to)
    });
    let progress = Arc::clone(&answered);
    let reader = std::thread::spawn(move || -> io::Result<File> {
        let mut from = BufReader::with_capacity(1 << 16, from);
        let mut line = Vec::new();
        for expected in 0..PER_CALL.saturating_sub(1) * calls {
            line.clear();
            from.read_until(b'\n', &mut line)?;
            let n = expected / 2;
            let right = if expected.is_multiple_of(2) {
                line == format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{n},\"progress\":1}}}}\n").into_bytes()
            } else {
                progress.store(n + 1, Ordering::Release);
                number(&line) == n && line.ends_with(b"}]}}\n")
            };
            if !right {
                return Err(io::Error::other(format!("line {expected} was changed or lost")));
            }
        }
        Ok(from.into_inner())
    });
    let over = Arc::new(AtomicBool::new(false));
    let keeper = books::keep(logs.path(), Arc::clone(&over));
    let mut settled: Option<(usize, usize, u64)> = None;
    let mut last = (0, 0, 0);
    let mut tenths = Vec::new();
    while !reader.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
        last = (subject.descriptors(), subject.threads(), subject.memory("VmRSS"));
        let done = answered.load(Ordering::Acquire);
        if settled.is_none() && done >= calls / 5 {
            settled = Some(last);
        }
        if done * 10 >= calls * (tenths.len() as u64 + 1) {
            tenths.push(format!("{:.1}", last.2 as f64 / 1048576.0));
        }
    }
    subject.to = Some(writer.join().map_err(|_| "panic")?.map_err(text)?);
    subject.from = Some(reader.join().map_err(|_| "panic")?.map_err(text)?);
    let (descriptors, threads, memory) = settled.unwrap_or(last);
    let idle = subject.idle();
    let peak = subject.memory("VmHWM");
    let said = subject.end()?;
    over.store(true, Ordering::Release);
    let books: Books = keeper.join().map_err(|_| "panic")?.map_err(text)?;
    expect(said.is_empty(), format!("said: {said}"))?;
    expect(books.operations == calls, format!("{} records of {calls} calls", books.operations))?;
    expect(books.holes == 0, format!("{} numbers are missing in the log", books.holes))?;
    // The log may be between two parts at this moment.
    expect(last.0 <= descriptors + 1, format!("descriptors grew from {descriptors} to {}", last.0))?;
    expect(last.1 <= threads, format!("threads grew from {threads} to {}", last.1))?;
    let growth = last.2.saturating_sub(memory);
    let most = if calls / 5 >= FILLED { GROWTH } else { GROWTH_WHILE_FILLING };
    expect(
        growth <= most,
        format!("memory grew by {} KiB, from {} KiB: {tenths:?} MiB", growth >> 10, memory >> 10),
    )?;
    expect(peak <= CEILING, format!("{} MiB", peak >> 20))?;
    expect(idle <= IDLE, format!("{idle:?} of CPU in three idle seconds"))?;
    Ok(format!(
        "{} messages, {} records in {} parts, none missing; {} descriptors; resident {:.1} MiB after a fifth, \
         {:.1} MiB at the end (by tenths {}), peak {:.1} MiB; idle afterwards {:.3} ms a second",
        calls * PER_CALL,
        books.records,
        books.parts,
        last.0,
        memory as f64 / 1048576.0,
        last.2 as f64 / 1048576.0,
        tenths.join(" "),
        peak as f64 / 1048576.0,
        idle.as_secs_f64() * 1e3 / 3.0,
    ))
}

/// Requests without an answer: the oldest are abandoned, and each is recorded.
fn unanswered(_: u64) -> Result<String, String> {
    let logs = tempfile::tempdir().map_err(text)?;
    let mut subject = Subject::start(logs.path(), &["--overload", "wait"], "role:swallow")?;
    let mut to = subject.to.take().ok_or("no stdin")?;
    let mut batch = Vec::new();
    for n in 0..UNANSWERED {
        request(n, &mut batch);
        if batch.len() > 60 << 10 || n + 1 == UNANSWERED {
            to.write_all(&batch).map_err(text)?;
            batch.clear();
        }
    }
    // Waits until the observer has seen all of them. Open requests end with the session.
    let mut counts = BTreeMap::new();
    let start = Instant::now();
    let evicted = |counts: &BTreeMap<String, u64>| counts.get("evicted").copied().unwrap_or(0);
    while evicted(&counts) < UNANSWERED - 16_384 && start.elapsed() < Duration::from_secs(600) {
        std::thread::sleep(Duration::from_millis(500));
        counts = books::by_error(logs.path()).map_err(text)?;
    }
    let peak = subject.memory("VmHWM");
    subject.to = Some(to);
    let said = subject.end()?;
    let counts = books::by_error(logs.path()).map_err(text)?;
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    let lost = books::said_lost(&said);
    let sum = of("evicted") + of("unanswered") + lost;
    expect(sum == UNANSWERED && lost == 0, format!("{sum} of {UNANSWERED}: {counts:?}; {said}"))?;
    expect(peak <= CEILING, format!("{} MiB", peak >> 20))?;
    Ok(format!(
        "{} given up as evicted, {} unanswered, none lost; peak {:.1} MiB",
        of("evicted"),
        of("unanswered"),
        peak as f64 / 1048576.0
    ))
}

/// A flood while the log cannot be written: memory stays bounded, the traffic is exact.
fn unwritable(messages: u64) -> Result<String, String> {
    let nowhere = PathBuf::from("/proc/spantap");
    let mut subject = Subject::start(&nowhere, &[], "role:answer")?;
    let (mut to, from) = (subject.to.take().ok_or("no stdin")?, subject.from.take().ok_or("no stdout")?);
    let calls = messages.min(600_000) / PER_CALL;
    let writer = std::thread::spawn(move || -> io::Result<()> {
        let mut batch = Vec::new();
        for n in 0..calls {
            request(n, &mut batch);
            if batch.len() > 60 << 10 || n + 1 == calls {
                to.write_all(&batch)?;
                batch.clear();
            }
        }
        Ok(())
    });
    let lines = BufReader::with_capacity(1 << 16, from).split(b'\n').count() as u64;
    writer.join().map_err(|_| "panic")?.map_err(text)?;
    expect(lines == 2 * calls, format!("{lines} lines of {}", 2 * calls))?;
    let peak = subject.memory("VmHWM");
    let said = subject.end()?;
    expect(said.contains("records lost: "), format!("the loss is not reported: {said}"))?;
    // The process may have ended. Its peak was not measured then.
    expect(peak == u64::MAX || peak <= CEILING_OF_A_FULL_QUEUE, format!("{} MiB", peak >> 20))?;
    Ok(format!("{} messages, all lost to the log and counted", calls * PER_CALL))
}
