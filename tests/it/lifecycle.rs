//! What the conformance suite cannot ask of any wrapper: our own threads, words, limits and patience.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::support::*;

/// Runs `script` in a shell with `SPANTAP` set to the binary.
fn shell(home: &Home, script: &str) -> Command {
    let mut command = home.command("bash");
    command.args(["-c", script]).env("SPANTAP", SPANTAP);
    command
}

/// Whether a process has ended, be it collected or not.
fn is_gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// `unshare` in front of spantap as the first process of a name space, or `None` where that is refused.
fn as_process_1(home: &Home, script: &str) -> Option<Command> {
    let probe = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("no process name space may be made here; nothing was tested as process 1");
        return None;
    }
    let mut command = home.command("unshare");
    command.args(["--pid", "--fork", "--mount-proc", SPANTAP, "--", "bash", "-c", script]);
    Some(command)
}

#[test]
fn as_process_1_it_reports_the_status_and_collects_orphans() {
    for (script, expected) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        let home = Home::new();
        let Some(mut command) = as_process_1(&home, script) else { return };
        assert_eq!(command.output().unwrap().status.code(), Some(expected), "{script}");
    }
    let home = Home::new();
    let orphans = "for n in 1 2 3 4 5 6 7 8; do bash -c 'true & true & true &'; done
        while grep -lq '^State:.Z' /proc/[0-9]*/status 2> /dev/null; do sleep 0.02; done; echo clean";
    let output = as_process_1(&home, orphans).unwrap().output().unwrap();
    assert_eq!(text(&output).0, "clean\n");
}

#[test]
fn as_process_1_it_passes_signals_on() {
    let home = Home::new();
    let script = "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let Some(mut command) = as_process_1(&home, script) else { return };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut from = child.stdout.take().unwrap();
    let mut ready = [0; 6];
    from.read_exact(&mut ready).unwrap();
    let [first] = children(child.id())[..] else { panic!() };
    kill(first, "TERM");
    let mut rest = String::new();
    from.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "term\n");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

