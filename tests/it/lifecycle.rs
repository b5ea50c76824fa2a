//! What the conformance suite cannot check of every wrapper: our own threads, messages, limits and patience.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::run::{Run, noise, notifications};
use crate::support::*;

/// Returns true if a process has ended, also if its parent has not collected it.
fn is_gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Runs spantap around `script` as the first process of a name space. `None` means skipped.
fn as_process_1(script: &str) -> Option<Run> {
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc"];
    let is_allowed = can_run(&[&unshare[..], &["true"]].concat(), "spantap as process 1");
    is_allowed.then(|| Run::wrapping_script(script).launched_by(&unshare))
}

#[test]
fn as_process_1_it_reports_the_status_and_collects_orphans() {
    for (script, expected) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        let Some(run) = as_process_1(script) else { return };
        run.expect_exit(expected);
    }
    let orphans = "for n in 1 2 3 4 5 6 7 8; do bash -c 'true & true & true &'; done
        while grep -lq '^State:.Z' /proc/[0-9]*/status 2> /dev/null; do sleep 0.02; done; echo clean";
    let Some(run) = as_process_1(orphans) else { return };
    assert_eq!(run.end().stdout(), "clean\n");
}

#[test]
fn as_process_1_it_passes_signals_on() {
    let script = "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let Some(run) = as_process_1(script) else { return };
    let mut session = run.start();
    let mut ready = String::new();
    session.read_line(&mut ready);
    assert_eq!(ready, "ready\n");
    let [first] = children(session.pid())[..] else { panic!() };
    kill(first, "TERM");
    assert_eq!(session.read_to_end(), b"term\n");
    assert_eq!(session.end().0.code(), Some(3));
}

fn kill(pid: u32, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, "--", &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A host with a server that ignores SIGTERM and runs until the file `stop` exists.
struct Hosted {
    home: Home,
    host: Child,
    wrapper: String,
    server: String,
}

impl Hosted {
    /// Starts a host that reads the server's output from a pipe.
    fn start() -> Hosted {
        Hosted::with("", "", Stdio::piped())
    }

    /// Starts a host with `stdout` that redirects the server's output by `output`. The server runs `first` first.
    fn with(first: &str, output: &str, stdout: Stdio) -> Hosted {
        // In the background of a script stdin is /dev/null, so it ends at once. The script is the host.
        let script = format!(
            "\"$SPANTAP\" -- bash -c 'trap \"echo term >> term\" TERM; {first}
            echo $PPID $$ > pids.new; mv pids.new pids; while [ ! -e stop ]; do sleep 0.05; done; echo bye > end
            echo bye' {output} & wait"
        );
        let home = Home::new();
        let run = Run::shell(&script).home(&home).env("SPANTAP_TEST_ORPHAN_GRACE", "300");
        let host = run.command().stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
        let pids = home.path().join("pids");
        wait_until("the server runs", || pids.exists());
        let pids = std::fs::read_to_string(pids).unwrap();
        let (wrapper, server) = pids.trim().split_once(' ').unwrap();
        let (wrapper, server) = (wrapper.to_owned(), server.to_owned());
        Hosted { home, host, wrapper, server }
    }

    fn kill_host(&mut self) {
        self.host.kill().unwrap();
        self.host.wait().unwrap();
        drop(self.host.stdout.take());
    }

    /// Runs longer than the time after which spantap kills a server without a host and without a reader:
    /// another such server is killed meanwhile.
    fn outlive_an_orphan() {
        let mut orphan = Hosted::start();
        orphan.kill_host();
        wait_until("the end of an orphan", || is_gone(&orphan.server));
    }

    fn is_undisturbed(&self) -> bool {
        !is_gone(&self.server) && !self.home.path().join("term").exists()
    }

    /// Lets the server end by itself.
    fn stop(&self) {
        std::fs::write(self.home.path().join("stop"), "").unwrap();
        wait_until("the wrapper's end", || is_gone(&self.wrapper));
    }
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "needs SPANTAP_TEST_ORPHAN_GRACE, which builds with debug assertions have"
)]
fn a_server_whose_host_is_gone_is_asked_to_leave_and_then_made_to() {
    let mut hosted = Hosted::start();
    // While the host lives, the end of stdin is not a reason to kill.
    Hosted::outlive_an_orphan();
    assert!(hosted.is_undisturbed());
    hosted.kill_host();
    wait_until("SIGKILL to the server that ignored SIGTERM", || is_gone(&hosted.server));
    wait_until("the wrapper's end", || is_gone(&hosted.wrapper));
    assert_eq!(std::fs::read_to_string(hosted.home.path().join("term")).unwrap(), "term\n");
    let records = hosted.home.records();
    let end = records.last().unwrap();
    let told = ["level", "reason", "signal", "orphan_killed"].map(|field| &end[field]);
    assert_eq!(told, [&json!("warn"), &json!("server_exited"), &json!(9), &json!(true)], "{end}");
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "needs SPANTAP_TEST_ORPHAN_GRACE, which builds with debug assertions have"
)]
fn a_server_whose_output_has_no_other_end_outlives_its_host() {
    let (terminal, screen) = terminal();
    let mut all = [
        ("", "> /dev/null 2>&1"),
        ("", "> file"),
        ("", ">&-"),
        // The write fails, but not because the host is gone.
        ("echo lost; sleep 0.1", "> /dev/full"),
        // The server serves on a port and needs no output.
        ("exec >&-", ""),
    ]
    .map(|(first, output)| (output, Hosted::with(first, output, Stdio::piped())))
    .into_iter()
    .chain([("a terminal", Hosted::with("", "", screen.into()))])
    .collect::<Vec<_>>();
    all.iter_mut().for_each(|(_, hosted)| hosted.kill_host());
    drop(terminal);
    Hosted::outlive_an_orphan();
    for (output, hosted) in &all {
        assert!(hosted.is_undisturbed(), "{output}");
        hosted.stop();
        assert!(hosted.home.path().join("end").exists(), "{output}");
    }
}

