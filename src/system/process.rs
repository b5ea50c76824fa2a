//! The server process: started exactly as the host would have started it, and mirrored at its end.
//!
//! This is `fork` and `exec` by hand. The standard library's `Command` would sort the environment,
//! reset SIGPIPE to its own idea of the default, and keep the signal mask of the spawning thread.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::system::signals::Mask;

/// Whether SIGPIPE was ignored before the Rust runtime ignored it for itself.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before the runtime's own set-up, which overwrites the disposition of SIGPIPE.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static REMEMBER_SIGPIPE: extern "C" fn() = {
    extern "C" fn remember() {
        SIGPIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
    }
    remember
};

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

/// What is put into the server's copy of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEnv {
    /// Leave `TRACEPARENT` and `TRACESTATE` as they are.
    Untouched,
    /// Set `TRACEPARENT`; set `TRACESTATE`, or remove it where there is none.
    Set { traceparent: String, tracestate: Option<OsString> },
}

/// The running server and our ends of its pipes.
pub struct Server {
    pub pid: libc::pid_t,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Why the server does not run.
#[derive(Debug)]
pub enum SpawnError {
    /// `exec` refused the command: 127 if it does not exist, 126 otherwise, as env(1).
    Exec(io::Error),
    /// We failed before that: 125.
    Own(io::Error),
}

impl SpawnError {
    pub fn exit_status(&self) -> i32 {
        match self {
            SpawnError::Exec(error) if error.kind() == io::ErrorKind::NotFound => 127,
            SpawnError::Exec(_) => 126,
            SpawnError::Own(_) => 125,
        }
    }
}

impl std::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (SpawnError::Exec(error) | SpawnError::Own(error)) = self;
        match error.kind() {
            io::ErrorKind::NotFound => f.write_str("not found"),
            io::ErrorKind::PermissionDenied => f.write_str("permission denied"),
            _ => write!(f, "{error}"),
        }
    }
}

/// Everything that `fork`'s child needs, laid out before the fork, since after it only calls that are
/// safe in a signal handler are allowed.
struct Plan {
    argv: Vec<*const libc::c_char>,
    envp: Option<Vec<*const libc::c_char>>,
    stdio: [RawFd; 3],
    /// Our end of the link and the child's.
    link: [RawFd; 2],
    parent: libc::pid_t,
    sigchld_ignored: bool,
}

/// How often we look whether the child still goes on to `exec`, which may take long on a slow disk.
const EXEC_LOOK: Duration = Duration::from_millis(50);

/// A child that has only to be told to become the server. Dropped instead, it ends without a trace.
pub struct Forked {
    server: Server,
    link: UnixStream,
}

/// Makes the process that is to become the server, from the calling thread, which must be the main one:
/// the parent-death signal is tied to the thread that forks. It should also be the only one, since the C
/// library changes the disposition of a signal of its own with the first thread. `host_mask` is the signal
/// mask that the host gave us.
///
/// # Errors
/// [`SpawnError::Own`]: an argument with a NUL byte, no descriptor or no process left.
pub fn fork(command: &[OsString], trace_env: &TraceEnv, host_mask: &Mask) -> Result<Forked, SpawnError> {
    let strings: Vec<CString> = command
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| SpawnError::Own(io::Error::other("an argument holds a NUL byte")))?;
    let environment = environment(trace_env);
    let pointers = |strings: &[CString]| {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let [stdin, stdout, stderr] = [(); 3].map(|()| pipe()).map(|pipe| pipe.map_err(SpawnError::Own));
    let (stdin, stdout, stderr) = (stdin?, stdout?, stderr?);
    let (link, theirs) = UnixStream::pair().map_err(SpawnError::Own)?;
    let sigchld_ignored = is_ignored(libc::SIGCHLD);
    if sigchld_ignored {
        // With SIGCHLD ignored the kernel reaps the server itself and its status is lost.
        set_disposition(libc::SIGCHLD, libc::SIG_DFL);
    }
    let plan = Plan {
        argv: pointers(&strings),
        envp: environment.as_deref().map(pointers),
        stdio: [stdin.0.as_raw_fd(), stdout.1.as_raw_fd(), stderr.1.as_raw_fd()],
        link: [link.as_raw_fd(), theirs.as_raw_fd()],
        // SAFETY: cannot fail.
        parent: unsafe { libc::getpid() },
        sigchld_ignored,
    };
    // SAFETY: the child calls only what is safe after fork in a process that may have threads, and
    // ends in `exec` or `_exit`.
    match unsafe { libc::fork() } {
        -1 => Err(SpawnError::Own(io::Error::last_os_error())),
        0 => become_server(&plan, host_mask),
        pid => {
            Ok(Forked { server: Server { pid, stdin: stdin.1, stdout: stdout.0, stderr: stderr.0 }, link })
        }
    }
}

