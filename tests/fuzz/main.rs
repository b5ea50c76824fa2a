//! Hostile input for every parser of outside data, on the stable toolchain: a loop that cuts, repeats, swaps
//! and flips the contents of `fixtures`. `coverage.rs` runs the same targets guided by coverage.
//!
//! ```text
//! cargo test --test fuzz                              one second for each target
//! FUZZ_SECONDS=1800 cargo test --test fuzz splice     half an hour for one of them
//! FUZZ_SEED=7                                         other inputs; the default is the same each time
//! FUZZ_INPUT=FILE cargo test --test fuzz splice       one input, its panic shown
//! FUZZ_SEEDS=FOLDER                                   writes the seeds of each target, and ends
//! ```
//!
//! Earlier findings are in `fixtures/fuzz/<target>` and run first. An input that breaks a promise is written
//! to `target/fuzz`, and its path is printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[path = "../it/model.rs"]
mod model;
mod random;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../it/replay.rs"]
mod replay;
mod targets;

use random::{Random, input};
use targets::{TARGETS, Target, Unit};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Returns the files below a folder, ordered by path, without READMEs.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder], Vec::new());
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("README.md") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Returns the findings of earlier runs: each is one whole input.
fn findings(target: &Target) -> Vec<Vec<u8>> {
    let files = files(fixtures().join("fuzz").join(target.name));
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Returns the seeds of a target.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for folder in target.seeds {
        if target.unit == Unit::Session {
            let entries =
                std::fs::read_dir(fixtures().join(folder)).unwrap().map(|entry| entry.unwrap().path());
            seeds.extend(entries.filter(|path| path.is_dir()).map(|folder| session(&folder)));
            continue;
        }
        for file in files(fixtures().join(folder)) {
            let text = std::fs::read(file).unwrap();
            if target.unit == Unit::Line {
                seeds.extend(text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec));
            } else {
                seeds.push(text);
            }
        }
    }
    seeds.sort();
    seeds.dedup();
    assert!(!seeds.is_empty(), "{} has something to start from", target.name);
    seeds
}

/// Returns a recorded session in the form that the target `session` reads.
fn session(folder: &Path) -> Vec<u8> {
    let lines = |file: &str| {
        let bytes = std::fs::read(folder.join(file)).unwrap_or_default();
        bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter()
    };
    let (mut client, mut server) = (lines("client.jsonl"), lines("server.jsonl"));
    let mut input = Vec::new();
    for step in std::fs::read_to_string(folder.join("order")).unwrap().split_whitespace() {
        let (mark, line) = match step {
            ">" => (b'>', client.next()),
            "<" => (b'<', server.next()),
            "x>" => (b')', client.next()),
            "x<" => (b'(', server.next()),
            _ => continue,
        };
        input.push(mark);
        input.extend(line.unwrap_or_default());
    }
    input
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs one target for `time`. Returns true if it held.
fn fuzz(target: &Target, time: Duration, seed: u64) -> bool {
    let (findings, seeds) = (findings(target), seeds(target));
    let (mut random, mut inputs) = (Random::new(seed), 0);
    let start = Instant::now();
    // All findings run first, then unchanged seeds and changed ones in turns, because a second may be too
    // short for all.
    let mut plain = seeds.iter().cycle().skip(random.below(seeds.len())).take(seeds.len());
    while inputs < findings.len() || start.elapsed() < time {
        let known = match findings.get(inputs) {
            Some(finding) => Some(finding),
            None if inputs.is_multiple_of(2) => plain.next(),
            None => None,
        };
        let input = known.cloned().unwrap_or_else(|| input(&seeds, &mut random));
        inputs += 1;
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../fuzz");
            let path = folder.join(format!("{}-{seed}-{inputs}", target.name));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &input).unwrap();
            say(&format!("{}: broken by {}", target.name, path.display()));
            return false;
        }
    }
    say(&format!("{}: {inputs} inputs, {} of them findings of earlier days", target.name, findings.len()));
    true
}

/// Calls `run` for all targets, as many at a time as there are cores. Returns true if all held.
fn for_each(targets: &[&Target], run: impl Fn(&Target) -> bool + Sync) -> bool {
    let (next, held) = (AtomicUsize::new(0), AtomicBool::new(true));
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            held.fetch_and(run(target), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            // What nests deeply fits the stack of a main thread.
            std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, work).unwrap();
        }
    });
    held.into_inner()
}

fn main() -> ExitCode {
    // The test runner may pass flags. A plain word selects targets.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted =
        |target: &&Target| wanted.is_empty() || wanted.iter().any(|word| target.name.contains(word.as_str()));
    let time = Duration::from_secs(number("FUZZ_SECONDS", 1));
    let seed = number("FUZZ_SEED", 1);
    let targets: Vec<&Target> = TARGETS.iter().filter(is_wanted).collect();
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        for target in targets {
            let folder = PathBuf::from(&folder).join(target.name);
            std::fs::create_dir_all(&folder).unwrap();
            for (number, seed) in seeds(target).into_iter().chain(findings(target)).enumerate() {
                std::fs::write(folder.join(format!("seed-{number:05}")), seed).unwrap();
            }
        }
        return ExitCode::SUCCESS;
    }
    if let Some(path) = std::env::var_os("FUZZ_INPUT") {
        let input = std::fs::read(path).unwrap();
        targets.iter().for_each(|target| (target.run)(&input));
        return ExitCode::SUCCESS;
    }
    let held = for_each(&targets, |target| fuzz(target, time, seed));
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
