//! spantap needs no more from the system than the server does.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::support::run::Run;

/// Denies the system call `number` with EPERM in this process and its children.
fn deny(number: libc::c_long) -> std::io::Result<()> {
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
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
        step(libc::BPF_RET | libc::BPF_K, [0, 0], EPERM),
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
        unsafe { command.pre_exec(move || deny(call)) };
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
