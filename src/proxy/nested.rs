//! A spantap whose server is another spantap, or a launcher of one: both see each call, and only the outer one exports
//! it.
//!
//! The outer one puts marks into the id of its connection span, one for each signal that it exports. The inner one
//! reads the id in `TRACEPARENT`, so the server sees nothing more than without the marks.

use sha2::{Digest, Sha256};

use crate::export::otlp::OtlpSettings;
use crate::export::otlp::settings::SignalEndpoints;
use crate::observe::traceparent::SpanId;
use crate::system::processes::{self, ProcessStat};

/// Bytes of a span id before the marks of traces, metrics and logs, and bytes of a mark.
const MARK: usize = 2;

/// Returns the bytes of a span id with a mark for each endpoint to which this process exports.
pub(super) fn marked(bytes: [u8; 8], endpoints: &SignalEndpoints) -> [u8; 8] {
    let is_exporting = endpoints.iter().any(Option::is_some);
    let own = i32::try_from(std::process::id()).ok().filter(|_| is_exporting);
    let Some((pid, stat)) = own.and_then(|pid| Some((pid, ProcessStat::read(pid)?))) else { return bytes };
    let mut marked = bytes;
    for (signal, endpoint) in endpoints.iter().enumerate() {
        if let Some(endpoint) = endpoint {
            place(&mut marked, signal).copy_from_slice(&mark(
                &bytes,
                pid,
                stat.start_ticks,
                signal,
                endpoint,
            ));
        }
    }
    marked
}

/// The spantap around this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OuterProxy {
    pub(crate) pid: i32,
    /// Start of the process, in clock ticks since boot.
    started: u64,
    /// The id of its connection span.
    span: [u8; 8],
}

/// Returns the spantap around this one, if this one exports anything. `parent` is the span that the connection
/// continues. Call it before standard output is moved.
pub(crate) fn outer(parent: Option<SpanId>, endpoints: &SignalEndpoints) -> Option<OuterProxy> {
    let span = parent.filter(|_| endpoints.iter().any(Option::is_some))?.bytes();
    let pid = processes::same_program_around()?;
    Some(OuterProxy { pid, started: ProcessStat::read(pid)?.start_ticks, span })
}

/// Leaves out what the outer spantap exports to the same endpoints. Returns true if it exports anything.
pub(crate) fn leave_to(outer: OuterProxy, settings: &mut OtlpSettings) -> bool {
    let OuterProxy { pid, started, mut span } = outer;
    let mut is_left = false;
    let targets = [&mut settings.traces, &mut settings.metrics, &mut settings.logs];
    for (signal, target) in targets.into_iter().enumerate() {
        let is_marked = target.as_ref().is_some_and(|target| {
            let mark = mark(&span, pid, started, signal, &target.endpoint);
            *place(&mut span, signal) == mark
        });
        target.take_if(|_| is_marked);
        is_left |= is_marked;
    }
    is_left
}

fn place(bytes: &mut [u8; 8], signal: usize) -> &mut [u8] {
    &mut bytes[MARK * (signal + 1)..][..MARK]
}

/// Returns the mark of a process that exports `signal` to `endpoint`. It depends on the bytes before the marks.
fn mark(bytes: &[u8; 8], pid: i32, started: u64, signal: usize, endpoint: &str) -> [u8; MARK] {
    let salt = &bytes[..MARK];
    let digest = Sha256::digest(format!("spantap export\n{salt:?}\n{pid}\n{started}\n{signal}\n{endpoint}"));
    [digest[0], digest[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_one_process_one_signal_and_one_endpoint() {
        let endpoints = [Some("http://a/v1/traces".to_owned()), None, Some("http://a/v1/logs".to_owned())];
        let plain = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut id = marked(plain, &endpoints);
        assert_eq!((&id[..2], &id[4..6]), (&plain[..2], &plain[4..6]), "metrics are not exported");
        let pid = std::process::id() as i32;
        let started = ProcessStat::read(pid).unwrap().start_ticks;
        let is = |id: &mut [u8; 8], pid, started, signal, endpoint| {
            let expected = mark(id, pid, started, signal, endpoint);
            *place(id, signal) == expected
        };
        assert!(
            is(&mut id, pid, started, 0, "http://a/v1/traces")
                && is(&mut id, pid, started, 2, "http://a/v1/logs")
        );
        assert!(
            !is(&mut id, pid, started, 0, "http://b/v1/traces")
                && !is(&mut id, pid + 1, started, 0, "http://a/v1/traces")
        );
        assert!(!is(&mut id, pid, started + 1, 0, "http://a/v1/traces"), "the pid is used again");
        assert_eq!(marked(plain, &[None, None, None]), plain);
    }
}
