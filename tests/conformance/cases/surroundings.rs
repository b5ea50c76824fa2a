//! Places that leave a wrapper less than a developer's machine does, and as much as the server needs.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::requests::without_context;
use crate::rig::{Rig, Verdict, expect};
use crate::sys;
use crate::table::Meeting;

fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// A sandbox denies the calls of sockets. The server, on pipes, needs none.
pub fn sandbox_without_sockets(rig: &Rig) -> Verdict {
    for call in [libc::SYS_sendto, libc::SYS_socket, libc::SYS_connect] {
        let mut command = rig.command(&["role:echo"]);
        sys::before_exec(&mut command, move || sys::deny(call));
        let mut host = rig.spawn(piped(&mut command))?;
        let spoken = host.say(b"ping\n").and_then(|()| {
            host.close_stdin();
            expect(host.read_all()? == b"ping\n", "no answer")
        });
        spoken.map_err(|error| format!("without call {call}: {error}"))?;
        expect(host.wait()?.code() == Some(0), &format!("without call {call}: status"))?;
    }
    Ok(())
}

/// A shell starts the wrapper in the background, with `/dev/null` as stdin and stdout, and ends. The server goes on:
/// it may serve on a port.
pub fn background_on_dev_null(rig: &Rig) -> Verdict {
    let meeting = Meeting::new()?;
    let line = "\"$@\" < /dev/null > /dev/null & sleep 0.1";
    let mut command = rig.scripted("sh", line, &["role:party", &meeting.socket]);
    // A wrapper with patience for such servers shows it within the case.
    command.env("SPANTAP_TEST_ORPHAN_GRACE", "200");
    let mut shell = rig.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let mut control = meeting.control()?;
    control.tell("read")?;
    shell.wait()?;
    // Only the clock can show that nothing happens.
    std::thread::sleep(Duration::from_secs(2));
    let count =
        control.count().map_err(|error| format!("the server did not outlive its starter: {error}"))?;
    expect(count.stdin_ended, "stdin of /dev/null has an end")?;
    let signals = control.further_signals()?;
    expect(signals.is_empty(), &format!("signals without a sender: {signals:?}"))?;
    control.tell("exit 0")?;
    shell.read_errors().map(drop)
}

/// The host limits the stack, or a variable does, which is meant for other programs.
pub fn small_stack(rig: &Rig) -> Verdict {
    for (line, size) in [("ulimit -s 256; exec \"$@\"", None), ("exec \"$@\"", Some("131072"))] {
        let mut command = rig.scripted("bash", line, &["role:noise", "43"]);
        command.envs(size.map(|size| ("RUST_MIN_STACK", size)));
        let host = rig.spawn(piped(&mut command))?;
        super::exchange_noise(host, 43).map_err(|error| format!("with a small stack: {error}"))?;
    }
    // As much as a small server needs.
    let mut command = rig.scripted("bash", "ulimit -s 64; exec \"$@\"", &["role:echo"]);
    let mut host = rig.spawn(piped(&mut command))?;
    let spoken = host.say(b"ping\n").and_then(|()| {
        host.close_stdin();
        expect(host.read_all()? == b"ping\n", "no answer")
    });
    spoken.map_err(|error| format!("with a small stack of 64 KiB: {error}"))
}

/// The host limits the address space. The wrapper relays every byte, or refuses to start. The system itself kills a
/// program that it cannot map: an unoptimised one is larger than the first limits.
pub fn little_memory(rig: &Rig) -> Verdict {
    const LIBRARIES: u64 = 8 << 20;
    let program = std::fs::read(rig.command(&["role:echo"]).get_program()).unwrap_or_default();
    let mapped = sys::mapped_size(&program).unwrap_or(0) + LIBRARIES;
    for megabytes in [40, 60, 80, 100, 150].into_iter().filter(|megabytes| megabytes << 20 > mapped) {
        let line = format!("ulimit -v {}; exec \"$@\"", megabytes << 10);
        let direct = rig.direct(&["role:echo"]);
        let mut limited = Command::new("bash");
        limited.args(["-c", &line, "bash"]).arg(direct.get_program()).args(direct.get_args());
        let is_enough = limited.stdin(Stdio::null()).stderr(Stdio::null()).status();
        if !is_enough.is_ok_and(|status| status.success()) {
            continue;
        }
        let with = |text: &str| format!("with {megabytes} MiB: {text}");
        let mut host = rig.spawn(piped(&mut rig.scripted("bash", &line, &["role:echo"])))?;
        let sent: Vec<u8> = (0..20_000).flat_map(request).collect();
        let (mut to, bytes) = (host.to.take().ok_or("no stdin")?, sent.clone());
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut to, &bytes));
        let seen = host.read_all().map_err(|error| with(&error))?;
        let _ = writer.join().map_err(|_| "panic")?;
        let mut errors = Vec::new();
        host.errors.take().ok_or("no stderr")?.read_to_end(&mut errors).map_err(|error| error.to_string())?;
        let status = host.wait()?;
        let is_refused = status.code() == Some(125) && seen.is_empty() && !errors.is_empty();
        let is_whole = status.code() == Some(0) && are_the_lines(rig, &seen, &sent);
        expect(is_refused || is_whole, &with(&format!("{status}, {} bytes of {}", seen.len(), sent.len())))?;
    }
    Ok(())
}

/// A request that stays open, as the server answers none.
fn request(id: u32) -> Vec<u8> {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"t{id}\"}}}}\n"
    )
    .into_bytes()
}

/// Returns true if `seen` are the lines of `sent`, which may contain trace context if the wrapper inserts it.
fn are_the_lines(rig: &Rig, seen: &[u8], sent: &[u8]) -> bool {
    let (Ok(seen), Ok(sent)) = (std::str::from_utf8(seen), std::str::from_utf8(sent)) else { return false };
    let is_same =
        |(seen, sent)| without_context(seen, sent).is_some_and(|found| !found || rig.inserts_context);
    seen.split('\n').count() == sent.split('\n').count()
        && seen.split('\n').zip(sent.split('\n')).all(is_same)
}
