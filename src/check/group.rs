//! The processes of a probed server, and the guard that ends them when spantap has ended.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::system::processes;

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
pub(super) struct ProcessGroup {
    /// `None` if `sh` cannot be started: the server is then the first process of the group.
    guard: Option<Child>,
    id: Option<Pid>,
    /// Names of the server's pipes in `/proc`.
    pipes: [String; 3],
}

impl ProcessGroup {
    /// Makes the group of a server that will have these pipes: stdin, stdout and stderr.
    pub(super) fn new(pipes: [BorrowedFd<'_>; 3]) -> ProcessGroup {
        use std::os::unix::process::CommandExt;
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

    /// Returns the number for [`std::os::unix::process::CommandExt::process_group`]; 0 makes a new group.
    pub(super) fn number(&self) -> i32 {
        self.id.map_or(0, |id| id.as_raw_nonzero().get())
    }

    /// Takes note of the server, which has been started in this group.
    pub(super) fn joined(&mut self, server: &Child) {
        self.id = self.id.or_else(|| pid(server));
    }

    pub(super) fn signal(&self, signal: Signal) {
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
