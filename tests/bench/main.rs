//! `cargo bench`: the cost of spantap, compared with a direct connection and with a relay of two plain
//! copies.
//!
//! All candidates are alive at the same time and take turns in random order, so that other work on the
//! machine affects them alike. The results are ratios. Every byte is checked during the measurement. `cargo
//! bench -- --short` is the form for CI: fewer rounds, and it fails only above twice a bar. `-- instructions`
//! counts instructions instead.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its result")]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

mod counts;
mod figures;
mod host;
mod instructions;
mod observe;
mod otlp;
mod records;
mod roles;
mod wire;

use figures::{Bar, Figures, median, quantile};
use host::{Bench, Candidate, Link, Wiring};

/// Bytes of a request and of its answer.
const SIZES: [usize; 2] = [200, 1024];

fn main() -> ExitCode {
    roles::play();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let short = arguments.iter().any(|argument| argument == "--short");
    let only: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let logs = tempfile::tempdir().expect("a folder for temporary files");
    let bench = Bench::new(logs.path());
    let mut figures = Figures::default();
    // Instructions are counted only if they are asked for: this needs valgrind, and says nothing about time.
    let wanted = |name: &str| only.contains(&name) || (only.is_empty() && name != "instructions");
    let parts: [(&str, Part); 16] = [
        ("instructions", instructions::instructions),
        ("observe", observe::observe),
        ("calls", |bench, short, figures| closed_loop(bench, short, Wiring::Pipes, figures)),
        ("calls", |bench, short, figures| sparse(bench, short, Wiring::Pipes, figures)),
        ("calls", |bench, short, figures| propagating(bench, short, Wiring::Pipes, figures)),
        ("calls", |bench, short, figures| all_cores_busy(bench, short, Wiring::Pipes, figures)),
        ("calls", |bench, short, figures| closed_loop(bench, short, Wiring::Sockets, figures)),
        ("calls", |bench, short, figures| sparse(bench, short, Wiring::Sockets, figures)),
        ("calls", |bench, short, figures| propagating(bench, short, Wiring::Sockets, figures)),
        ("calls", |bench, short, figures| all_cores_busy(bench, short, Wiring::Sockets, figures)),
        ("throughput", throughput),
        ("start", start_and_end),
        ("memory", memory),
        ("whole", records::whole_logs),
        ("saturation", records::saturation),
        ("otlp", otlp::exporting),
    ];
    let (slack, attempts) = if short { (2.0, 5) } else { (1.0, 1) };
    for (name, part) in parts.into_iter().filter(|(name, _)| wanted(name)) {
        let past_before = figures.past(slack);
        for _ in 0..attempts {
            if let Err(error) = part(&bench, short, &mut figures) {
                eprintln!("{name}: {error}");
                return ExitCode::FAILURE;
            }
            if figures.past(slack) == past_before {
                break;
            }
        }
    }
    figures.print();
    match figures.past(slack) {
        0 => ExitCode::SUCCESS,
        over => {
            eprintln!("{over} figures are past their bar (times {slack})");
            ExitCode::FAILURE
        }
    }
}

type Part = fn(&Bench, bool, &mut Figures) -> io::Result<()>;

/// Makes one call after the other. Returns the time of each, in microseconds.
fn block(
    link: &mut Link,
    first: u64,
    calls: u64,
    [request_size, response_size]: [usize; 2],
    pause: Duration,
) -> io::Result<Vec<f64>> {
    let mut request = Vec::new();
    let mut expected = Vec::new();
    let mut answer = vec![0; response_size + 1];
    let mut times = Vec::new();
    for n in first..first + calls {
        request.clear();
        wire::request(n, request_size, &mut request);
        request.push(b'\n');
        expected.clear();
        wire::response(n, response_size, &mut expected);
        expected.push(b'\n');
        std::thread::sleep(pause);
        let start = Instant::now();
        let to = link.to.as_mut().ok_or_else(|| io::Error::other("closed"))?;
        to.write_all(&request)?;
        link.from.read_exact(&mut answer)?;
        times.push(start.elapsed().as_nanos() as f64 / 1e3);
        if answer != expected {
            return Err(io::Error::other("an answer was changed"));
        }
    }
    Ok(times)
}

