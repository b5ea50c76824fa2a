//! Cases for Unix: signals, sockets, descriptors, terminals, limits.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Case, exchange_noise, process, surroundings, terminal};
use crate::noise::{LENGTH, Noise};
use crate::rig::{Host, Rig, Verdict, expect};
use crate::{rig, sys};

pub use super::signals::EVENTS;

pub const CASES: &[(&str, Case)] = &[
    ("copy/hostile-bytes-on-sockets", hostile_bytes_on_sockets),
    ("copy/small-pipes-and-signals", small_pipes_and_signals),
    ("ends/one-socket-half-closed", one_socket_half_closed),
    ("ends/two-outputs-on-one-socket", two_outputs_on_one_socket),
    ("ends/background-on-dev-null", surroundings::background_on_dev_null),
    ("status/death-by-signal", process::every_death),
    ("status/bad-interpreter", process::bad_interpreter),
    ("status/sigchld-ignored", process::sigchld_ignored),
    ("signals/each-exactly-once", process::every_signal),
    ("signals/each-fault-exactly-once", process::every_fault),
    ("signals/none-of-its-own", process::no_signal_of_its_own),
    ("signals/server-that-ignores-them", server_that_ignores_them),
    ("signals/at-any-moment-of-the-start", process::signal_at_any_moment),
    ("signals/alarm-set-before", process::alarm_set_before),
    ("signals/ignored-ones-stay-ignored", process::ignored_signals_stay_ignored),
    ("orphans/killed-at-any-moment-of-the-start", process::killed_at_any_moment),
    ("trees/launcher-asked-to-leave", process::launcher_asked_to_leave),
    ("trees/process-left-on-purpose", process::process_left_on_purpose),
    ("start/descriptors-stay-blocking", descriptors_stay_blocking),
    ("start/closed-descriptors", closed_descriptors),
    ("start/masks-and-dispositions", process::masks_and_dispositions),
    ("start/little-room", process::little_room),
    ("start/small-stack", surroundings::small_stack),
    ("terminal/ctrl-c-once", terminal::ctrl_c_once),
    ("terminal/ctrl-z-and-on", terminal::ctrl_z_and_on),
    ("terminal/told-to-stop", terminal::told_to_stop),
    ("terminal/background-read", terminal::background_read),
    ("terminal/as-stdio", terminal::terminal_as_stdio),
    ("terminal/hang-up", terminal::hang_up),
];

/// Commands that cannot be executed, with the status of a shell.
pub const NO_PROGRAMS: &[(&str, i32)] =
    &[("/nowhere/to/be/found", 127), ("no-such-command-anywhere", 127), ("/etc/passwd", 126), ("/", 126)];

/// A folder that every machine has.
pub const A_FOLDER: &str = "/usr";

/// The statuses that a death by `signal` may become.
pub fn died_of(signal: i32) -> impl Fn(ExitStatus) -> bool {
    move |status| status.signal() == Some(signal) || status.code() == Some(128 + signal)
}

fn text(error: std::io::Error) -> String {
    error.to_string()
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

/// Pipes of one page, a reader that sometimes takes single bytes, and signals meanwhile.
pub fn small_pipes_and_signals(rig: &Rig) -> Verdict {
    let host = rig.start(&["role:noise", "21"])?;
    for pipe in [&host.to, &host.from, &host.errors].into_iter().flatten() {
        sys::shrink_pipe(pipe.as_raw_fd());
    }
    let pid = host.pid();
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let pester = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            sys::kill(pid, libc::SIGWINCH);
            std::thread::sleep(Duration::from_micros(300));
        }
    });
    let verdict = exchange_noise(host, 21);
    over.store(true, Ordering::Relaxed);
    pester.join().map_err(|_| "panic")?;
    verdict
}

fn on_socket(rig: &Rig, role: &[&str]) -> Result<(Host, UnixStream), String> {
    let (ours, theirs) = UnixStream::pair().map_err(text)?;
    let mut command = rig.command(role);
    let copy = || theirs.try_clone().map(OwnedFd::from).map_err(text);
    let host = rig.spawn(command.stdin(copy()?).stdout(copy()?).stderr(copy()?))?;
    ours.set_read_timeout(Some(rig::deadline())).map_err(text)?;
    Ok((host, ours))
}

/// inetd starts servers like this: stdin, stdout and stderr are one socket, which the host half closes.
pub fn one_socket_half_closed(rig: &Rig) -> Verdict {
    let (mut host, mut socket) = on_socket(rig, &["role:late"])?;
    socket.write_all(b"question").map_err(text)?;
    socket.shutdown(std::net::Shutdown::Write).map_err(text)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).map_err(text)?;
    expect(answer == b"late: question", "the answer after the end of stdin is missing")?;
    expect(host.wait()?.code() == Some(0), "status")
}

/// With `2>&1` on a socket, stdout ends, and later bytes on stderr still arrive.
pub fn two_outputs_on_one_socket(rig: &Rig) -> Verdict {
    let (mut host, mut socket) = on_socket(rig, &["role:stdout-then-stderr"])?;
    let mut seen = [0; 4];
    socket.read_exact(&mut seen).map_err(text)?;
    expect(&seen == b"out\n", "stdout is missing")?;
    socket.write_all(b"x").map_err(text)?;
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).map_err(text)?;
    let rest = rig::without_last_words(&rest).to_vec();
    expect(rest.len() == LENGTH, &format!("{} bytes of {LENGTH} on stderr", rest.len()))?;
    Noise::new(5, 2).check(&mut rest.as_slice()).map_err(text)?;
    expect(host.wait()?.code() == Some(0), "status")
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
        host.ends_with(4).map_err(|why| format!("with {closing}: {why}"))?;
        let words = host.read_all()?;
        expect(words.is_empty(), "words on stdout")?;
    }
    Ok(())
}
