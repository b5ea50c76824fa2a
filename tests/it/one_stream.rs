//! Lines of spantap never appear in the stream of messages, nor within a line of the server.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::support::run::Run;
use crate::support::*;

/// A server that writes each answer in two pieces, with time between them for a message of spantap.
const HALVES: &str =
    "while read -r line; do printf '%s' \"${line:0:9}\"; sleep 0.1; echo \"${line:9}\"; done";
const PINGS: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\n";

/// Returns a run that has something to say in each of the ways in which spantap can: a warning about a setting, a log
/// that cannot be written, a collector that refuses, records that are lost.
fn talkative() -> Run {
    let run = Run::wrapping_script(HALVES).env("SPANTAP_SLWO", "3");
    run.options(&["-v", "--log-dir", "/proc/spantap", "--otlp", "http://127.0.0.1:9"])
}

/// Sends two messages to a server whose stdout and stderr are `outputs`, and waits for its end.
fn converse(run: &Run, outputs: [OwnedFd; 2]) {
    let [stdout, stderr] = outputs;
    let mut command = run.command();
    let mut child = command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr).spawn().unwrap();
    drop(command);
    child.stdin.take().unwrap().write_all(PINGS.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn twice(fd: impl Into<OwnedFd>) -> [OwnedFd; 2] {
    let fd = fd.into();
    [fd.try_clone().unwrap(), fd]
}

fn all_of(mut from: impl Read) -> String {
    let mut all = String::new();
    from.read_to_string(&mut all).unwrap();
    all
}

#[test]
fn where_stdout_and_stderr_are_one_stream_it_carries_the_server_only() {
    let (from, to) = std::io::pipe().unwrap();
    converse(&talkative(), twice(to));
    assert_eq!(all_of(from), PINGS, "a pipe");

    let (from, to) = UnixStream::pair().unwrap();
    converse(&talkative(), twice(to));
    assert_eq!(all_of(from), PINGS, "a socket");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    // Opened twice, so that the descriptors share nothing but the file.
    let append = || File::options().append(true).open(file.path()).unwrap().into();
    converse(&talkative(), [append(), append()]);
    file.rewind().unwrap();
    assert_eq!(all_of(file), PINGS, "a file");

    // The names of one terminal are different files.
    let (master, terminal) = terminal();
    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        // A terminal that nothing has open any more fails to be read.
        let _ = File::from(master).read_to_end(&mut seen);
        String::from_utf8(seen).unwrap()
    });
    converse(&talkative(), twice(terminal));
    assert_eq!(reader.join().unwrap().replace("\r\n", "\n"), PINGS, "a terminal");
}

#[test]
fn the_log_says_that_messages_are_silent() {
    let run = Run::wrapping_script(HALVES);
    let home = Home::new();
    let run = run.home(&home).unhurried();
    let (from, to) = std::io::pipe().unwrap();
    converse(&run, twice(to));
    assert_eq!(all_of(from), PINGS);
    assert_eq!(home.records()[0]["stderr_is_stdout"], true);

    let ended = Run::wrapping_script(HALVES).send(PINGS).expect_exit(0);
    assert_eq!(ended.records()[0].get("stderr_is_stdout"), None);
}

#[test]
fn a_server_that_cannot_be_started_is_reported_there_as_without_us() {
    let (from, to) = std::io::pipe().unwrap();
    let [stdout, stderr] = twice(to);
    let run = Run::wrapping("/nonexistent");
    let mut command = run.command();
    let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
    drop(command);
    assert_eq!(child.wait().unwrap().code(), Some(127));
    assert!(all_of(from).starts_with("error: failed to start server"));
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "needs SPANTAP_TEST_PANIC, which builds with debug assertions have"
)]
fn a_message_waits_for_the_end_of_the_servers_line() {
    // The server's last line has no end.
    for (rest, expected) in [("echo ' line' >&2", "half line\n"), ("exit 0", "half\n")] {
        let home = Home::new();
        let script = format!(
            "printf half >&2; while read -r line; do case $line in go) {rest};; *) echo done;; esac; done"
        );
        let run = Run::wrapping_script(&script).home(&home).unhurried().env("SPANTAP_TEST_PANIC", "BOOM");
        let mut session = run.start();
        let mut stderr = session.child.stderr.take().unwrap();
        let mut half = [0; 4];
        stderr.read_exact(&mut half).unwrap();
        session.exchange(b"BOOM\n", 1);
        // The observer has reported its failure once it has recorded a later line.
        session.exchange(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n", 1);
        let has_later = || {
            let log = logs_in(&home.logs()).pop();
            log.is_some_and(|log| std::fs::read_to_string(log).unwrap().contains("\"malformed\""))
        };
        wait_until("the line after the failure is recorded", has_later);
        session.write(b"go\n").unwrap();
        session.close_input();
        let said = String::from_utf8(half.to_vec()).unwrap() + &all_of(stderr);
        assert!(said.starts_with(&format!("{expected}spantap: internal error at ")), "{said}");
        assert!(said.ends_with("; traffic is not affected\n"), "{said}");
    }
}

/// XFS and Btrfs refuse such writes to files.
#[test]
fn a_line_reaches_a_file_whose_system_refuses_writes_that_may_not_wait() {
    if !can_run(&["strace", "-V"], "a file system that refuses writes") {
        return;
    }
    let home = Home::new();
    let said = home.path().join("said");
    let mut command = home.command("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=pwritev2:error=EAGAIN", SPANTAP]);
    command.args(["--no-log", "--", "/nonexistent/server"]).stderr(File::create(&said).unwrap());
    assert_eq!(command.status().unwrap().code(), Some(127));
    let said = std::fs::read_to_string(said).unwrap();
    assert!(said.contains("error: failed to start server `/nonexistent/server`: not found"), "{said}");
}