const INITIALIZE: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n";

/// Returns the reason of the last record, which is the session's end.
fn reason(home: &Home) -> String {
    home.records().last().unwrap()["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_server_that_dies_has_died_however_fast_the_host_takes_notice() {
    for _ in 0..10 {
        let home = Home::new();
        let mut session = Run::wrapping_script("read line; exit 3").home(&home).unhurried().start();
        session.write(INITIALIZE).unwrap();
        session.read_to_end();
        assert_eq!(session.end().0.code(), Some(3));
        assert_eq!(reason(&home), "server_died");
    }
}

#[test]
fn a_server_that_dies_while_it_is_written_to_has_died() {
    for _ in 0..10 {
        let home = Home::new();
        let mut session = Run::wrapping_script("read line; exit 3").home(&home).unhurried().start();
        while session.write(INITIALIZE).is_ok() {}
        assert_eq!(session.end().0.code(), Some(3));
        assert_eq!(reason(&home), "server_died");
    }
}

#[test]
fn a_server_that_only_closed_its_output_has_not_died_when_it_ends_with_its_input() {
    let home = Home::new();
    let run = Run::wrapping_script("exec >&-; cat > /dev/null").home(&home).unhurried();
    let mut session = run.start();
    session.read_to_end();
    // Spantap allows a host one second to notice a death. Only the clock can show that it has passed.
    std::thread::sleep(Duration::from_millis(1_300));
    assert!(session.end().0.success());
    assert_eq!(reason(&home), "server_exited");
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "needs SPANTAP_TEST_ORPHAN_GRACE, which builds with debug assertions have"
)]
fn a_server_that_is_still_read_outlives_its_host() {
    let mut hosted = Hosted::with("", "> >(cat > out)", Stdio::piped());
    hosted.kill_host();
    Hosted::outlive_an_orphan();
    assert!(hosted.is_undisturbed());
    hosted.stop();
    let out = hosted.home.path().join("out");
    wait_until("the last output", || std::fs::read(&out).is_ok_and(|out| out == b"bye\n"));
}

#[test]
fn descriptors_that_are_non_blocking_already_cost_no_byte_and_no_turning() {
    let (to, stdin) = UnixStream::pair().unwrap();
    let (from, stdout) = UnixStream::pair().unwrap();
    stdin.set_nonblocking(true).unwrap();
    stdout.set_nonblocking(true).unwrap();
    let flag = stdout.try_clone().unwrap();
    let run = Run::wrapping("cat");
    let mut command = run.command();
    let mut child = command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).spawn().unwrap();
    drop(command);
    let used = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let stats =
            tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap());
        stats.map(|stat| stat.split(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    // Spantap is idle. A repeated read would fail at once and use time. The start may fall into the first window.
    let mut windows = (0..10).map(|_| {
        let before = used();
        std::thread::sleep(Duration::from_secs(1));
        used() - before
    });
    assert!(windows.any(|nanos| nanos < 10_000_000), "spantap uses time while it is idle");
    let close = to.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut from = from;
        let mut seen = vec![0; 3_000_000];
        from.read_exact(&mut seen).unwrap();
        seen
    });
    (&to).write_all(&noise(3_000_000)).unwrap();
    assert!(reader.join().unwrap() == noise(3_000_000));
    close.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(child.wait().unwrap().success());
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", flag.as_raw_fd())).unwrap();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
    let flags = i32::from_str_radix(&flags, 8).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, libc::O_NONBLOCK, "the host's flag was changed");
}

