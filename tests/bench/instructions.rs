//! Counts the instructions of the program with `valgrind --tool=callgrind`. Other load on the machine does not
//! change these counts, so a small loss is seen in them.
//!
//! callgrind simulates a processor without instructions for SHA-256, which take a small part of the time on a real
//! one. The messages are short, so that the hashes do not hide the rest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::block;
use crate::counts::Counts;
use crate::figures::{Bar, Figures};
use crate::host::{self, Bench, Link};
use crate::observe;
use crate::otlp::Collector;

/// Bytes of a request and of an answer.
const SIZE: usize = 200;
/// Calls of the shorter of two sessions, and records of the smaller of two logs.
const CALLS: u64 = 1000;
const RECORDS: u64 = 4000;
/// Each run is repeated, and the smallest count is used: looks at empty rings and waits for locks add to it.
const ATTEMPTS: usize = 3;

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/instructions.tsv");

pub fn instructions(_: &Bench, _: bool, figures: &mut Figures) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let collector = Collector::start()?;
    let kept = Counts::parse(&fs::read_to_string(KEPT).unwrap_or_default()).map_err(io::Error::other)?;
    let mut counts = Counts::default();
    let mut count = |name: &str, counted: io::Result<u64>| -> io::Result<()> {
        let counted = counted?;
        figures.add(format!("instructions, {name}"), counted as f64, "", Bar::None, "");
        counts.0.insert(name.to_owned(), counted);
        Ok(())
    };
    let counter = Counter(folder.path());
    count("start, main thread", counter.start())?;
    count("one call observed", counter.call(&[]))?;
    count("one call observed, with OTLP", counter.call(&["--otlp", &collector.endpoint]))?;
    count("one record read by stats", counter.record())?;

    let differences = counts.differences(&kept);
    if differences.is_empty() {
        return Ok(());
    }
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        return fs::write(KEPT, counts.text());
    }
    Err(io::Error::other(format!(
        "counts differ from tests/bench/instructions.tsv:\n  {}\nkeep the new counts with \
         `UPDATE_FIXTURES=1 cargo bench --bench proxy -- instructions`, and commit the file with the change",
        differences.join("\n  ")
    )))
}

/// Runs the program under callgrind, with the files of the run in this folder.
struct Counter<'a>(&'a Path);

impl Counter<'_> {
    /// Returns the command that counts, without the arguments of the program.
    fn command(&self, out: &Path) -> Command {
        let mut command = Command::new("valgrind");
        let output = format!("--callgrind-out-file={}/%p", out.display());
        command.args(["--quiet", "--tool=callgrind", "--separate-threads=yes", &output]);
        command.arg(host::spantap());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.0).current_dir(self.0);
        // Spans are sent in full batches and at the end, so their number of requests depends on no clock.
        command.env("OTEL_BSP_SCHEDULE_DELAY", "600000").env("OTEL_METRIC_EXPORT_INTERVAL", "600000");
        command
    }

    /// Calls `act` several times with an empty folder for the counts. Returns the smallest number of instructions of all
    /// threads, or of the main thread alone.
    fn counted(&self, main_alone: bool, act: impl Fn(&Path) -> io::Result<()>) -> io::Result<u64> {
        let mut least = None;
        for _ in 0..ATTEMPTS {
            let out = tempfile::tempdir_in(self.0)?;
            act(out.path())?;
            // One file for each thread, the main thread's first, after one without a sum.
            let mut files: Vec<PathBuf> =
                fs::read_dir(out.path())?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
            files.sort();
            let counts = files.iter().filter_map(|file| total(&fs::read_to_string(file).ok()?));
            let sum: u64 = counts.take(if main_alone { 1 } else { usize::MAX }).sum();
            least = least.into_iter().chain((sum > 0).then_some(sum)).min();
        }
        least.ok_or_else(|| io::Error::other("callgrind has counted nothing"))
    }

    /// Returns the instructions of the main thread of a session that ends at once. Most of them come before the start
    /// of the server.
    fn start(&self) -> io::Result<u64> {
        self.counted(true, |out| {
            let mut command = self.command(out);
            command.args(["--no-log", "--", "/bin/true"]).stdin(Stdio::null());
            succeeded(command.status()?.success())
        })
    }

    /// Returns the instructions of all threads for one call of a session.
    fn call(&self, options: &[&str]) -> io::Result<u64> {
        let session = |calls| self.session(calls, options);
        Ok(session(2 * CALLS)?.saturating_sub(session(CALLS)?) / CALLS)
    }

    fn session(&self, calls: u64, options: &[&str]) -> io::Result<u64> {
        self.counted(false, |out| {
            let logs = tempfile::tempdir_in(self.0)?;
            let mut command = self.command(out);
            command.arg("--log-dir").arg(logs.path()).args(["--server", "bench"]).args(options);
            // callgrind is fifty times slower than a processor. The end waits until all calls are recorded.
            command.args(["--overload", "wait", "--"]).arg(std::env::current_exe()?);
            command.args(["role:echo", &SIZE.to_string(), &SIZE.to_string()]);
            let mut link = Link::piped(&mut command)?;
            block(&mut link, 0, calls, [SIZE, SIZE], Duration::ZERO)?;
            link.finish()
        })
    }

    /// Returns the instructions of all threads of `spantap stats` for one record.
    fn record(&self) -> io::Result<u64> {
        let reading = |records| -> io::Result<u64> {
            let logs = tempfile::tempdir_in(self.0)?;
            observe::write_log(logs.path(), records, [SIZE, SIZE])?;
            self.counted(false, |out| {
                let mut command = self.command(out);
                command.args(["stats", "--log-dir"]).arg(logs.path()).stdout(Stdio::null());
                succeeded(command.status()?.success())
            })
        };
        Ok(reading(2 * RECORDS)?.saturating_sub(reading(RECORDS)?) / RECORDS)
    }
}

/// Returns the sum in a file of callgrind.
fn total(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

fn succeeded(success: bool) -> io::Result<()> {
    if success { Ok(()) } else { Err(io::Error::other("valgrind or spantap has failed")) }
}
