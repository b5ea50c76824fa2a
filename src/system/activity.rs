//! The present activity of a process.

use std::time::Duration;

/// Present activity of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has begun to exit.
    Exits,
    /// It computes, or waits for a core or a disk. So far it has used this CPU time.
    Works(Duration),
    /// It waits for an event, or is stopped.
    Waits,
}
