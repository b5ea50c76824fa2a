//! Starts a command that does not belong to this process: outside of its job, without a console or any of its handles,
//! and for a limited time while this process lives.

use std::ffi::OsStr;
use std::io;
use std::os::windows::io::AsRawHandle;
use std::os::windows::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use windows_sys::Win32::System::Threading::{
    CREATE_BREAKAWAY_FROM_JOB, CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW,
};

use super::{group, job::Job, process, stdio};
use crate::system::thread::{self, Duty};

/// Variables of this process that the command gets.
pub(crate) const HOME_VARIABLES: &[&str] = &["USERPROFILE", "SystemRoot", "TEMP"];
/// Variables by which a program finds the desktop.
pub(crate) const DESKTOP_VARIABLES: &[&str] = &["APPDATA", "LOCALAPPDATA"];

/// Returns the folders in which a command is looked up, which are also its `PATH`.
pub(crate) fn path() -> String {
    let root = std::env::var("SystemRoot").unwrap_or_else(|_| r"C:\Windows".to_owned());
    format!(r"{root}\System32;{root};{root}\System32\WindowsPowerShell\v1.0")
}

/// Returns the command that shows a notification on the desktop. The text is in its environment.
pub(crate) fn desktop(_summary: &str) -> Vec<String> {
    const SCRIPT: &str = "Add-Type -AssemblyName System.Windows.Forms; \
        $icon = New-Object System.Windows.Forms.NotifyIcon; \
        $icon.Icon = [System.Drawing.SystemIcons]::Information; $icon.Visible = $true; \
        $icon.ShowBalloonTip(5000, 'spantap', $env:SPANTAP_SUMMARY, 'Info'); Start-Sleep 6; $icon.Dispose()";
    ["powershell.exe", "-NoProfile", "-NonInteractive", "-Command", SCRIPT].map(str::to_owned).to_vec()
}

/// Starts `argv`, whose first word is looked up in the folders of `path`, with exactly the variables of
/// `environment`. Its standard streams are the null device, its folder is that of the system. After `limit` it is
/// killed, with what it has started, if this process still lives.
///
/// # Errors
/// If the program does not exist or cannot be executed, or if the system refuses a process.
pub fn start(argv: &[String], environment: &[String], path: &str, limit: Duration) -> io::Result<()> {
    const STACK: usize = 64 << 10;
    let [program, arguments @ ..] = argv else { return Err(io::ErrorKind::NotFound.into()) };
    stdio::keep_from_children();
    let mut command = Command::new(find(program, path)?);
    command.args(arguments).env_clear().current_dir(std::env::var_os("SystemRoot").unwrap_or_default());
    command.envs(environment.iter().filter_map(|variable| variable.split_once('=')));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let flags = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP;
    // The guard waits for the command, so that none is started without one.
    let (to_guard, started) = sync_channel::<Child>(1);
    let job = Job::lasting()?;
    let guard = move || {
        let Ok(mut child) = started.recv() else { return };
        let is_bound = job.add(child.as_raw_handle()).is_ok();
        let begin = Instant::now();
        while child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begin.elapsed() >= limit {
                match is_bound {
                    true => job.kill(),
                    false => drop(child.kill()),
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    thread::spawn_with_stack(Duty::Guard, "guard", STACK, guard)?;
    let child = match command.creation_flags(flags | CREATE_BREAKAWAY_FROM_JOB).spawn() {
        // A job of the host may forbid it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            command.creation_flags(flags).spawn()?
        }
        started => started?,
    };
    let _ = to_guard.send(child);
    Ok(())
}

/// Returns true if `program` is a path rather than a name that is searched in folders.
pub(crate) fn is_path(program: &str) -> bool {
    process::is_path(OsStr::new(program))
}

/// Returns what the user can do about a command that [`find`] refuses as not executable.
pub(crate) fn way_to_execute(_program: &str) -> String {
    group::WAY_TO_EXECUTE.to_owned()
}

/// Returns the path of a program.
///
/// # Errors
/// `NotFound` without a file; `PermissionDenied` if it is a file of another kind.
pub(crate) fn find(program: &str, path: &str) -> io::Result<PathBuf> {
    let found = process::find_in(OsStr::new(program), Some(OsStr::new(path)));
    let found = found.filter(|found| found.is_file()).ok_or(io::ErrorKind::NotFound)?;
    if process::is_runnable(&found) { Ok(found) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}
