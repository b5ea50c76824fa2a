//! Facts about processes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use windows_sys::Wdk::System::Threading::{
    NtQueryInformationProcess, PROCESSINFOCLASS, ProcessBasicInformation, ProcessCommandLineInformation,
};
use windows_sys::Win32::Foundation::{
    ERROR_INVALID_PARAMETER, FILETIME, INVALID_HANDLE_VALUE, LocalFree, STILL_ACTIVE, UNICODE_STRING,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Pipes::GetNamedPipeServerProcessId;
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessTimes, OpenProcess, PROCESS_BASIC_INFORMATION, PROCESS_NAME_WIN32,
    PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};
use windows_sys::Win32::UI::Shell::CommandLineToArgvW;
use windows_sys::core::w;

use super::scheduling::{number_of_machine, ticks};
use crate::system::activity::Activity;
use crate::system::descriptor::STDOUT;

/// Facts about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    parent: u32,
    cpu: Duration,
    /// Start of the process, in units of 100 ns since 1601.
    pub start_ticks: u64,
    resident: u64,
}

impl ProcessStat {
    /// Reads the facts of process `pid`; `None` if the process is gone or may not be asked.
    pub fn read(pid: i32) -> Option<ProcessStat> {
        let process = open(pid).ok()?;
        let times = times(&process)?;
        let mut memory = PROCESS_MEMORY_COUNTERS::default();
        // SAFETY: `memory` is a valid place for the result, with this size.
        unsafe {
            let size = size_of_val(&memory) as u32;
            K32GetProcessMemoryInfo(process.as_raw_handle(), &mut memory, size);
        }
        Some(ProcessStat {
            parent: parent(&process).unwrap_or(0),
            cpu: Duration::from_nanos((ticks(&times[2]) + ticks(&times[3])) * 100),
            start_ticks: ticks(&times[0]),
            resident: memory.WorkingSetSize as u64,
        })
    }

    pub fn cpu(&self) -> Duration {
        self.cpu
    }

    /// Returns the resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.resident
    }
}

/// Opens a process to ask about it.
fn open(pid: i32) -> io::Result<OwnedHandle> {
    // SAFETY: a plain call. Nothing else owns the new handle.
    unsafe {
        let handle = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid as u32);
        match handle.is_null() {
            true => Err(io::Error::last_os_error()),
            false => Ok(OwnedHandle::from_raw_handle(handle)),
        }
    }
}

