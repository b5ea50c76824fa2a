//! Facts about processes, from `/proc`.

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use crate::system::activity::Activity;

/// Fields of `/proc/PID/stat`, proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    pub(in crate::system::unix) parent: u32,
    /// CPU time in user and system mode, in clock ticks.
    cpu_ticks: u64,
    /// Start of the process, in clock ticks since boot.
    pub start_ticks: u64,
    /// Pages of resident memory.
    resident_pages: u64,
}

impl ProcessStat {
    /// Reads the facts of process `pid`; `None` if the process is gone or the system has no `/proc`.
    pub fn read(pid: i32) -> Option<ProcessStat> {
        // The name of the program is cut after 15 bytes, perhaps within a character.
        ProcessStat::parse(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// Parses fields 4, 14, 15, 22 and 24. They are counted from the closing parenthesis of the command, which
    /// may itself contain blanks and parentheses.
    fn parse(stat: &str) -> Option<ProcessStat> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let mut number = |skipped| fields.nth(skipped)?.parse::<u64>().ok();
        let parent = number(1)? as u32;
        let (user, system, start_ticks, pages) = (number(9)?, number(0)?, number(6)?, number(1)?);
        Some(ProcessStat { parent, cpu_ticks: user + system, start_ticks, resident_pages: pages })
    }

    pub fn cpu(&self) -> Duration {
        Duration::from_millis(self.cpu_ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Returns the resident memory in bytes. The page size is not asked for at the start of a session: rustix
    /// reads the ELF header for it, which valgrind does not support.
    pub fn resident(&self) -> u64 {
        self.resident_pages * rustix::param::page_size() as u64
    }
}

/// Returns the processes that hold one of these pipes (`pipe:[1234]`), without spantap itself and a child that is not
/// executed yet.
pub fn holders_of(pipes: &[String]) -> Vec<i32> {
    let own_command = std::fs::read("/proc/self/cmdline").ok();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let holds = |process: &Path| {
        let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
        targets.any(|target| pipes.iter().any(|name| target.as_os_str() == name.as_str()))
    };
    // The command is read first: a child of another thread loses the pipes when it is executed, and until then has the
    // command of spantap, or none.
    let is_other = |process: &Path| {
        let command = std::fs::read(process.join("cmdline"));
        command.is_ok_and(|command| !command.is_empty() && Some(&command) != own_command.as_ref())
    };
    let number = |process: std::fs::DirEntry| process.file_name().to_str()?.parse::<i32>().ok();
    processes
        .filter(|process| is_other(&process.path()) && holds(&process.path()))
        .filter_map(number)
        .collect()
}

/// Returns what process `pid` does; `None` if the system does not say. The system says that a process exits before it
/// closes the descriptors. Allocates nothing.
pub fn activity_of(pid: i32) -> Option<Activity> {
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/{pid}/stat").ok()?;
    let left = rest.len();
    let path = std::str::from_utf8(&path[..path.len() - left]).ok()?;
    let mut stat = [0; 512];
    let len = std::fs::File::open(path).ok()?.read(&mut stat).ok()?;
    activity_in(&stat[..len])
}

/// Parses fields 3, 9, 14 and 15 of proc_pid_stat(5). The command before them may be any bytes.
fn activity_in(stat: &[u8]) -> Option<Activity> {
    const PF_EXITING: u64 = 4;
    let after = stat.rsplit(|byte| *byte == b')').next()?;
    let mut fields = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = |skipped| fields.nth(skipped)?.parse::<u64>().ok();
    let (flags, user, system) = (number(5)?, number(4)?, number(0)?);
    Some(match state {
        _ if flags & PF_EXITING != 0 => Activity::Exits,
        "R" | "D" => Activity::Works(time_of(user + system)),
        _ => Activity::Waits,
    })
}

/// Returns the length of `ticks` of the clock for programs, of which a second has 100 wherever spantap runs. To ask the
/// C library for their number may allocate.
fn time_of(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}

/// Returns the numbers of all processes of this pid namespace; none without `/proc`.
pub(in crate::system::unix) fn all() -> impl Iterator<Item = u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok())
}

/// Returns the command of process `pid` with its arguments; empty if it may not be read.
pub fn command_line(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The id of this boot of the system; empty if unknown.
static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
});

/// The name of this process's pid namespace, such as `pid:[4026531836]`; empty if unknown.
static PID_NAMESPACE: LazyLock<String> = LazyLock::new(|| {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().into_owned()
});

/// Returns the id of this boot of the system; empty if unknown.
pub fn boot_id() -> String {
    BOOT_ID.clone()
}

/// Returns the name of this process's pid namespace, such as `pid:[4026531836]`; empty if unknown.
pub fn pid_namespace() -> String {
    PID_NAMESPACE.clone()
}

/// Returns the process that runs a program with the name of this one and has the other end of this process's standard
/// output: a parent, or the parent of a launcher. `None` without one, or if the system does not say.
pub fn same_program_around() -> Option<i32> {
    /// Most launchers between the two.
    const LAUNCHERS: usize = 16;
    let program = |pid: &str| program_name(&std::fs::read_link(format!("/proc/{pid}/exe")).ok()?);
    let output = std::fs::read_link("/proc/self/fd/1").ok()?;
    let own = program("self")?;
    let has_output = |pid: i32| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.into_iter().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| link == output))
    };
    let mut pid = i32::try_from(std::os::unix::process::parent_id()).ok()?;
    for _ in 0..LAUNCHERS {
        if pid <= 1 || !output.to_string_lossy().starts_with("pipe:") {
            return None;
        }
        if program(&pid.to_string()).as_ref() == Some(&own) && has_output(pid) {
            return Some(pid);
        }
        pid = parent_of(pid)?;
    }
    None
}

