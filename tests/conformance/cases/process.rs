//! The start of a process, and the processes that remain after it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::unix::died_of;
use crate::rig::{Rig, Verdict, deadline, eventually, expect};
use crate::sys;
use crate::table::Meeting;

/// Returns the processes that have `mark` among their arguments and have not ended.
fn marked(mark: &str) -> Vec<u32> {
    sys::with_argument(mark).into_iter().filter(|pid| !sys::is_gone(*pid)).collect()
}

/// SIGKILL to the wrapper at many moments of its start: every process that it started ends, too.
pub fn killed_at_any_moment(rig: &Rig) -> Verdict {
    for step in 0..60 {
        let mark = format!("{}-k{step}", rig.home.path().display());
        let mut command = rig.command(&["role:stubborn", &mark]);
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        std::thread::sleep(Duration::from_micros(step * 250));
        host.kill();
        let left = eventually("the server goes with its wrapper", || marked(&mark).is_empty());
        marked(&mark).into_iter().for_each(|pid| sys::kill(pid, libc::SIGKILL));
        left?;
    }
    Ok(())
}

/// SIGTERM at many moments of the start is never lost, and no process remains.
pub fn signal_at_any_moment(rig: &Rig) -> Verdict {
    for step in 0..60 {
        let mark = format!("{}-t{step}", rig.home.path().display());
        let mut command = rig.command(&["role:echo", &mark]);
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        std::thread::sleep(Duration::from_micros(step * 250));
        host.signal(libc::SIGTERM);
        let status = host.wait().map_err(|error| format!("SIGTERM was lost: {error}"))?;
        expect(died_of(libc::SIGTERM)(status), &format!("{status}"))?;
        eventually("no process is left", || marked(&mark).is_empty())?;
    }
    Ok(())
}

/// Signals of invalid memory, which another process may send too.
const FAULTS: [i32; 2] = [libc::SIGBUS, libc::SIGSEGV];

/// All signals that can be caught, except those of invalid memory and those that stop a process.
pub fn every_signal(rig: &Rig) -> Verdict {
    let stops = [libc::SIGKILL, libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGCONT];
    let is_left_out = |signal: &i32| stops.contains(signal) || FAULTS.contains(signal);
    let signals = (1..32).filter(|signal| !is_left_out(signal)).chain(sys::real_time_signals());
    arrive_once(rig, signals)
}

/// Signals of invalid memory that another process sends.
pub fn every_fault(rig: &Rig) -> Verdict {
    arrive_once(rig, FAULTS.into_iter())
}

/// Sends each of `signals`, which must reach the server once.
fn arrive_once(rig: &Rig, signals: impl Iterator<Item = i32>) -> Verdict {
    let meeting = Meeting::new()?;
    let mut host = rig.start(&["role:party", &meeting.socket])?;
    let mut control = meeting.control()?;
    for signal in signals {
        host.signal(signal);
        let seen = control.signal().map_err(|error| format!("signal {signal}: {error}"))?;
        expect(seen == signal, &format!("signal {signal} arrived as {seen}"))?;
    }
    // A signal that was forwarded twice would have come before this one.
    host.signal(libc::SIGUSR1);
    expect(control.signal()? == libc::SIGUSR1, "a signal arrived twice")?;
    let twice = control.further_signals()?;
    expect(twice.is_empty(), &format!("signals arrived twice: {twice:?}"))?;
    control.tell("exit 8")?;
    expect(host.wait()?.code() == Some(8), "status")
}

/// The end of a stream reaches the server through the stream, without a signal.
pub fn no_signal_of_its_own(rig: &Rig) -> Verdict {
    let meeting = Meeting::new()?;
    let mut host = rig.start(&["role:party", &meeting.socket])?;
    let mut control = meeting.control()?;
    control.ask("close 1", "closed")?;
    host.read_all()?;
    control.ask("close 2", "closed")?;
    host.read_errors()?;
    control.tell("read")?;
    host.close_stdin();
    let begin = Instant::now();
    while !control.count()?.stdin_ended {
        expect(begin.elapsed() < deadline(), "the end of stdin did not arrive")?;
        std::thread::sleep(Duration::from_millis(2));
    }
    // Signals for the ends are sent before a signal of the host is forwarded.
    for _ in 0..3 {
        host.signal(libc::SIGUSR1);
        let seen = control.signal()?;
        expect(seen == libc::SIGUSR1, &format!("signal {seen} came with the end of a stream"))?;
    }
    let more = control.further_signals()?;
    expect(more.is_empty(), &format!("signals came with the end of a stream: {more:?}"))?;
    control.tell("exit 0")?;
    expect(host.wait()?.code() == Some(0), "status")
}

