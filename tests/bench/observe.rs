//! The cost of observing one call, without processes: request and answer in one chunk each, from the scanner
//! to the line in the queue of the log, in CPU time of the observer thread.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use spantap::export::Exporter;
use spantap::export::log::{self, Log};
use spantap::observe::canonical::HashKey;
use spantap::observe::event::{Event, Sink, Span};
use spantap::observe::redact::Redactor;
use spantap::observe::traceparent::{SpanId, TraceFlags, TraceId};
use spantap::observe::{Debug, Denials, Observer, ObserverSettings};
use spantap::record::Record;
use spantap::record::timestamp::Timestamp;
use spantap::record::{ClockAnchor, Identity};
use spantap::relay::chunk::{Chunk, Moment, Stream};
use spantap::system::thread::thread_cpu;

use crate::figures::{Bar, Figures, median};
use crate::host::Bench;
use crate::{SIZES, wire};

/// A sink that ignores events.
struct Nowhere;

impl Sink for Nowhere {
    fn record(&mut self, event: &Event) {
        std::hint::black_box(event);
    }
}

/// A sink that makes records and drops them.
struct Records(Identity, ClockAnchor);

impl Sink for Records {
    fn record(&mut self, event: &Event) {
        std::hint::black_box(Record::new(event, &self.0, &self.1, Some("bench"), &[]));
    }
}

pub fn observe(_: &Bench, short: bool, figures: &mut Figures) -> io::Result<()> {
    let (rounds, calls) = if short { (5, 4_000) } else { (15, 10_000) };
    let identity = identity();
    let anchor = ClockAnchor { moment: Moment(0), wall: Timestamp::now() };
    let mut costs = [(); 3].map(|()| Vec::new());
    for _ in 0..rounds {
        let folder = tempfile::tempdir()?;
        let mut to_log = exporter(folder.path(), anchor);
        let mut to_records = Records(identity.clone(), anchor);
        let sinks: [&mut dyn Sink; 3] = [&mut Nowhere, &mut to_records, &mut to_log];
        for (sink, costs) in sinks.into_iter().zip(&mut costs) {
            costs.push(observe_calls(calls, SIZES, sink) / calls as f64);
        }
        to_log.close(Instant::now() + Duration::from_secs(10));
    }
    let [events, records, logged] = costs.map(|costs| median(&costs));
    let note = format!("to the event {events:.2} us, to the record {records:.2} us");
    figures.add("observing one call, CPU", logged, "us", Bar::None, note);
    Ok(())
}

/// Writes a log with `records` calls to `folder`. The log has the same size each time.
pub fn write_log(folder: &Path, records: u64, sizes: [usize; 2]) -> io::Result<()> {
    // In microseconds: the calls last for less than a minute, and end before now.
    let begin = Timestamp(Timestamp::now().0 - 3_600_000_000);
    let mut exporter = exporter(folder, ClockAnchor { moment: Moment(0), wall: begin });
    observe_calls(records, sizes, &mut exporter);
    match exporter.close(Instant::now() + Duration::from_secs(60)).iter().map(|lost| lost.count).sum() {
        0_u64 => Ok(()),
        lost => Err(io::Error::other(format!("{lost} records were lost"))),
    }
}

fn identity() -> Identity {
    Identity {
        connection_id: "0190c0de-0000-7000-8000-000000000001".to_owned(),
        session_id: "run-1".to_owned(),
        server_name: "bench".to_owned(),
        user_id: None,
    }
}

/// Returns an exporter whose only output is a log in `folder`.
fn exporter(folder: &Path, anchor: ClockAnchor) -> Exporter {
    let identity = identity();
    let settings = log::LogSettings { folder: folder.to_owned(), max_size: u64::MAX, max_total_size: None };
    let log = Log::new(settings, &identity, |_| {});
    Exporter::new(identity, anchor, vec![Box::new(log)])
}

/// Observes `calls`, and returns their CPU time in microseconds.
fn observe_calls(calls: u64, [request_size, response_size]: [usize; 2], sink: &mut dyn Sink) -> f64 {
    let mut observer = Observer::new(settings(), Redactor::default(), [3; 32]);
    let mut bytes = [Vec::new(), Vec::new()];
    let mut ends = Vec::new();
    for n in 0..calls {
        wire::request(n, request_size, &mut bytes[0]);
        wire::response(n, response_size, &mut bytes[1]);
        bytes.iter_mut().for_each(|bytes| bytes.push(b'\n'));
        ends.push([bytes[0].len(), bytes[1].len()]);
    }
    let mut begins = [0; 2];
    let before = thread_cpu();
    for (n, end) in ends.iter().enumerate() {
        for (side, stream) in [Stream::Stdin, Stream::Stdout].into_iter().enumerate() {
            let read_at = Moment((2 * n + side) as u64 * 10_000);
            let (offset, bytes) = (begins[side] as u64, &bytes[side][begins[side]..end[side]]);
            observer.chunk(Chunk { stream, offset, read_at, bytes, mark: None }, sink);
        }
        begins = *end;
    }
    (thread_cpu() - before) as f64 / 1e3
}

fn settings() -> ObserverSettings {
    ObserverSettings {
        slow: Duration::from_secs(30),
        call_timeout: None,
        thrash_threshold: 5,
        thrash_tools: Vec::new(),
        result_limit: None,
        debug: Debug::Off,
        hash_key: HashKey::Keyed([7; 32]),
        connection: Span {
            trace_id: TraceId::new([1; 16]).expect("not zero"),
            span_id: SpanId::new([2; 8]).expect("not zero"),
            parent_span_id: None,
            linked: None,
            trace_state: None,
            flags: TraceFlags::new_trace(true),
        },
        denials: Denials::standard(),
        conversation_id: None,
    }
}
