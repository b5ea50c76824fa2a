//! Messages for the user about the way to a collector.

use std::sync::Arc;

/// Receives each notice. It is called once for each change, not for each failure.
pub(super) type NoticeCallback = Arc<dyn Fn(&ExportNotice) + Send + Sync>;

/// A change on the way to a collector. `signal` is `spans`, `logs` or `metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum ExportNotice {
    /// The collector cannot be reached, or ends connections without an answer.
    #[error("the collector at {address} does not answer ({reason}); {signal} wait")]
    NoAnswer { signal: &'static str, address: Arc<str>, reason: &'static str },
    /// The collector answers, and has begun to fail.
    #[error("the collector at {address} does not take {signal} ({reason})")]
    NotTaken { signal: &'static str, address: Arc<str>, reason: &'static str },
    #[error("the collector takes {signal} again")]
    TakenAgain { signal: &'static str },
    #[error("the collector rejects some of the {signal}")]
    PartlyRejected { signal: &'static str },
    /// Endpoint, header or certificate cannot be used.
    #[error("{signal} are not sent: {error}")]
    NotConfigured { signal: &'static str, error: String },
    /// The system refused the export thread or its runtime.
    #[error("no thread for the export; nothing is sent")]
    NoThread,
}
