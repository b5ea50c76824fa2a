//! The promises of a transparent stdio wrapper, one case each.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::noise::Noise;
use crate::rig::{Host, Rig, Verdict, eventually, expect};
use crate::sys;

mod idle;
mod matrix;
mod requests;
mod streams;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod surroundings;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use terminal::shell;
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// A promise and its test. The first part of the name is the promise.
pub struct NamedCase {
    pub name: String,
    pub case: Box<dyn Fn(&Rig) -> Verdict + Send + Sync>,
}

impl NamedCase {
    fn new(name: impl Into<String>, case: impl Fn(&Rig) -> Verdict + Send + Sync + 'static) -> NamedCase {
        NamedCase { name: name.into(), case: Box::new(case) }
    }
}

type Case = fn(&Rig) -> Verdict;

/// All cases, single ones first, then the lifecycle table.
pub fn cases() -> Vec<NamedCase> {
    let single = ALL.iter().chain(system::CASES);
    #[cfg(target_os = "linux")]
    let single = single.chain(linux::CASES);
    let mut all: Vec<NamedCase> = single.map(|(name, case)| NamedCase::new(*name, case)).collect();
    all.extend(matrix::cases());
    all
}

/// Cases for every system.
const ALL: &[(&str, Case)] = &[
    ("copy/hostile-bytes", hostile_bytes),
    ("copy/last-line-without-newline", last_line_without_newline),
    ("copy/burst-before-exit", burst_before_exit),
    ("copy/burst-before-exit-read-late", streams::burst_read_late),
    ("copy/lines-of-many-sizes", streams::lines_of_many_sizes),
    ("copy/requests", requests::requests),
    ("copy/burst-of-requests", requests::burst_of_requests),
    ("copy/plain-files", streams::plain_files),
    ("copy/dev-null", streams::dev_null),
    ("copy/shared-stdout-and-stderr", streams::shared_outputs),
    ("prompt/half-a-line", half_a_line),
    ("prompt/ping", ping),
    ("apart/flooded-stderr", flooded_stderr),
    ("apart/flooded-stdout", flooded_stdout),
    ("apart/flood-both-ways", flood_both_ways),
    ("bounded/host-that-does-not-read", host_that_does_not_read),
    ("bounded/endless-line", streams::endless_line),
    ("bounded/server-that-does-not-read", streams::server_that_does_not_read),
    ("bounded/memory-under-a-flood", idle::memory_stays),
    ("ends/late-answer", late_answer),
    ("ends/server-closes-stdout", server_closes_stdout),
    ("ends/server-closes-stderr", server_closes_stderr),
    ("ends/server-closes-stdin", server_closes_stdin),
    ("ends/host-closes-stdout", host_closes_stdout),
    ("ends/host-closes-stderr", host_closes_stderr),
    ("ends/complaint-before-reading", complaint_before_reading),
    ("ends/grandchild-holds-the-pipes", grandchild_holds_the_pipes),
    ("ends/server-exits-while-host-writes", streams::server_exits_while_host_writes),
    ("ends/host-closes-everything", streams::host_closes_everything),
    ("status/every-code", every_code),
    ("status/cannot-start", cannot_start),
    ("signals/server-killed-directly", server_killed_directly),
    ("orphans/killed-wrapper", killed_wrapper),
    ("start/same-start", same_start),
    ("idle/after-every-end", idle::after_every_end),
];

/// Bytes go both ways and to stderr at the same time, in pieces of any size.
fn hostile_bytes(rig: &Rig) -> Verdict {
    for seed in 1..4 {
        let host = rig.start(&["role:noise", &seed.to_string()])?;
        exchange_noise(host, seed)?;
    }
    Ok(())
}

fn exchange_noise(mut host: Host, seed: u64) -> Verdict {
    let mut to = host.to.take().ok_or("no stdin")?;
    let mut errors = host.errors.take().ok_or("no stderr")?;
    let mut from = host.from.take().ok_or("no stdout")?;
    let writer = std::thread::spawn(move || Noise::new(seed, 0).pour(&mut to));
    let stderr = std::thread::spawn(move || Noise::new(seed, 2).check(&mut errors));
    Noise::new(seed, 1).check(&mut from).map_err(|error| format!("stdout: {error}"))?;
    stderr.join().map_err(|_| "panic")?.map_err(|error| format!("stderr: {error}"))?;
    writer.join().map_err(|_| "panic")?.map_err(|error| format!("writing stdin: {error}"))?;
    expect(host.wait()?.code() == Some(0), "the server got other bytes on stdin")
}