fn closed_loop(bench: &Bench, short: bool, wiring: Wiring, figures: &mut Figures) -> io::Result<()> {
    // The short form runs beside other work, which makes the slowest hundredth meaningless.
    let p99_bar = (!short).then_some(2.0);
    let name = format!("closed loop, {}", wiring.name());
    Plan::closed_loop(short, wiring).measure(bench, &name, 1.15, p99_bar, figures)
}

fn sparse(bench: &Bench, short: bool, wiring: Wiring, figures: &mut Figures) -> io::Result<()> {
    let name = format!("a call every 20 ms, {}", wiring.name());
    Plan::sparse(short, wiring).measure(bench, &name, 1.25, None, figures)
}

fn propagating(bench: &Bench, short: bool, wiring: Wiring, figures: &mut Figures) -> io::Result<()> {
    let bench = bench.with(&["--propagate", "meta"]);
    let plan = Plan { role: "role:echo-context", cpu_bar: Bar::None, ..Plan::closed_loop(short, wiring) };
    plan.measure(&bench, &format!("--propagate meta, {}", wiring.name()), 1.5, None, figures)
}

fn all_cores_busy(bench: &Bench, short: bool, wiring: Wiring, figures: &mut Figures) -> io::Result<()> {
    let _busy = Spinners::start(std::thread::available_parallelism()?.get())?;
    let name = format!("all cores busy, {}", wiring.name());
    Plan::closed_loop(short, wiring).measure(bench, &name, 1.25, None, figures)
}

struct Plan {
    rounds: u64,
    blocks: u64,
    calls: u64,
    pause: Duration,
    wiring: Wiring,
    role: &'static str,
    /// Reports the CPU time of a call. The cost of encoding for a collector, and of a wake-up for a rare
    /// call, has no bar.
    cpu_bar: Bar,
}

impl Plan {
    fn closed_loop(short: bool, wiring: Wiring) -> Plan {
        let (pause, role) = (Duration::ZERO, "role:echo");
        let rounds = if short { 3 } else { 8 };
        Plan { rounds, blocks: 12, calls: 150, pause, wiring, role, cpu_bar: Bar::AtMost(1.6) }
    }

    fn sparse(short: bool, wiring: Wiring) -> Plan {
        let plan = Plan::closed_loop(short, wiring);
        Plan { blocks: 2, calls: 10, pause: Duration::from_millis(20), cpu_bar: Bar::None, ..plan }
    }

    fn measure(
        &self,
        bench: &Bench,
        name: &str,
        bar: f64,
        p99_bar: Option<f64>,
        figures: &mut Figures,
    ) -> io::Result<()> {
        let mut samples: BTreeMap<Candidate, Vec<f64>> = BTreeMap::new();
        let mut cpu: BTreeMap<Candidate, f64> = BTreeMap::new();
        let mut ratios = Vec::new();
        let mut random = Random(clock_seed());
        for _ in 0..self.rounds {
            let mut links = BTreeMap::new();
            for candidate in Candidate::ALL {
                let sizes = SIZES.map(|size| size.to_string());
                let mut link = bench.start(candidate, self.wiring, &[self.role, &sizes[0], &sizes[1]])?;
                block(&mut link, 0, 50, SIZES, Duration::ZERO)?;
                let before = link.cpu();
                links.insert(candidate, (link, before));
            }
            let mut round: BTreeMap<Candidate, Vec<f64>> = BTreeMap::new();
            for number in 0..self.blocks {
                for candidate in random.shuffled(Candidate::ALL) {
                    let Some((link, _)) = links.get_mut(&candidate) else { continue };
                    let times = block(link, 50 + number * self.calls, self.calls, SIZES, self.pause)?;
                    round.entry(candidate).or_default().push(median(&times));
                    samples.entry(candidate).or_default().extend(times);
                }
            }
            for (candidate, (link, before)) in links {
                *cpu.entry(candidate).or_default() += link.cpu() - before;
                link.finish()?;
            }
            let [direct, copies, spantap] = Candidate::ALL.map(|candidate| &round[&candidate]);
            for ((direct, copies), spantap) in direct.iter().zip(copies).zip(spantap) {
                if copies > direct {
                    ratios.push((spantap - direct) / (copies - direct));
                }
            }
        }
        let added =
            |candidate, q| quantile(&samples[&candidate], q) - quantile(&samples[&Candidate::Direct], q);
        let [copies, spantap] = [Candidate::Copies, Candidate::Spantap];
        let note = format!("{:.1} us added; two copies {:.1} us", added(spantap, 0.5), added(copies, 0.5));
        figures.add(
            format!("added round trip / two copies, {name}"),
            median(&ratios),
            "x",
            Bar::AtMost(bar),
            note,
        );
        let note = format!("{:.0} us added; two copies {:.0} us", added(spantap, 0.99), added(copies, 0.99));
        let p99 = added(spantap, 0.99) / added(copies, 0.99);
        figures.add(
            format!("added p99 / two copies, {name}"),
            p99,
            "x",
            p99_bar.map_or(Bar::None, Bar::AtMost),
            note,
        );
        let count = (self.rounds * self.blocks * self.calls) as f64;
        let milliseconds = |candidate: Candidate| cpu[&candidate] * 1e3 / count * 1e4;
        let note = format!("{:.0} ms; two copies {:.0} ms", milliseconds(spantap), milliseconds(copies));
        figures.add(
            format!("CPU for 10,000 calls / two copies, {name}"),
            milliseconds(spantap) / milliseconds(copies),
            "x",
            self.cpu_bar,
            note,
        );
        Ok(())
    }
}