/// Returns the parent of a process.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    i32::try_from(ProcessStat::read(pid)?.parent).ok()
}

/// Returns the name of the program to which `/proc/PID/exe` links, also after an upgrade replaced its file.
fn program_name(link: &Path) -> Option<Vec<u8>> {
    let name = link.file_name()?.as_bytes();
    Some(name.strip_suffix(b" (deleted)").unwrap_or(name).to_owned())
}

/// Returns true if the process that was started then as `pid` runs; `None` if that cannot be known here: it belongs to
/// another boot or namespace, or its facts cannot be read. A process that was not waited for does not run.
pub fn is_running(boot: &str, namespace: &str, pid: u32, start_ticks: u64) -> Option<bool> {
    if boot.is_empty() || boot != *BOOT_ID || namespace.is_empty() || namespace != *PID_NAMESPACE {
        return None;
    }
    runs(std::fs::read(format!("/proc/{pid}/stat")), start_ticks)
}

/// Judges the content of `/proc/PID/stat`. Only a process that does not exist is gone: spantap may have no descriptor
/// left to read the file.
fn runs(stat: std::io::Result<Vec<u8>>, start_ticks: u64) -> Option<bool> {
    let stat = match stat {
        Ok(stat) => stat,
        // The process may end while its file is read.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(false),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Some(false),
        Err(_) => return None,
    };
    let stat = String::from_utf8_lossy(&stat);
    let is_zombie = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"));
    Some(!is_zombie && ProcessStat::parse(&stat)?.start_ticks == start_ticks)
}

/// Returns when each of this user's processes called `name` was started.
pub fn start_times(name: &str) -> Vec<SystemTime> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let boot = SystemTime::now() - Duration::from_secs_f64(uptime);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    processes
        .flatten()
        .filter(|process| {
            let comm = std::fs::read(process.path().join("comm"));
            comm.is_ok_and(|comm| comm.trim_ascii_end() == name.as_bytes()) && is_own(&process.path())
        })
        .filter_map(|process| ProcessStat::read(process.file_name().to_str()?.parse().ok()?))
        .map(|stat| boot + Duration::from_secs_f64(stat.start_ticks as f64 / ticks))
        .collect()
}

/// Returns true if the process in this folder of `/proc` has the real user id of this one. The owner of the
/// folder is another one for a process that may not be traced.
fn is_own(process: &std::path::Path) -> bool {
    let status = std::fs::read(process.join("status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let real = ids.and_then(|ids| ids.split_whitespace().next()?.parse().ok());
    real == Some(rustix::process::getuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_keeps_its_name_when_its_file_is_replaced() {
        for link in ["/usr/bin/spantap", "/usr/bin/spantap (deleted)"] {
            assert_eq!(program_name(Path::new(link)), Some(b"spantap".to_vec()), "{link}");
        }
    }

    #[test]
    fn a_process_is_gone_only_if_the_system_says_so() {
        let stat = |state| Ok(format!("7 (\u{fffd}) b) {state} 1{} 99 0 0", " 0".repeat(17)).into_bytes());
        let error = |number| Err(std::io::Error::from_raw_os_error(number));
        assert_eq!(
            [runs(stat("S"), 99), runs(stat("S"), 98), runs(stat("Z"), 99)],
            [true, false, false].map(Some)
        );
        assert_eq!([runs(error(libc::ENOENT), 99), runs(error(libc::ESRCH), 99)], [Some(false); 2]);
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EACCES, libc::EIO] {
            assert_eq!(runs(error(number), 99), None, "{number}");
        }
        assert_eq!(runs(Ok(Vec::new()), 99), None);
    }

    #[test]
    fn a_process_works_waits_or_exits() {
        let stat = |state, flags| format!("7 (a) b) {state} 1 7 7 0 -1 {flags} 90 0 0 0 12 34 0 0 20 0 1");
        let parse = |state, flags| activity_in(stat(state, flags).as_bytes());
        assert_eq!(parse("R", 4_194_304), Some(Activity::Works(time_of(46))));
        assert_eq!(parse("S", 4_194_304), Some(Activity::Waits));
        assert_eq!(parse("R", 4_194_308), Some(Activity::Exits));
        assert!(matches!(activity_of(std::process::id() as i32), Some(Activity::Works(_) | Activity::Waits)));
        assert_eq!(activity_of(i32::MAX), None);
        // A process that has ended and is not collected.
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        while activity_of(ended.id() as i32) != Some(Activity::Exits) {
            std::thread::yield_now();
        }
        ended.wait().unwrap();
    }

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 90 0 0 0 12 34 0 0 20 0 1 0 100 2000000 500 184467";
        let stat = ProcessStat::parse(stat).unwrap();
        assert_eq!((stat.parent, stat.cpu(), stat.start_ticks), (1, Duration::from_millis(460), 100));
        assert_eq!(stat.resident(), 500 * rustix::param::page_size() as u64);
    }
}