/// All signals whose default is death.
pub fn every_death(rig: &Rig) -> Verdict {
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let deadly = (1..32).filter(|signal| !sys::HARMLESS.contains(signal) && !stops.contains(signal));
    for signal in deadly.chain(sys::signals_of_libraries()).chain(sys::real_time_signals()) {
        let mut host = rig.start(&["role:die", &signal.to_string()])?;
        let status = host.wait()?;
        expect(died_of(signal)(status), &format!("death by signal {signal} became {status}"))?;
    }
    Ok(())
}

/// The host set an alarm before it executed the wrapper, as `timeout` tools in Perl do. The alarm is meant for the server.
/// It comes once the server is ready, on a machine of any speed: earlier it would end the server.
pub fn alarm_set_before(rig: &Rig) -> Verdict {
    let begin = Instant::now();
    let first = Meeting::new()?;
    let mut host = rig.start(&["role:party", &first.socket])?;
    first.control()?;
    let seconds = (begin.elapsed() * 4).as_secs() as u32 + 1;
    host.kill();
    let meeting = Meeting::new()?;
    let mut command = rig.command(&["role:party", &meeting.socket]);
    sys::before_exec(&mut command, move || sys::alarm(seconds));
    let mut host = rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let mut control = meeting.control()?;
    expect(control.signal()? == libc::SIGALRM, "another signal arrived")?;
    control.tell("exit 0")?;
    expect(host.wait()?.code() == Some(0), "status")
}

/// A script whose interpreter does not exist gives 126 or 127, whatever happens to stdin.
pub fn bad_interpreter(rig: &Rig) -> Verdict {
    let script = rig.home.path().join("script");
    std::fs::write(&script, "#!/nowhere/to/be/found\n").map_err(|error| error.to_string())?;
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    let mut command = rig.bare(&[script.to_str().unwrap_or_default()]);
    let mut host = rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let status = host.wait()?;
    expect(matches!(status.code(), Some(126 | 127)), &format!("{status}"))?;
    expect(host.read_all()?.is_empty(), "words on stdout")?;
    expect(!host.read_errors()?.is_empty(), "no word on stderr")
}

/// With SIGCHLD ignored by the host, the kernel would reap the server and drop its status.
pub fn sigchld_ignored(rig: &Rig) -> Verdict {
    let mut command = rig.command(&["role:exit", "23"]);
    sys::before_exec(&mut command, || sys::ignore(libc::SIGCHLD));
    let mut host = rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    host.ends_with(23)
}

/// The host blocks and ignores signals. The server starts with the same mask and dispositions.
pub fn masks_and_dispositions(rig: &Rig) -> Verdict {
    const BLOCKED: [i32; 3] = [libc::SIGUSR1, libc::SIGTERM, libc::SIGALRM];
    let describe = |mut command: std::process::Command| {
        sys::before_exec(&mut command, || {
            [libc::SIGHUP, libc::SIGCHLD, libc::SIGPIPE, libc::SIGUSR2].into_iter().for_each(sys::ignore);
            BLOCKED.into_iter().for_each(sys::block);
        });
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let text = String::from_utf8(host.read_all()?).map_err(|error| error.to_string())?;
        Ok::<_, String>(text.lines().filter(|line| line.starts_with("Sig")).collect::<Vec<_>>().join("; "))
    };
    let direct = describe(rig.direct(&["role:describe"]))?;
    let wrapped = describe(rig.command(&["role:describe"]))?;
    expect(direct == wrapped, &format!("`{wrapped}` instead of `{direct}`"))?;
    let bits = BLOCKED.into_iter().fold(0_u64, |bits, signal| bits | 1 << (signal - 1));
    expect(direct.contains(&format!("SigBlk:\t{bits:016x}")), &format!("the case is wrong: {direct}"))
}