fn last_line_without_newline(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:echo"])?;
    host.say(b"whole\nno newline")?;
    host.close_stdin();
    let seen = host.read_all()?;
    expect(seen == b"whole\nno newline", "the last line was not delivered")
}

fn burst_before_exit(rig: &Rig) -> Verdict {
    for _ in 0..8 {
        let mut host = rig.start(&["role:burst", "1000000"])?;
        let mut from = host.from.take().ok_or("no stdout")?;
        Noise::new(1_000_000, 1).check_exactly(&mut from, 1_000_000).map_err(|error| error.to_string())?;
        expect(host.wait()?.code() == Some(0), "status")?;
    }
    Ok(())
}

fn half_a_line(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:half"])?;
    let mut half = [0; 11];
    host.read_exact(&mut half)?;
    expect(&half == b"half a line", "other bytes")?;
    host.say(b"x")?;
    expect(host.read_all()? == b", and its end", "the rest is missing")
}

fn ping(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:echo"])?;
    for number in 0..100 {
        let line = format!("ping {number}\n");
        host.say(line.as_bytes())?;
        let mut answer = vec![0; line.len()];
        host.read_exact(&mut answer)?;
        expect(answer == line.as_bytes(), "another answer")?;
    }
    Ok(())
}

fn flooded_stderr(rig: &Rig) -> Verdict {
    // The host does not read stderr, so the server blocks there, and only there.
    let mut host = rig.start(&["role:flood", "2"])?;
    for _ in 0..50 {
        host.say(b"ping\n")?;
        let mut answer = [0; 5];
        host.read_exact(&mut answer)?;
    }
    host.close_stdin();
    Ok(())
}

fn flooded_stdout(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:flood", "1"])?;
    let mut errors = host.errors.take().ok_or("no stderr")?;
    for _ in 0..50 {
        host.say(b"ping\n")?;
        errors.read_exact(&mut [0; 5]).map_err(|error| error.to_string())?;
    }
    host.close_stdin();
    Ok(())
}

fn flood_both_ways(rig: &Rig) -> Verdict {
    // More bytes than all pipes on the way hold, before the first byte is read back.
    let mut host = rig.start(&["role:echo"])?;
    let mut to = host.to.take().ok_or("no stdin")?;
    let writer = std::thread::spawn(move || Noise::new(5, 1).pour_exactly(&mut to, 8_000_000));
    let mut from = host.from.take().ok_or("no stdout")?;
    Noise::new(5, 1).check_exactly(&mut from, 8_000_000).map_err(|error| error.to_string())?;
    writer.join().map_err(|_| "panic")?.map_err(|error| error.to_string())
}

/// Back pressure reaches the writer: the bytes that a wrapper buffers are bounded.
fn host_that_does_not_read(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:echo"])?;
    let mut to = host.to.take().ok_or("no stdin")?;
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    std::thread::spawn(move || {
        let piece = [b'x'; 4096];
        while to.write_all(&piece).is_ok() && count.fetch_add(piece.len(), Ordering::Relaxed) < 64 << 20 {}
    });
    let mut last = usize::MAX;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        match taken.load(Ordering::Relaxed) {
            now if now == last => break,
            now => last = now,
        }
    }
    host.kill();
    expect(last <= 4 << 20, &format!("{last} bytes were taken from the host while it read nothing"))
}

fn late_answer(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:late"])?;
    host.say(b"question")?;
    host.close_stdin();
    expect(host.read_all()? == b"late: question", "the answer after the end of stdin is missing")?;
    expect(host.wait()?.code() == Some(0), "status")
}

fn server_closes_stdout(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:close", "1"])?;
    expect(host.read_all()?.is_empty(), "bytes from nowhere")?;
    host.say(b"x")?;
    expect(host.wait()?.code() == Some(7), "status")
}

fn server_closes_stderr(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:close", "2"])?;
    expect(host.read_errors()?.is_empty(), "bytes from nowhere")?;
    host.say(b"x")?;
    expect(host.wait()?.code() == Some(7), "status")
}

fn server_closes_stdin(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:closed-stdin"])?;
    let server = host.line()?;
    // The write fails or is ignored. It must not block.
    let mut to = host.to.take().ok_or("no stdin")?;
    let writer = std::thread::spawn(move || {
        let _ = to.write_all(&vec![b'x'; 4 << 20]);
    });
    eventually("a write to a server that closed its stdin returns", || writer.is_finished())?;
    let pid = server.parse().map_err(|_| "no pid")?;
    sys::end(pid);
    let status = host.wait()?;
    expect(sys::is_ended(status), &format!("{status}"))
}

