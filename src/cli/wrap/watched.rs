//! Entries that are watched, and the programs and processes behind them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The file that an entry's proxy is; a bare name is looked for on the PATH.
pub fn resolve(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| is_program(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_program(file))
}

/// Whether an entry's proxy can be started.
pub fn can_start(program: &str) -> bool {
    resolve(program).is_some()
}

/// Whether a process is called `name`.
pub fn is_running(name: &str) -> bool {
    !started(name).is_empty()
}

/// When the processes called `name` were started.
#[cfg(target_os = "linux")]
pub fn started(name: &str) -> Vec<SystemTime> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let boot = SystemTime::now() - Duration::from_secs_f64(uptime);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let start = |stat: &str| -> Option<SystemTime> {
        // Field 22 of proc_pid_stat(5), the 20th behind the name in brackets.
        let ticks_after_boot: f64 =
            stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(boot + Duration::from_secs_f64(ticks_after_boot / ticks))
    };
    processes
        .flatten()
        .filter(|process| {
            let comm = std::fs::read_to_string(process.path().join("comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        })
        .filter_map(|process| start(&std::fs::read_to_string(process.path().join("stat")).ok()?))
        .collect()
}

/// When the processes called `name` were started; that is not to be had here, so they count as new.
#[cfg(not(target_os = "linux"))]
pub fn started(name: &str) -> Vec<SystemTime> {
    let found = std::process::Command::new("pgrep").arg("-x").arg(name).output();
    let is_running = found.is_ok_and(|output| output.status.success());
    if is_running { vec![SystemTime::now() + Duration::from_secs(1)] } else { Vec::new() }
}
