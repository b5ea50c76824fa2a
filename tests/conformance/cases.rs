//! The promises of a transparent stdio wrapper, one case each.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::noise::Noise;
use crate::rig::{Host, Rig, Verdict, eventually, expect};
use crate::sys;

mod idle;
mod matrix;
mod process;
mod requests;
mod streams;
mod surroundings;
mod terminal;

pub use terminal::shell;

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
    let single = SINGLE.iter();
    let mut all: Vec<NamedCase> = single.map(|(name, case)| NamedCase::new(*name, case)).collect();
    all.extend(matrix::cases());
    all
}

const SINGLE: &[(&str, Case)] = &[
    ("copy/hostile-bytes", hostile_bytes),
    ("copy/hostile-bytes-on-sockets", hostile_bytes_on_sockets),
    ("copy/last-line-without-newline", last_line_without_newline),
    ("copy/burst-before-exit", burst_before_exit),
    ("copy/burst-before-exit-read-late", streams::burst_read_late),
    ("copy/lines-of-many-sizes", streams::lines_of_many_sizes),
    ("copy/requests", requests::requests),
    ("copy/burst-of-requests", requests::burst_of_requests),
    ("copy/small-pipes-and-signals", streams::small_pipes_and_signals),
    ("copy/plain-files", streams::plain_files),
    ("copy/dev-null", streams::dev_null),
    ("copy/shared-stdout-and-stderr", surroundings::shared_outputs),
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
    ("ends/one-socket-half-closed", streams::one_socket_half_closed),
    ("ends/two-outputs-on-one-socket", streams::two_outputs_on_one_socket),
    ("ends/host-closes-everything", streams::host_closes_everything),
    ("ends/background-on-dev-null", surroundings::background_on_dev_null),
    ("status/every-code", every_code),
    ("status/death-by-signal", process::every_death),
    ("status/cannot-start", cannot_start),
    ("status/bad-interpreter", process::bad_interpreter),
    ("status/sigchld-ignored", process::sigchld_ignored),
    ("signals/each-exactly-once", process::every_signal),
    ("signals/none-of-its-own", process::no_signal_of_its_own),
    ("signals/server-that-ignores-them", server_that_ignores_them),
    ("signals/server-killed-directly", server_killed_directly),
    ("signals/at-any-moment-of-the-start", process::signal_at_any_moment),
    ("signals/alarm-set-before", process::alarm_set_before),
    ("signals/ignored-ones-stay-ignored", process::ignored_signals_stay_ignored),
    ("orphans/killed-wrapper", killed_wrapper),
    ("orphans/killed-at-any-moment-of-the-start", process::killed_at_any_moment),
    ("start/same-start", same_start),
    ("start/descriptors-stay-blocking", descriptors_stay_blocking),
    ("start/closed-descriptors", closed_descriptors),
    ("start/masks-and-dispositions", process::masks_and_dispositions),
    ("start/little-room", process::little_room),
    ("start/sandbox-without-sockets", surroundings::sandbox_without_sockets),
    ("start/small-stack", surroundings::small_stack),
    ("start/little-memory", surroundings::little_memory),
    ("terminal/ctrl-c-once", terminal::ctrl_c_once),
    ("terminal/ctrl-z-and-on", terminal::ctrl_z_and_on),
    ("terminal/told-to-stop", terminal::told_to_stop),
    ("terminal/background-read", terminal::background_read),
    ("terminal/as-stdio", terminal::terminal_as_stdio),
    ("terminal/hang-up", terminal::hang_up),
    ("idle/after-every-end", idle::after_every_end),
];

/// The statuses that a death by `signal` may become.
fn died_of(signal: i32) -> impl Fn(ExitStatus) -> bool {
    move |status| status.signal() == Some(signal) || status.code() == Some(128 + signal)
}

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

/// Node hosts connect socket pairs.
fn hostile_bytes_on_sockets(rig: &Rig) -> Verdict {
    let pair = || std::os::unix::net::UnixStream::pair().map_err(|error| error.to_string());
    let ((to, stdin), (from, stdout), (errors, stderr)) = (pair()?, pair()?, pair()?);
    let mut command = rig.command(&["role:noise", "9"]);
    command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).stderr(OwnedFd::from(stderr));
    let mut host = rig.spawn(&mut command)?;
    drop(command);
    let file = |stream| Some(File::from(OwnedFd::from(stream)));
    (host.to, host.from, host.errors) = (file(to), file(from), file(errors));
    exchange_noise(host, 9)
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
    host.read_exact(&mut [0; 7])?;
    // The write fails or is ignored. It must not block.
    let mut to = host.to.take().ok_or("no stdin")?;
    let writer = std::thread::spawn(move || {
        let _ = to.write_all(&vec![b'x'; 4 << 20]);
    });
    eventually("a write to a server that closed its stdin returns", || writer.is_finished())?;
    host.signal(libc::SIGTERM);
    let status = host.wait()?;
    expect(died_of(libc::SIGTERM)(status), &format!("{status}"))
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
        sys::kill(pid, libc::SIGKILL);
    }
    expect(pid.is_some(), "the server's last bytes are missing")?;
    expect(status.code() == Some(5), "status")?;
    expect(took < Duration::from_secs(40), "left only when another process closed the pipes")
}

