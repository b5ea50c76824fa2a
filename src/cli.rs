//! The command line: arguments as clap parses them, and one file per command.

use std::ffi::OsString;
use std::path::{Path, PathBuf, is_separator};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::export::bodies;
use crate::observe::redact::{Redacted, Redactor};
use crate::present::Printable;
use crate::present::commands::{CommandEscape, without_commands};
use crate::settings::{GivenSettings, SettingSources, Settings, paths, process_environment, server_name};

mod check;
mod collect;
mod completions;
mod context;
mod dashboards;
mod debug;
mod demo;
mod diff;
mod doctor;
mod export;
mod gate;
pub mod help;
mod man;
mod mcp;
pub mod pager;
mod prune;
mod redact;
mod report;
pub mod run;
mod schema;
mod selection;
mod sessions;
mod show;
mod stats;
mod tail;
mod top;
mod why;
mod wrap;

/// Standard output of a command that is not the proxy. Only `main` opens it.
pub type Out<'a> = dyn std::io::Write + 'a;

/// Watch what an MCP host and an MCP server say to each other, without changing it
#[derive(Debug, Parser)]
#[command(name = "spantap", version = crate::VERSION, max_term_width = 100)]
#[command(override_usage = "spantap [OPTIONS] -- <COMMAND> [ARGS]...\n       spantap <SUBCOMMAND>")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(disable_help_subcommand = false)]
pub struct Cli {
    #[command(flatten)]
    pub run: run::RunArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Cli {
    /// Parses the arguments. The proxy's own options are tried first and alone: a host waits for its server,
    /// and building twenty commands costs as much as everything else before the server's start.
    pub fn read() -> Result<Cli, clap::Error> {
        let mut words: Vec<OsString> = std::env::args_os().collect();
        let mut alone = run::RunArgs::augment_args_for_update(clap::Command::new("spantap"));
        if words.get(1).is_some_and(|word| word == "run") {
            words.remove(1);
            alone = Cli::without_dashes(alone);
        }
        let run =
            alone.try_get_matches_from(words).and_then(|matches| run::RunArgs::from_arg_matches(&matches));
        match run {
            Ok(run) if !run.server_command.command.is_empty() => Ok(Cli { run, command: None }),
            _ => Cli::whole().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)),
        }
    }

    /// Returns clap's description of the whole command line, with the groups and examples of the help.
    pub fn whole() -> clap::Command {
        help::complete(Cli::plain())
    }

    /// Returns clap's description of the whole command line, which manual and completions use.
    fn plain() -> clap::Command {
        Cli::command().mut_subcommand("run", Cli::without_dashes)
    }

    /// Makes `--` before the server's command optional, as for `spantap run`, whose last argument it is.
    fn without_dashes(command: clap::Command) -> clap::Command {
        command.mut_arg("command", |argument| argument.last(false).trailing_var_arg(true))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server through the proxy (same as spantap -- COMMAND)
    Run(Box<run::RunArgs>),
    /// Put the proxy in front of servers in your hosts' config files
    Wrap(wrap::WrapArgs),
    /// Remove the proxy from config files, byte for byte
    Unwrap(wrap::UnwrapArgs),
    /// Show hosts, servers and whether each is watched
    Status(wrap::StatusArgs),
    /// Turn debug records on and off in sessions that run
    Debug(debug::DebugArgs),
    /// Follow operations as they happen
    Tail(tail::TailArgs),
    /// Watch servers and calls on a live screen
    Top(top::TopArgs),
    /// List sessions: start, host, server, calls, errors, tokens
    Sessions(sessions::SessionsArgs),
    /// Show one session or operation, as a waterfall
    Show(show::ShowArgs),
    /// Say in at most five sentences where the time went and what went wrong
    Why(why::WhyArgs),
    /// Calls, errors and p50/p95/p99 by server and tool
    Stats(stats::StatsArgs),
    /// Say what differs between two sessions, days or folders
    Diff(diff::DiffArgs),
    /// Show what tool definitions and results cost, and which tools were never called
    Context(context::ContextArgs),
    /// Judge sessions by rules, for CI
    Gate(gate::GateArgs),
    /// Write one self-contained HTML page
    Report(report::ReportArgs),
    /// Check all servers of your hosts, or one: start, initialize, list tools, measure
    Check(check::CheckArgs),
    /// Check config, folders, collector and wrapped servers
    Doctor(doctor::DoctorArgs),
    /// Receive the telemetry of agents and servers, and record what joins it with calls
    Collect(collect::CollectArgs),
    /// Record calls to an embedded sample server, and show the log
    Demo(demo::DemoArgs),
    /// Send recorded sessions to a collector
    Export(export::ExportArgs),
    /// Redact text from standard input, check logs, or hash a text
    Redact(redact::RedactArgs),
    /// Write Grafana dashboards, alert rules and collector configs
    Dashboards(dashboards::DashboardsArgs),
    /// Answer an agent's questions about its own calls, as an MCP server
    Mcp(mcp::McpArgs),
    /// Delete old session logs
    Prune(prune::PruneArgs),
    /// Print the JSON Schema of the log record
    Schema,
    /// Print a shell completion script
    Completions(completions::CompletionsArgs),
    /// Print the manual page
    Man(man::ManArgs),
}