impl Forked {
    /// Has the child execute the command, and waits until it does.
    ///
    /// # Errors
    /// [`SpawnError::Exec`] when the command cannot be executed.
    pub fn exec(mut self) -> Result<Server, SpawnError> {
        // Somebody may have ended it already: then it is reaped like any other.
        let _ = self.link.write_all(&[0]);
        let _ = self.link.set_read_timeout(Some(EXEC_LOOK));
        let mut errno = [0; 4];
        loop {
            match self.link.read(&mut errno) {
                Ok(4) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Job control may have stopped it on its way, which stops us too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if has_stopped(self.server.pid) {
                        crate::system::signals::stop_self();
                    }
                }
                // The child's end closed by itself at `exec`.
                Ok(_) | Err(_) => return Ok(self.server),
            }
        }
        let mut status = 0;
        // SAFETY: `pid` is our child, which has ended or is about to.
        unsafe { libc::waitpid(self.server.pid, &mut status, 0) };
        Err(SpawnError::Exec(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
    }
}

/// The forked child's way to `exec`; never returns.
fn become_server(plan: &Plan, host_mask: &Mask) -> ! {
    // SAFETY: only async-signal-safe calls on values that were made before the fork. `execvpe` looks
    // the command up in PATH without allocating.
    unsafe {
        // With us gone the server goes too, as if the host had killed it. Refused (seccomp), the end of
        // its stdin remains.
        #[cfg(target_os = "linux")]
        {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
            if libc::getppid() != plan.parent {
                libc::_exit(0);
            }
        }
        let [ours, link] = plan.link;
        libc::close(ours);
        let mut word = 0_u8;
        if libc::read(link, (&raw mut word).cast(), 1) != 1 {
            libc::_exit(0);
        }
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
        host_mask.restore();
        let command = plan.argv[0];
        match &plan.envp {
            #[cfg(target_os = "linux")]
            Some(envp) => {
                libc::execvpe(command, plan.argv.as_ptr(), envp.as_ptr());
            }
            #[cfg(not(target_os = "linux"))]
            Some(envp) => {
                *environ_pointer() = envp.as_ptr().cast_mut().cast();
                libc::execvp(command, plan.argv.as_ptr());
            }
            None => {
                libc::execvp(command, plan.argv.as_ptr());
            }
        }
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0).to_ne_bytes();
        libc::write(link, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

#[cfg(target_os = "linux")]
unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

#[cfg(not(target_os = "linux"))]
fn environ_pointer() -> *mut *mut *mut libc::c_char {
    // SAFETY: returns the address of the C library's own variable.
    unsafe { libc::_NSGetEnviron() }
}

/// The strings of our environment in their own order, duplicates and all.
fn inherited() -> Vec<Vec<u8>> {
    #[cfg(target_os = "linux")]
    // SAFETY: nothing in this process changes the environment, so the array stays as the kernel laid it
    // out: pointers to strings, ended by a null pointer.
    unsafe {
        let mut strings = Vec::new();
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            strings.push(std::ffi::CStr::from_ptr(*entry).to_bytes().to_vec());
            entry = entry.add(1);
        }
        strings
    }
    #[cfg(not(target_os = "linux"))]
    std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect()
}

/// The server's environment, or `None` where ours serves as it is.
fn environment(trace_env: &TraceEnv) -> Option<Vec<CString>> {
    let TraceEnv::Set { traceparent, tracestate } = trace_env else { return None };
    let ours = |entry: &Vec<u8>| entry.starts_with(b"TRACEPARENT=") || entry.starts_with(b"TRACESTATE=");
    let mut entries: Vec<Vec<u8>> = inherited().into_iter().filter(|entry| !ours(entry)).collect();
    entries.push(format!("TRACEPARENT={traceparent}").into_bytes());
    if let Some(tracestate) = tracestate {
        entries.push([b"TRACESTATE=", tracestate.as_bytes()].concat());
    }
    Some(entries.into_iter().filter_map(|entry| CString::new(entry).ok()).collect())
}

/// The names of the variables in our environment, which is the server's.
pub fn environment_names() -> Vec<OsString> {
    let name = |entry: Vec<u8>| entry.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
    inherited().into_iter().filter_map(name).map(OsString::from_vec).collect()
}

/// A pipe, read end first; neither end survives `exec`.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors.
    #[cfg(target_os = "linux")]
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    // SAFETY: as above; nothing else forks between the two calls, since this runs on the main thread
    // before any other exists.
    #[cfg(not(target_os = "linux"))]
    let made = unsafe {
        let made = libc::pipe(ends.as_mut_ptr());
        ends.iter().for_each(|end| {
            libc::fcntl(*end, libc::F_SETFD, libc::FD_CLOEXEC);
        });
        made
    };
    match made {
        0 => {
            // SAFETY: the kernel just made both, and nobody else knows them.
            Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    Killed(i32),
}

/// Collects the server if it has ended, without waiting. As process 1 it collects everything else that
/// has ended too, since nobody else will.
pub fn reap(pid: libc::pid_t) -> Option<Status> {
    // SAFETY: cannot fail.
    let whom = if unsafe { libc::getpid() } == 1 { -1 } else { pid };
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        match unsafe { libc::waitpid(whom, &mut status, libc::WNOHANG) } {
            // Nobody has ended.
            0 => return None,
            ended if ended == pid => {
                if libc::WIFEXITED(status) {
                    return Some(Status::Exited(libc::WEXITSTATUS(status)));
                }
                if libc::WIFSIGNALED(status) {
                    return Some(Status::Killed(libc::WTERMSIG(status)));
                }
            }
            // Interrupted.
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            // Somebody else collected it; its status is lost, and there is nothing left to wait for.
            -1 => return Some(Status::Exited(125)),
            // An orphan that process 1 inherited.
            _ => {}
        }
    }
}

/// Whether the server has been stopped since this was last asked.
pub fn has_stopped(pid: libc::pid_t) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a valid place for the result; zeroed, its pid stays 0 where there is none.
    unsafe {
        let options = libc::WSTOPPED | libc::WNOHANG;
        libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), options) == 0
            && info.assume_init().si_pid() == pid
    }
}

