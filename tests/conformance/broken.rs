//! Relays with one defect each, of kinds that exist in practice. The suite must reject them.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use crate::sys;

/// The defects, with the case that must reject each, and words that its verdict must contain, since a relay
/// that fails otherwise is not caught. `|` separates two verdicts if timing decides between them.
pub const DEFECTS: &[(&str, &str, &str)] = &[
    ("holds-half-lines", "prompt/half-a-line", "reading stdout: nothing for"),
    ("drops-last-line", "copy/last-line-without-newline", "the last line was not delivered"),
    ("strips-cr", "copy/hostile-bytes", "first difference at"),
    ("decodes-utf8", "copy/hostile-bytes", "first difference at"),
    ("writes-json-anew", "copy/requests", "became `"),
    ("drops-last-line", "copy/burst-of-requests", "the half of a line at the end"),
    ("prints-banner", "copy/hostile-bytes", "first difference at 0"),
    ("waits-for-eof-to-answer", "prompt/ping", "reading stdout: nothing for"),
    ("always-zero", "status/every-code", "1 became exit status: 0"),
    ("one-for-signals", "status/death-by-signal", "became exit status: 1"),
    ("kills-at-eof", "ends/late-answer", "the answer after the end of stdin is missing"),
    ("keeps-stdout-open", "ends/server-closes-stdout", "reading stdout: nothing for"),
    ("swallows-stdin-end", "ends/late-answer", "reading stdout: nothing for"),
    (
        "buffers-without-limit",
        "bounded/host-that-does-not-read",
        "bytes were taken from the host while it read nothing",
    ),
    ("one-thread-for-outputs", "apart/flooded-stderr", "reading stdout: nothing for"),
    ("swallows-signals", "signals/each-exactly-once", "signal 1: the server does not say `signal`"),
    ("swallows-signals", "signals/each-fault-exactly-once", "the server does not say `signal`"),
    ("leaves-orphans", "orphans/killed-wrapper", "the server goes with its wrapper: not within"),
    ("waits-for-grandchildren", "ends/grandchild-holds-the-pipes", "nothing for"),
    ("sets-nonblocking", "start/descriptors-stay-blocking", "O_NONBLOCK on the host's pipe"),
    ("cleans-environment", "start/same-start", "CONFORMANCE_CANARY"),
    ("wrong-spawn-status", "status/cannot-start", "exit status: 1 instead of 127"),
    ("wrong-spawn-status", "status/bad-interpreter", "exit status: 1"),
    ("hoards-lines", "bounded/endless-line", "after 0 MiB: reading stdout: nothing for"),
    ("hoards-input", "bounded/server-that-does-not-read", "bytes were taken for a server that reads nothing"),
    ("reads-by-character", "copy/lines-of-many-sizes", "reading stdout: nothing for"),
    ("cuts-at-64k", "copy/lines-of-many-sizes", "reading stdout: nothing for"),
    ("takes-short-reads-for-ends", "copy/plain-files", "the server got other bytes on stdin"),
    ("takes-short-reads-for-ends", "copy/small-pipes-and-signals", "bytes of 700000"),
    ("drops-the-rest", "copy/burst-before-exit-read-late", "bytes of"),
    ("shuts-sockets-down", "ends/two-outputs-on-one-socket", "bytes of 700000 on stderr"),
    ("swallows-stdin-end", "ends/one-socket-half-closed", "Resource temporarily unavailable"),
    ("swallows-input", "ends/server-exits-while-host-writes", "to a server that reads a byte succeeded"),
    ("turns-when-idle", "idle/after-every-end", "CPU time in"),
    ("loses-ignored-child", "status/sigchld-ignored", "exit status: 97"),
    ("dies-at-first-signal", "matrix/server-ignores-term/mid-line", "`signal`"),
    ("forwards-everything", "terminal/ctrl-c-once", "arrived"),
    ("goes-on-when-its-server-stops", "terminal/told-to-stop", "the job is not stopped"),
    ("swallows-signals", "terminal/ctrl-z-and-on", "the job is not stopped"),
    ("swallows-signals", "terminal/background-read", "the job is not stopped"),
    ("swallows-signals", "terminal/hang-up", "the server does not say `signal`"),
    ("tells-of-ends-by-signal", "signals/none-of-its-own", "signal 17 came with the end of a stream"),
    ("swallows-signals", "signals/alarm-set-before", "the server does not say `signal`"),
    ("swallows-signals", "signals/at-any-moment-of-the-start", "SIGTERM was lost: nothing for"),
    (
        "handles-ignored-signals",
        "signals/ignored-ones-stay-ignored",
        "after signal 1: |writing stdin: Broken pipe",
    ),
    ("complains-on-stderr", "copy/shared-stdout-and-stderr", "among the bytes"),
    ("leaves-with-its-starter", "ends/background-on-dev-null", "the server did not outlive its starter"),
    ("talks-over-sockets", "start/sandbox-without-sockets", "no answer|writing stdin: Broken pipe"),
    ("needs-much-stack", "start/small-stack", "with a small stack: "),
    ("needs-much-memory", "start/little-memory", "signal: 6"),
    ("hands-its-mask-down", "start/masks-and-dispositions", "`SigBlk:\tffff"),
    ("decodes-utf8", "start/little-room", "with `ulimit -n 16`: stdout: "),
    (
        "leaves-orphans",
        "orphans/killed-at-any-moment-of-the-start",
        "the server goes with its wrapper: not within",
    ),
    ("kills-at-eof", "matrix/host-closes-stdin/flood", "`count`"),
    ("drops-last-line", "matrix/host-closes-stdin/mid-line", "not delivered: "),
    ("keeps-outputs-open", "matrix/host-closes-stdout/idle", "the server does not say `failed`"),
    ("outlives-its-host", "matrix/host-killed/idle", "the server does not see that its host is gone"),
    ("leaves-with-its-server", "matrix/server-exits/flood", "bytes of"),
    ("always-zero", "matrix/server-killed/idle", "status: exit status: 0"),
    ("waits-for-a-deaf-host", "matrix/server-killed/stderr-blocked", "nothing for"),
    (
        "stops-at-first-end",
        "matrix/server-closes-stdout/idle",
        "writing stdin: Broken pipe|the server does not say",
    ),
    ("waits-for-grandchildren", "matrix/grandchild-holds-pipes/idle", "nothing for"),
    ("forwards-twice", "matrix/each-signal-once/idle", "arrived"),
    ("one-for-forwarded-signals", "matrix/death-by-each-signal/idle", "signal 15: status: exit status: 1"),
    ("ends-when-continued", "matrix/stopped-and-continued/flood", "`count`|the wrapper stops: not within"),
    ("own-group", "matrix/group-killed/idle", "go with their group: not within"),
];