fn throughput(bench: &Bench, short: bool, figures: &mut Figures) -> io::Result<()> {
    let rounds = if short { 5 } else { 9 };
    let bytes: u64 = if short { 96 << 20 } else { 256 << 20 };
    let mut random = Random(clock_seed());
    for (size, label) in [(1 << 10, "1 KiB"), (1 << 16, "64 KiB"), (1 << 20, "1 MiB")] {
        for up in [false, true] {
            let count = bytes / size as u64;
            let mut rates: BTreeMap<Candidate, Vec<f64>> = BTreeMap::new();
            let mut ratios = Vec::new();
            for _ in 0..rounds {
                let mut round = BTreeMap::new();
                for candidate in random.shuffled(Candidate::ALL) {
                    let seconds = transfer(bench, candidate, count, size, up)?;
                    let rate = bytes as f64 / 1e6 / seconds;
                    round.insert(candidate, rate);
                    rates.entry(candidate).or_default().push(rate);
                }
                ratios.push(round[&Candidate::Spantap] / round[&Candidate::Copies]);
            }
            let way = if up { "to the server" } else { "to the client" };
            let rate = |candidate: Candidate| median(&rates[&candidate]);
            let note = format!(
                "{:.0} MB/s; two copies {:.0}, direct {:.0}",
                rate(Candidate::Spantap),
                rate(Candidate::Copies),
                rate(Candidate::Direct)
            );
            figures.add(
                format!("throughput / two copies, {label} {way}"),
                median(&ratios),
                "x",
                Bar::AtLeast(0.90),
                note,
            );
        }
    }
    Ok(())
}

/// Returns the seconds that `count` frames of `size` bytes take through `candidate`.
fn transfer(bench: &Bench, candidate: Candidate, count: u64, size: usize, up: bool) -> io::Result<f64> {
    let (count_text, size_text) = (count.to_string(), size.to_string());
    let role = if up { "role:sink" } else { "role:source" };
    let mut link = bench.start(candidate, Wiring::Pipes, &[role, &count_text, &size_text])?;
    let mut to = link.writer()?;
    let start = Instant::now();
    if up {
        roles::pour(&mut to, count, size, None)?;
        link.from.read_exact(&mut [0; 5])?;
    } else {
        to.write_all(b"\n")?;
        roles::check(&mut link.from, count, size)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(to);
    link.finish()?;
    Ok(seconds)
}

fn start_and_end(bench: &Bench, short: bool, figures: &mut Figures) -> io::Result<()> {
    let rounds = if short { 40 } else { 150 };
    let mut random = Random(clock_seed());
    let mut starts: BTreeMap<Candidate, Vec<f64>> = BTreeMap::new();
    let mut ends: BTreeMap<Candidate, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for candidate in random.shuffled(Candidate::ALL) {
            let before = host::clock();
            let mut link = bench.start(candidate, Wiring::Pipes, &["role:hello"])?;
            let mut began = [0; 21];
            link.from.read_exact(&mut began)?;
            starts.entry(candidate).or_default().push((stamp(&began) - before as f64) / 1e6);
            drop(link.to.take());
            let mut left = [0; 21];
            link.from.read_exact(&mut left)?;
            link.child.wait()?;
            ends.entry(candidate).or_default().push((host::clock() as f64 - stamp(&left)) / 1e6);
        }
    }
    let over = |times: &BTreeMap<Candidate, Vec<f64>>, candidate: Candidate| {
        median(&times[&candidate]) - median(&times[&Candidate::Direct])
    };
    let note = format!("two copies {:.2} ms", over(&starts, Candidate::Copies));
    figures.add("start-up over direct exec", over(&starts, Candidate::Spantap), "ms", Bar::AtMost(2.5), note);
    let note = format!(
        "p95 {:.2} ms; two copies {:.2} ms",
        quantile(&ends[&Candidate::Spantap], 0.95),
        median(&ends[&Candidate::Copies])
    );
    figures.add("server's end to our exit", median(&ends[&Candidate::Spantap]), "ms", Bar::AtMost(5.0), note);
    Ok(())
}