#[test]
fn with_something_to_say_and_nobody_to_hear_it_the_session_runs() {
    let home = Home::new();
    std::fs::write(home.path().join("file"), "in the way").unwrap();
    let script = "exec \"$SPANTAP\" --log-dir file -v -- bash -c 'cat; exit 9'";
    // Standard error is closed, a full device, or a pipe whose reader has gone.
    for stderr in ["2>&-", "2> /dev/full", "2> >(exec 0<&-; sleep 0.1)"] {
        let run = Run::shell(&format!("{script} {stderr}")).home(&home);
        run.send(noise(300_000)).expect_exit(9).expect_echo();
    }
    // The same holds if the server does not start.
    let (_unread, full) = full();
    Run::wrapping("/nonexistent").home(&home).stderr(full).expect_exit(127);
    let (_unread, full) = self::full();
    let run = Run::shell(script).home(&home).stderr(full);
    run.send(noise(300_000)).expect_exit(9).expect_echo();
}

/// Returns a stream that takes no more bytes, and its other end, which is not read.
fn full() -> (UnixStream, OwnedFd) {
    let (unread, full) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while (&full).write_all(b"x").is_ok() {}
    full.set_nonblocking(false).unwrap();
    (unread, full.into())
}

#[test]
fn with_few_processes_left_it_works_or_says_why_not() {
    let mut worked = 0;
    let mut words = Vec::new();
    for processes in [1, 2, 3, 4, 5, 6, 8, 12] {
        // Each try has a user of its own, because the limit counts all processes of a user, also those that
        // are ending. The limit does not apply to root.
        let user = format!("--reuid={}", 40_000 + (std::process::id() * 16 + processes) % 20_000);
        let setpriv = ["setpriv", &user, "--regid=65534", "--clear-groups"];
        if !can_run(&[&setpriv[..], &[SPANTAP, "--version"]].concat(), "spantap with few processes") {
            return;
        }
        let limit = format!("ulimit -u {processes}; exec \"$@\"");
        let launcher = [&setpriv[..], &["bash", "-c", &limit, "bash"]].concat();
        let run = Run::wrapping("cat").options(&["--no-log", "--overload", "wait"]).launched_by(&launcher);
        // More than the rings hold, so that a pump that waited for an observer would wait for ever.
        let line = [vec![b'x'; 4095], b"\n".to_vec()].concat();
        let ended = run.send(line.repeat(5 << 10)).end();
        let said = &ended.stderr;
        words.push(format!("{processes}: {}: {said}", ended.status));
        match ended.status.code() {
            Some(0) => {
                ended.expect_echo();
                worked += 1;
            }
            // The shell reports the same failure with 254 or 126.
            Some(125 | 126 | 254) => assert!(ended.stdout.is_empty() && !said.is_empty(), "{said}"),
            other => panic!("with {processes} processes: {other:?}, {said}"),
        }
    }
    assert!(worked >= 3, "twelve processes must suffice: {words:#?}");
}

/// Name and nice value of each thread.
fn threads(pid: u32) -> Vec<(String, i64)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let parse = |stat: String| {
        let (before, after) = stat.rsplit_once(')').unwrap();
        let nice = after.split_whitespace().nth(16).unwrap().parse().unwrap();
        (before.split_once('(').unwrap().1.to_owned(), nice)
    };
    stats.map(parse).collect()
}

#[test]
fn who_observes_is_at_the_lowest_priority_and_who_relays_is_not() {
    let home = Home::new();
    // The collector does not exist. The messages about that do not matter here.
    let mut session = home.session(&["--otlp", "http://127.0.0.1:9"]);
    session.calls(2);
    let nice = |name: &str| {
        threads(session.pid()).into_iter().find(|(known, _)| known == name).map(|(_, nice)| nice)
    };
    for background in ["observer", "log", "otlp"] {
        wait_until(&format!("{background} at nice 19"), || nice(background) == Some(19));
    }
    for pump in ["stdin", "stdout", "stderr", "spantap"] {
        let ours = threads(std::process::id())[0].1;
        assert_eq!(nice(pump), Some(ours), "{pump}");
    }
    session.end();
}