fn every_code(rig: &Rig) -> Verdict {
    for code in 0..=255 {
        let mut host = rig.start(&["role:exit", &code.to_string()])?;
        let status = host.wait()?;
        expect(status.code() == Some(code), &format!("{code} became {status}"))?;
    }
    Ok(())
}

fn cannot_start(rig: &Rig) -> Verdict {
    for (program, code) in
        [("/nowhere/to/be/found", 127), ("no-such-command-anywhere", 127), ("/etc/passwd", 126), ("/", 126)]
    {
        let mut command = rig.bare(&[program]);
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        expect(host.read_all()?.is_empty(), "words on stdout")?;
        expect(!host.read_errors()?.is_empty(), "no word on stderr")?;
        let status = host.wait()?;
        expect(status.code() == Some(code), &format!("`{program}`: {status} instead of {code}"))?;
    }
    Ok(())
}

fn server_that_ignores_them(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:stubborn"])?;
    host.line()?;
    host.signal(libc::SIGTERM);
    host.signal(libc::SIGINT);
    std::thread::sleep(Duration::from_millis(100));
    expect(host.is_running(), "left although the server is still there")?;
    host.kill();
    Ok(())
}

/// Some hosts find the server and signal it directly, past the wrapper.
fn server_killed_directly(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:stubborn"])?;
    let pid: u32 = host.line()?.parse().map_err(|_| "no pid")?;
    sys::kill(pid, libc::SIGKILL);
    let status = host.wait()?;
    expect(died_of(libc::SIGKILL)(status), &format!("{status}"))
}

fn killed_wrapper(rig: &Rig) -> Verdict {
    for pause in [0, 1, 3, 10, 40] {
        let mut host = rig.start(&["role:stubborn"])?;
        let pid: u32 = host.line()?.parse().map_err(|_| "no pid")?;
        std::thread::sleep(Duration::from_millis(pause));
        host.kill();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
        };
        let left = eventually("the server goes with its wrapper", gone);
        sys::kill(pid, libc::SIGKILL);
        left?;
    }
    Ok(())
}

fn same_start(rig: &Rig) -> Verdict {
    let describe = |mut command: std::process::Command| -> Result<String, String> {
        // One descriptor that the host passes on, and one that it does not.
        let shared = tempfile::tempfile().map_err(|error| error.to_string())?;
        sys::make_inheritable(shared.as_raw_fd()).map_err(|error| error.to_string())?;
        let _private = tempfile::tempfile();
        command.current_dir("/usr").env("CONFORMANCE_CANARY", "a\tb \u{e9}").env("A", "");
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

/// The flag belongs to all processes that share the descriptor.
fn descriptors_stay_blocking(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:echo"])?;
    let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let shared = writer.try_clone().map_err(|error| error.to_string())?;
    host.kill();
    let mut command = rig.command(&["role:echo"]);
    let mut host = rig.spawn(command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped()))?;
    drop(command);
    host.from = Some(File::from(OwnedFd::from(reader)));
    for _ in 0..20 {
        host.say(b"ping\n")?;
        host.read_exact(&mut [0; 5])?;
        expect(
            sys::status_flags(shared.as_raw_fd()) & libc::O_NONBLOCK == 0,
            "O_NONBLOCK on the host's pipe",
        )?;
    }
    host.close_stdin();
    host.wait()?;
    expect(sys::status_flags(shared.as_raw_fd()) & libc::O_NONBLOCK == 0, "O_NONBLOCK left behind")
}

fn closed_descriptors(rig: &Rig) -> Verdict {
    for closing in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let line = format!("exec \"$@\" {closing}");
        let mut command = rig.scripted("sh", &line, &["role:exit", "4"]);
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let status = host.wait()?;
        expect(status.code() == Some(4), &format!("with {closing}: {status}"))?;
        let words = host.read_all()?;
        expect(words.is_empty(), "words on stdout")?;
    }
    Ok(())
}