fn stamp(line: &[u8]) -> f64 {
    std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(f64::NAN)
}

fn memory(bench: &Bench, short: bool, figures: &mut Figures) -> io::Result<()> {
    let mut link = bench.start(Candidate::Spantap, Wiring::Pipes, &["role:echo", "200", "1024"])?;
    block(&mut link, 0, 20, SIZES, Duration::ZERO)?;
    std::thread::sleep(Duration::from_millis(600));
    figures.add("resident memory, idle after 20 calls", link.memory("VmRSS"), "MiB", Bar::AtMost(6.0), "");
    link.finish()?;

    let size: u64 = if short { 64 << 20 } else { 256 << 20 };
    let mut link = bench.start(Candidate::Spantap, Wiring::Pipes, &["role:line", &size.to_string()])?;
    let mut to = link.writer()?;
    to.write_all(b"\n")?;
    let mut buffer = vec![0; 1 << 16];
    let mut left = size as i64;
    while left > 0 {
        left -= link.from.read(&mut buffer)? as i64;
    }
    let note = format!("one line of {} MiB at 100 MB/s", size >> 20);
    figures.add("peak resident memory, long line", link.memory("VmHWM"), "MiB", Bar::AtMost(16.0), note);
    to.write_all(b"\n")?;
    drop(to);
    link.finish()?;

    let mut worst = 0.0_f64;
    for size in [100, 1 << 10, 1 << 16, 1 << 20] {
        for up in [false, true] {
            worst = worst.max(flood(bench, size, up, if short { 48 << 20 } else { 256 << 20 })?);
        }
    }
    figures.add(
        "peak resident memory, floods",
        worst,
        "MiB",
        Bar::AtMost(48.0),
        "100 B to 1 MiB frames, each way",
    );
    Ok(())
}

/// Returns the peak memory of spantap while frames of `size` bytes arrive as fast as possible.
fn flood(bench: &Bench, size: usize, up: bool, bytes: u64) -> io::Result<f64> {
    let count = bytes / size as u64;
    let role = if up { "role:sink" } else { "role:source" };
    let mut link =
        bench.start(Candidate::Spantap, Wiring::Pipes, &[role, &count.to_string(), &size.to_string()])?;
    let mut to = link.writer()?;
    if up {
        roles::pour(&mut to, count, size, None)?;
        link.from.read_exact(&mut [0; 5])?;
    } else {
        to.write_all(b"\n")?;
        roles::check(&mut link.from, count, size)?;
    }
    let peak = link.memory("VmHWM");
    drop(to);
    link.finish()?;
    Ok(peak)
}

/// Processes that keep every core busy until they are dropped.
struct Spinners(Vec<Child>);

impl Spinners {
    fn start(count: usize) -> io::Result<Spinners> {
        let this = std::env::current_exe()?;
        let spinner = || Command::new(&this).arg("role:spin").stdin(Stdio::piped()).spawn();
        (0..count).map(|_| spinner()).collect::<io::Result<_>>().map(Spinners)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for spinner in &mut self.0 {
            let _ = spinner.kill();
            let _ = spinner.wait();
        }
    }
}

/// A generator of pseudo-random numbers (xorshift), sufficient to shuffle three candidates.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn shuffled<const N: usize, T>(&mut self, mut items: [T; N]) -> [T; N] {
        for last in (1..N).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
        items
    }
}

fn clock_seed() -> u64 {
    host::clock() | 1
}
