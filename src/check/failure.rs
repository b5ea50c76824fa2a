//! Why a checked server does not work, as a word, an exit status and a hint.

use crate::hosts::launch::ServerLaunch;
use crate::system::group;
use crate::text::words::words;

words! {
    /// Kind of failure. Scripts, metrics and exit statuses use its word.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum FailureKind {
        NotFound = "not_found",
        /// The command, the address or a header in the host's file cannot be used.
        BadEntry = "bad_entry",
        NotExecutable = "not_executable",
        /// The system refused a new process or its pipes.
        NotStarted = "not_started",
        /// The server ended, or closed its stdout, before it answered.
        Died = "died",
        NoAnswer = "no_answer",
        /// The server writes to stdout, but no JSON-RPC message.
        Banner = "banner",
        /// The server sends back what it receives.
        Echo = "echo",
        /// The server answers, but not as the protocol requires.
        ProtocolError = "protocol_error",
        /// The name in the address has no IP address.
        Dns = "dns",
        Connect = "connect",
        Tls = "tls",
        /// The server answers with a status of HTTP that is not a success.
        HttpStatus = "http_status",
        /// The server answers 401.
        NeedsSignIn = "needs_sign_in",
        /// The address answers with something else than MCP.
        NotMcp = "not_mcp",
    }
}

impl FailureKind {
    /// Returns the kinds that a check of this server can have.
    pub(crate) fn of(launch: &ServerLaunch) -> Vec<FailureKind> {
        use FailureKind::{
            BadEntry, Banner, Connect, Died, Dns, Echo, HttpStatus, NeedsSignIn, NoAnswer, NotExecutable,
            NotFound, NotMcp, NotStarted, ProtocolError, Tls,
        };
        match launch {
            ServerLaunch::Local(_) => {
                vec![
                    NotFound,
                    BadEntry,
                    NotExecutable,
                    NotStarted,
                    Died,
                    NoAnswer,
                    Banner,
                    Echo,
                    ProtocolError,
                ]
            }
            ServerLaunch::Remote(_) => {
                vec![
                    BadEntry,
                    NoAnswer,
                    ProtocolError,
                    Echo,
                    Dns,
                    Connect,
                    Tls,
                    HttpStatus,
                    NeedsSignIn,
                    NotMcp,
                ]
            }
        }
    }

    /// Returns the exit status of `spantap check`: 126 and 127 as env(1), 6 and 7 as curl(1); 2 is reserved for usage
    /// errors.
    pub fn status(self) -> u8 {
        match self {
            FailureKind::Died => 1,
            FailureKind::NoAnswer => 3,
            FailureKind::ProtocolError => 4,
            FailureKind::Banner | FailureKind::Echo | FailureKind::NotMcp => 5,
            FailureKind::Dns => 6,
            FailureKind::Connect => 7,
            FailureKind::Tls => 8,
            FailureKind::HttpStatus => 9,
            FailureKind::NeedsSignIn => 10,
            FailureKind::NotExecutable | FailureKind::NotStarted => 126,
            FailureKind::NotFound | FailureKind::BadEntry => 127,
        }
    }
}

/// Report about a server that does not work.
#[derive(Clone, Debug)]
pub(crate) struct ServerFailure {
    pub(crate) kind: FailureKind,
    /// One line in lower case. Text of the server in it is redacted.
    pub(crate) text: String,
    /// Last lines of the server's stderr, redacted.
    pub(crate) stderr: Vec<String>,
    pub(crate) banner_lines: usize,
}

impl ServerFailure {
    pub(crate) fn hint(&self) -> &'static str {
        match self.kind {
            FailureKind::NotFound => {
                "give the program's full path: hosts started from the desktop have a short PATH"
            }
            FailureKind::BadEntry => "correct the entry in the host's file",
            FailureKind::NotExecutable => group::WAY_TO_EXECUTE,
            FailureKind::NotStarted => {
                "the system refused it: look at the limits of processes and open files (ulimit -a), and at free memory"
            }
            FailureKind::Died if self.stderr.is_empty() => {
                "run the command by hand: it writes nothing to stderr"
            }
            FailureKind::Died => "read the last lines of its stderr, above",
            FailureKind::NoAnswer => {
                "--timeout 60s waits longer; a server that has to be downloaded first needs it"
            }
            FailureKind::Banner => {
                "stdout is only for MCP messages: start the server in its stdio mode, and log to stderr"
            }
            FailureKind::Echo => {
                "give the command or the address of an MCP server, and no terminal between (`docker run -i`, not `-it`)"
            }
            FailureKind::ProtocolError => {
                "the answer is not one of MCP: read it above; --era legacy or --era modern tries one handshake alone"
            }
            FailureKind::Dns => "check the name in the address, and the network",
            FailureKind::Connect => "no program listens there, or a firewall is between: check host and port",
            FailureKind::Tls => {
                "check the clock, and the certificate; on Linux SSL_CERT_FILE names authorities"
            }
            FailureKind::HttpStatus => "check the path of the address",
            FailureKind::NeedsSignIn => {
                "sign in with the host; spantap sends only the headers that a host's file has for the server"
            }
            FailureKind::NotMcp => "check the path of the address: it is a page of another kind",
        }
    }
}
