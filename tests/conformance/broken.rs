//! Relays with one defect each, of the kinds that are met in the field. They must be caught.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::sys;

/// The defects, and the case that must catch each.
pub const DEFECTS: &[(&str, &str)] = &[
    ("holds-half-lines", "prompt/half-a-line"),
    ("drops-last-line", "copy/last-line-without-newline"),
    ("strips-cr", "copy/hostile-bytes"),
    ("decodes-utf8", "copy/hostile-bytes"),
    ("prints-banner", "copy/hostile-bytes"),
    ("waits-for-eof-to-answer", "prompt/ping"),
    ("always-zero", "status/every-code"),
    ("one-for-signals", "status/death-by-signal"),
    ("kills-at-eof", "ends/late-answer"),
    ("keeps-stdout-open", "ends/server-closes-stdout"),
    ("swallows-stdin-end", "ends/late-answer"),
    ("buffers-without-limit", "bounded/host-that-does-not-read"),
    ("one-thread-for-outputs", "apart/flooded-stderr"),
    ("swallows-signals", "signals/each-exactly-once"),
    ("leaves-orphans", "orphans/killed-wrapper"),
    ("waits-for-grandchildren", "ends/grandchild-holds-the-pipes"),
    ("sets-nonblocking", "start/descriptors-stay-blocking"),
    ("cleans-environment", "start/same-start"),
    ("wrong-spawn-status", "status/cannot-start"),
    ("wrong-spawn-status", "status/bad-interpreter"),
    ("hoards-lines", "bounded/endless-line"),
    ("hoards-input", "bounded/server-that-does-not-read"),
    ("reads-by-character", "copy/lines-of-many-sizes"),
    ("cuts-at-64k", "copy/lines-of-many-sizes"),
    ("takes-short-reads-for-ends", "copy/plain-files"),
    ("takes-short-reads-for-ends", "copy/small-pipes-and-signals"),
    ("shuts-sockets-down", "ends/two-outputs-on-one-socket"),
    ("swallows-stdin-end", "ends/one-socket-half-closed"),
    ("swallows-input", "ends/server-exits-while-host-writes"),
    ("turns-when-idle", "idle/after-every-end"),
    ("loses-ignored-child", "status/sigchld-ignored"),
    ("dies-at-first-signal", "matrix/server-ignores-term/mid-line"),
    ("forwards-everything", "terminal/ctrl-c-once"),
    ("forwards-everything", "terminal/told-to-stop"),
    ("swallows-signals", "terminal/ctrl-z-and-on"),
    ("swallows-signals", "terminal/background-read"),
    ("swallows-signals", "terminal/hang-up"),
    ("tells-of-ends-by-signal", "signals/none-of-its-own"),
    ("swallows-signals", "signals/alarm-set-before"),
    ("swallows-signals", "signals/at-any-moment-of-the-start"),
    ("handles-ignored-signals", "signals/ignored-ones-stay-ignored"),
    ("forwards-everything", "start/masks-and-dispositions"),
    ("decodes-utf8", "start/little-room"),
    ("leaves-orphans", "orphans/killed-at-any-moment-of-the-start"),
    ("kills-at-eof", "matrix/host-closes-stdin/flood"),
    ("drops-last-line", "matrix/host-closes-stdin/mid-line"),
    ("keeps-outputs-open", "matrix/host-closes-stdout/idle"),
    ("outlives-its-host", "matrix/host-killed/idle"),
    ("leaves-with-its-server", "matrix/server-exits/flood"),
    ("always-zero", "matrix/server-killed/idle"),
    ("waits-for-a-deaf-host", "matrix/server-killed/stderr-blocked"),
    ("stops-at-first-end", "matrix/server-closes-stdout/idle"),
    ("waits-for-grandchildren", "matrix/grandchild-holds-pipes/idle"),
    ("forwards-twice", "matrix/each-signal-once/idle"),
    ("one-for-forwarded-signals", "matrix/death-by-each-signal/idle"),
    ("ends-when-continued", "matrix/stopped-and-continued/flood"),
    ("own-group", "matrix/group-killed/idle"),
];

/// Relays `command` with `defect`; returns the exit status.
pub fn relay(defect: &str, command: &[String]) -> i32 {
    relay_or_fail(defect, command).unwrap_or(97)
}

