//! The lifecycle table: every event of a connection, in every state.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::NamedCase;
use crate::rig::{Host, Rig, Verdict, deadline, eventually, expect};
use crate::sys;
use crate::table::{Meeting, STATES, State, Table, words};

pub type Event = fn(&Rig, State) -> Verdict;

/// Events that happen on every system.
const ALL: &[(&str, Event)] = &[
    ("host-closes-stdin", host_closes_stdin),
    ("host-closes-stdout", host_closes_stdout),
    ("host-killed", host_killed),
    ("server-exits", server_exits),
    ("server-killed", server_killed),
    ("server-closes-stdout", server_closes_stdout),
    ("grandchild-holds-pipes", grandchild_holds_pipes),
];

/// Every event in every state, named `matrix/<event>/<state>`.
pub fn cases() -> Vec<NamedCase> {
    let events = ALL.iter().chain(super::system::EVENTS);
    let cells = events.flat_map(|event| STATES.iter().map(move |state| (event, state)));
    cells
        .map(|((name, event), (state, state_name))| {
            let (event, state) = (*event, *state);
            NamedCase::new(format!("matrix/{name}/{state_name}"), move |rig| event(rig, state))
        })
        .collect()
}

fn host_closes_stdin(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    table.close_stdin()?;
    // Late answers still pass.
    if state != State::Flood {
        table.control.ask("write 1 2000", "wrote")?;
    }
    table.exit(11)
}

fn host_closes_stdout(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    table.stdout.close();
    if state != State::Flood {
        table.control.tell("flood 1")?;
    }
    let failure = table.control.failure()?;
    expect(failure == "1 BrokenPipe", &format!("the server saw `{failure}`"))?;
    table.goes_on()?;
    table.exit(12)
}

/// After SIGKILL to the host the server sees the end of its stdin, and the wrapper ends after the server.
fn host_killed(rig: &Rig, state: State) -> Verdict {
    let meeting = Meeting::new()?;
    let wrapper = rig.command(&["role:party", &meeting.socket]);
    let mut command = rig.direct(&["role:host", if state == State::Flood { "flood" } else { "quiet" }]);
    command.arg(if state == State::StderrBlocked { "deaf" } else { "listens" });
    command.args(words(&wrapper));
    let mut host = rig.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()))?;
    drop(command);
    let wrapper: u32 = host.line()?.parse().map_err(|_| "no pid")?;
    let verdict = loses_its_host(&meeting, &mut host, wrapper, state);
    sys::end(wrapper);
    verdict
}

fn loses_its_host(meeting: &Meeting, host: &mut Host, wrapper: u32, state: State) -> Verdict {
    let mut control = meeting.control()?;
    control.tell("read")?;
    match state {
        State::Idle => {}
        State::MidLine => {
            control.ask("write 1 1003", "wrote")?;
            control.ask("write 2 1003", "wrote")?;
        }
        State::Flood => {
            control.tell("flood 1")?;
            control.tell("flood 2")?;
            for _ in 0..10_000 {
                let count = control.count()?;
                if count.stdin > 1 << 20 && count.outputs.iter().all(|bytes| *bytes > 1 << 20) {
                    break;
                }
            }
        }
        State::StderrBlocked => control.tell("flood 2")?,
    }
    host.kill();
    let mut ended = false;
    let start = Instant::now();
    while start.elapsed() < deadline() {
        ended = control.count()?.stdin_ended;
        if ended {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    expect(ended, "the server does not see that its host is gone")?;
    if state == State::Flood {
        let failure = control.failure()?;
        expect(failure.ends_with(" BrokenPipe"), &format!("the server saw `{failure}`"))?;
    }
    control.tell("exit 0")?;
    eventually("the wrapper goes with its server", || sys::is_gone(wrapper))
}

fn server_exits(rig: &Rig, state: State) -> Verdict {
    for code in [0, 13] {
        Table::set(rig, state)?.exit(code)?;
    }
    Ok(())
}

fn server_killed(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    let count = table.control.count()?;
    sys::end(table.control.server);
    table.end(count, sys::is_ended)
}

fn server_closes_stdout(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    table.control.ask("close 1", "closed")?;
    let written = table.control.count()?.outputs[0];
    eventually("the end of stdout", || table.stdout.has_ended())?;
    let seen = table.stdout.seen();
    expect(seen == written, &format!("{seen} bytes of {written} on stdout"))?;
    table.goes_on()?;
    expect(table.host.is_running(), "left with its server's stdout")?;
    table.exit(14)
}

fn grandchild_holds_pipes(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    let holder: u32 = table.control.ask("grandchild", "holder")?.parse().map_err(|_| "no pid")?;
    let count = table.control.count()?;
    table.control.tell("exit 16")?;
    let start = Instant::now();
    let status = table.host.wait();
    let took = start.elapsed();
    // The process that holds the host's own pipes now must close them. There may be no relay in between.
    sys::end(holder);
    expect(took.as_secs() < 40, "left only when another process closed the pipes")?;
    expect(status?.code() == Some(16), "status")?;
    table.end(count, |status| status.code() == Some(16))
}
