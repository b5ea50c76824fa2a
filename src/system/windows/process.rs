//! Starts the server as the host would have started it, and ends this process as the server ended.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, IntoRawHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicIsize, Ordering};

use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Console::GetConsoleProcessList;
use windows_sys::Win32::System::Threading::{
    CREATE_NO_WINDOW, GetCurrentProcess, GetExitCodeProcess, OpenProcess, PROCESS_SYNCHRONIZE,
    TerminateProcess, WaitForSingleObject,
};

use super::{job, stdio};
use crate::system::processes::{self, ProcessStat};
use crate::system::server::{ExitStatus, SpawnError, StartedServer, TraceEnv};
use crate::system::signals::SignalMask;

/// Checks a function that other systems call before the set-up of the Rust runtime. Windows needs none.
#[macro_export]
macro_rules! before_runtime {
    ($function:path) => {
        const _: extern "C" fn() = $function;
    };
}

/// Does nothing: Windows has no signals of invalid memory.
pub extern "C" fn hide_faults() {}

/// Does nothing: nothing was hidden.
pub fn restore_faults() {}

/// The handle of the running server; 0 without one.
static SERVER: AtomicIsize = AtomicIsize::new(0);

/// A server that is prepared and not started yet.
pub struct Forked(Command);

/// Prepares the start of the server.
///
/// # Errors
/// [`SpawnError::Exec`] if the command does not exist.
pub fn fork(command: &[OsString], trace_env: &TraceEnv, _: &SignalMask) -> Result<Forked, SpawnError> {
    let missing = || SpawnError::Exec(io::ErrorKind::NotFound.into());
    let [program, arguments @ ..] = command else { return Err(missing()) };
    let mut command = Command::new(find(program).ok_or_else(missing)?);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let TraceEnv::Set { traceparent, tracestate } = trace_env {
        command.env("TRACEPARENT", traceparent);
        match tracestate {
            Some(tracestate) => command.env("TRACESTATE", tracestate),
            None => command.env_remove("TRACESTATE"),
        };
    }
    if !has_console() {
        // A console program would open a window of its own.
        command.creation_flags(CREATE_NO_WINDOW);
    }
    Ok(Forked(command))
}

impl Forked {
    /// Starts the command.
    ///
    /// # Errors
    /// [`SpawnError::Exec`] if the command cannot be executed.
    pub fn exec(mut self) -> Result<StartedServer, SpawnError> {
        stdio::keep_from_children();
        job::tie_children();
        let mut child = self.0.spawn().map_err(SpawnError::Exec)?;
        let gone = || SpawnError::Own(io::ErrorKind::BrokenPipe.into());
        let stdin = child.stdin.take().ok_or_else(gone)?.into();
        let stdout = child.stdout.take().ok_or_else(gone)?.into();
        let stderr = child.stderr.take().ok_or_else(gone)?.into();
        let pid = child.id() as i32;
        // The handle stays open until this process ends, so that the number of the server is not used again.
        SERVER.store(child.into_raw_handle() as isize, Ordering::Release);
        Ok(StartedServer { pid, stdin, stdout, stderr })
    }
}

/// Returns true if a console belongs to this process. A program that it starts uses the same one.
fn has_console() -> bool {
    let mut process = 0;
    // SAFETY: `process` has room for the one number.
    unsafe { GetConsoleProcessList(&mut process, 1) != 0 }
}

/// Returns the handle of the running server.
pub(super) fn server() -> Option<HANDLE> {
    match SERVER.load(Ordering::Acquire) {
        0 => None,
        handle => Some(handle as HANDLE),
    }
}

/// Extensions of the files that the system can start.
const RUNNABLE: [&str; 4] = ["com", "exe", "bat", "cmd"];

/// Returns true if `program` is a path rather than a name that is searched on the PATH.
pub fn is_path(program: &OsStr) -> bool {
    program.to_string_lossy().contains(['/', '\\', ':'])
}

/// Returns the command that prints where a program is.
pub fn command_to_find(program: &str) -> String {
    format!("where {program}")
}

/// Returns the command that sets a variable for programs that are started from now on.
pub(crate) fn command_to_set(name: &str, value: &str) -> String {
    format!("setx {name} {value}")
}

/// The place of the commands of [`command_to_set`], for a program that the user starts.
pub(crate) const PLACE_OF_COMMANDS: &str =
    "any terminal; programs that are started later have these variables";
/// Advice to the user whose system refuses threads, memory or sockets.
pub(crate) const WAY_TO_RESOURCES: &str = "end other programs, and try again";
/// Advice to the user whose programs open more connections than spantap takes.
pub(crate) const WAY_TO_CONNECTIONS: &str = "use fewer senders";

/// Returns true if the system can start a file with such a name.
pub(super) fn is_runnable(file: &Path) -> bool {
    let is_known = |own: &OsStr| RUNNABLE.iter().any(|known| own.eq_ignore_ascii_case(known));
    file.extension().is_some_and(is_known)
}

