//! What a collector receives, and what happens if it is missing, slow or faulty.

mod arrives;
#[cfg(unix)]
mod bad;
mod certificates;
pub mod collector;
mod export;
mod nested;
mod pulse;
mod secure;
mod traces;

use std::time::{Duration, Instant};

use crate::support::run::Run;
use crate::support::{Home, Session};

/// The end of the messages about records that spantap had no time to count.
const NO_TIME: &str = "shutdown deadline reached";

#[test]
fn the_message_that_excuses_a_busy_machine_exists() {
    for file in ["src/proxy.rs", "src/proxy/observer_runner.rs"] {
        let code = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(code.contains(NO_TIME), "{file}");
    }
}

/// A session with the sample server that has ended.
struct Ended {
    is_success: bool,
    stderr: String,
    /// Time from the end of the host's input to the end of spantap.
    took: Duration,
}

/// Runs a session of one listing and `calls` tool calls, all sent at once.
fn session(home: &Home, options: &[&str], environment: &[(&str, &str)], calls: usize) -> Ended {
    session_until(home, options, environment, calls, || {})
}

/// Runs a session like [`session`], which ends only after `until` has returned.
fn session_until(
    home: &Home,
    options: &[&str],
    environment: &[(&str, &str)],
    calls: usize,
    until: impl FnOnce(),
) -> Ended {
    let mut session = start(home, options, environment);
    let calls: Vec<String> = (1..=calls).map(|id| call(id, "")).collect();
    let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"tools/list\"}}\n{}", calls.concat());
    for line in session.exchange(text.as_bytes(), calls.len() + 1) {
        assert!(line.starts_with("{\"jsonrpc\"") || line.starts_with("{\"id\""), "on the wire: {line}");
    }
    until();
    let begun = Instant::now();
    let (status, stderr) = session.end();
    Ended { is_success: status.success(), stderr, took: begun.elapsed() }
}

fn start(home: &Home, options: &[&str], environment: &[(&str, &str)]) -> Session {
    let run = Run::wrapping_sample().home(home).options(&["--server", "sample"]);
    run.options(options).envs(environment).start()
}

/// Returns one call with `meta` as the members of its `_meta`.
fn call(id: usize, meta: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"read_file\",\"arguments\":{{\"n\":{id}}},\"_meta\":{{{meta}}}}}}}\n"
    )
}

impl Ended {
    /// Returns true if the machine was too busy for spantap's flush budget. What was lost is not counted then.
    fn had_no_time(&self) -> bool {
        self.stderr.contains(NO_TIME)
    }

    /// Returns the number of records that were lost on the way to the collector, by the last line on stderr.
    fn lost(&self) -> u64 {
        let line = self.stderr.lines().find(|line| line.contains("records lost")).unwrap_or_default();
        let parts = line.split(": ").last().unwrap_or_default().split(", ");
        parts
            .filter(|part| part.contains(" at otlp"))
            .filter_map(|part| part.split(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}
