//! Starts the server exactly as the host would have started it, and ends this process as the server ended.
//!
//! The file calls `fork` and `exec` by hand, because the standard library's `Command` sorts the environment,
//! resets SIGPIPE and keeps the signal mask of the spawning thread.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::detached::close_all;
use super::own;
use crate::system::descriptor;
use crate::system::server::{ExitStatus, SpawnError, StartedServer, TraceEnv};
use crate::system::signals::SignalMask;

/// True if the host started spantap with SIGPIPE ignored. The Rust runtime always ignores it.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Lets a function run before the set-up of the Rust runtime.
#[macro_export]
macro_rules! before_runtime {
    ($function:path) => {
        #[used]
        #[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
        #[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
        static BEFORE_RUNTIME: extern "C" fn() = $function;
    };
}

// The runtime overwrites the disposition of SIGPIPE.
before_runtime!(remember_sigpipe);

extern "C" fn remember_sigpipe() {
    SIGPIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

/// Signals of invalid memory, and whether [`restore_faults`] gives them back their default disposition.
static FAULTS: [(libc::c_int, AtomicBool); 2] =
    [(libc::SIGSEGV, AtomicBool::new(false)), (libc::SIGBUS, AtomicBool::new(false))];

/// Ignores the signals of invalid memory if nothing else was chosen. The Rust runtime gives each thread a second stack
/// for a message about these signals, and ends the process if the system refuses the memory. It does neither if
/// their disposition is not the default when it starts.
pub extern "C" fn hide_faults() {
    for (signal, was_default) in &FAULTS {
        if !is_ignored(*signal) {
            was_default.store(true, Ordering::Relaxed);
            set_disposition(*signal, libc::SIG_IGN);
        }
    }
}

/// Undoes [`hide_faults`], before the first thread.
pub fn restore_faults() {
    for (signal, was_default) in &FAULTS {
        if was_default.load(Ordering::Relaxed) {
            set_disposition(*signal, libc::SIG_DFL);
        }
    }
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a zeroed sigaction is a valid place for the current one to be written to.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

fn set_disposition(signal: libc::c_int, disposition: libc::sighandler_t) {
    // SAFETY: SIG_DFL and SIG_IGN are valid for every signal that has a disposition.
    unsafe { libc::signal(signal, disposition) };
}

/// Everything that the forked child needs. It is made before the fork, because after the fork only calls that
/// are safe in a signal handler are allowed.
struct SpawnPlan {
    argv: Vec<*const libc::c_char>,
    envp: Option<Vec<*const libc::c_char>>,
    stdio: [RawFd; 3],
    /// Write end of the server's stdin, which only spantap keeps.
    parents_end: RawFd,
    /// Write end of the pipe for the error number of a failed `exec`.
    failure: RawFd,
    parent: libc::pid_t,
    sigchld_ignored: bool,
}

/// Interval of the check whether job control has stopped the child before `exec`, which may take long on a slow
/// disk.
const EXEC_LOOK: Duration = Duration::from_millis(50);

/// A forked child that becomes the server when spantap writes one byte to the server's stdin. If `Forked` is
/// dropped before that, the child reads the end of the stream and exits silently.
pub struct Forked {
    server: StartedServer,
    /// The child writes the error number of a failed `exec` here. A successful `exec` closes it.
    failure: File,
}

/// Makes the process that will become the server. `host_mask` is the signal mask that the host gave spantap.
///
/// The calling thread must be the main thread, because the parent-death signal is tied to the thread that
/// forks. It should be the only thread, because the C library changes the disposition of one of its own
/// signals with the first further thread.
///
/// # Errors
/// [`SpawnError::Own`] if an argument contains a NUL byte, or if the system refuses a descriptor or a process.
pub fn fork(
    command: &[OsString],
    trace_env: &TraceEnv,
    host_mask: &SignalMask,
) -> Result<Forked, SpawnError> {
    let strings: Vec<CString> = command
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| SpawnError::Own(io::Error::other("an argument contains a NUL byte")))?;
    let environment = environment(trace_env);
    let pointers = |strings: &[CString]| {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let [stdin, stdout, stderr] = [(); 3].map(|()| own::pipe()).map(|pipe| pipe.map_err(SpawnError::Own));
    let (stdin, stdout, stderr) = (stdin?, stdout?, stderr?);
    // A pipe, because a sandbox that denies the calls of sockets may still run the server.
    let failure = own::pipe().map_err(SpawnError::Own)?;
    let sigchld_ignored = is_ignored(libc::SIGCHLD);
    if sigchld_ignored {
        // While SIGCHLD is ignored, the kernel reaps the server and its status is lost.
        set_disposition(libc::SIGCHLD, libc::SIG_DFL);
        own::keep_blocked_signals();
    }
    let plan = SpawnPlan {
        argv: pointers(&strings),
        envp: environment.as_deref().map(pointers),
        stdio: [stdin.0.as_raw_fd(), stdout.1.as_raw_fd(), stderr.1.as_raw_fd()],
        parents_end: stdin.1.as_raw_fd(),
        failure: failure.1.as_raw_fd(),
        // SAFETY: cannot fail.
        parent: unsafe { libc::getpid() },
        sigchld_ignored,
    };
    // SAFETY: the child makes only calls that are safe after a fork in a process that may have threads, and
    // ends in `exec` or `_exit`.
    match unsafe { libc::fork() } {
        -1 => Err(SpawnError::Own(io::Error::last_os_error())),
        0 => become_server(&plan, host_mask),
        pid => {
            own::kill_with_us(pid, close_all);
            Ok(Forked {
                server: StartedServer { pid, stdin: stdin.1, stdout: stdout.0, stderr: stderr.0 },
                failure: failure.0.into(),
            })
        }
    }
}

impl Forked {
    /// Lets the child execute the command, and waits until it does.
    ///
    /// # Errors
    /// [`SpawnError::Exec`] if the command cannot be executed, [`SpawnError::Own`] if the child cannot be told
    /// to go on.
    pub fn exec(mut self) -> Result<StartedServer, SpawnError> {
        // The child takes this byte from the server's stdin before `exec`.
        match descriptor::write_all(self.server.stdin.as_raw_fd(), &[0]) {
            // A signal may have ended the child already. It is then reaped like any other server.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(SpawnError::Own(error)),
            _ => {}
        }
        while !descriptor::is_readable_within(self.failure.as_raw_fd(), EXEC_LOOK) {
            // Job control may have stopped the child before `exec`. spantap then stops too.
            if has_stopped(self.server.pid) {
                crate::system::signals::stop_self();
            }
        }
        let mut errno = [0; 4];
        if self.failure.read_exact(&mut errno).is_err() {
            // The kernel closed the child's end at `exec`.
            return Ok(self.server);
        }
        let mut status = 0;
        // SAFETY: `pid` is our child, which has ended or is about to.
        unsafe { libc::waitpid(self.server.pid, &mut status, 0) };
        Err(SpawnError::Exec(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
    }
}

/// Turns the forked child into the server. Never returns.
fn become_server(plan: &SpawnPlan, host_mask: &SignalMask) -> ! {
    // SAFETY: these are async-signal-safe calls on values that were made before the fork.
    unsafe {
        own::die_with(plan.parent);
        libc::close(plan.parents_end);
        for (target, source) in plan.stdio.into_iter().enumerate() {
            libc::dup2(source, target as RawFd);
        }
        libc::signal(
            libc::SIGPIPE,
            if SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL },
        );
        if plan.sigchld_ignored {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        }
        // All that can be done before the byte is done before it, because the parent works meanwhile.
        let mut word = 0_u8;
        if libc::read(plan.stdio[0], (&raw mut word).cast(), 1) != 1 {
            libc::_exit(0);
        }
        host_mask.restore();
        own::exec(&plan.argv, plan.envp.as_deref());
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0).to_ne_bytes();
        libc::write(plan.failure, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

/// Returns the server's environment, or `None` if it is the same as spantap's.
fn environment(trace_env: &TraceEnv) -> Option<Vec<CString>> {
    let TraceEnv::Set { traceparent, tracestate } = trace_env else { return None };
    let ours = |entry: &Vec<u8>| entry.starts_with(b"TRACEPARENT=") || entry.starts_with(b"TRACESTATE=");
    let mut entries: Vec<Vec<u8>> = own::inherited().into_iter().filter(|entry| !ours(entry)).collect();
    entries.push(format!("TRACEPARENT={traceparent}").into_bytes());
    if let Some(tracestate) = tracestate {
        entries.push([b"TRACESTATE=", tracestate.as_bytes()].concat());
    }
    Some(entries.into_iter().filter_map(|entry| CString::new(entry).ok()).collect())
}

/// Returns the names of the variables in spantap's environment, which the server inherits.
pub fn environment_names() -> Vec<OsString> {
    let name = |entry: Vec<u8>| entry.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
    own::inherited().into_iter().filter_map(name).map(OsString::from_vec).collect()
}

/// Returns true if `program` is a path rather than a name that is searched on the PATH.
pub fn is_path(program: &OsStr) -> bool {
    program.as_bytes().contains(&b'/')
}

/// Returns the command that prints where a program is.
pub fn command_to_find(program: &str) -> String {
    format!("which {program}")
}

/// Returns the command that sets a variable for programs that are started from now on.
pub(crate) fn command_to_set(name: &str, value: &str) -> String {
    format!("export {name}={value}")
}

/// The place of the commands of [`command_to_set`], for a program that the user starts.
pub(crate) const PLACE_OF_COMMANDS: &str = "~/.profile, or a terminal before the program is started there";
/// Advice to the user whose system refuses threads, memory or sockets.
pub(crate) const WAY_TO_RESOURCES: &str =
    "try again, with a higher limit of processes or open files (`ulimit`)";
/// Advice to the user whose programs open more connections than spantap takes.
pub(crate) const WAY_TO_CONNECTIONS: &str =
    "use fewer senders, or raise the limit of open files (`ulimit -n`)";

/// Returns the executable file of a program. A bare name is searched on the PATH.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if is_path(OsStr::new(program)) {
        return Some(PathBuf::from(program)).filter(|path| is_program(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_program(file))
}

/// Collects the server if it has ended, without waiting. As process 1 it also collects every other process that
/// has ended, because no other process does.
pub fn reap(pid: libc::pid_t) -> Option<ExitStatus> {
    // SAFETY: cannot fail.
    let whom = if unsafe { libc::getpid() } == 1 { -1 } else { pid };
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        match unsafe { libc::waitpid(whom, &mut status, libc::WNOHANG) } {
            // No child has ended.
            0 => return None,
            ended if ended == pid => {
                if libc::WIFEXITED(status) {
                    return Some(ExitStatus::Exited(libc::WEXITSTATUS(status)));
                }
                if libc::WIFSIGNALED(status) {
                    return Some(ExitStatus::Killed(libc::WTERMSIG(status)));
                }
            }
            // Interrupted.
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            // Other code collected the server. Its status is lost, and there is nothing left to wait for.
            -1 => return Some(ExitStatus::Exited(125)),
            // Process 1 inherited this orphan.
            _ => {}
        }
    }
}

/// Returns true if the server has been stopped since the last call.
pub fn has_stopped(pid: libc::pid_t) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a valid place for the result. It is zeroed, so its pid stays 0 without a result.
    unsafe {
        let options = libc::WSTOPPED | libc::WNOHANG;
        libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), options) == 0
            && info.assume_init().si_pid() == pid
    }
}

/// Sends the server a signal. The signal has no effect on a server that has ended and is not yet collected.
pub fn send(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: the server has not been collected, so `pid` is still its number.
    unsafe { libc::kill(pid, signal) };
}

/// Asks the server to leave.
pub fn ask_to_leave(pid: libc::pid_t) {
    send(pid, libc::SIGTERM);
}

/// Kills the server.
pub fn kill(pid: libc::pid_t) {
    send(pid, libc::SIGKILL);
}

/// Ends this process with the server's exit code, or by the signal that ended the server.
pub fn mirror(status: ExitStatus) -> ! {
    let code = match status {
        ExitStatus::Exited(code) => code,
        ExitStatus::Killed(signal) => {
            // SAFETY: plain calls on this process, which ends here. The server has written its own core, so
            // spantap writes none.
            unsafe {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &none);
                own::forbid_core_dump();
                own::restore_default(signal);
                crate::system::signals::unblock(signal);
                own::raise(signal);
            }
            // The signal does not kill process 1. The status is then the one that a shell reports.
            128 + signal
        }
    };
    exit_at_once(code)
}

/// Ends this process. Everything that had to be written has been.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Returns the pid of spantap's parent. It changes when the host has died.
pub fn parent() -> libc::pid_t {
    // SAFETY: cannot fail.
    unsafe { libc::getppid() }
}