/// Returns the extensions of programs, in the order in which the command interpreter tries them.
fn extensions() -> Vec<String> {
    let set = std::env::var("PATHEXT").unwrap_or_else(|_| ".COM;.EXE;.BAT;.CMD".to_owned());
    let known = set.split(';').map(|extension| extension.trim_start_matches('.').to_ascii_lowercase());
    known.filter(|extension| RUNNABLE.contains(&extension.as_str())).collect()
}

/// Returns the file of a program. A bare name is searched on the PATH as the command interpreter does, but not in the
/// working folder: `npx` is `npx.cmd`. The file `npx` beside it is for other systems.
pub(super) fn find(program: &OsStr) -> Option<PathBuf> {
    find_in(program, std::env::var_os("PATH").as_deref())
}

/// Does the same in the folders of `path`.
pub(super) fn find_in(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let extensions = extensions();
    let has_known = is_runnable(Path::new(program));
    let in_folder = |folder: &Path| {
        let exact = folder.join(program);
        let with = |extension: &String| {
            let mut name = exact.clone().into_os_string();
            name.push(".");
            name.push(extension);
            PathBuf::from(name)
        };
        let exact_first = has_known.then(|| exact.clone());
        exact_first.into_iter().chain(extensions.iter().map(with)).find(|file| file.is_file())
    };
    if is_path(program) {
        // The system says what is wrong with a folder, or with a file that is not a program.
        let itself = Path::new(program);
        return in_folder(Path::new("")).or_else(|| itself.exists().then(|| itself.to_owned()));
    }
    std::env::split_paths(path?).filter(|folder| folder.is_absolute()).find_map(|folder| in_folder(&folder))
}

/// Returns the file of a program. A bare name is searched on the PATH.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    find(OsStr::new(program))
}

/// Returns the names of the variables in spantap's environment, which the server inherits.
pub fn environment_names() -> Vec<OsString> {
    std::env::vars_os().map(|(name, _)| name).collect()
}

/// Collects the server if it has ended, without waiting.
pub fn reap(_pid: i32) -> Option<ExitStatus> {
    let server = server()?;
    let mut code = 0;
    // SAFETY: the handle is open, and `code` is a valid place for the result.
    unsafe {
        if WaitForSingleObject(server, 0) != WAIT_OBJECT_0 {
            return None;
        }
        GetExitCodeProcess(server, &mut code);
    }
    SERVER.store(0, Ordering::Release);
    Some(ExitStatus::Exited(code as i32))
}

/// Returns false: Windows has no job control.
pub fn has_stopped(_pid: i32) -> bool {
    false
}

/// Does nothing: the console tells the server itself.
pub fn send(_pid: i32, _signal: i32) {}

/// Does nothing: Windows has no way to ask a program without a window to leave, but the end of its stdin.
pub fn ask_to_leave(_pid: i32) {}

/// Kills the server.
pub fn kill(_pid: i32) {
    if let Some(server) = server() {
        // SAFETY: the handle is open.
        unsafe { TerminateProcess(server, 1) };
    }
}

/// Ends this process with the server's exit code, all 32 bits of it.
pub fn mirror(status: ExitStatus) -> ! {
    // What the server left behind lives on, as it would without spantap.
    job::untie_children();
    exit_at_once(match status {
        ExitStatus::Exited(code) => code,
        ExitStatus::Killed(signal) => 128 + signal,
    })
}

/// Ends this process. Everything that had to be written has been.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { TerminateProcess(GetCurrentProcess(), code as u32) };
    std::process::exit(code)
}

/// The host, with a handle that shows its end; `None` if it had ended when it was first looked for.
static HOST: OnceLock<Option<(i32, Option<OwnedHandle>)>> = OnceLock::new();

/// Returns the pid of spantap's parent, or 0 once the parent has ended.
pub fn parent() -> i32 {
    let found = HOST.get_or_init(|| {
        let own = std::process::id() as i32;
        let pid = processes::parent_of(own)?;
        // SAFETY: a plain call. Nothing else owns the new handle.
        let handle = unsafe {
            let handle = OpenProcess(PROCESS_SYNCHRONIZE, 0, pid as u32);
            (!handle.is_null()).then(|| OwnedHandle::from_raw_handle(handle))
        };
        // The number may be that of another process by now.
        let start = |pid| ProcessStat::read(pid).map(|stat| stat.start_ticks);
        let is_older = start(pid).zip(start(own)).is_none_or(|(host, own)| host <= own);
        (is_older && processes::exists(pid)).then_some((pid, handle))
    });
    // SAFETY: the handle is open.
    let has_ended =
        |host: &OwnedHandle| unsafe { WaitForSingleObject(host.as_raw_handle(), 0) == WAIT_OBJECT_0 };
    match found {
        Some((pid, host)) if !host.as_ref().is_some_and(has_ended) => *pid,
        _ => 0,
    }
}