/// Relays `command` with `defect`, which may be `none`. Returns the exit status.
pub fn relay(defect: &str, command: &[String]) -> i32 {
    relay_or_fail(defect, command).unwrap_or(97)
}

fn relay_or_fail(defect: &str, words: &[String]) -> io::Result<i32> {
    let has = |name: &str| name == defect;
    needs_much(defect)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if has("cleans-environment") {
        command.env_remove("CONFORMANCE_CANARY");
    }
    if has("own-group") {
        sys::own_group(&mut command);
    }
    if !has("dies-at-first-signal") {
        let give_back = sys::take_signals();
        if !has("hands-its-mask-down") {
            sys::before_exec(&mut command, give_back);
        }
    }
    if has("loses-ignored-child") {
        // With SIGCHLD ignored, as inherited, the kernel keeps no status to wait for.
        sys::ignore(libc::SIGCHLD);
    }
    if has("handles-ignored-signals") {
        sys::restore_default(libc::SIGHUP);
    }
    if !matches!(defect, "leaves-orphans" | "stops-at-first-end") {
        let this = std::process::id();
        sys::before_exec(&mut command, move || sys::end_with(this));
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(io::stderr(), "relay: {error}");
            return Ok(match error.kind() {
                _ if has("wrong-spawn-status") => 1,
                io::ErrorKind::NotFound => 127,
                _ => 126,
            });
        }
    };
    if has("prints-banner") {
        io::stdout().write_all(b"relay ready\n")?;
        io::stdout().flush()?;
    }
    let pid = child.id();
    let (Some(to), Some(from), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Ok(97);
    };
    if !matches!(defect, "dies-at-first-signal" | "swallows-signals") {
        let name = defect.to_owned();
        std::thread::spawn(move || forward(&name, pid));
    }
    if has("turns-when-idle") {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
    }
    let name = defect.to_owned();
    let input = std::thread::spawn(move || take_in(&name, pid, to));
    // The holder of this pipe's other end knows that the server lives.
    let (gone, there) = io::pipe()?;
    let gone = Arc::new(gone);
    let name = defect.to_owned();
    let from = Output { from, gone: Arc::clone(&gone), server: pid, defect: name.clone() };
    let mut errors = Output { from: errors, gone, server: pid, defect: name.clone() };
    let mut outputs = Vec::new();
    if has("one-thread-for-outputs") {
        let mut from = from;
        outputs.push(std::thread::spawn(move || {
            let _ = copy(&name, &mut errors, &mut stream(2));
            let _ = copy(&name, &mut from, &mut stream(1));
        }));
    } else {
        outputs.push(std::thread::spawn(move || give_out(&name, from)));
        outputs.push(std::thread::spawn(move || {
            let _ = copy("none", &mut errors, &mut stream(2));
            drop(errors);
            sys::close(2);
        }));
    }
    if has("sets-nonblocking") {
        // SAFETY: plain call on our own standard output.
        unsafe { libc::fcntl(1, libc::F_SETFL, libc::O_NONBLOCK) };
    }
    let status = loop {
        match sys::wait_or_stop(pid)? {
            Some(status) => break status,
            None if matches!(defect, "swallows-signals" | "goes-on-when-its-server-stops") => {}
            None => sys::kill(std::process::id(), libc::SIGSTOP),
        }
    };
    drop(there);
    if has("swallows-input") {
        let _ = input.join();
    }
    if has("leaves-with-its-server") {
        std::process::exit(status.code().unwrap_or(97));
    }
    if !has("waits-for-a-deaf-host") {
        // The bytes under way fit there, however long the host reads nothing.
        sys::widen_pipe(1);
        sys::widen_pipe(2);
    }
    if !has("buffers-without-limit") {
        for output in outputs {
            let _ = output.join();
        }
    }
    Ok(match (status.code(), status.signal()) {
        _ if has("always-zero") => 0,
        (Some(code), _) => code,
        (None, Some(_)) if defect.starts_with("one-for") => 1,
        (None, Some(signal)) => sys::die_of(signal),
        (None, None) => 97,
    })
}

