//! The cost of an export for the traffic: round trips and memory with a collector that takes everything.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::figures::{Bar, Figures};
use crate::host::{Bench, Candidate, Wiring};
use crate::{Plan, SIZES, block};

/// Answers every request with 200 and counts them.
pub struct Collector {
    pub endpoint: String,
    requests: Arc<AtomicU64>,
}

impl Collector {
    pub fn start() -> io::Result<Collector> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let requests: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || serve(stream, &counted));
            }
        });
        Ok(Collector { endpoint, requests })
    }
}

/// Serves one connection until it ends or sends something that is not a request.
fn serve(stream: TcpStream, requests: &AtomicU64) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        io::copy(&mut stream.by_ref().take(length), &mut io::sink()).ok()?;
        requests.fetch_add(1, Ordering::Relaxed);
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

pub fn exporting(bench: &Bench, short: bool, figures: &mut Figures) -> io::Result<()> {
    let collector = Collector::start()?;
    let plain = bench.with(&["--otlp", &collector.endpoint]);
    let everything = bench.with(&["--otlp", &collector.endpoint, "--otlp-set", "logs=true"]);
    let p99_bar = (!short).then_some(2.0);
    for (bench, what) in [(&plain, "with OTLP"), (&everything, "with OTLP and logs")] {
        let closed = Plan { cpu_bar: Bar::None, ..Plan::closed_loop(short, Wiring::Pipes) };
        closed.measure(bench, &format!("closed loop, {what}"), 1.15, p99_bar, figures)?;
    }
    let sparse = Plan::sparse(short, Wiring::Pipes);
    sparse.measure(&plain, "a call every 20 ms, with OTLP", 1.25, None, figures)?;

    let mut link = plain.start(Candidate::Spantap, Wiring::Pipes, &["role:echo", "200", "1024"])?;
    block(&mut link, 0, 20, SIZES, Duration::ZERO)?;
    // Waits until the spans of the calls are sent, so that the first export has made what it needs.
    std::thread::sleep(Duration::from_millis(1_500));
    figures.add("resident memory, idle, with OTLP", link.memory("VmRSS"), "MiB", Bar::None, "");
    link.finish()?;

    let refused = bench.with(&["--otlp", "http://127.0.0.1:9", "--otlp-set", "logs=true"]);
    let mut link = refused.start(Candidate::Spantap, Wiring::Pipes, &["role:echo", "200", "1024"])?;
    block(&mut link, 0, 40_000, SIZES, Duration::ZERO)?;
    let note = "40,000 calls, spans and logs, a collector that is not there";
    figures.add("peak resident memory, queues full", link.memory("VmHWM"), "MiB", Bar::None, note);
    link.finish()?;

    match collector.requests.load(Ordering::Relaxed) {
        0 => Err(io::Error::other("nothing was exported")),
        _ => Ok(()),
    }
}
