//! Little memory and small stacks: the observer stops, and the traffic goes on.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Instant;

use crate::support::run::{Run, tool_calls};
use crate::support::*;

#[test]
fn a_session_starts_in_any_address_space_or_says_why_not() {
    let mut worked = 0;
    let mut words = Vec::new();
    // The loader refuses the program itself if its segments do not fit.
    let program = std::fs::metadata(SPANTAP).unwrap().len() >> 20;
    for megabytes in (20..260).step_by(8) {
        let limit = format!("ulimit -v {}; exec \"$@\"", megabytes << 10);
        let run = Run::wrapping("cat").launched_by(&["bash", "-c", &limit, "bash"]);
        let ended = run.send(tool_calls(300)).end();
        let said = &ended.stderr;
        words.push(format!("{megabytes} MiB: {}: {said}", ended.status));
        match ended.status.code() {
            Some(0) => {
                ended.expect_echo();
                worked += 1;
            }
            Some(125) => {
                assert!(ended.stdout.is_empty() && said.starts_with("error: "), "{megabytes} MiB: {said}");
            }
            // The loader has no line of ours.
            Some(126 | 127) | None if megabytes < program => {}
            other => panic!("{megabytes} MiB: {other:?}: {said}"),
        }
    }
    assert!(worked >= 5, "260 MiB must suffice: {words:#?}");
}

/// Ends sessions whose address space is limited to each of `sizes` in KiB. However little it is, every byte comes back,
/// and spantap says what it did not record.
/// Without options, each session with at least CHANCE more than the least sufficient limit is recorded whole.
fn expect_bytes_within(sizes: impl Iterator<Item = u64>, options: &[&str]) {
    /// Range of limits, in KiB, in which the order of the threads decides which one gets the last memory.
    const CHANCE: u64 = 8 << 10;
    let mut suffices = None;
    for kilobytes in sizes {
        let limit = format!("ulimit -v {kilobytes}; exec \"$@\"");
        let run = Run::wrapping("cat").options(options).launched_by(&["bash", "-c", &limit, "bash"]);
        let begun = Instant::now();
        let ended = run.unhurried().send(tool_calls(200)).end();
        assert!(begun.elapsed() < LONG / 2, "{kilobytes} KiB: the end waits for a thread that has stopped");
        let (status, said) = (ended.status, ended.stderr.clone());
        assert_eq!(status.code(), Some(0), "{kilobytes} KiB: {status}: {said}");
        let records = ended.expect_echo().records().len();
        let is_whole = records > 400;
        let is_said = ["not recorded", "ends here", "lost"].iter().any(|words| said.contains(words));
        assert!(is_whole || is_said, "{kilobytes} KiB: {records} records: {said}");
        assert!(
            is_whole || suffices.is_none_or(|least| kilobytes < least + CHANCE),
            "{kilobytes} KiB: {said}"
        );
        suffices = suffices.or((is_whole && options.is_empty()).then_some(kilobytes));
    }
    assert!(suffices.is_some() || !options.is_empty());
}

/// Returns the least address space, in KiB, in which a session starts.
fn least_space() -> u64 {
    let starts = |kilobytes: &u64| {
        let limit = format!("ulimit -v {kilobytes}; exec \"$@\"");
        Run::wrapping("cat").launched_by(&["bash", "-c", &limit, "bash"]).end().status.code() == Some(0)
    };
    (20 << 10..).step_by(256).find(starts).unwrap()
}

const COLLECTOR: &[&str] = &["--otlp", "http://localhost:9"];

/// Tries 32 limits within 24 MiB. MEMORY_MIB is another range, in steps of 256 KiB.
#[test]
fn refused_memory_ends_no_session() {
    let least = least_space();
    let wanted = std::env::var("MEMORY_MIB").ok().map(|mib| mib.parse::<u64>().expect("a number of MiB"));
    let (mib, step) = wanted.map_or((24, 768), |mib| (mib, 256));
    std::thread::scope(|scope| {
        for options in [&[], COLLECTOR] {
            scope.spawn(move || expect_bytes_within((least..least + (mib << 10)).step_by(step), options));
        }
    });
}