/// Needs more from the system than a server on pipes does.
fn needs_much(defect: &str) -> io::Result<()> {
    match defect {
        "complains-on-stderr" => stream(2).write_all(b"relay: no log\n"),
        "talks-over-sockets" => std::os::unix::net::UnixDatagram::unbound().map(drop),
        "needs-much-stack" => {
            let deep = std::thread::spawn(|| std::hint::black_box([1_u8; 512 << 10]).len());
            deep.join().map(drop).map_err(|_| io::Error::other("panic"))
        }
        "needs-much-memory" => {
            drop(std::hint::black_box(vec![1_u8; 1 << 30]));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Forwards signals that processes send. Most signals of the kernel reach the server without it.
fn forward(defect: &str, pid: u32) {
    loop {
        let (signal, from_process) = sys::next_signal_and_origin(0);
        let only_ours = matches!(signal, libc::SIGHUP | libc::SIGALRM);
        if defect == "ends-when-continued" && signal == libc::SIGCONT {
            // Mistakes a pause for the end of its host.
            sys::kill(pid, libc::SIGKILL);
        }
        if from_process || only_ours {
            sys::kill(pid, signal);
        }
        if defect == "forwards-twice" || (defect == "forwards-everything" && !from_process && !only_ours) {
            // A signal that is still pending would swallow the second.
            while sys::is_pending(pid, signal) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            sys::kill(pid, signal);
        }
    }
}

fn take_in(defect: &str, pid: u32, mut to: ChildStdin) {
    let mut from = Input { from: stream(0), server: pid };
    match defect {
        "hoards-input" => return drop(hoard(from, &mut to)),
        "swallows-input" => {
            let _ = copy(defect, &mut from, &mut to);
            // Reads the rest of the host's bytes as if the server read them.
            let _ = io::copy(&mut from, &mut io::sink());
            return;
        }
        _ => drop(copy(defect, &mut from, &mut to)),
    }
    match defect {
        "kills-at-eof" => sys::kill(pid, libc::SIGKILL),
        "tells-of-ends-by-signal" => sys::kill(pid, libc::SIGCHLD),
        // Never closes the pipe.
        "swallows-stdin-end" | "outlives-its-host" => std::mem::forget(to),
        _ => {}
    }
}

fn give_out(defect: &str, mut from: Output<ChildStdout>) {
    let _ = match defect {
        "buffers-without-limit" => return drop(hoard(from, &mut stream(1))),
        "waits-for-eof-to-answer" => whole(&mut from, &mut stream(1)),
        _ => copy(defect, &mut from, &mut stream(1)),
    };
    match defect {
        "keeps-stdout-open" => {}
        // The server's end of the pipe stays open after its last reader has gone.
        "keeps-outputs-open" => std::mem::forget(from),
        "shuts-sockets-down" => sys::shut_down(1),
        "stops-at-first-end" => std::process::exit(0),
        _ => {
            drop(from);
            sys::close(1);
        }
    }
}

/// Copies the host's bytes. If they come from a terminal whose foreground is another group, the server is
/// stopped, as if it read there itself, and the relay with it.
struct Input {
    from: File,
    server: u32,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.from.read(buffer) {
                Err(_) if sys::is_in_background(0) => {
                    sys::kill(self.server, libc::SIGTTIN);
                    while sys::is_in_background(0) {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                }
                read => return read,
            }
        }
    }
}

/// Copies the server's bytes up to the last one before its end, even if another process holds the pipe.
struct Output<T> {
    from: T,
    gone: Arc<PipeReader>,
    server: u32,
    defect: String,
}

impl<T: Read + AsRawFd> Read for Output<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The kernel shows the end before it is waited for.
        if self.defect == "drops-the-rest" && sys::is_gone(self.server) {
            return Ok(0);
        }
        if self.defect != "waits-for-grandchildren" {
            let (more, gone) = sys::either_readable(self.from.as_raw_fd(), self.gone.as_raw_fd());
            if gone && !more {
                return Ok(0);
            }
        }
        self.from.read(buffer)
    }
}

