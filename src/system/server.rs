//! How a server is started, and how it ends.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::time::Instant;

use crate::system::descriptor::OwnedDescriptor;

/// Change to the server's copy of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEnv {
    /// Leaves `TRACEPARENT` and `TRACESTATE` as they are.
    Untouched,
    /// Sets `TRACEPARENT`, and sets `TRACESTATE` or removes it.
    Set { traceparent: String, tracestate: Option<OsString> },
}

/// The running server with spantap's ends of its pipes.
pub struct StartedServer {
    pub pid: i32,
    pub stdin: OwnedDescriptor,
    pub stdout: OwnedDescriptor,
    pub stderr: OwnedDescriptor,
}

/// The prober's ends of a server's pipes.
pub(crate) struct ServerEnds {
    /// When the server was started.
    pub(crate) begin: Instant,
    pub(crate) stdin: PipeWriter,
    pub(crate) stdout: PipeReader,
    pub(crate) stderr: PipeReader,
}

#[derive(Debug)]
pub enum SpawnError {
    /// `exec` refused the command. The exit status is 127 if the command does not exist, else 126, as in env(1).
    Exec(io::Error),
    /// spantap failed before that. The exit status is 125.
    Own(io::Error),
}

impl SpawnError {
    pub fn exit_status(&self) -> i32 {
        match self {
            SpawnError::Exec(error) if error.kind() == io::ErrorKind::NotFound => 127,
            SpawnError::Exec(_) => 126,
            SpawnError::Own(_) => 125,
        }
    }
}

impl std::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (SpawnError::Exec(error) | SpawnError::Own(error)) = self;
        match error.kind() {
            io::ErrorKind::NotFound => f.write_str("not found"),
            io::ErrorKind::PermissionDenied => f.write_str("permission denied"),
            _ => write!(f, "{error}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    Exited(i32),
    Killed(i32),
}
