//! Tests any wrapper of stdio servers for the promises of transparency.
//!
//! `cargo test --test conformance` tests spantap and, for reference, `env` (on Windows no wrapper at all), which must
//! keep all promises; on Linux also relays with one defect each, which it must reject. `cargo test --test conformance --
//! --wrapper 'COMMAND …'` tests another wrapper. See README.md beside this file.
#![allow(clippy::print_stdout, reason = "a test runner prints its result")]

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(target_os = "linux")]
mod broken;
mod cases;
mod noise;
mod party;
mod rig;
mod server;
mod sys;
mod table;

use rig::Rig;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(first) = arguments.first() {
        if let Some(role) = first.strip_prefix("role:") {
            std::process::exit(server::play(role, &arguments[1..]));
        }
        #[cfg(target_os = "linux")]
        if let Some(defect) = first.strip_prefix("broken:") {
            if !matches!(defect, "none" | "outlives-its-host") {
                sys::die_with_parent();
            }
            std::process::exit(broken::relay(defect, &arguments[1..]));
        }
    }
    let mut words = arguments.iter();
    let mut wrapper = None;
    let mut skipped = Vec::new();
    let mut filter = String::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--wrapper" => wrapper = words.next(),
            "--skip" => skipped.extend(words.next()),
            // Options that `cargo test` and its users pass to every test binary.
            option if option.starts_with('-') => {}
            text => filter = text.to_owned(),
        }
    }
    let tests = match wrapper {
        Some(line) => keeps_all("wrapper", line.split(' ').map(OsString::from).collect()),
        None => own_tests(),
    };
    let is_chosen = |test: &Test| {
        test.name.contains(&filter) && !skipped.iter().any(|part| test.name.contains(part.as_str()))
    };
    let chosen: Vec<Test> = tests.into_iter().filter(is_chosen).collect();
    // Without a wrapper the word may be meant for another test binary.
    if chosen.is_empty() && wrapper.is_some() {
        println!("no case has `{filter}` in its name");
        return ExitCode::FAILURE;
    }
    run(chosen)
}

struct Test {
    name: String,
    body: Box<dyn Fn() -> rig::Verdict + Send + Sync>,
}

/// One test for each case.
fn keeps_all(who: &str, wrapper: Vec<OsString>) -> Vec<Test> {
    keeps_all_with(who, Rig::new(wrapper))
}

fn keeps_all_with(who: &str, rig: Rig) -> Vec<Test> {
    let rig = std::sync::Arc::new(rig);
    let test = |cases::NamedCase { name, case }| {
        let rig = std::sync::Arc::clone(&rig);
        Test { name: format!("{who}::{name}"), body: Box::new(move || case(&rig)) }
    };
    cases::cases().into_iter().map(test).collect()
}

/// The cases in which a server ends, with `notify` commands that hang or cannot run. Without a log each connection
/// counts the minute between two notifications for itself, so the command runs in each case.
#[cfg(unix)]
fn with_notify() -> Vec<Test> {
    let this = std::env::current_exe().unwrap_or_default();
    let endings = ["status/", "copy/", "matrix/server-", "matrix/death-by"];
    let mut tests = Vec::new();
    for (what, notify) in [
        ("hangs", format!("['{}', 'role:holder']", this.display())),
        ("is missing", "'/nonexistent/program'".to_owned()),
        ("is not executable", "'/etc/passwd'".to_owned()),
    ] {
        let rig = spantap(&[]);
        let folder = rig.home.path().join(".config/spantap");
        let made = std::fs::create_dir_all(&folder).and_then(|()| {
            std::fs::write(folder.join("config.toml"), format!("log = false\nnotify = {notify}"))
        });
        made.expect("a config file");
        let who = format!("spantap with a notifier that {what}");
        let all = keeps_all_with(&who, rig).into_iter();
        tests.extend(
            all.filter(|test| endings.iter().any(|ending| test.name.contains(&format!("::{ending}")))),
        );
    }
    tests
}

/// Cases that need a wrapper.
#[cfg(windows)]
const OF_WRAPPERS: [&str; 1] = ["status/cannot-start"];