fn host_closes_stdout(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:epipe"])?;
    host.read_exact(&mut [0; 100])?;
    drop(host.from.take());
    expect(host.read_errors()? == b"BrokenPipe\n", "the server saw no broken pipe")
}

fn host_closes_stderr(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:echo"])?;
    drop(host.errors.take());
    host.say(b"still here")?;
    host.read_exact(&mut [0; 10])
}

fn complaint_before_reading(rig: &Rig) -> Verdict {
    // stdin stays open without input.
    let mut host = rig.start(&["role:complain"])?;
    expect(host.read_errors()? == b"no configuration\n", "the complaint is missing")?;
    expect(host.wait()?.code() == Some(3), "status")
}

fn grandchild_holds_the_pipes(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:grandchild"])?;
    let start = Instant::now();
    let status = host.wait()?;
    let took = start.elapsed();
    let mut from = host.from.take().ok_or("no stdout")?;
    let mut pid = [0; 16];
    let count = from.read(&mut pid).map_err(|error| error.to_string())?;
    let pid = std::str::from_utf8(&pid[..count]).ok().and_then(|text| text.trim().parse().ok());
    if let Some(pid) = pid {
        sys::end(pid);
    }
    expect(pid.is_some(), "the server's last bytes are missing")?;
    expect(status.code() == Some(5), "status")?;
    expect(took < Duration::from_secs(40), "left only when another process closed the pipes")
}

fn every_code(rig: &Rig) -> Verdict {
    // A process takes longer to start on Windows, where codes are not special.
    for code in (0..=255).step_by(if cfg!(windows) { 17 } else { 1 }) {
        let mut host = rig.start(&["role:exit", &code.to_string()])?;
        host.ends_with(code)?;
    }
    Ok(())
}

fn cannot_start(rig: &Rig) -> Verdict {
    for (program, code) in system::NO_PROGRAMS {
        let mut command = rig.bare(&[program]);
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        expect(host.read_all()?.is_empty(), "words on stdout")?;
        expect(!host.read_errors()?.is_empty(), "no word on stderr")?;
        let status = host.wait()?;
        expect(status.code() == Some(*code), &format!("`{program}`: {status} instead of {code}"))?;
    }
    Ok(())
}

/// Some hosts find the server and signal it directly, past the wrapper.
fn server_killed_directly(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:stubborn"])?;
    let pid: u32 = host.line()?.parse().map_err(|_| "no pid")?;
    sys::end(pid);
    let status = host.wait()?;
    expect(sys::is_ended(status), &format!("{status}"))
}

fn killed_wrapper(rig: &Rig) -> Verdict {
    for pause in [0, 1, 3, 10, 40] {
        let mut host = rig.start(&["role:stubborn"])?;
        let pid: u32 = host.line()?.parse().map_err(|_| "no pid")?;
        std::thread::sleep(Duration::from_millis(pause));
        host.kill();
        let left = eventually("the server goes with its wrapper", || sys::is_gone(pid));
        sys::end(pid);
        left?;
    }
    Ok(())
}

fn same_start(rig: &Rig) -> Verdict {
    let describe = |mut command: std::process::Command| -> Result<String, String> {
        // A file that the host passes on, and one that it does not.
        let shared = tempfile::tempfile().map_err(|error| error.to_string())?;
        sys::make_inheritable(&shared).map_err(|error| error.to_string())?;
        let _private = tempfile::tempfile();
        command.current_dir(system::A_FOLDER).env("CONFORMANCE_CANARY", "a\tb \u{e9}").env("A", "");
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        drop(shared);
        let text = String::from_utf8(host.read_all()?).map_err(|error| error.to_string())?;
        // The numbers of inode and descriptor differ between runs. Only their count is compared.
        let masked = |line: &str| {
            if line.starts_with("descriptor") { "descriptor".to_owned() } else { line.to_owned() }
        };
        Ok(text.lines().map(masked).collect::<Vec<_>>().join("\n"))
    };
    let arguments = ["role:describe", "", "two words", "--", "-x", "\"quotes\" 'n' $HOME *", "\u{e9}"];
    let _alone = rig.alone();
    let direct = describe(rig.direct(&arguments))?;
    let wrapped = describe(rig.command(&arguments))?;
    let difference = direct.lines().zip(wrapped.lines()).find(|(direct, wrapped)| direct != wrapped);
    expect(
        direct == wrapped,
        &format!("{difference:?}; {} and {} lines", direct.lines().count(), wrapped.lines().count()),
    )
}
