//! `spantap [OPTIONS] -- COMMAND [ARGS]…` and its long form `spantap run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::{Hinted, ServerCommand};
use crate::record::words::Side;

mod start;

#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Name used in logs and metrics [default: from the command, e.g. server-filesystem]
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Folder for session logs [default: see spantap doctor]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Write no session log
    #[arg(long)]
    pub no_log: bool,
    /// Start a new file part at this size [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_log_size: Option<String>,
    /// What to record: info, or debug with result summaries and stderr lines
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,
    /// Record at debug level for this long, then go back by itself, e.g. 15m
    #[arg(long, value_name = "DURATION", value_parser = crate::text::duration::parse)]
    pub debug_for: Option<Duration>,
    /// Send spans and metrics to a collector, e.g. http://localhost:4318
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Any entry of the config file's [otlp] table, e.g. protocol=grpc or logs=true; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub otlp_set: Vec<String>,
    /// Whose side spans and metrics take [default: server]
    #[arg(long, value_enum)]
    pub side: Option<Side>,
    /// Agent session that this connection belongs to [default: from the host]
    #[arg(long, value_name = "ID")]
    pub session_id: Option<String>,
    /// Person on whose behalf the host runs
    #[arg(long, value_name = "ID")]
    pub user_id: Option<String>,
    /// Report a call that has been open for this long [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = crate::text::duration::parse)]
    pub slow: Option<Duration>,
    /// Record a call as timed out if it was answered later than this, or never
    #[arg(long, value_name = "DURATION", value_parser = crate::text::duration::parse)]
    pub call_timeout: Option<Duration>,
    /// Report an agent that makes the same call more often than this [default: 5]
    #[arg(long, value_name = "N")]
    pub thrash_threshold: Option<u32>,
    /// When the observer cannot keep up: lose records, or slow the traffic down [default: lose]
    #[arg(long, value_enum)]
    pub overload: Option<Overload>,
    /// Leave TRACEPARENT and TRACESTATE in the server's environment alone
    #[arg(long)]
    pub no_trace_env: bool,
    /// Read this config file instead of the usual one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Refuse to start if logging or export cannot be set up
    #[arg(long)]
    pub strict: bool,
    /// Say more on stderr, and write spantap's own diagnostics to a file
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Mark of `spantap wrap`; ignored
    #[arg(long, value_name = "MARK", hide = true)]
    pub wrapped: Option<String>,
    #[command(flatten)]
    pub server_command: ServerCommand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overload {
    Lose,
    Wait,
}

impl RunArgs {
    /// Becomes the proxy and ends as the server ends.
    ///
    /// # Errors
    /// Before the server is started only: no command (2), or with `--strict` a set-up that does not
    /// work (125).
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.server_command.command.is_empty() {
            return Err(Hinted {
                error: anyhow::anyhow!("no server command"),
                hint: "put it behind two dashes: spantap -- npx -y @modelcontextprotocol/server-filesystem /data"
                    .to_owned(),
                status: 2,
            }
            .into());
        }
        start::run(self)
    }
}
