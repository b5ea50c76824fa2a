//! A process that kills the server if spantap is killed, because macOS does not do this by itself.

/// Starts the process for `server`, a child of this process. It is not a child of this process itself. If the system
/// refuses it, a server whose spantap was killed only sees the end of its stdin. Must be called before the first thread.
/// `close_all` closes every descriptor, and is async-signal-safe.
pub(in crate::system::unix) fn start(server: libc::pid_t, close_all: unsafe fn()) {
    // SAFETY: both children only make calls that are async-signal-safe, use no descriptor that they had, and end in
    // `_exit`.
    unsafe {
        let spantap = libc::getpid();
        match libc::fork() {
            -1 => {}
            0 => {
                if libc::fork() == 0 {
                    close_all();
                    watch(spantap, server);
                }
                libc::_exit(0)
            }
            // All signals are blocked, so none interrupts the wait.
            between => drop(libc::waitpid(between, std::ptr::null_mut(), 0)),
        }
    }
}

/// Waits until one of the two processes has ended, and kills the server if it was not the first. Never returns.
fn watch(spantap: libc::pid_t, server: libc::pid_t) -> ! {
    let end_of = |process: libc::pid_t| libc::kevent {
        ident: process as usize,
        filter: libc::EVFILT_PROC,
        flags: libc::EV_ADD | libc::EV_ONESHOT,
        fflags: libc::NOTE_EXIT,
        data: 0,
        udata: std::ptr::null_mut(),
    };
    // SAFETY: the events are valid places through the calls.
    unsafe {
        let queue = libc::kqueue();
        let watches = |process| {
            libc::kevent(queue, &end_of(process), 1, std::ptr::null_mut(), 0, std::ptr::null()) == 0
        };
        let mut ended = end_of(0);
        let mut next = |limit| {
            libc::kevent(queue, std::ptr::null(), 0, &mut ended, 1, limit) == 1
                && ended.ident == server as usize
        };
        if !watches(server) {
            // It has ended already.
            libc::_exit(0);
        }
        if watches(spantap) {
            if next(std::ptr::null()) {
                libc::_exit(0);
            }
        } else if *libc::__error() != libc::ESRCH {
            libc::_exit(0);
        }
        // spantap has ended. It collects the server only after the server's end, which would be known here by now. So
        // the number still belongs to the server.
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        if !next(&at_once) {
            libc::kill(server, libc::SIGKILL);
        }
        libc::_exit(0)
    }
}
