//! The processes of a probed server, which end when spantap ends.

use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::windows::io::AsRawHandle;
use std::os::windows::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use windows_sys::Win32::Foundation::{HANDLE, NTSTATUS};
use windows_sys::Win32::System::Pipes::{PIPE_NOWAIT, PIPE_READMODE_BYTE, SetNamedPipeHandleState};
use windows_sys::Win32::System::Threading::{CREATE_NO_WINDOW, CREATE_SUSPENDED};

use super::job::Job;
use super::process;
pub(crate) use crate::system::server::ServerEnds;

/// Advice to the user about a file that the system does not execute.
pub(crate) const WAY_TO_EXECUTE: &str =
    "give a program (.exe, .cmd or .bat), or put its interpreter in front";

#[link(name = "ntdll")]
unsafe extern "system" {
    fn NtResumeProcess(process: HANDLE) -> NTSTATUS;
}

/// The job of a server and of everything that it starts. Dropping it kills them; the end of spantap does, too.
pub(crate) struct ProcessGroup(Job);

impl ProcessGroup {
    /// Starts a server in a new group. Its stdin, stdout and stderr are pipes, whose other ends these are.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub(crate) fn start(
        mut command: Command,
        [(of_server, stdin), (stdout, out), (stderr, err)]: [(PipeReader, PipeWriter); 3],
    ) -> io::Result<(ProcessGroup, Child, ServerEnds)> {
        let mode = PIPE_READMODE_BYTE | PIPE_NOWAIT;
        // A server that does not read must not hold up the probe. The other end, which it holds, still blocks.
        // SAFETY: `mode` is a valid place through the call.
        unsafe { SetNamedPipeHandleState(stdin.as_raw_handle(), &mode, std::ptr::null(), std::ptr::null()) };
        command.stdin(of_server).stdout(out).stderr(err);
        let job = Job::new(false)?;
        let begin = Instant::now();
        // It starts nothing before it is in the job.
        let mut child = command.creation_flags(CREATE_NO_WINDOW | CREATE_SUSPENDED).spawn()?;
        let added = job.add(child.as_raw_handle());
        // SAFETY: the handle is open.
        let resumed = unsafe { NtResumeProcess(child.as_raw_handle()) };
        if added.is_err() || resumed < 0 {
            let _ = child.kill();
            return Err(added.err().unwrap_or_else(|| io::Error::other("it cannot be let run")));
        }
        Ok((ProcessGroup(job), child, ServerEnds { begin, stdin, stdout, stderr }))
    }

    /// Returns false: Windows has no way to ask.
    pub(crate) fn ask_to_end(&self) -> bool {
        false
    }

    pub(crate) fn kill(&self) {
        self.0.kill();
    }
}

/// Returns the command of a program, which is searched as the command interpreter does.
pub(crate) fn command(program: &OsStr) -> Command {
    Command::new(process::find(program).unwrap_or_else(|| program.into()))
}

/// Writes as much as the server takes now, and returns how much that is. Fails with [`io::ErrorKind::WouldBlock`] if it
/// takes nothing.
pub(crate) fn write_now(stdin: &mut PipeWriter, bytes: &[u8]) -> io::Result<usize> {
    match stdin.write(bytes)? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        count => Ok(count),
    }
}

/// Returns how a process ended, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code @ ..0) => format!("exit status 0x{code:08X}"),
        Some(code) => format!("exit status {code}"),
        None => "unknown status".to_owned(),
    }
}
