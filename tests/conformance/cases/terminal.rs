//! A terminal: its signals, its job control, its end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use crate::rig::{Host, Rig, Verdict, eventually, expect};
use crate::sys;
use crate::table::{Control, Meeting, words};

const INTERRUPT: &[u8] = b"\x03";
const QUIT: &[u8] = b"\x1c";
const SUSPEND: &[u8] = b"\x1a";
const END_OF_FILE: &[u8] = b"\x04";

/// Opens a terminal: the end of the keyboard, and the end for programs.
fn open() -> Result<(File, OwnedFd), String> {
    let (keyboard, program) = sys::open_terminal().map_err(|error| error.to_string())?;
    Ok((File::from(keyboard), program))
}

/// Makes `command` the leader of a new session that owns the terminal.
fn on_terminal(command: &mut Command, terminal: &OwnedFd) {
    let fd = terminal.as_raw_fd();
    sys::before_exec(command, move || sys::lead_session_on(fd));
}

fn party_on_pipes(rig: &Rig, terminal: &OwnedFd) -> Result<(Host, Control, Meeting), String> {
    let meeting = Meeting::new()?;
    let mut command = rig.command(&["role:party", &meeting.socket]);
    on_terminal(&mut command, terminal);
    let host = rig.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let control = meeting.control()?;
    Ok((host, control, meeting))
}

/// The terminal signals the whole group: the server gets each key once and decides.
pub fn ctrl_c_once(rig: &Rig) -> Verdict {
    let (mut keyboard, terminal) = open()?;
    let (mut host, mut control, _meeting) = party_on_pipes(rig, &terminal)?;
    let mut strike = |key: &[u8], signal: i32| {
        keyboard.write_all(key).map_err(|error| error.to_string())?;
        let seen = control.signal()?;
        expect(seen == signal, &format!("signal {signal} arrived as {seen}"))
    };
    strike(INTERRUPT, libc::SIGINT)?;
    strike(QUIT, libc::SIGQUIT)?;
    strike(INTERRUPT, libc::SIGINT)?;
    expect(host.is_running(), "left although the server is still there")?;
    // A signal that was also forwarded would have come before this one.
    host.signal(libc::SIGUSR1);
    let seen = control.signal()?;
    expect(seen == libc::SIGUSR1, &format!("signal {seen} arrived twice"))?;
    expect(control.further_signals()?.is_empty(), "signals arrived twice")?;
    control.tell("exit 33")?;
    expect(host.wait()?.code() == Some(33), "status")
}

/// Lines to and from a terminal, and the end of input that the user types.
pub fn terminal_as_stdio(rig: &Rig) -> Verdict {
    let (mut keyboard, terminal) = open()?;
    sys::set_echo(terminal.as_raw_fd(), false);
    let mut command = rig.command(&["role:echo"]);
    on_terminal(&mut command, &terminal);
    let copy = || terminal.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    let mut host = rig.spawn(command.stdin(copy()?).stdout(copy()?).stderr(copy()?))?;
    keyboard.write_all(b"typed\n").map_err(|error| error.to_string())?;
    let mut seen = [0; 7];
    let arrived = sys::is_readable(&keyboard, crate::rig::deadline().as_millis() as i32);
    expect(arrived, "nothing comes back from the terminal")?;
    keyboard.read_exact(&mut seen).map_err(|error| error.to_string())?;
    expect(&seen == b"typed\r\n", &format!("{}", String::from_utf8_lossy(&seen)))?;
    keyboard.write_all(END_OF_FILE).map_err(|error| error.to_string())?;
    let status = host.wait()?;
    expect(status.code() == Some(0), &format!("{status}"))
}

/// The terminal closes. The kernel signals the leader of its session, and the server decides.
pub fn hang_up(rig: &Rig) -> Verdict {
    let (keyboard, terminal) = open()?;
    let (mut host, mut control, _meeting) = party_on_pipes(rig, &terminal)?;
    drop(terminal);
    drop(keyboard);
    let seen = control.signal()?;
    expect(seen == libc::SIGHUP || seen == libc::SIGCONT, &format!("signal {seen} instead of SIGHUP"))?;
    control.tell("exit 34")?;
    expect(host.wait()?.code() == Some(34), "status")
}

/// A small shell that runs the wrapper as its job.
struct Shell {
    host: Host,
    reports: Control,
    _meeting: Meeting,
}

