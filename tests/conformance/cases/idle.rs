//! An idle wrapper costs nothing, whichever streams have ended or are full.

use std::time::Duration;

use crate::rig::{Host, Rig, Verdict, expect};
use crate::sys;
use crate::table::{Reader, State, Table};

/// Length of each window, and the share of a core that may be used in it: a thousandth.
const WINDOW: Duration = Duration::from_secs(3);
const MOST: Duration = Duration::from_millis(3);

/// An idle connection. Its processes and streams keep their state while this value lives.
struct Subject {
    what: &'static str,
    table: Table,
}

fn subjects(rig: &Rig) -> Result<Vec<Subject>, String> {
    let mut subjects = Vec::new();
    let mut add = |what, table| subjects.push(Subject { what, table });

    let mut table = Table::set(rig, State::MidLine)?;
    table.goes_on()?;
    add("after some traffic", table);

    let mut table = Table::set(rig, State::Idle)?;
    table.close_stdin()?;
    add("after the host closed stdin", table);

    let mut table = Table::set(rig, State::Idle)?;
    table.stdout.close();
    table.control.tell("flood 1")?;
    table.control.failure()?;
    add("after the host closed stdout", table);

    let mut table = Table::set(rig, State::Idle)?;
    table.stderr.as_mut().map(Reader::close);
    table.control.tell("flood 2")?;
    table.control.failure()?;
    add("after the host closed stderr", table);

    for fd in 0..3 {
        let mut table = Table::set_silent(rig)?;
        table.control.ask(&format!("close {fd}"), "closed")?;
        add(
            [
                "after the server closed stdin",
                "after the server closed stdout",
                "after the server closed stderr",
            ][fd],
            table,
        );
    }

    add("with stderr full", Table::set(rig, State::StderrBlocked)?);

    let mut table = Table::set_silent(rig)?;
    let mut to = table.host.to.take().ok_or("no stdin")?;
    std::thread::spawn(move || std::io::Write::write_all(&mut to, &vec![b'x'; 16 << 20]));
    add("with stdin full", table);
    Ok(subjects)
}

pub fn after_every_end(rig: &Rig) -> Verdict {
    let subjects = subjects(rig)?;
    if !sys::knows_cpu_times(subjects[0].table.control.server) {
        println!("idle/after-every-end checks no CPU times, which this system does not tell");
        return Ok(());
    }
    // Work for the start and for the last message may fall into the first window.
    let mut over = Vec::new();
    for _ in 0..4 {
        let used: Vec<Duration> =
            subjects.iter().map(|subject| sys::cpu_time(subject.table.host.pid())).collect();
        std::thread::sleep(WINDOW);
        over = subjects
            .iter()
            .zip(used)
            .map(|(subject, before)| {
                (subject.what, sys::cpu_time(subject.table.host.pid()).saturating_sub(before))
            })
            .filter(|(_, used)| *used > MOST)
            .collect::<Vec<_>>();
        if over.is_empty() {
            return Ok(());
        }
    }
    Err(format!("CPU time in {WINDOW:?}: {over:?}"))
}

/// The memory of a wrapper is bounded for any traffic, also if it is slower than the traffic and all that it has to
/// keep is full.
pub fn memory_stays(rig: &Rig) -> Verdict {
    const MOST: u64 = 80 << 20;
    let mut table = Table::set(rig, State::Flood)?;
    let look = |host: &Host| sys::peak_memory(host.pid()).ok_or_else(|| "no memory figures".to_owned());
    let image = sys::image_memory(table.host.pid());
    for _ in 0..20 {
        table.goes_on()?;
    }
    let peak = look(&table.host)? - image;
    table.exit(0)?;
    expect(peak <= MOST, &format!("{} MiB under a flood", peak >> 20))
}
