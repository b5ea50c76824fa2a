//! Relays with one defect each, of the kinds that are met in the field. They must be caught.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::sys;

/// The defects, and the case that must catch each.
pub const DEFECTS: &[(&str, &str)] = &[
    ("none", ""),
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
    let name = defect.to_owned();
    std::thread::spawn(move || {
        let _ = copy(&name, &mut stream(0), &mut to);
        match name.as_str() {
            "kills-at-eof" => sys::kill(pid, libc::SIGKILL),
            // Never lets go of the pipe.
            "swallows-stdin-end" => std::mem::forget(to),
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
                "buffers-without-limit" => hoard(from, &mut stream(1)),
                "waits-for-eof-to-answer" => whole(&mut from, &mut stream(1)),
                _ => copy(&out, &mut from, &mut stream(1)),
            };
            if out != "keeps-stdout-open" {
                sys::close(1);
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
    if has("waits-for-grandchildren") || !has("buffers-without-limit") {
        for output in outputs {
            let _ = output.join();
        }
    }
    Ok(match (status.code(), status.signal()) {
        _ if has("always-zero") => 0,
        (Some(code), _) => code,
        (None, Some(_)) if has("one-for-signals") => 1,
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
        let count = from.read(&mut buffer)?;
        let bytes = &buffer[..count];
        match defect {
            "holds-half-lines" | "drops-last-line" => {
                held.extend_from_slice(bytes);
                let whole = held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                to.write_all(&held[..whole])?;
                held.drain(..whole);
                if count == 0 && defect == "holds-half-lines" {
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