impl Command {
    /// Returns the colour choice; `main` applies it before it opens the output.
    pub fn color(&self) -> anstream::ColorChoice {
        let colour = match self {
            Command::Tail(args) => &args.output.color,
            Command::Top(args) => &args.color,
            Command::Sessions(args) => &args.output.color,
            Command::Show(args) => &args.output.color,
            Command::Why(args) => &args.output.color,
            Command::Stats(args) => &args.output.color,
            Command::Diff(args) => &args.output.color,
            Command::Context(args) => &args.output.color,
            Command::Gate(args) => &args.color,
            Command::Status(args) => &args.color,
            Command::Wrap(args) => &args.options.color,
            Command::Doctor(args) => &args.color,
            Command::Demo(args) => &args.color,
            Command::Unwrap(args) => &args.options.color,
            Command::Check(args) => &args.color,
            _ => return anstream::ColorChoice::Auto,
        };
        match colour.color {
            clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
            clap::ColorChoice::Always => anstream::ColorChoice::Always,
            clap::ColorChoice::Never => anstream::ColorChoice::Never,
        }
    }

    /// Returns the flags that select records, of a command whose answer `spantap mcp` passes on.
    fn selection(&mut self) -> Option<&mut selection::SelectArgs> {
        match self {
            Command::Tail(args) => Some(&mut args.select),
            Command::Top(args) => Some(&mut args.select),
            Command::Sessions(args) => Some(&mut args.select),
            Command::Show(args) => Some(&mut args.select),
            Command::Why(args) => Some(&mut args.select),
            Command::Stats(args) => Some(&mut args.select),
            Command::Context(args) => Some(&mut args.select),
            _ => None,
        }
    }

    /// Returns true if the output goes through a pager where it goes to a terminal.
    pub fn is_paged(&self) -> bool {
        let output = match self {
            Command::Tail(args) if !args.follow => &args.output,
            Command::Sessions(args) => &args.output,
            Command::Show(args) => &args.output,
            Command::Stats(args) => &args.output,
            Command::Diff(args) => &args.output,
            Command::Context(args) => &args.output,
            Command::Why(args) => &args.output,
            _ => return false,
        };
        !output.no_pager
    }

    /// Returns true if the exit status answers a question. A closed output must not turn it into success.
    pub fn status_is_answer(&self) -> bool {
        match self {
            Command::Status(_) | Command::Check(_) | Command::Doctor(_) | Command::Gate(_) => true,
            Command::Redact(args) => !args.check.is_empty(),
            _ => false,
        }
    }

    /// Runs a command that is not the proxy. An error has a hint if the user can fix the cause; `main` prints both.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if !matches!(self, Command::Run(_))
            && let Some(register) = paths::bodies_dir()
        {
            bodies::clean(&register, std::time::SystemTime::now());
        }
        match self {
            Command::Run(args) => args.run(),
            Command::Wrap(args) => args.run(out),
            Command::Unwrap(args) => args.run(out),
            Command::Status(args) => args.run(out),
            Command::Debug(args) => args.run(out),
            Command::Tail(args) => args.run(out),
            Command::Top(args) => args.run(out),
            Command::Sessions(args) => args.run(out),
            Command::Show(args) => args.run(out),
            Command::Why(args) => args.run(out),
            Command::Stats(args) => args.run(out),
            Command::Diff(args) => args.run(out),
            Command::Context(args) => args.run(out),
            Command::Gate(args) => args.run(out),
            Command::Report(args) => args.run(out),
            Command::Check(args) => args.run(out),
            Command::Doctor(args) => args.run(out),
            Command::Collect(args) => args.run(out),
            Command::Demo(args) => args.run(out),
            Command::Export(args) => args.run(out),
            Command::Redact(args) => args.run(out),
            Command::Dashboards(args) => args.run(out),
            Command::Mcp(args) => args.run(),
            Command::Prune(args) => args.run(out),
            Command::Schema => schema::run(out),
            Command::Completions(args) => args.run(out),
            Command::Man(args) => args.run(out),
        }
    }
}