/// Takes all further memory away from a process: its address space may not grow any more.
fn starve(child: &Child) {
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: plain call with a valid limit.
    let set = unsafe {
        libc::prlimit(child.id() as i32, libc::RLIMIT_AS, &limit, std::ptr::null_mut()) == 0
            && libc::prlimit(child.id() as i32, libc::RLIMIT_DATA, &limit, std::ptr::null_mut()) == 0
    };
    assert!(set);
}

#[test]
fn an_observer_without_memory_costs_the_log_only_and_the_bytes_are_counted() {
    for overload in ["lose", "wait"] {
        let home = Home::new();
        // With one arena the heap grows by calls that the limit refuses.
        let run = Run::wrapping("cat").home(&home).options(&["--overload", overload]).unhurried();
        let run = run.env("MALLOC_ARENA_MAX", "1");
        let mut session = run.start();
        let before = tool_calls(2);
        session.exchange(&before, 2);
        let is_recorded = || {
            let log = logs_in(&home.logs()).pop();
            log.is_some_and(|log| std::fs::read_to_string(log).unwrap().contains("session_started"))
        };
        wait_until("the session is recorded", is_recorded);
        starve(&session.child);
        // More open requests than the memory at hand can describe, and more bytes than the rings hold.
        let rest = tool_calls(250_000);
        let lines = session.exchange(&rest, 250_000);
        assert!(lines.join("\n").as_bytes() == &rest[..rest.len() - 1]);
        let begun = Instant::now();
        let (status, said) = session.end();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(begun.elapsed() < LONG / 2, "the end waits for an observer that is gone");
        assert!(
            said.starts_with("spantap: out of memory: the rest of this session is not recorded"),
            "{said}"
        );
        let (_, sum) = said.split_once('\n').unwrap();
        assert!(sum.contains(" bytes were forwarded but not recorded: out of memory"), "{said}");
    }
}

#[test]
fn stacks_do_not_depend_on_the_environment() {
    for size in ["1", "20000", "65536", "99999999999", "nonsense"] {
        // A name makes the client look it up, on a thread of its own.
        let run = Run::wrapping("cat").unhurried().env("RUST_MIN_STACK", size);
        let run = run.options(&["--otlp", "http://localhost:9", "-v"]).send(tool_calls(300));
        let ended = run.expect_exit(0).expect_echo();
        assert_eq!(ended.totals()["frames_lost"], 0, "{size}");
    }
}

#[test]
fn the_main_thread_needs_little_stack() {
    for kilobytes in [256, 128, 64, 16] {
        let limit = format!("ulimit -s {kilobytes}; exec \"$@\"");
        let run = Run::wrapping("cat").launched_by(&["bash", "-c", &limit, "bash"]).unhurried();
        run.send(tool_calls(300)).expect_exit(0).expect_echo();
    }
}

#[test]
fn deep_nesting_needs_no_stack() {
    let deep = |open: &str, close: &str| format!("{}1{}\n", open.repeat(200_000), close.repeat(200_000));
    let message = |value: &str| {
        let value = value.trim_end();
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"t\",\"arguments\":{value}}}}}\n"
        )
    };
    for value in [deep("[", "]"), deep("{\"a\":", "}"), deep("[{\"a\":", "}]")] {
        for line in [value.clone(), message(&value)] {
            let run = Run::wrapping("cat").unhurried().send(line);
            let totals = run.expect_exit(0).expect_echo().totals();
            assert_eq!(totals["observer_panics"], 0, "{totals}");
        }
    }
}

#[test]
fn a_closed_stderr_of_a_server_that_goes_on_ends_the_hosts_at_once() {
    let run = Run::wrapping_script("exec 2>&-; cat; sleep 0.1");
    let mut command = run.command();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    assert!(child.try_wait().unwrap().is_none(), "the server has not ended");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
