//! The span of the connection, and the trace context that the server gets in its environment.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::export::otlp::sampler::Sampler;
use crate::export::otlp::settings::SignalEndpoints;
use crate::observe::event::Span;
use crate::observe::propagation::{ContextInserter, SharedContext};
use crate::observe::redact::{Field, Redactor};
use crate::observe::traceparent::{SpanId, TraceFlags, TraceId, TraceParent};
use crate::proxy::nested;
use crate::settings::Environment;
use crate::system::files;
use crate::system::server::TraceEnv;

/// The connection's span and the span that it continues.
pub(crate) struct ConnectionSpan {
    trace_id: TraceId,
    span_id: SpanId,
    /// The span of our environment, else the root span of the session.
    parent: Option<TraceParent>,
    /// True if the parent is the root span of the session.
    is_below_root: bool,
    trace_state: Option<OsString>,
    flags: TraceFlags,
}

impl ConnectionSpan {
    /// Continues a valid `TRACEPARENT` of our environment. Otherwise a new trace begins, and a stale
    /// `TRACESTATE` is dropped (W3C Trace Context §3.3).
    ///
    /// With `session`, a new trace is that of the session: the same for each of its servers, below one root span.
    ///
    /// The id of the span shows an inner spantap what this one exports to `endpoints`.
    pub(crate) fn new(
        environment: Environment<'_>,
        sampler: Sampler,
        endpoints: &SignalEndpoints,
        session: Option<&str>,
    ) -> ConnectionSpan {
        let parent = environment("TRACEPARENT").and_then(|text| TraceParent::parse(text.to_str()?));
        let trace_state = parent.and_then(|_| environment("TRACESTATE"));
        let root = session.filter(|_| parent.is_none()).and_then(root_ids);
        let new_trace = || root.map_or_else(|| random(TraceId::new), |(trace_id, _)| trace_id);
        let trace_id = parent.map_or_else(new_trace, |parent| parent.trace_id);
        let flags = match parent {
            Some(parent) if sampler.parent_based => parent.flags,
            Some(parent) => parent.flags.with_sampled(sampler.samples(trace_id.bytes())),
            None => TraceFlags::new_trace(sampler.samples(trace_id.bytes())),
        };
        let span_id = random(|bytes| SpanId::new(nested::marked(bytes, endpoints)));
        let below_root = root.map(|(trace_id, parent_id)| TraceParent { trace_id, parent_id, flags });
        let is_below_root = below_root.is_some();
        ConnectionSpan { trace_id, span_id, parent: parent.or(below_root), is_below_root, trace_state, flags }
    }

    /// Returns the span of our environment that this one continues.
    pub(crate) fn inherited_id(&self) -> Option<SpanId> {
        self.parent.filter(|_| !self.is_below_root).map(|parent| parent.parent_id)
    }

    /// Returns the root span of the session, if this one is below it.
    pub(crate) fn session_root(&self) -> Option<SpanId> {
        self.parent.filter(|_| self.is_below_root).map(|parent| parent.parent_id)
    }

    fn context(&self) -> TraceParent {
        TraceParent { trace_id: self.trace_id, parent_id: self.span_id, flags: self.flags }
    }

    /// Returns the server's trace context, whose parent is this span.
    pub(crate) fn trace_env(&self) -> TraceEnv {
        TraceEnv::Set { traceparent: self.context().to_string(), tracestate: self.trace_state.clone() }
    }

    /// Returns what inserts trace context into requests, and what it shares with the observer.
    pub(crate) fn inserter(&self) -> (ContextInserter, Arc<SharedContext>) {
        let trace_state = self.trace_state.as_ref().and_then(|state| state.to_str());
        let seed = || random(Some);
        ContextInserter::new(self.context(), trace_state, [seed(), seed()])
    }

    pub(crate) fn span(&self, redactor: &mut Redactor) -> Span {
        let state = self.trace_state.as_ref().map(|state| state.as_encoded_bytes());
        Span {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent.map(|parent| parent.parent_id),
            linked: None,
            trace_state: state.map(|state| redactor.redact(Field::TraceState, state)),
            flags: self.flags,
        }
    }
}

/// Returns the ids of the root span of a session. Each proxy of the session derives the same.
fn root_ids(session: &str) -> Option<(TraceId, SpanId)> {
    let digest = Sha256::digest(format!("spantap root span\n{session}"));
    Some((TraceId::new(*digest.first_chunk()?)?, SpanId::new(*digest[16..].first_chunk()?)?))
}

/// Returns true if this proxy is the first one of the session with the root span `root`: it makes the file that marks
/// the session in `folder`. If the file cannot be made, each proxy of the session is the first one, since a trace
/// without its root is worse than one that has it twice.
pub(crate) fn begins_session(folder: &Option<PathBuf>, root: SpanId) -> bool {
    let Some(folder) = folder else { return true };
    let _ = files::make_private_folder(folder);
    remove_old(folder);
    let mark = File::options().write(true).create_new(true).open(folder.join(root.text()));
    !matches!(mark, Err(error) if error.kind() == ErrorKind::AlreadyExists)
}

/// Removes the marks of sessions that began long ago.
fn remove_old(folder: &Path) {
    /// Longest time in which a host starts servers of one session.
    const LONGEST: Duration = Duration::from_secs(7 * 86_400);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LONGEST)) {
            // Another proxy may have removed it.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Draws random bytes until they make a valid id.
fn random<const N: usize, T>(make: impl Fn([u8; N]) -> Option<T>) -> T {
    let mut bytes = [0; N];
    loop {
        if getrandom::fill(&mut bytes).is_err() {
            // Without a source of randomness the clock and the pid have to do.
            let seed = crate::system::clock::now().0 ^ u64::from(std::process::id()) << 32;
            bytes.iter_mut().zip(seed.to_ne_bytes().iter().cycle()).for_each(|(to, from)| *to = *from | 1);
        }
        if let Some(value) = make(bytes) {
            return value;
        }
    }
}