/// An error with a hint: `main` prints `error: …` and then `hint: …`.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub struct HintedError {
    pub error: anyhow::Error,
    pub hint: String,
    /// Exit status; 1 unless the contract has another one.
    pub status: u8,
}

/// Returns the exit status of work that is done, even if the reader of the output is gone.
fn done(status: ExitCode, printed: std::io::Result<()>) -> anyhow::Result<ExitCode> {
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(status),
    }
}

/// Returns the settings of `given`, of this process's environment and of the config file.
fn settings(given: GivenSettings) -> anyhow::Result<Settings> {
    let sources = sources(given);
    match sources.file() {
        Ok(_) => Ok(sources.settings("")),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    }
}

/// Returns the settings for all servers, and the error of the config file if it cannot be read.
fn usual_settings() -> (Settings, Result<(), String>) {
    let sources = sources(GivenSettings::default());
    let file = sources.file().map(|_| ()).map_err(|error| error.to_string());
    (sources.settings(""), file)
}

fn sources(given: GivenSettings) -> SettingSources<'static> {
    SettingSources::read(given, &process_environment, paths::config_dir().as_deref())
}

/// Returns the redactor that the config file sets up for texts of a server. If the config file cannot be
/// read, its rules are unknown, and the redactor shows no free text.
pub(crate) fn redactor(config_file: Option<&Path>, command: &[OsString]) -> Redactor {
    section_redactor(config_file, &server_name::section_name(command))
}

/// Returns the same redactor for a server by the name of its section.
fn section_redactor(config_file: Option<&Path>, section: &str) -> Redactor {
    let given = GivenSettings { config: config_file.map(Path::to_owned), ..GivenSettings::default() };
    sources(given).settings(section).redaction.redactor()
}

/// Returns `text` without secrets. The result is harmless on a terminal; its lines stay lines.
pub fn redacted(text: &str) -> Redacted {
    Redactor::default().explain(text.as_bytes()).0
}

/// Returns the text of an error as `main` prints it: without secrets, and without commands of CI systems.
pub fn error_text(text: &str) -> String {
    without_commands(redacted(text).as_str(), CommandEscape::Text).into_owned()
}

fn hint(error: anyhow::Error, hint: impl Into<String>) -> anyhow::Error {
    exit_with(1, error, hint)
}

fn exit_with(status: u8, error: anyhow::Error, hint: impl Into<String>) -> anyhow::Error {
    HintedError { error, hint: hint.into(), status }.into()
}

/// Returns `path` as a word of a command that the user can give to the shell.
fn shell_word(path: &Path) -> String {
    let is_plain = |c: char| {
        c.is_alphanumeric() || is_separator(c) || matches!(c, '.' | '_' | '-' | '+' | ',' | ':' | '@')
    };
    let path = Printable::from(path.to_string_lossy());
    match path.chars().all(is_plain) {
        true => path.to_string(),
        // No name of a file on Windows contains this quote, and `cmd` knows no other one.
        false if cfg!(windows) => format!("\"{path}\""),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// Writes a JSON object as one line that is harmless on a terminal.
fn write_json(out: &mut Out<'_>, value: &serde_json::Value) -> std::io::Result<()> {
    writeln!(out, "{}", Printable::rounded_json(value)?)
}

/// Returns the folder to which the proxy writes session logs; `log_dir` is the folder of a flag.
fn log_folder(log_dir: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    Ok(settings(GivenSettings { log_dir, ..GivenSettings::default() })?.log_folder())
}

#[derive(Clone, Debug, Default, Args)]
pub struct ServerCommand {
    /// The server command, exactly as the host would run it
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
