//! Messages for the user about the way to a collector.

use std::fmt;
use std::sync::Arc;

/// Receives each notice. It is called once for each change, not for each failure.
pub(super) type NoticeCallback = Arc<dyn Fn(&ExportNotice) + Send + Sync>;

/// A change on the way to a collector. `signal` is `spans`, `logs` or `metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ExportNotice {
    /// The collector has begun to fail.
    NotTaken {
        signal: &'static str,
        reason: &'static str,
    },
    TakenAgain {
        signal: &'static str,
    },
    PartlyRejected {
        signal: &'static str,
    },
    /// Endpoint, header or certificate cannot be used.
    NotConfigured {
        signal: &'static str,
        error: String,
    },
    /// The system refused a thread or its event queue.
    NoThread,
}

impl fmt::Display for ExportNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportNotice::NotTaken { signal, reason } => {
                write!(f, "the collector does not take {signal} ({reason})")
            }
            ExportNotice::TakenAgain { signal } => write!(f, "the collector takes {signal} again"),
            ExportNotice::PartlyRejected { signal } => {
                write!(f, "the collector rejects some of the {signal}")
            }
            ExportNotice::NotConfigured { signal, error } => write!(f, "{signal} are not sent: {error}"),
            ExportNotice::NoThread => f.write_str("no thread for the export; nothing is sent"),
        }
    }
}