/// Returns when a process was started and ended, and its CPU time in the kernel and outside of it.
fn times(process: &OwnedHandle) -> Option<[FILETIME; 4]> {
    let mut times = [FILETIME::default(); 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the four places are valid for the results.
    let found = unsafe { GetProcessTimes(process.as_raw_handle(), created, ended, kernel, user) };
    (found != 0).then_some(times)
}

fn parent(process: &OwnedHandle) -> Option<u32> {
    let mut facts = vec![0_u64; size_of::<PROCESS_BASIC_INFORMATION>().div_ceil(8)];
    query(process, ProcessBasicInformation, &mut facts)?;
    // SAFETY: the buffer has the size and the alignment of the structure, which the call has filled.
    let facts = unsafe { &*facts.as_ptr().cast::<PROCESS_BASIC_INFORMATION>() };
    u32::try_from(facts.InheritedFromUniqueProcessId).ok()
}

fn query(process: &OwnedHandle, class: PROCESSINFOCLASS, facts: &mut [u64]) -> Option<()> {
    let mut size = 0;
    // SAFETY: the buffer is valid for writing its size.
    let status = unsafe {
        let length = size_of_val(facts) as u32;
        NtQueryInformationProcess(
            process.as_raw_handle(),
            class,
            facts.as_mut_ptr().cast(),
            length,
            &mut size,
        )
    };
    (status >= 0).then_some(())
}

/// Returns true if a process of this number runs or may not be asked.
pub(super) fn exists(pid: i32) -> bool {
    !matches!(open(pid), Err(error) if error.raw_os_error() == Some(ERROR_INVALID_PARAMETER as i32))
}

/// Returns `None`: Windows does not say what a process does.
pub fn activity_of(_pid: i32) -> Option<Activity> {
    None
}

/// All processes, each with its parent and its memory.
#[derive(Debug, Default)]
pub struct ProcessTree {
    by_parent: HashMap<u32, Vec<u32>>,
}

impl ProcessTree {
    /// Reads the processes.
    pub fn read() -> ProcessTree {
        let mut tree = ProcessTree::default();
        for process in all() {
            tree.by_parent.entry(process.th32ParentProcessID).or_default().push(process.th32ProcessID);
        }
        tree
    }

    /// Returns the resident memory of the process that was started then as `pid`, and of all processes below it, in
    /// bytes. Memory that several processes share is counted in each of them. `None` if the process is gone.
    pub fn memory(&self, pid: u32, start_ticks: u64) -> Option<u64> {
        let stat = |pid: u32| ProcessStat::read(pid as i32);
        stat(pid).filter(|stat| stat.start_ticks == start_ticks)?;
        let mut memory = 0;
        let mut left = vec![(pid, start_ticks)];
        while let Some((pid, begin)) = left.pop() {
            memory += stat(pid).map_or(0, |stat| stat.resident());
            // The parent's number may belong to a younger process by now.
            let children = self.by_parent.get(&pid).into_iter().flatten();
            let started = children.filter_map(|pid| Some((*pid, stat(*pid)?.start_ticks)));
            left.extend(started.filter(|(child, start)| *start >= begin && *child != pid));
        }
        Some(memory)
    }
}

/// Returns all processes.
fn all() -> Vec<PROCESSENTRY32W> {
    let mut found = Vec::new();
    // SAFETY: the entry has its size, nothing else owns the new handle, and it is open through the calls.
    unsafe {
        let snapshot = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
        if snapshot == INVALID_HANDLE_VALUE {
            return found;
        }
        let snapshot = OwnedHandle::from_raw_handle(snapshot);
        let mut entry: PROCESSENTRY32W = std::mem::zeroed();
        entry.dwSize = size_of_val(&entry) as u32;
        let mut is_there = Process32FirstW(snapshot.as_raw_handle(), &mut entry);
        while is_there != 0 {
            found.push(entry);
            is_there = Process32NextW(snapshot.as_raw_handle(), &mut entry);
        }
    }
    found
}

fn text(units: &[u16]) -> OsString {
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    OsString::from_wide(&units[..end])
}

/// Returns the command of process `pid` with its arguments, each with a zero at its end; empty if it may not be read.
pub fn command_line(pid: u32) -> Vec<u8> {
    let mut facts = vec![0_u64; 1 << 13];
    let found = open(pid as i32).ok().and_then(|process| {
        query(&process, ProcessCommandLineInformation, &mut facts)?;
        // SAFETY: the call has filled the structure, whose text is in the same buffer and not longer than it says; an
        // empty one may have no address, and is not read. The text that goes to the other call ends with a zero, and
        // its result is freed once.
        unsafe {
            let line = &*facts.as_ptr().cast::<UNICODE_STRING>();
            // Of an empty text the other call would make the path of this program.
            if line.Buffer.is_null() || line.Length == 0 {
                return None;
            }
            let units = std::slice::from_raw_parts(line.Buffer, usize::from(line.Length) / 2);
            let units: Vec<u16> = units.iter().copied().chain([0]).collect();
            let mut count = 0;
            let arguments = CommandLineToArgvW(units.as_ptr(), &mut count);
            if arguments.is_null() {
                return None;
            }
            let mut bytes = Vec::new();
            for argument in std::slice::from_raw_parts(arguments, count as usize) {
                let length = (0..).take_while(|at| *argument.add(*at) != 0).count();
                let argument = OsString::from_wide(std::slice::from_raw_parts(*argument, length));
                bytes.extend(argument.to_string_lossy().bytes().chain([0]));
            }
            LocalFree(arguments.cast());
            Some(bytes)
        }
    });
    found.unwrap_or_default()
}

/// The number of this boot of the system; empty if unknown.
static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
    let key =
        w!("SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Memory Management\\PrefetchParameters");
    number_of_machine(key, w!("BootId")).map_or(String::new(), |number| format!("boot-{number}"))
});