/// A signal that the host ignores is ignored by the server, and forwarding it changes nothing.
pub fn ignored_signals_stay_ignored(rig: &Rig) -> Verdict {
    let mut command = rig.command(&["role:echo"]);
    sys::before_exec(&mut command, || {
        [libc::SIGHUP, libc::SIGINT, libc::SIGTSTP].into_iter().for_each(sys::ignore);
    });
    let mut host = rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    host.say(b"ping\n")?;
    host.read_exact(&mut [0; 5])?;
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTSTP] {
        host.signal(signal);
        host.say(b"ping\n")?;
        host.read_exact(&mut [0; 5]).map_err(|error| format!("after signal {signal}: {error}"))?;
    }
    host.close_stdin();
    expect(host.wait()?.code() == Some(0), "status")
}

/// Limits that leave a wrapper little room. Descriptors that the tests inherited would take some of it.
pub fn little_room(rig: &Rig) -> Verdict {
    for limit in ["ulimit -n 16", "ulimit -n 12", "ulimit -c 0; ulimit -s 256"] {
        let line = format!("{limit}; exec \"$@\"");
        let mut command = rig.scripted("bash", &line, &["role:noise", "41"]);
        sys::before_exec(&mut command, sys::keep_standard_streams);
        let host = rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        super::exchange_noise(host, 41).map_err(|error| format!("with `{limit}`: {error}"))?;
    }
    Ok(())
}

/// A launcher such as npx dies of SIGTERM and leaves the server, which holds the pipes. The wrapper then ends within
/// the 0.4 s after which Claude Code sends SIGKILL. A machine that is slow or busy needs some time for any end, so the end
/// of a server that leaves nothing behind is measured too, and the shortest of several ends counts.
pub fn launcher_asked_to_leave(rig: &Rig) -> Verdict {
    const PATIENCE: Duration = Duration::from_millis(350);
    let shortest_end = |role: &str| {
        let mut shortest = Duration::MAX;
        for _ in 0..5 {
            let mut host = rig.start(&[role])?;
            let left: Option<u32> = match role {
                "role:launcher" => Some(host.line()?.parse().map_err(|_| "no pid")?),
                _ => host.read_exact(&mut [0; 11]).map(|()| None)?,
            };
            let asked = Instant::now();
            host.signal(libc::SIGTERM);
            let status = host.wait();
            shortest = shortest.min(asked.elapsed());
            left.into_iter().for_each(sys::end);
            expect(died_of(libc::SIGTERM)(status?), "the wrapper ended in another way than its server")?;
        }
        Ok::<_, String>(shortest)
    };
    let (alone, with_left) = (shortest_end("role:half")?, shortest_end("role:launcher")?);
    let told = format!("ended {with_left:?} after SIGTERM, and {alone:?} without a process that is left");
    expect(with_left < PATIENCE + alone, &told)
}

/// A process that the server leaves behind on purpose, with no stream of the host, lives on and has the parent that
/// it would have without a wrapper.
pub fn process_left_on_purpose(rig: &Rig) -> Verdict {
    let parent_of_the_left = |mut command: std::process::Command| {
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let left: u32 = host.line()?.parse().map_err(|_| "no pid")?;
        let status = host.wait()?;
        let lives = !sys::is_gone(left);
        let parent = sys::parent(left);
        sys::kill(left, libc::SIGKILL);
        expect(status.code() == Some(5), "status")?;
        expect(lives, "the process that the server left behind has ended with the wrapper")?;
        parent.ok_or_else(|| "the process has no parent".to_owned())
    };
    let direct = parent_of_the_left(rig.direct(&["role:daemon"]))?;
    let wrapped = parent_of_the_left(rig.command(&["role:daemon"]))?;
    expect(direct == wrapped, &format!("its parent is {wrapped} instead of {direct}"))
}
