//! Cases for Windows: exit codes of 32 bits, the tree that ends with the wrapper, scripts of the command interpreter.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::Case;
use super::matrix::Event;
use crate::rig::{Rig, Verdict, eventually, expect};
use crate::sys;
use crate::table::{State, Table};

pub const CASES: &[(&str, Case)] = &[
    ("status/codes-of-32-bits", codes_of_32_bits),
    ("orphans/killed-at-any-moment-of-the-start", killed_at_any_moment),
    ("start/script-with-odd-arguments", script_with_odd_arguments),
];

pub const EVENTS: &[(&str, Event)] = &[("wrapper-killed", wrapper_killed)];

/// Commands that cannot be executed, with the status of a shell.
pub const NO_PROGRAMS: &[(&str, i32)] = &[
    (r"C:\nowhere\to\be\found", 127),
    ("no-such-command-anywhere", 127),
    (r"C:\windows\win.ini", 126),
    (r"C:\windows", 126),
];

/// A folder that every machine has.
pub const A_FOLDER: &str = r"C:\windows";

/// All 32 bits arrive: those of faults, of Ctrl-C, and negative ones.
fn codes_of_32_bits(rig: &Rig) -> Verdict {
    for code in [256, 0xC000_0005_u32, 0xC000_013A, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x8000_0000] {
        let code = code as i32;
        let mut host = rig.start(&["role:exit", &code.to_string()])?;
        host.ends_with(code)?;
    }
    Ok(())
}

/// TerminateProcess of the wrapper at many moments of its start: every process that it started ends, too.
fn killed_at_any_moment(rig: &Rig) -> Verdict {
    let name = format!("stubborn-{}-{}.exe", std::process::id(), rig.home.path().as_os_str().len());
    let program = rig.home.path().join(&name);
    let copied = std::env::current_exe().and_then(|this| std::fs::copy(this, &program));
    copied.map_err(|error| error.to_string())?;
    for step in 0..30 {
        let mut command = rig.bare(&[program.to_str().ok_or("a path that is not text")?, "role:stubborn"]);
        let mut host =
            rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        std::thread::sleep(Duration::from_millis(step));
        host.kill();
        eventually("the server goes with its wrapper", || !sys::running().contains(&name))?;
    }
    Ok(())
}

/// A script, as npm writes one for each program, gets its arguments as they were said. A percent sign is compared with
/// a start by the standard library alone, as wine's command interpreter does not take its escape.
fn script_with_odd_arguments(rig: &Rig) -> Verdict {
    let words = ["two words", "a&b", "a^b", "a|b<c>d", "(x)", "a,b;c=d", "!x!", r"C:\x\", "\u{e9}", ""];
    let script = script(rig).map_err(|error| error.to_string())?;
    let seen = arguments_seen(rig, rig.bare(&[&[script.as_str()], &words[..]].concat()))?;
    expect(seen == words, &format!("{seen:?} instead of {words:?}"))?;
    let words = ["%PATH%", "100%", "two%20words"];
    let wrapped = arguments_seen(rig, rig.bare(&[&[script.as_str()], &words[..]].concat()))?;
    let mut direct = Command::new(&script);
    direct.args(words);
    let direct = arguments_seen(rig, direct)?;
    expect(wrapped == direct, &format!("{wrapped:?} instead of {direct:?}"))
}

/// Writes a script that passes its arguments to a server, into a folder with a blank in its name.
fn script(rig: &Rig) -> std::io::Result<String> {
    let folder = rig.home.path().join("with space");
    std::fs::create_dir_all(&folder)?;
    let script = folder.join("server.cmd");
    let this = std::env::current_exe()?;
    std::fs::write(&script, format!("@echo off\r\n\"{}\" role:arguments %*\r\n", this.display()))?;
    Ok(script.display().to_string())
}

/// Returns the arguments that a server writes, a line each.
fn arguments_seen(rig: &Rig, mut command: Command) -> Result<Vec<String>, String> {
    let mut host = rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let seen = String::from_utf8(host.read_all()?).map_err(|error| error.to_string())?;
    Ok(seen.lines().map(str::to_owned).collect())
}

/// TerminateProcess of the wrapper also ends the server and its children, whichever way the streams are used.
fn wrapper_killed(rig: &Rig, state: State) -> Verdict {
    let mut table = Table::set(rig, state)?;
    let holder: u32 = table.control.ask("grandchild", "holder")?.parse().map_err(|_| "no pid")?;
    let server = table.control.server;
    sys::end(table.host.pid());
    let status = table.host.wait();
    let left = eventually("the server goes with its wrapper", || sys::is_gone(server));
    // Without a wrapper nothing ends the child of a server that is killed.
    let tree = match rig.wrapper.is_empty() {
        true => Ok(()),
        false => eventually("the child goes with its server", || sys::is_gone(holder)),
    };
    sys::end(server);
    sys::end(holder);
    left.and(tree)?;
    expect(sys::is_ended(status?), "status")
}
