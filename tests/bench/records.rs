//! Counts the records under a steady load, in a burst and at saturation.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::figures::{Bar, Figures};
use crate::host::{Bench, Candidate, Wiring};
use crate::{roles, wire};

/// Tool calls in each burst; each is a request and an answer of at most 100 bytes.
const BURST: u64 = 100_000;
/// Length of the longest message of a burst, in bytes.
const SMALL: usize = 100;

/// The counts in the log of one connection.
#[derive(Debug, Default)]
struct Seen {
    tool_calls: u64,
    ok: u64,
    stdout_frames: u64,
    frames_lost: u64,
    bytes_lost: u64,
    records_dropped: u64,
}

/// Reads all parts of the one log in `logs` and empties the folder.
fn collect(logs: &Path) -> io::Result<Seen> {
    let mut seen = Seen::default();
    for entry in std::fs::read_dir(logs)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in BufReader::new(std::fs::File::open(&path)?).lines() {
            let record: Value = serde_json::from_str(&line?)?;
            match record["event"].as_str() {
                Some("mcp_tool_call") => {
                    seen.tool_calls += 1;
                    seen.ok += u64::from(record["status"] == "ok");
                }
                Some("session_ended") => {
                    let total = |name: &str| record["totals"][name].as_u64().unwrap_or(0);
                    seen.stdout_frames = total("stdout_frames");
                    seen.frames_lost = total("frames_lost");
                    seen.bytes_lost = total("bytes_lost");
                    let dropped = record["dropped"].as_object();
                    seen.records_dropped =
                        dropped.into_iter().flat_map(|map| map.values()).filter_map(Value::as_u64).sum();
                }
                _ => {}
            }
        }
        std::fs::remove_file(path)?;
    }
    Ok(seen)
}

pub fn whole_logs(bench: &Bench, short: bool, figures: &mut Figures) -> io::Result<()> {
    let seconds = if short { 3 } else { 30 };
    let folder = tempfile::tempdir()?;
    let bench = Bench { logs: folder.path().to_owned(), options: bench.options.clone() };

    let (size, rate) = (1024, 25e6);
    let count = (rate * seconds as f64 / size as f64) as u64;
    let link = bench.start(
        Candidate::Spantap,
        Wiring::Pipes,
        &["role:sink", &count.to_string(), &size.to_string()],
    )?;
    let mut to = link.writer()?;
    roles::pour(&mut to, count, size, Some(rate))?;
    drop(to);
    link.finish()?;
    let seen = collect(folder.path())?;
    let note = format!("{count} frames of 1 KiB at 25 MB/s for {seconds} s");
    // The short form runs beside other work, and the observer yields to it.
    let bar = if short { Bar::None } else { Bar::AtMost(0.0) };
    figures.add("frames lost, steady load", seen.frames_lost as f64, "", bar, note);

    let (peak, took) = burst(&bench)?;
    let seen = collect(folder.path())?;
    let missing = BURST.saturating_sub(seen.ok);
    let note = format!("{BURST} calls in {took:.2} s, peak {peak:.1} MiB; {seen:?}");
    figures.add("calls lost, burst of 200,000 messages", missing as f64, "", bar, note);
    figures.add("peak resident memory, burst", peak, "MiB", Bar::AtMost(48.0), "");
    Ok(())
}

/// Sends the burst at full speed. Returns the peak memory of spantap in MiB and the seconds.
fn burst(bench: &Bench) -> io::Result<(f64, f64)> {
    let small = SMALL.to_string();
    let mut link = bench.start(Candidate::Spantap, Wiring::Pipes, &["role:echo", &small, &small])?;
    let mut to = link.writer()?;
    let start = Instant::now();
    let writer = std::thread::spawn(move || -> io::Result<()> {
        let mut buffer = Vec::with_capacity(1 << 17);
        for n in 0..BURST {
            wire::request(n, SMALL, &mut buffer);
            buffer.push(b'\n');
            if buffer.len() >= 1 << 16 || n + 1 == BURST {
                to.write_all(&buffer)?;
                buffer.clear();
            }
        }
        Ok(())
    });
    let mut n = 0;
    let mut expected = Vec::new();
    let mut intact = true;
    wire::lines(
        |buffer| link.from.read(buffer),
        |line| {
            expected.clear();
            wire::response(n, SMALL, &mut expected);
            intact &= line == expected;
            n += 1;
            intact && n < BURST
        },
        || {},
    )?;
    let took = start.elapsed().as_secs_f64();
    writer.join().map_err(|_| io::Error::other("the writer panicked"))??;
    let peak = link.memory("VmHWM");
    link.finish()?;
    if intact && n == BURST {
        Ok((peak, took))
    } else {
        Err(io::Error::other("an answer was changed or lost"))
    }
}

pub fn saturation(bench: &Bench, short: bool, figures: &mut Figures) -> io::Result<()> {
    let bytes: u64 = if short { 64 << 20 } else { 512 << 20 };
    let size = 1024;
    let count = bytes / size as u64;
    for (policy, bar) in [("lose", Bar::None), ("wait", Bar::AtMost(0.0))] {
        let folder = tempfile::tempdir()?;
        let options =
            [bench.options.iter().map(String::as_str).collect(), vec!["--overload", policy]].concat();
        let bench = Bench { logs: folder.path().to_owned(), ..bench.with(&options) };
        let start = Instant::now();
        let mut link = bench.start(
            Candidate::Spantap,
            Wiring::Pipes,
            &["role:source", &count.to_string(), &size.to_string()],
        )?;
        let mut to = link.writer()?;
        to.write_all(b"\n")?;
        roles::check(&mut link.from, count, size)?;
        let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
        drop(to);
        link.finish()?;
        let seen = collect(folder.path())?;
        let note = format!("{count} frames of 1 KiB at {rate:.0} MB/s");
        figures.add(
            format!("frames not observed, saturation, --overload={policy}"),
            seen.frames_lost as f64,
            "",
            bar,
            note,
        );
        let unaccounted = count.abs_diff(seen.stdout_frames + seen.frames_lost);
        figures.add(
            format!("frames neither observed nor counted as lost, --overload={policy}"),
            unaccounted as f64,
            "",
            Bar::AtMost(0.0),
            "",
        );
    }
    Ok(())
}