impl Shell {
    fn start(
        rig: &Rig,
        job: &Command,
        ground: &str,
        stdin: Stdio,
        terminal: &OwnedFd,
    ) -> Result<Shell, String> {
        let meeting = Meeting::new()?;
        let mut command = rig.direct(&["role:shell", &meeting.socket, ground]);
        command.args(words(job));
        on_terminal(&mut command, terminal);
        let host = rig.spawn(command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let reports = meeting.control()?;
        Ok(Shell { host, reports, _meeting: meeting })
    }

    fn job_is(&mut self, state: &str) -> Result<String, String> {
        self.reports.answer(state).map_err(|error| format!("the job is not {state}: {error}"))
    }
}

/// Ctrl-Z stops wrapper and server, `fg` continues them, and no byte is lost.
pub fn ctrl_z_and_on(rig: &Rig) -> Verdict {
    let (mut keyboard, terminal) = open()?;
    let meeting = Meeting::new()?;
    let job = rig.command(&["role:party", &meeting.socket]);
    let mut shell = Shell::start(rig, &job, "foreground", Stdio::piped(), &terminal)?;
    let pid: u32 = shell.job_is("started")?.parse().map_err(|_| "no pid")?;
    let mut control = meeting.control()?;
    control.ask(&format!("default {}", libc::SIGTSTP), "default")?;
    for _ in 0..3 {
        control.ask("write 1 1003", "wrote")?;
        keyboard.write_all(SUSPEND).map_err(|error| error.to_string())?;
        shell.job_is("stopped")?;
        let server = control.server;
        eventually("the server stops", || sys::state_of(server) == Some('T'))?;
        shell.reports.tell("fg")?;
        shell.job_is("continued")?;
        // A late forward would undo the next stop. Users do not type that fast.
        eventually("SIGCONT is passed on", || sys::is_done_with(pid, libc::SIGCONT))?;
        control.ask("write 1 1003", "wrote")?;
    }
    control.tell("exit 35")?;
    let status = shell.job_is("exited")?;
    expect(status == "35", &format!("status {status}"))?;
    let mut from = shell.host.from.take().ok_or("no stdout")?;
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let mut noise = crate::noise::Endless::new(crate::party::SEED, 1);
    expect(bytes.len() == 6 * 1003 && noise.goes_on_with(&bytes), &format!("{} bytes", bytes.len()))
}

/// SIGTSTP from a process stops both. A server that ignores it keeps its wrapper running.
pub fn told_to_stop(rig: &Rig) -> Verdict {
    let (_keyboard, terminal) = open()?;
    let meeting = Meeting::new()?;
    let job = rig.command(&["role:party", &meeting.socket]);
    let mut shell = Shell::start(rig, &job, "foreground", Stdio::piped(), &terminal)?;
    let pid: u32 = shell.job_is("started")?.parse().map_err(|_| "no pid")?;
    let mut control = meeting.control()?;
    // The party receives it like all signals and does not stop.
    sys::kill(pid, libc::SIGTSTP);
    expect(control.signal()? == libc::SIGTSTP, "another signal arrived")?;
    control.ask("write 1 1003", "wrote")?;
    shell
        .host
        .read_exact(&mut [0; 1003])
        .map_err(|error| format!("stopped although the server is not: {error}"))?;
    control.ask(&format!("default {}", libc::SIGTSTP), "default")?;
    sys::kill(pid, libc::SIGTSTP);
    shell.job_is("stopped")?;
    let server = control.server;
    eventually("the server stops", || sys::state_of(server) == Some('T'))?;
    sys::kill(pid, libc::SIGCONT);
    shell.job_is("continued")?;
    control.ask("write 1 1003", "wrote")?;
    shell.host.read_exact(&mut [0; 1003])?;
    control.tell("exit 36")?;
    expect(shell.job_is("exited")? == "36", "status")
}

/// A background reader of the terminal is stopped, and continues in the foreground.
pub fn background_read(rig: &Rig) -> Verdict {
    let (mut keyboard, terminal) = open()?;
    sys::set_echo(terminal.as_raw_fd(), false);
    let job = rig.command(&["role:echo"]);
    let stdin = terminal.try_clone().map(Stdio::from).map_err(|error| error.to_string())?;
    let mut shell = Shell::start(rig, &job, "background", stdin, &terminal)?;
    shell.job_is("stopped")?;
    shell.reports.tell("fg")?;
    shell.job_is("continued")?;
    keyboard.write_all(b"typed\n").map_err(|error| error.to_string())?;
    let line = shell.host.line()?;
    expect(line == "typed", &line)?;
    keyboard.write_all(END_OF_FILE).map_err(|error| error.to_string())?;
    expect(shell.job_is("exited")? == "0", "status")
}

/// The small shell: runs the job in a process group of its own, reports its changes of state, and brings it
/// to the foreground on request.
pub fn shell(socket: &str, ground: &str, words: &[String]) -> std::io::Result<()> {
    use std::io::{BufRead, BufReader};
    use std::net::TcpStream;
    let mut control = TcpStream::connect(socket)?;
    control.write_all(format!("hello {}\n", std::process::id()).as_bytes())?;
    // A shell writes to its terminal and takes it back from any group.
    sys::ignore(libc::SIGTTOU);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    sys::own_group(&mut command);
    let foreground = ground == "foreground";
    sys::before_exec(&mut command, move || {
        if foreground {
            sys::bring_to_foreground();
        }
        sys::restore_default(libc::SIGTTOU);
    });
    let pid = command.spawn()?.id();
    control.write_all(format!("started {pid}\n").as_bytes())?;
    let orders = control.try_clone()?;
    std::thread::spawn(move || {
        for order in BufReader::new(orders).lines().map_while(Result::ok) {
            if order == "fg" {
                sys::give_foreground_to(pid);
                sys::kill_group(pid, libc::SIGCONT);
            }
        }
    });
    loop {
        let (word, over) = sys::wait_for_change(pid);
        control.write_all(format!("{word}\n").as_bytes())?;
        if over {
            return Ok(());
        }
    }
}
