//! The calls of Windows.

use std::fs::File;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    CloseHandle, FILETIME, HANDLE_FLAG_INHERIT, SetHandleInformation, WAIT_TIMEOUT,
};
use windows_sys::Win32::System::Console::{
    GetConsoleProcessList, GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Pipes::PeekNamedPipe;
use windows_sys::Win32::System::ProcessStatus::{GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_ACCESS_RIGHTS, PROCESS_QUERY_INFORMATION, PROCESS_SYNCHRONIZE,
    PROCESS_TERMINATE, PROCESS_VM_READ, TerminateProcess, WaitForSingleObject,
};

/// A handle that is closed when it is dropped.
pub type Owned = OwnedHandle;

/// Variables that name places for files, and a place where no file can be.
pub const PLACES: &[&str] = &["HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TMP", "TEMP"];
pub const NOWHERE: &str = r"Q:\nowhere";

/// Exit code of a process that [`end`] ended.
const ENDED: u32 = 0x4000_0089;

/// Returns a further handle of a standard stream.
pub fn standard(fd: i32) -> File {
    let owned = match fd {
        0 => io::stdin().as_handle().try_clone_to_owned(),
        1 => io::stdout().as_handle().try_clone_to_owned(),
        _ => io::stderr().as_handle().try_clone_to_owned(),
    };
    File::from(owned.expect("an open standard stream"))
}

pub fn close(fd: i32) {
    let number = match fd {
        0 => STD_INPUT_HANDLE,
        1 => STD_OUTPUT_HANDLE,
        _ => STD_ERROR_HANDLE,
    };
    // SAFETY: a helper server closes its own standard streams, which nothing else here uses.
    unsafe { CloseHandle(GetStdHandle(number)) };
}

fn open(pid: u32, rights: PROCESS_ACCESS_RIGHTS) -> Option<OwnedHandle> {
    // SAFETY: a plain call. Nothing else owns the new handle.
    unsafe {
        let handle = OpenProcess(rights, 0, pid);
        (!handle.is_null()).then(|| OwnedHandle::from_raw_handle(handle))
    }
}

/// Kills a process, and nothing that it started.
pub fn end(pid: u32) {
    if let Some(process) = open(pid, PROCESS_TERMINATE) {
        // SAFETY: the handle is open.
        unsafe { TerminateProcess(process.as_raw_handle(), ENDED) };
    }
}

/// Returns true if this is the status of a process that [`end`] ended, or of a wrapper around it.
pub fn is_ended(status: ExitStatus) -> bool {
    status.code() == Some(ENDED as i32)
}

/// Returns true if a process has ended.
pub fn is_gone(pid: u32) -> bool {
    // SAFETY: the handle is open.
    open(pid, PROCESS_SYNCHRONIZE)
        .is_none_or(|process| unsafe { WaitForSingleObject(process.as_raw_handle(), 0) } != WAIT_TIMEOUT)
}

/// Lets the processes that this one starts have a file, too.
pub fn make_inheritable(file: &File) -> io::Result<()> {
    // SAFETY: the handle is open.
    match unsafe { SetHandleInformation(file.as_raw_handle(), HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Returns the names of the programs that run.
pub fn running() -> Vec<String> {
    let mut entry = PROCESSENTRY32W { dwSize: size_of::<PROCESSENTRY32W>() as u32, ..Default::default() };
    let mut names = Vec::new();
    // SAFETY: nothing else owns the new handle, and `entry` is a place of the size that it gives.
    unsafe {
        let snapshot = OwnedHandle::from_raw_handle(CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0));
        let mut found = Process32FirstW(snapshot.as_raw_handle(), &mut entry);
        while found != 0 {
            let end = entry.szExeFile.iter().position(|unit| *unit == 0).unwrap_or(0);
            names.push(String::from_utf16_lossy(&entry.szExeFile[..end]));
            found = Process32NextW(snapshot.as_raw_handle(), &mut entry);
        }
    }
    names
}

/// Does nothing: no signal asks a server to end.
pub fn be_stubborn() {}

/// Does nothing: a write to a pipe without a reader fails.
pub fn survive_broken_pipes() {}

/// Does nothing: Windows has no such sessions.
pub fn new_session() {}

/// Returns the number of bytes that wait in a pipe; `None` if it has ended.
fn waiting(end: &File) -> Option<u32> {
    let (mut count, null) = (0, std::ptr::null_mut());
    // SAFETY: `count` is a valid place for the result.
    let found = unsafe {
        PeekNamedPipe(end.as_raw_handle(), null, 0, std::ptr::null_mut(), &mut count, std::ptr::null_mut())
    };
    (found != 0).then_some(count)
}

/// Returns true if a pipe, of which `end` is the reading end, has bytes. The system does not say how many it takes.
pub fn is_full_pipe(end: &File) -> bool {
    waiting(end).is_some_and(|count| count > 0)
}

/// Returns true if a read from a pipe would return within so many milliseconds.
pub fn is_readable(from: &File, milliseconds: u32) -> bool {
    let begin = Instant::now();
    while waiting(from) == Some(0) {
        if begin.elapsed() >= Duration::from_millis(milliseconds.into()) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Returns the largest number of bytes of memory that a process had.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let process = open(pid, PROCESS_QUERY_INFORMATION | PROCESS_VM_READ)?;
    let mut counters = PROCESS_MEMORY_COUNTERS::default();
    let size = size_of_val(&counters) as u32;
    // SAFETY: the handle is open, and `counters` is a place of this size.
    let found = unsafe { GetProcessMemoryInfo(process.as_raw_handle(), &mut counters, size) };
    (found != 0).then_some(counters.PeakWorkingSetSize as u64)
}

/// Returns the largest number of bytes that a process had so far: wine loads the whole of a program, whatever it uses.
pub fn image_memory(pid: u32) -> u64 {
    peak_memory(pid).unwrap_or(0)
}

/// Returns the CPU time of all threads of a process.
pub fn cpu_time(pid: u32) -> Duration {
    let Some(process) = open(pid, PROCESS_QUERY_INFORMATION) else { return Duration::ZERO };
    let mut times = [FILETIME::default(); 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the handle is open, and the four places are valid.
    unsafe { GetProcessTimes(process.as_raw_handle(), created, ended, kernel, user) };
    let ticks = |time: &FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_nanos((ticks(&times[2]) + ticks(&times[3])) * 100)
}

/// Returns false if the system gives this process's times instead of those of the one that it is asked for, as wine does.
pub fn knows_cpu_times(other: u32) -> bool {
    const WORK: Duration = Duration::from_millis(200);
    let before = (cpu_time(std::process::id()), cpu_time(other));
    while cpu_time(std::process::id()).saturating_sub(before.0) < WORK {
        std::hint::spin_loop();
    }
    cpu_time(other).saturating_sub(before.1) < WORK / 2
}

/// Returns what else a start hands down, a line each.
pub fn handed_down() -> io::Result<Vec<String>> {
    let mut process = 0;
    // SAFETY: `process` has room for the one number.
    let has_console = unsafe { GetConsoleProcessList(&mut process, 1) } != 0;
    Ok(vec![format!("console {has_console}")])
}
