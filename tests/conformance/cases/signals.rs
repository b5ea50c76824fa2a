//! Events of the lifecycle table that only Unix has: signals.

use super::matrix::Event;
use super::unix::died_of;
use crate::rig::{Rig, Verdict, eventually, expect};
use crate::sys;
use crate::table::{State, Table};

pub const EVENTS: &[(&str, Event)] = &[
    ("server-ignores-term", server_ignores_term),
    ("each-signal-once", each_signal_once),
    ("death-by-each-signal", death_by_each_signal),
    ("stopped-and-continued", stopped_and_continued),
    ("group-killed", group_killed),
];

fn server_ignores_term(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    table.host.signal(libc::SIGTERM);
    expect(table.control.signal()? == libc::SIGTERM, "another signal arrived")?;
    table.goes_on()?;
    expect(table.host.is_running(), "left although the server is still there")?;
    expect(table.control.further_signals()?.is_empty(), "SIGTERM arrived twice")?;
    table.exit(15)
}

const SIGNALS: [i32; 8] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
];

fn each_signal_once(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    for signal in SIGNALS {
        table.host.signal(signal);
        let seen = table.control.signal()?;
        expect(seen == signal, &format!("signal {signal} arrived as {seen}"))?;
    }
    table.goes_on()?;
    let twice = table.control.further_signals()?;
    expect(twice.is_empty(), &format!("signals arrived twice: {twice:?}"))?;
    table.exit(17)
}

fn death_by_each_signal(rig: &Rig, state: State) -> Verdict {
    for signal in &SIGNALS[..7] {
        let mut table = Table::set(rig, state)?;
        table.control.ask(&format!("default {signal}"), "default")?;
        let count = table.control.count()?;
        table.host.signal(*signal);
        table.end(count, died_of(*signal)).map_err(|error| format!("signal {signal}: {error}"))?;
    }
    Ok(())
}

/// SIGSTOP cannot be forwarded. Bytes under way continue after SIGCONT.
fn stopped_and_continued(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    for _ in 0..3 {
        table.host.signal(libc::SIGSTOP);
        let wrapper = table.host.pid();
        eventually("the wrapper stops", || sys::state_of(wrapper) == Some('T'))?;
        table.host.signal(libc::SIGCONT);
        table.goes_on()?;
    }
    let other = table.control.further_signals()?.into_iter().find(|signal| *signal != libc::SIGCONT);
    expect(other.is_none(), &format!("signal {other:?} from nowhere"))?;
    table.exit(18)
}

/// SIGKILL to the group of the host also ends the server and its children.
fn group_killed(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    let holder: u32 = table.control.ask("grandchild-in-group", "holder")?.parse().map_err(|_| "no pid")?;
    sys::kill_group(table.host.pid(), libc::SIGKILL);
    let (server, status) = (table.control.server, table.host.wait());
    let left = eventually("the server and its child go with their group", || {
        sys::is_gone(server) && sys::is_gone(holder)
    });
    sys::kill(server, libc::SIGKILL);
    sys::kill(holder, libc::SIGKILL);
    left?;
    expect(sys::is_ended(status?), "status")
}
