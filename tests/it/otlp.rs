//! What a collector receives, and what happens when it is not there, slow or mad.

mod arrives;
mod bad;
mod certificates;
pub mod collector;
mod export;
mod pulse;
mod secure;
mod traces;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use super::support::{Home, SPANTAP};

/// A session of `calls` tool calls with the sample server, all sent at once; what spantap said, and how
/// long it outlived the last answer.
fn session(home: &Home, options: &[&str], environment: &[(&str, &str)], calls: usize) -> (Output, Duration) {
    session_until(home, options, environment, calls, || {})
}

/// The same; the session ends only after `until` has returned.
fn session_until(
    home: &Home,
    options: &[&str],
    environment: &[(&str, &str)],
    calls: usize,
    until: impl FnOnce(),
) -> (Output, Duration) {
    let mut child = start(home, options, environment);
    let mut to = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let mut text = String::from("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"tools/list\"}\n");
        for id in 1..=calls {
            text.push_str(&call(id, ""));
        }
        let _ = to.write_all(text.as_bytes());
        to
    });
    let mut lines = 0;
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while lines <= calls && stdout.read_line(&mut line).unwrap() > 0 {
        assert!(line.starts_with("{\"jsonrpc\"") || line.starts_with("{\"id\""), "on the wire: {line}");
        line.clear();
        lines += 1;
    }
    assert_eq!(lines, calls + 1);
    let to = writer.join().unwrap();
    until();
    drop(to);
    let ended = Instant::now();
    let output = child.wait_with_output().unwrap();
    (output, ended.elapsed())
}

fn start(home: &Home, options: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = home.spantap(["--server", "sample"]);
    command.args(options).arg("--").args([SPANTAP, "demo", "--serve"]).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// One call, with `meta` as the members of its `_meta`.
fn call(id: usize, meta: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"read_file\",\"arguments\":{{\"n\":{id}}},\"_meta\":{{{meta}}}}}}}\n"
    )
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// On a machine that is too busy for its flush budget spantap says so, and counts no more.
fn had_no_time(output: &Output) -> bool {
    let stderr = stderr(output);
    stderr.contains("the time to write everything out was over") || stderr.contains("not observed")
}

/// What the closing line on stderr says was lost on the way to the collector.
fn lost(output: &Output) -> u64 {
    let stderr = stderr(output);
    let line = stderr.lines().find(|line| line.contains("records lost")).unwrap_or_default();
    let parts = line.split(": ").last().unwrap_or_default().split(", ");
    parts
        .filter(|part| part.contains(" at otlp"))
        .filter_map(|part| part.split(' ').next()?.parse::<u64>().ok())
        .sum()
}