fn kill(pid: u32, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, "--", &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_server_whose_host_is_gone_is_asked_to_leave_and_then_made_to() {
    // The hook that shortens the grace is compiled into builds with debug assertions only.
    if !cfg!(debug_assertions) {
        return;
    }
    let home = Home::new();
    // In the background of a script stdin is /dev/null: it has ended. The script is the host.
    let host = "\"$SPANTAP\" -- bash -c 'trap \"echo term >> term\" TERM; echo $PPID $$ > pids.new
        mv pids.new pids; while :; do sleep 0.05; done' > /dev/null 2>&1 & wait";
    let mut host = shell(&home, host).env("SPANTAP_TEST_ORPHAN_GRACE", "300").spawn().unwrap();
    let pids = home.path().join("pids");
    wait_until("the server runs", || pids.exists());
    let pids = std::fs::read_to_string(pids).unwrap();
    let (wrapper, server) = pids.trim().split_once(' ').unwrap();
    // As long as the host lives, the end of stdin is no order to kill.
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert!(!is_gone(server) && !home.path().join("term").exists());
    host.kill().unwrap();
    host.wait().unwrap();
    wait_until("SIGKILL to the server that ignored SIGTERM", || is_gone(server));
    wait_until("the wrapper's end", || is_gone(wrapper));
    assert_eq!(std::fs::read_to_string(home.path().join("term")).unwrap(), "term\n");
}

/// spantap in front of `script`, with time to write its last record on a busy machine.
fn in_front_of(home: &Home, script: &str) -> std::process::Child {
    let mut command = home.spantap(["--", "bash", "-c", script]);
    command.env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_server_that_dies_has_died_however_fast_the_host_takes_notice() {
    for _ in 0..10 {
        let home = Home::new();
        let mut child = in_front_of(&home, "read line; exit 3");
        let mut to = child.stdin.take().unwrap();
        to.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n").unwrap();
        child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        drop(to);
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_eq!(home.records().last().unwrap()["reason"], "server_died");
    }
}

#[test]
fn a_server_that_dies_while_it_is_written_to_has_died() {
    for _ in 0..10 {
        let home = Home::new();
        let mut child = in_front_of(&home, "read line; exit 3");
        let mut to = child.stdin.take().unwrap();
        while to.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n").is_ok() {}
        drop(to);
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_eq!(home.records().last().unwrap()["reason"], "server_died");
    }
}

#[test]
fn a_server_that_only_closed_its_output_has_not_died_when_it_ends_with_its_input() {
    let home = Home::new();
    let mut child = in_front_of(&home, "exec >&-; cat > /dev/null");
    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    // Longer than it takes a host to notice a death.
    std::thread::sleep(std::time::Duration::from_millis(1300));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(home.records().last().unwrap()["reason"], "server_exited");
}

#[test]
fn a_server_that_is_still_read_outlives_its_host() {
    // As above: only with the short grace can it be told that nothing happens.
    if !cfg!(debug_assertions) {
        return;
    }
    let home = Home::new();
    let host = "\"$SPANTAP\" -- bash -c 'trap \"echo term > term\" TERM; echo $PPID $$ > pids.new
        mv pids.new pids; while [ ! -e stop ]; do sleep 0.05; done; echo bye' > >(cat > out) & wait";
    let mut host = shell(&home, host).env("SPANTAP_TEST_ORPHAN_GRACE", "200").spawn().unwrap();
    let pids = home.path().join("pids");
    wait_until("the server runs", || pids.exists());
    let pids = std::fs::read_to_string(pids).unwrap();
    let (wrapper, server) = pids.trim().split_once(' ').unwrap();
    host.kill().unwrap();
    host.wait().unwrap();
    // More than the time after which a server that nobody reads is killed.
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert!(!is_gone(server) && !home.path().join("term").exists());
    std::fs::write(home.path().join("stop"), "").unwrap();
    wait_until("the wrapper's end", || is_gone(wrapper));
    wait_until("the last word", || std::fs::read(home.path().join("out")).is_ok_and(|out| out == b"bye\n"));
}

/// Sends `bytes` through `child` and checks that they come back.
fn comes_back(mut to: impl Write + Send + 'static, mut from: impl Read, bytes: Vec<u8>) {
    let expected = bytes.clone();
    let writer = std::thread::spawn(move || to.write_all(&bytes));
    let mut seen = Vec::new();
    from.read_to_end(&mut seen).unwrap();
    writer.join().unwrap().unwrap();
    assert!(seen == expected, "{} bytes of {}", seen.len(), expected.len());
}

fn some_bytes(count: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn descriptors_that_are_non_blocking_already_cost_no_byte_and_no_turning() {
    let home = Home::new();
    let (to, stdin) = UnixStream::pair().unwrap();
    let (from, stdout) = UnixStream::pair().unwrap();
    stdin.set_nonblocking(true).unwrap();
    stdout.set_nonblocking(true).unwrap();
    let flag = stdout.try_clone().unwrap();
    let mut command = home.spantap(["--", "cat"]);
    let mut child = command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).spawn().unwrap();
    drop(command);
    let used = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let stats =
            tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap());
        stats.map(|stat| stat.split(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    // Idle, with a read that would fail at once if it were repeated; the start may fall into a first look.
    let mut windows = (0..10).map(|_| {
        let before = used();
        std::thread::sleep(std::time::Duration::from_secs(1));
        used() - before
    });
    assert!(windows.any(|nanos| nanos < 10_000_000), "it turns while it is idle");
    let close = to.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut from = from;
        let mut seen = vec![0; 3_000_000];
        from.read_exact(&mut seen).unwrap();
        seen
    });
    (&to).write_all(&some_bytes(3_000_000)).unwrap();
    assert!(reader.join().unwrap() == some_bytes(3_000_000));
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
    // Closed, broken, full and unread, and a full device.
    let run = "exec \"$SPANTAP\" --log-dir file -v -- bash -c 'cat; exit 9'";
    for stderr in ["2>&-", "2> /dev/full", "2> >(exec 0<&-; sleep 0.1)"] {
        let mut child = shell(&home, &format!("{run} {stderr}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        comes_back(to, from, some_bytes(300_000));
        assert_eq!(child.wait().unwrap().code(), Some(9), "{stderr}");
    }
    // Not even where there is no server to run.
    let (_unread, full) = full();
    let mut command = home.spantap(["--", "/nonexistent"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(127));
    let (_unread, full) = self::full();
    let mut command = shell(&home, run);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(full).spawn().unwrap();
    drop(command);
    let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    comes_back(to, from, some_bytes(300_000));
    assert_eq!(child.wait().unwrap().code(), Some(9), "full and unread");
}

/// A stream into which nothing more goes, and the end that nobody reads.
fn full() -> (UnixStream, OwnedFd) {
    let (unread, full) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while (&full).write_all(b"x").is_ok() {}
    full.set_nonblocking(false).unwrap();
    (unread, full.into())
}

/// spantap with `options` in front of `cat`, started by `setpriv` with `arguments` where this process may.
fn with_privileges(home: &Home, arguments: &[&str], limits: &str, options: &str) -> Option<Command> {
    let probe = Command::new("setpriv").args(arguments).args([SPANTAP, "--version"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("setpriv {arguments:?} is not allowed here; nothing was tested with it");
        return None;
    }
    let mut command = home.command("setpriv");
    let script = format!("{limits} exec {SPANTAP} {options} -- cat");
    command.args(arguments).args(["bash", "-c", &script]);
    Some(command)
}

#[test]
fn with_few_processes_left_it_works_or_says_why_not() {
    let home = Home::new();
    let mut worked = 0;
    let mut words = Vec::new();
    for processes in [1, 2, 3, 4, 5, 6, 8, 12] {
        // A user for each, since the limit counts all processes of a user, also those that are just
        // ending; limits of root do not count.
        let user = format!("--reuid={}", 40_000 + (std::process::id() * 16 + processes) % 20_000);
        let arguments = [user.as_str(), "--regid=65534", "--clear-groups"];
        let limit = format!("ulimit -u {processes};");
        // More than the rings hold, so that somebody who waited for an observer would wait for ever.
        let Some(mut command) = with_privileges(&home, &arguments, &limit, "--no-log --overload wait") else {
            return;
        };
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let line = [vec![b'x'; 4095], b"\n".to_vec()].concat();
        let writer = std::thread::spawn(move || (0..5 << 10).try_for_each(|_| to.write_all(&line)));
        let mut buffer = vec![0; 1 << 16];
        let mut seen = 0;
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            seen += count;
        }
        let _ = writer.join().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = text(&output).1;
        words.push(format!("{processes}: {}: {said}", output.status));
        match output.status.code() {
            Some(0) => {
                assert_eq!(seen, 20 << 20, "with {processes} processes");
                worked += 1;
            }
            // The shell's own word for it is 254 or 126.
            Some(125 | 126 | 254) => assert!(seen == 0 && !said.is_empty(), "{said}"),
            other => panic!("with {processes} processes: {other:?}, {said}"),
        }
    }
    assert!(worked >= 3, "a dozen processes must do: {words:#?}");
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
    // A collector that is not there: what is said about it does not matter here.
    let mut session = home.session(&["--otlp", "http://127.0.0.1:9"]);
    session.calls(2);
    let nice = |name: &str| {
        threads(session.child.id()).into_iter().find(|(known, _)| known == name).map(|(_, nice)| nice)
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

fn notifications(count: usize) -> Vec<u8> {
    let pad = "x".repeat(900);
    let line = |n| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"data\":{n},\"pad\":\"{pad}\"}}}}\n"
        )
    };
    (0..count).flat_map(|n| line(n).into_bytes()).collect()
}

fn totals(folder: &Path) -> Value {
    let records = logs_in(folder).iter().flat_map(|log| validate_log(log)).collect::<Vec<_>>();
    records.iter().find(|record| record["event"] == "session_ended").expect("the end")["totals"].clone()
}

fn flood(command: &mut Command, count: usize) -> Output {
    command.env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    comes_back(to, from, notifications(count));
    child.wait_with_output().unwrap()
}

#[test]
fn without_the_right_to_raise_priorities_the_catch_up_gear_works_and_nothing_is_lost() {
    let home = Home::new();
    let dropped = ["--bounding-set=-sys_nice", "--inh-caps=-sys_nice"];
    let options = "--log-dir logs --overload wait";
    let Some(mut command) = with_privileges(&home, &dropped, "", options) else { return };
    let output = flood(&mut command, 30_000);
    assert!(output.status.success(), "{}", text(&output).1);
    let totals = totals(&home.path().join("logs"));
    assert_eq!(totals["frames_lost"], 0, "{totals}");
    assert_eq!((&totals["stdin_frames"], &totals["stdout_frames"]), (&30_000.into(), &30_000.into()));
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
    let home = Home::new();
    let _busy = Busy::cores();
    let output = flood(&mut home.spantap(["--log-dir", "logs", "--overload", "wait", "--", "cat"]), 25_000);
    assert!(output.status.success(), "{}", text(&output).1);
    let totals = totals(&home.path().join("logs"));
    assert_eq!(totals["frames_lost"], 0, "{totals}");
    assert_eq!((&totals["stdin_frames"], &totals["stdout_frames"]), (&25_000.into(), &25_000.into()));
}

#[test]
fn a_signal_after_the_servers_end_cuts_the_wait_for_whoever_holds_its_pipes() {
    let home = Home::new();
    // The server leaves a process behind that holds and fills its stderr, which nobody reads.
    let script = "setsid bash -c 'echo $$ > holder; while :; do echo noise >&2; done' & \
        while [ ! -s holder ]; do :; done; exit 4";
    let mut child = home
        .spantap(["--", "bash", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    let holder = std::fs::read_to_string(home.path().join("holder")).unwrap();
    Command::new("kill").args(["-9", holder.trim()]).status().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(4), None));
}
