//! Cases for Linux alone: macOS and Windows have neither filters of system calls nor a limit of the address space.

use std::io::Read;
use std::process::{Command, Stdio};

use super::Case;
use super::requests::without_context;
use super::surroundings::piped;
use crate::rig::{Rig, Verdict, expect};
use crate::sys;

pub const CASES: &[(&str, Case)] =
    &[("start/sandbox-without-sockets", sandbox_without_sockets), ("start/little-memory", little_memory)];

/// A sandbox denies the calls of sockets. The server, on pipes, needs none.
fn sandbox_without_sockets(rig: &Rig) -> Verdict {
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

/// The host limits the address space. The wrapper relays every byte, or refuses to start. The system itself kills a
/// program that it cannot map: an unoptimised one is larger than the first limits.
fn little_memory(rig: &Rig) -> Verdict {
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
        let sent: Vec<u8> = (0..17_000).flat_map(request).collect();
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
