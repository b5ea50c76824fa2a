//! The processes of a probed server, and the guard that ends them when spantap has ended.

use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::system::processes;
pub(crate) use crate::system::server::ServerEnds;
use crate::system::signal_name::signal_name;

/// Advice to the user about a file that the system does not execute.
pub(crate) const WAY_TO_EXECUTE: &str = "make it executable (chmod +x), or put its interpreter in front";

/// The guard is the first process of the group, so that the group's number cannot be used again while it runs. It
/// reads the names of the server's pipes, and waits for the end of its input, of which only spantap holds the other end:
/// however spantap ends, the guard ends the group and the processes outside of it that hold one of the pipes.
const GUARD: &str = r#"trap '' INT TERM HUP QUIT
read -r in out err && [ "$err" ] || exit
read -r _
end() {
    ls -l /proc/[0-9]*/fd 2>/dev/null | while read -r line; do
        case $line in
        /proc/*) pid=${line#/proc/} pid=${pid%%/*} ;;
        *" $in" | *" $out" | *" $err") kill "-$1" "$pid" 2>/dev/null ;;
        esac
    done
    kill "-$1" 0
}
end TERM
sleep 1
end KILL"#;

/// The process group of a server, with the processes that have left the group and still hold the server's pipes.
/// Dropping it kills them.
pub(crate) struct ProcessGroup {
    /// `None` if `sh` cannot be started: the server is then the first process of the group.
    guard: Option<Child>,
    id: Option<Pid>,
    /// Names of the server's pipes in `/proc`.
    pipes: [String; 3],
}

impl ProcessGroup {
    /// Starts a server in a new group. Its stdin, stdout and stderr are pipes, whose other ends these are.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub(crate) fn start(
        mut command: Command,
        [(of_server, stdin), (stdout, out), (stderr, err)]: [(PipeReader, PipeWriter); 3],
    ) -> io::Result<(ProcessGroup, Child, ServerEnds)> {
        // A server that does not read must not hold up the probe. The other end, which it holds, still blocks.
        let _ = rustix::fs::fcntl_setfl(&stdin, OFlags::WRONLY | OFlags::NONBLOCK);
        let mut group = ProcessGroup::new([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        command.stdin(of_server).stdout(out).stderr(err);
        let number = group.id.map_or(0, |id| id.as_raw_nonzero().get());
        let begin = Instant::now();
        let child = command.process_group(number).spawn()?;
        group.id = group.id.or_else(|| pid(&child));
        Ok((group, child, ServerEnds { begin, stdin, stdout, stderr }))
    }

    /// Makes the group of a server that will have these pipes: stdin, stdout and stderr.
    fn new(pipes: [BorrowedFd<'_>; 3]) -> ProcessGroup {
        let inode = |fd| rustix::fs::fstat(fd).map_or(0, |status| status.st_ino);
        let pipes = pipes.map(|fd| format!("pipe:[{}]", inode(fd)));
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = guard.process_group(0).spawn().ok();
        if let Some(to) = guard.as_mut().and_then(|guard| guard.stdin.as_mut()) {
            let _ = writeln!(to, "{}", pipes.join(" "));
        }
        let id = guard.as_ref().and_then(pid);
        ProcessGroup { guard, id, pipes }
    }

    /// Asks the processes to end, and returns true if the system can ask.
    pub(crate) fn ask_to_end(&self) -> bool {
        self.signal(Signal::TERM);
        true
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, signal);
        }
        self.signal_holders(signal);
    }

    fn signal_holders(&self, signal: Signal) {
        for pid in processes::holders_of(&self.pipes).into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Returns the command of a program, which is searched on the PATH.
pub(crate) fn command(program: &OsStr) -> Command {
    Command::new(program)
}

/// Writes as much as the server takes now, and returns how much that is. Fails with [`io::ErrorKind::WouldBlock`] if it
/// takes nothing.
pub(crate) fn write_now(stdin: &mut PipeWriter, bytes: &[u8]) -> io::Result<usize> {
    stdin.write(bytes)
}

/// Returns how a process ended, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => signal_name(signal),
        (None, None) => "unknown status".to_owned(),
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

impl Drop for ProcessGroup {
    /// Without a guard the group's number may belong to another group once the server has ended.
    fn drop(&mut self) {
        match self.guard.take() {
            Some(mut guard) => {
                self.signal(Signal::KILL);
                let _ = guard.wait();
            }
            None => self.signal_holders(Signal::KILL),
        }
    }
}