/// Returns the id of this boot of the system; empty if unknown.
pub fn boot_id() -> String {
    BOOT_ID.clone()
}

/// Returns the name of the space of process numbers, of which Windows has one.
pub fn pid_namespace() -> String {
    "windows".to_owned()
}

/// Returns the file of a process's program.
fn program(pid: i32) -> Option<PathBuf> {
    let process = open(pid).ok()?;
    let mut name = vec![0_u16; 32 << 10];
    let mut length = name.len() as u32;
    // SAFETY: the buffer has `length` units.
    let found = unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            name.as_mut_ptr(),
            &mut length,
        )
    };
    (found != 0).then(|| PathBuf::from(text(&name)))
}

/// Returns the name of a process's program.
pub(super) fn name_of(pid: u32) -> Option<String> {
    Some(program(pid as i32)?.file_stem()?.to_string_lossy().into_owned())
}

/// Returns the process that runs a program with the name of this one and has made the pipe of this process's standard
/// output. `None` without one, or if the system does not say.
pub fn same_program_around() -> Option<i32> {
    let mut maker = 0;
    // SAFETY: `maker` is a valid place for the result. On a handle of another kind the call fails.
    let found = unsafe { GetNamedPipeServerProcessId(STDOUT.handle(), &mut maker) };
    let own = std::process::id();
    let name = |pid: u32| Some(program(pid as i32)?.file_name()?.to_ascii_lowercase());
    (found != 0 && maker != own && name(maker)? == name(own)?).then_some(maker as i32)
}

/// Returns the parent of a process.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    parent(&open(pid).ok()?).map(|parent| parent as i32)
}

/// Returns true if the process that was started then as `pid` runs; `None` if that cannot be known here: it belongs to
/// another boot, or its facts cannot be read.
pub fn is_running(boot: &str, namespace: &str, pid: u32, start_ticks: u64) -> Option<bool> {
    // A time of start is absolute here, so that a process of another boot is not taken for this one on a system that
    // does not number its boots.
    if boot != *BOOT_ID || namespace != pid_namespace() {
        return None;
    }
    let process = match open(pid as i32) {
        Ok(process) => process,
        Err(error) if error.raw_os_error() == Some(ERROR_INVALID_PARAMETER as i32) => return Some(false),
        Err(_) => return None,
    };
    let mut code = 0;
    // SAFETY: `code` is a valid place for the result.
    unsafe { GetExitCodeProcess(process.as_raw_handle(), &mut code) };
    Some(code == STILL_ACTIVE as u32 && ticks(&times(&process)?[0]) == start_ticks)
}

/// Returns when each process called `name` was started.
pub fn start_times(name: &str) -> Vec<SystemTime> {
    /// Units of 100 ns from 1601 to 1970.
    const TO_1970: u64 = 116_444_736_000_000_000;
    let file = format!("{name}.exe");
    let is_called = |process: &PROCESSENTRY32W| text(&process.szExeFile).eq_ignore_ascii_case(&file);
    let called = all().into_iter().filter(is_called);
    let stats = called.filter_map(|process| ProcessStat::read(process.th32ProcessID as i32));
    stats
        .map(|stat| {
            let since = stat.start_ticks.saturating_sub(TO_1970);
            SystemTime::UNIX_EPOCH + Duration::from_nanos(since.saturating_mul(100))
        })
        .collect()
}
