//! Events of `spantap debug` in a session that runs.

use crate::observe::canonical::Hash;
use crate::observe::event::CallTarget;
use crate::observe::redact::{Redacted, RedactionCounts};
use crate::observe::traceparent::SpanId;
use crate::relay::chunk::Moment;
use crate::text::words::words;

words! {
    /// Whether a session keeps bodies, or the reason why it keeps none although they were asked for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum BodiesState {
        /// They were not asked for.
        Off = "off",
        On = "on",
        /// Redaction is in strict mode, which keeps no free text.
        StrictMode = "strict_mode",
        /// The settings of the redaction cannot be read or applied.
        RedactionSettings = "redaction_settings",
        /// The session has no log beside which the file could be.
        NoLog = "no_log",
    }
}

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum BodyPart {
        Request = "request",
        Response = "response",
    }
}

/// Debug is on from now on.
#[derive(Clone, Copy, Debug)]
pub struct DebugStarted {
    pub until: Moment,
    pub bodies: BodiesState,
}

/// The arguments of a request, or the result or error that answers it.
#[derive(Clone, Debug)]
pub struct Body {
    pub part: BodyPart,
    pub request_id: Redacted,
    pub method: Redacted,
    pub target: Option<CallTarget>,
    pub span_id: SpanId,
    /// The JSON text, redacted as a whole and cut after that. Absent if it was not seen whole.
    pub text: Option<Redacted>,
    /// Length of the body as received, in bytes.
    pub size: u64,
    pub hash: Option<Hash>,
    pub redactions: RedactionCounts,
}