fn relay_or_fail(defect: &str, words: &[String]) -> io::Result<i32> {
    let has = |name: &str| name == defect;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if has("cleans-environment") {
        command.env_remove("CONFORMANCE_CANARY");
    }
    if has("swallows-signals") {
        sys::block_signals();
    }
    if has("own-group") {
        sys::own_group(&mut command);
    }
    if has("loses-ignored-child") {
        // As found: with SIGCHLD ignored there is no status to wait for.
        sys::ignore(libc::SIGCHLD);
    }
    if has("handles-ignored-signals") {
        sys::restore_default(libc::SIGHUP);
    }
    let forwards = defect.contains("forward");
    if forwards || has("ends-when-continued") {
        sys::block_signals();
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(_) if has("wrong-spawn-status") => return Ok(1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(127),
        Err(_) => return Ok(126),
    };
    if has("prints-banner") {
        io::stdout().write_all(b"relay ready\n")?;
        io::stdout().flush()?;
    }
    let pid = child.id();
    let (Some(mut to), Some(from), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Ok(97);
    };
    if forwards {
        let times = if has("forwards-twice") { 2 } else { 1 };
        std::thread::spawn(move || {
            loop {
                let signal = sys::next_signal();
                for _ in 0..times {
                    sys::kill(pid, signal);
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        });
    }
    if has("turns-when-idle") {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
    }
    if has("ends-when-continued") {
        std::thread::spawn(move || {
            loop {
                // Takes a pause for a sign that its host is gone.
                if sys::next_signal() == libc::SIGCONT {
                    sys::kill(pid, libc::SIGKILL);
                }
            }
        });
    }
    let name = defect.to_owned();
    let input = std::thread::spawn(move || {
        if name == "hoards-input" {
            let _ = hoard(stream(0), &mut to);
            return;
        }
        if name == "swallows-input" {
            let mut from = stream(0);
            let _ = copy(&name, &mut from, &mut to);
            // Whatever else the host says is taken as if somebody read it.
            let _ = io::copy(&mut from, &mut io::sink());
            return;
        }
        let _ = copy(&name, &mut stream(0), &mut to);
        match name.as_str() {
            "kills-at-eof" => sys::kill(pid, libc::SIGKILL),
            "tells-of-ends-by-signal" => {
                sys::kill(pid, libc::SIGCHLD);
                drop(to);
            }
            // Never lets go of the pipe.
            "swallows-stdin-end" | "outlives-its-host" => std::mem::forget(to),
            _ => drop(to),
        }
    });
    let name = defect.to_owned();
    let mut outputs = Vec::new();
    if has("one-thread-for-outputs") {
        let (mut from, mut errors) = (from, errors);
        outputs.push(std::thread::spawn(move || {
            let _ = copy(&name, &mut errors, &mut stream(2));
            let _ = copy(&name, &mut from, &mut stream(1));
        }));
    } else {
        let (mut from, mut errors) = (from, errors);
        let out = name.clone();
        outputs.push(std::thread::spawn(move || {
            let _ = match out.as_str() {
                "buffers-without-limit" => return drop(hoard(from, &mut stream(1))),
                "waits-for-eof-to-answer" => whole(&mut from, &mut stream(1)),
                _ => copy(&out, &mut from, &mut stream(1)),
            };
            match out.as_str() {
                "keeps-stdout-open" => {}
                // The server's end of the pipe stays open, whoever reads it no more.
                "keeps-outputs-open" => std::mem::forget(from),
                "shuts-sockets-down" => sys::shut_down(1),
                "stops-at-first-end" => std::process::exit(0),
                _ => sys::close(1),
            }
        }));
        outputs.push(std::thread::spawn(move || {
            let _ = copy("none", &mut errors, &mut stream(2));
        }));
    }
    if has("sets-nonblocking") {
        // SAFETY: plain call on our own standard output.
        unsafe { libc::fcntl(1, libc::F_SETFL, libc::O_NONBLOCK) };
    }
    let status = child.wait()?;
    if has("swallows-input") {
        let _ = input.join();
    }
    if has("leaves-with-its-server") {
        std::process::exit(status.code().unwrap_or(97));
    }
    if has("waits-for-grandchildren") || !has("buffers-without-limit") {
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

fn stream(fd: i32) -> std::fs::File {
    use std::os::fd::AsFd;
    let fd = match fd {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    };
    std::fs::File::from(fd.expect("a standard stream"))
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

/// Takes whatever comes, however little is taken from it.
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