fn stream(fd: i32) -> File {
    use std::os::fd::AsFd;
    let fd = match fd {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    };
    File::from(fd.expect("a standard stream"))
}

fn copy(defect: &str, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut held = Vec::new();
    loop {
        let most = if defect == "cuts-at-64k" { 65_000 } else { buffer.len() };
        let count = from.read(&mut buffer[..most])?;
        let bytes = &buffer[..count];
        match defect {
            "leaves-with-its-server" => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                to.write_all(bytes)?;
            }
            "takes-short-reads-for-ends" if count < buffer.len() && count > 0 => {
                return to.write_all(bytes);
            }
            "cuts-at-64k" if count == most => to.write_all(&bytes[1..])?,
            "reads-by-character" => to.write_all(String::from_utf8_lossy(bytes).trim_end().as_bytes())?,
            "hoards-lines" if count > 0 && !bytes.contains(&b'\n') => held.extend_from_slice(bytes),
            "hoards-lines" | "holds-half-lines" | "drops-last-line" => {
                held.extend_from_slice(bytes);
                let whole = held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                to.write_all(&held[..whole])?;
                held.drain(..whole);
                if count == 0 && defect != "drops-last-line" {
                    to.write_all(&held)?;
                }
            }
            "strips-cr" => {
                let stripped: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
                to.write_all(&stripped)?;
            }
            "writes-json-anew" => {
                let text = String::from_utf8_lossy(bytes).replace(" : ", ":");
                to.write_all(text.as_bytes())?;
            }
            "decodes-utf8" => to.write_all(String::from_utf8_lossy(bytes).as_bytes())?,
            _ => to.write_all(bytes)?,
        }
        if count == 0 {
            return Ok(());
        }
    }
}

/// Reads everything before it writes anything.
fn whole(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    to.write_all(&all)
}

/// Takes all input, however little of it is taken from here.
fn hoard(mut from: impl Read + Send + 'static, to: &mut impl Write) -> io::Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver.into_iter().try_for_each(|bytes| to.write_all(&bytes))
}