/// Sends the server a signal. A server that has ended and is not yet collected takes it without effect.
pub fn send(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: `pid` has not been collected, so the number is still its.
    unsafe { libc::kill(pid, signal) };
}

/// Ends this process as the server ended: with the same code, or by the same signal.
pub fn mirror(status: Status) -> ! {
    let code = match status {
        Status::Exited(code) => code,
        Status::Killed(signal) => {
            // SAFETY: plain calls on this process, which ends here. No core of ours: the server has
            // already left its own.
            unsafe {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &none);
                #[cfg(target_os = "linux")]
                libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
                set_disposition(signal, libc::SIG_DFL);
                crate::system::signals::unblock(signal);
                libc::kill(libc::getpid(), signal);
            }
            // A signal that does not kill us here (process 1): what a shell would say.
            128 + signal
        }
    };
    // SAFETY: ends the process at once; everything that had to be written has been.
    unsafe { libc::_exit(code) }
}

/// Our parent's pid: it changes when the host has died.
pub fn parent() -> libc::pid_t {
    // SAFETY: cannot fail.
    unsafe { libc::getppid() }
}

/// Makes the calling thread yield to everybody else (nice 19). Where that is refused it stays as it is.
pub fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: 0 is the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
    }
}

/// CPU time that the calling thread has used, in nanoseconds.
pub fn thread_cpu() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the clock to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The command as people write it, for messages.
pub fn display(command: &[OsString]) -> String {
    let words: Vec<&OsStr> = command.iter().map(OsString::as_os_str).collect();
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