/// Returns the resident pages of files of a process, in KiB.
fn resident_pages_of_files(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn what_only_the_start_needed_of_the_program_is_given_back() {
    let home = Home::new();
    let mut session = home.session(&[]);
    let mut most = 0;
    session.calls(2);
    wait_until("a third of the program's pages is given back", || {
        let pages = resident_pages_of_files(session.pid());
        most = pages.max(most);
        pages < most * 2 / 3
    });
    session.calls(2);
    session.end();
}

/// C libraries unblock signals that they use themselves when they start a thread. One that reached such a thread would
/// end spantap, and the server would not get it.
#[test]
fn every_thread_beside_the_main_one_blocks_every_signal() {
    // The kernel lets no process block SIGKILL and SIGSTOP.
    const ALL: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));
    let home = Home::new();
    // The collector does not exist. The attempts to reach it start threads.
    let mut session = home.session(&["--otlp", "http://127.0.0.1:9"]);
    session.calls(2);
    let pid = session.pid();
    wait_until("the exporter starts", || threads(pid).iter().any(|(name, _)| name == "otlp"));
    // While the main thread waits for signals, the kernel shows none as blocked in it.
    let beside_main = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
        tasks.filter(|task| task.file_name() != *pid.to_string())
    };
    let blocked = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        Some(u64::from_str_radix(mask.trim(), 16).unwrap())
    };
    // A thread that begins does it at once.
    wait_until("every signal is blocked", || beside_main().filter_map(blocked).all(|mask| mask == ALL));
    session.end();
}

/// Sends `count` notifications through spantap and checks that all of them were observed, both ways.
fn observe_a_whole_flood(run: Run, count: u64) -> serde_json::Value {
    let run = run.options(&["--overload", "wait"]).unhurried().send(notifications(count, 900));
    let totals = run.expect_exit(0).expect_echo().totals();
    assert_eq!(totals["frames_lost"], 0, "{totals}");
    assert_eq!((&totals["stdin_frames"], &totals["stdout_frames"]), (&count.into(), &count.into()));
    totals
}

#[test]
fn without_the_right_to_raise_priorities_the_catch_up_gear_works_and_nothing_is_lost() {
    let setpriv = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"];
    if !can_run(
        &[&setpriv[..], &[SPANTAP, "--version"]].concat(),
        "spantap without the right to raise priorities",
    ) {
        return;
    }
    let totals = observe_a_whole_flood(Run::wrapping("cat").launched_by(&setpriv), 30_000);
    assert!(totals["catch_ups"].as_u64().unwrap() > 0, "{totals}");
}

/// Shells that keep every core busy until they are dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn cores() -> Busy {
        let count = std::thread::available_parallelism().unwrap().get();
        let spinner = || Command::new("bash").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Busy((0..count).map(|_| spinner()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for spinner in &mut self.0 {
            let _ = spinner.kill();
            let _ = spinner.wait();
        }
    }
}

#[test]
fn with_overload_wait_nothing_is_lost_while_every_core_is_busy() {
    let _busy = Busy::cores();
    observe_a_whole_flood(Run::wrapping("cat"), 25_000);
}

#[test]
fn a_signal_after_the_servers_end_cuts_the_wait_for_whoever_holds_its_pipes() {
    let home = Home::new();
    // The server leaves a process that holds and fills its stderr, which the test does not read.
    let script = "setsid bash -c 'echo $$ > holder; while :; do echo noise >&2; done' & \
        while [ ! -s holder ]; do :; done; exit 4";
    let mut session = Run::wrapping_script(script).home(&home).start();
    session.close_input();
    let status = session.child.wait().unwrap();
    let holder = std::fs::read_to_string(home.path().join("holder")).unwrap();
    Command::new("kill").args(["-9", holder.trim()]).status().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(4), None));
}

/// A person stops the terminal at the server's end, and lets it go on later.
#[test]
fn a_terminal_that_is_stopped_for_a_while_gets_every_byte_of_stderr() {
    const SIZE: usize = 60_000;
    let home = Home::new();
    let (master, terminal) = terminal();
    let mut command = home.command(SPANTAP);
    command.args(["--no-log", "--", "sh", "-c", &format!("head -c {SIZE} /dev/zero | tr '\\0' x >&2")]);
    let stderr = Stdio::from(terminal);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    drop(command);
    // Only the clock can show that spantap does not give up.
    std::thread::sleep(Duration::from_secs(2));
    let (mut master, mut seen, mut bytes) = (std::fs::File::from(master), 0, [0; 4096]);
    // The end of a terminal is an error.
    while let Ok(count) = std::io::Read::read(&mut master, &mut bytes)
        && count > 0
    {
        seen += bytes[..count].iter().filter(|byte| **byte == b'x').count();
    }
    assert_eq!((seen, child.wait().unwrap().code()), (SIZE, Some(0)));
}
