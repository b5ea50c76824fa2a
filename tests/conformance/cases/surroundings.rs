//! Places that leave a wrapper less than a developer's machine does, and as much as the server needs.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::rig::{Rig, Verdict, expect};
use crate::table::Meeting;

pub(super) fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
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