/// Returns a rig of spantap with these options. Only Linux can enlarge a pipe. Elsewhere spantap waits only a short time
/// for a host that does not read stderr.
fn spantap(options: &[&str]) -> Rig {
    let words = [env!("CARGO_BIN_EXE_spantap")].iter().chain(options).chain(&["--"]);
    let mut rig = Rig::new(words.map(OsString::from).collect());
    rig.drops_unread_stderr = cfg!(not(target_os = "linux"));
    rig
}

/// Tests spantap and a server without a wrapper.
#[cfg(windows)]
fn own_tests() -> Vec<Test> {
    let mut tests = keeps_all_with("spantap", spantap(&[]));
    let is_for_wrappers = |test: &Test| OF_WRAPPERS.iter().any(|case| test.name.ends_with(case));
    tests.extend(keeps_all("no wrapper", Vec::new()).into_iter().filter(|test| !is_for_wrappers(test)));
    tests
}

/// The broken relays end with their host by the parent-death signal of Linux.
#[cfg(unix)]
fn own_tests() -> Vec<Test> {
    let mut tests = keeps_all_with("spantap", spantap(&[]));
    tests.extend(keeps_all_with("spantap with --propagate meta", spantap(&["--propagate", "meta"])));
    tests.extend(with_notify());
    tests.extend(keeps_all("env", vec!["env".into()]));
    #[cfg(target_os = "linux")]
    tests.extend(broken_relays());
    tests
}

/// A sound relay passes the cases by which those with a defect are caught.
#[cfg(target_os = "linux")]
fn broken_relays() -> Vec<Test> {
    let mut tests = Vec::new();
    let this = std::env::current_exe().unwrap_or_default().into_os_string();
    let relay = |defect: &str| vec![this.clone(), format!("broken:{defect}").into()];
    // A case that fails without a defect shows nothing about a defect.
    let pointed_at: std::collections::BTreeSet<&str> =
        broken::DEFECTS.iter().map(|(_, case, _)| *case).collect();
    let sound = keeps_all("", relay("none"));
    tests.extend(sound.into_iter().filter_map(|Test { name, body }| {
        let case = name.strip_prefix("::").filter(|case| pointed_at.contains(case))?;
        Some(Test { name: format!("the relay without a defect passes {case}"), body })
    }));
    for (defect, caught_by, with) in broken::DEFECTS {
        let wrapper = relay(defect);
        let case = cases::cases().into_iter().find(|case| case.name == *caught_by);
        let body = move || match &case {
            None => Err(format!("unknown case `{caught_by}`")),
            Some(cases::NamedCase { case, .. }) => {
                rig::be_impatient();
                match case(&Rig::new(wrapper.clone())) {
                    Err(reason) if with.split('|').any(|words| reason.contains(words)) => Ok(()),
                    Err(reason) => Err(format!("`{reason}` instead of `{with}`")),
                    Ok(()) => Err(format!("a relay that {defect} was not caught")),
                }
            }
        };
        tests.push(Test { name: format!("broken::{defect} is caught by {caught_by}"), body: Box::new(body) });
    }
    tests
}

/// Runs a few tests at a time and prints like the usual runner.
fn run(tests: Vec<Test>) -> ExitCode {
    println!("\nrunning {} tests", tests.len());
    let failures = Mutex::new(Vec::new());
    // Cases with broken relays mostly wait.
    let (waiting, working): (Vec<Test>, Vec<Test>) =
        tests.into_iter().partition(|test| test.name.starts_with("broken::"));
    for (tests, at_once) in [(&working, 4), (&waiting, 10)] {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = (test.body)();
                        // A run that is stopped before its end has told the reasons, too.
                        match &verdict {
                            Ok(()) => println!("test {} ... ok", test.name),
                            Err(reason) => println!("test {} ... FAILED: {reason}", test.name),
                        }
                        if let (Err(reason), Ok(mut failures)) = (verdict, failures.lock()) {
                            failures.push(format!("{}: {reason}", test.name));
                        }
                    }
                });
            }
        });
    }
    let failures = failures.into_inner().unwrap_or_default();
    for failure in &failures {
        println!("\n---- {failure}");
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    let (passed, failed) = (working.len() + waiting.len() - failures.len(), failures.len());
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
