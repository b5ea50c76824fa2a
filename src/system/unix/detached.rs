//! Starts a command that does not belong to this process: in a session of its own, without any of our descriptors,
//! and for a limited time, which a guardian process keeps also after this process has ended.
//!
//! As in `process`, `fork` is called by hand. After it only calls that are async-signal-safe are made, on values that
//! were made before it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::own;

/// The pause of the guardian between two looks at the command.
const PAUSE: Duration = Duration::from_millis(50);

/// Everything that the forked processes need.
struct DetachedPlan {
    program: CString,
    /// Ends with a null pointer, as `envp`.
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// Number of looks after which the command is killed.
    looks: u128,
}

/// Variables of this process that the command gets.
pub(crate) const HOME_VARIABLES: &[&str] = &["HOME"];
/// Variables by which a program finds the desktop.
pub(crate) const DESKTOP_VARIABLES: &[&str] =
    &["DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY"];

/// Returns the folders in which a command is looked up, which are also its `PATH`.
pub(crate) fn path() -> String {
    "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin".to_owned()
}

/// Returns the command that shows a notification on the desktop.
pub(crate) fn desktop(summary: &str) -> Vec<String> {
    let words: &[&str] = if cfg!(target_os = "macos") {
        &[
            "osascript",
            "-e",
            r#"display notification (system attribute "SPANTAP_SUMMARY") with title "spantap""#,
        ]
    } else {
        &["notify-send", "--app-name=spantap", "--", "spantap", summary]
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Starts `argv`, whose first word is looked up in the folders of `path`, with exactly the variables of
/// `environment`. Its standard streams are `/dev/null`, its folder is `/`. After `limit` it is killed, with its
/// process group. Returns when none of the new processes has a descriptor of this one.
///
/// # Errors
/// If the program does not exist or cannot be executed, or if the system refuses a process.
pub fn start(argv: &[String], environment: &[String], path: &str, limit: Duration) -> io::Result<()> {
    let program = find(argv.first().map_or("", |word| word), path)?;
    let texts =
        |texts: &[String]| texts.iter().map(|text| CString::new(&**text)).collect::<Result<Vec<_>, _>>();
    let (argv, environment) = (texts(argv)?, texts(environment)?);
    let pointers = |texts: &[CString]| {
        let pointers = texts.iter().map(|text| text.as_ptr());
        pointers.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let plan = DetachedPlan {
        program: CString::new(program.into_os_string().into_encoded_bytes())?,
        argv: pointers(&argv),
        envp: pointers(&environment),
        looks: limit.as_millis() / PAUSE.as_millis(),
    };
    // SAFETY: the child makes only calls that are async-signal-safe, and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => detach(&plan),
        pid => {
            // SAFETY: `pid` is our child, which ends at once. A SIGCHLD that is ignored takes it from us.
            while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } == -1
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
            Ok(())
        }
    }
}

/// Returns true if `program` is a path rather than a name that is searched in folders.
pub(crate) fn is_path(program: &str) -> bool {
    program.contains('/')
}

/// Returns what the user can do about a command that [`find`] refuses as not executable.
pub(crate) fn way_to_execute(program: &str) -> String {
    format!("make it executable: chmod +x {program}")
}

/// Returns the path of an executable file. A relative path begins at `/`, the folder of the command.
pub(crate) fn find(program: &str, path: &str) -> io::Result<PathBuf> {
    let candidates: Vec<PathBuf> = match is_path(program) {
        true => vec![Path::new("/").join(program)],
        false => path.split(':').map(|folder| Path::new(folder).join(program)).collect(),
    };
    let mut problem = io::Error::from(io::ErrorKind::NotFound);
    for candidate in candidates.into_iter().filter(|candidate| candidate.is_file()) {
        let name = CString::new(candidate.as_os_str().as_bytes())?;
        // SAFETY: `name` is a string that ends with a null byte.
        if unsafe { libc::access(name.as_ptr(), libc::X_OK) } == 0 {
            return Ok(candidate);
        }
        problem = io::Error::last_os_error();
    }
    Err(problem)
}

/// Gives up all descriptors and the session, and makes the guardian, which then has no parent. Never returns.
fn detach(plan: &DetachedPlan) -> ! {
    // SAFETY: these calls are async-signal-safe.
    unsafe {
        close_all();
        for _ in 0..3 {
            libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        }
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        if libc::fork() == 0 {
            guard(plan);
        }
        libc::_exit(0)
    }
}

/// Starts the command, and kills its process group when its time is over. Never returns.
fn guard(plan: &DetachedPlan) -> ! {
    // SAFETY: these calls are async-signal-safe, and the plan's pointers are valid in the copy of the memory. The
    // group has the number of a child that was not waited for, or members that still have it.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::setsid();
            libc::execve(plan.program.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
            libc::_exit(127);
        }
        let pause = libc::timespec { tv_sec: 0, tv_nsec: PAUSE.subsec_nanos() as _ };
        let mut has_ended = pid == -1;
        for _ in 0..plan.looks {
            has_ended = has_ended || libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) == pid;
            if has_ended && (pid == -1 || libc::kill(-pid, 0) != 0) {
                libc::_exit(0);
            }
            libc::nanosleep(&pause, std::ptr::null_mut());
        }
        libc::kill(-pid, libc::SIGKILL);
        libc::_exit(0)
    }
}

/// Closes every descriptor.
///
/// # Safety
/// The process must not use a descriptor that it had.
pub(super) unsafe fn close_all() {
    // SAFETY: these calls are async-signal-safe, and `limit` is a valid place to write to.
    unsafe {
        if own::close_all_at_once() {
            return;
        }
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        for descriptor in 0..limit.rlim_cur.clamp(1_024, 1 << 20) {
            libc::close(descriptor as libc::c_int);
        }
    }
}
