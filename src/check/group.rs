//! The process group of a probed server, and the guard that ends the group when spantap has ended.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// The guard is the first process of the group, so that the group's number cannot be used again while it runs. It
/// waits for the end of its input, of which only spantap holds the other end: however spantap ends, the guard ends
/// the group.
const GUARD: &str = "trap '' INT TERM HUP QUIT; read -r _; kill -TERM 0; sleep 1; kill -KILL 0";

/// A process group. Dropping it kills the processes in it.
pub(super) struct ProcessGroup {
    /// `None` if `sh` cannot be started: the server is then the first process of the group.
    guard: Option<Child>,
    id: Option<Pid>,
}

impl ProcessGroup {
    pub(super) fn new() -> ProcessGroup {
        use std::os::unix::process::CommandExt;
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.process_group(0).spawn().ok();
        let id = guard.as_ref().and_then(pid);
        ProcessGroup { guard, id }
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
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

impl Drop for ProcessGroup {
    /// Without a guard the group's number may belong to another group once the server has ended.
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            self.signal(Signal::KILL);
            let _ = guard.wait();
        }
    }
}
