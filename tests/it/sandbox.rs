//! spantap needs no more from the system than the server does.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::LONG;
use crate::support::run::Run;

/// Denies the system call `number` with `error` in this process and its children.
fn deny(number: libc::c_long, error: i32) -> std::io::Result<()> {
    const ALLOW: u32 = 0x7fff_0000;
    let refuse = 0x0005_0000 | error as u32;
    let step = |code: u32, jump: [u8; 2], k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump[0],
        jf: jump[1],
        k,
    };
    let filter = [
        // The number of the call is the first word that the filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, [0, 0], 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, [0, 1], number as u32),
        step(libc::BPF_RET | libc::BPF_K, [0, 0], refuse),
        step(libc::BPF_RET | libc::BPF_K, [0, 0], ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: plain calls on values that live through them.
    let denied = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if denied { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_sandbox_that_denies_the_calls_of_sockets_runs_the_server_as_without_us() {
    for call in
        [libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_socketpair, libc::SYS_socket, libc::SYS_setpriority]
    {
        let run = Run::wrapping("cat").options(&["--no-log"]);
        let mut command = run.command();
        // SAFETY: `deny` makes only system calls, which is allowed between fork and exec.
        unsafe { command.pre_exec(move || deny(call, libc::EPERM)) };
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n")
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "system call {call}: {output:?}");
        assert_eq!(
            output.stdout, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n",
            "system call {call}"
        );
    }
}

/// The system calls of a session with a log and a collector that `cat` and the loader do not make. The Rust runtime
/// itself ends a program to which `poll` or `rt_sigaction` is refused, and musl one whose threads may not `exit`.
const OURS: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_chmod,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_connect,
    libc::SYS_dup2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_fchmod,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_geteuid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_ioctl,
    libc::SYS_kill,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mkdir,
    libc::SYS_mremap,
    libc::SYS_pipe2,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_readlink,
    libc::SYS_recvfrom,
    libc::SYS_rename,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendto,
    libc::SYS_setpriority,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_statx,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_unlink,
    libc::SYS_utimensat,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_writev,
];

/// Runs `cat` while `call` fails with `error`. Returns what is wrong.
fn fails_with(call: libc::c_long, error: i32) -> Result<(), String> {
    const LINE: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";
    let run = Run::wrapping("cat").options(&["--otlp", "http://127.0.0.1:9"]);
    let mut command = run.command();
    // SAFETY: `deny` makes only system calls, which is allowed between fork and exec.
    unsafe { command.pre_exec(move || deny(call, error)) };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A start that fails may be over already.
    let _ = child.stdin.take().unwrap().write_all(LINE);
    let begun = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > LONG {
            child.kill().unwrap();
            return Err(format!("hangs: {:?}", child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let is_refused =
        output.status.code() == Some(125) && output.stdout.is_empty() && said.starts_with("error: ");
    match is_refused || output.stdout == LINE {
        true => Ok(()),
        false => Err(format!("{:?}, {:?}, {said}", output.status, String::from_utf8_lossy(&output.stdout))),
    }
}

#[test]
fn each_call_that_a_server_does_not_need_may_fail() {
    let tries = OURS.iter().flat_map(|call| [(*call, libc::EPERM), (*call, libc::ENOSYS)]);
    let tries = Mutex::new(tries.collect::<Vec<_>>());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((call, error)) = tries.lock().unwrap().pop() else { return };
                    if let Err(reason) = fails_with(call, error) {
                        wrong.lock().unwrap().push(format!("call {call}, error {error}: {reason}"));
                    }
                }
            });
        }
    });
    assert_eq!(wrong.into_inner().unwrap(), Vec::<String>::new());
}
