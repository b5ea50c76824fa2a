//! Events of `spantap debug` in a session that runs.

use crate::relay::chunk::Moment;

/// Debug is on from now on.
#[derive(Clone, Copy, Debug)]
pub struct DebugStarted {
    pub until: Moment,
}
