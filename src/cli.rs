//! The command line: clap's view of what was typed, one file per group of commands.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::observe::redact::Redactor;

pub mod check;
pub mod dashboards;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod keep;
pub mod look;
pub mod redact;
pub mod run;
pub mod wrap;

/// Where a reading command prints: standard output, given by `main` alone.
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
    /// What was typed. The proxy's own options are tried first and alone: a host waits for its server, and
    /// to lay out twenty commands costs as much as everything else before the server's start.
    ///
    /// # Errors
    /// What clap has to say: what is wrong, or the help that was asked for.
    pub fn read() -> Result<Cli, clap::Error> {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            run: run::RunArgs,
        }
        let mut words: Vec<OsString> = std::env::args_os().collect();
        let mut alone = Alone::command();
        if words.get(1).is_some_and(|word| word == "run") {
            words.remove(1);
            alone = Cli::without_dashes(alone);
        }
        let run = alone.try_get_matches_from(words).and_then(|matches| Alone::from_arg_matches(&matches));
        match run {
            Ok(Alone { run }) if !run.server_command.command.is_empty() => Ok(Cli { run, command: None }),
            _ => Cli::whole().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)),
        }
    }

    /// The whole command line: for help, manual and completions, too.
    pub fn whole() -> clap::Command {
        Cli::command().mut_subcommand("run", Cli::without_dashes)
    }

    /// `spantap run` needs no dashes before the server's command: nothing else could begin there.
    fn without_dashes(command: clap::Command) -> clap::Command {
        command.mut_arg("command", |argument| argument.last(false).trailing_var_arg(true))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server behind the proxy (the same as spantap -- COMMAND)
    Run(Box<run::RunArgs>),
    /// Put the proxy in front of servers in your hosts' config files
    Wrap(wrap::WrapArgs),
    /// Take it out again, byte for byte
    Unwrap(wrap::UnwrapArgs),
    /// Show hosts, servers and whether each is watched
    Status(wrap::StatusArgs),
    /// Follow operations as they happen
    Tail(look::TailArgs),
    /// List sessions: start, host, server, calls, errors, tokens
    Sessions(look::SessionsArgs),
    /// Show one session or operation, as a waterfall
    Show(look::ShowArgs),
    /// Calls, errors and p50/p95/p99 by server and tool
    Stats(look::StatsArgs),
    /// Write one self-contained HTML page
    Report(look::ReportArgs),
    /// Start a server, shake hands, list its tools, measure
    Check(check::CheckArgs),
    /// Check config, folders, collector and wrapped servers
    Doctor(doctor::DoctorArgs),
    /// Watch an embedded sample server being called, and look at the log
    Demo(demo::DemoArgs),
    /// Send recorded sessions to a collector
    Export(export::ExportArgs),
    /// Redact text from standard input, check logs, or hash a text
    Redact(redact::RedactArgs),
    /// Write Grafana dashboards, alert rules and collector configs
    Dashboards(dashboards::DashboardsArgs),
    /// Delete old session logs
    Prune(keep::PruneArgs),
    /// Print the JSON Schema of the log record
    Schema(keep::SchemaArgs),
    /// Print a shell completion script
    Completions(keep::CompletionsArgs),
    /// Print the manual page
    Man(keep::ManArgs),
}

impl Command {
    /// Whether what the command prints is coloured; `main` settles it before it opens the output.
    pub fn color(&self) -> anstream::ColorChoice {
        match self {
            Command::Tail(args) => args.select.color.into(),
            Command::Sessions(args) => args.select.color.into(),
            Command::Show(args) => args.select.color.into(),
            Command::Stats(args) => args.select.color.into(),
            _ => anstream::ColorChoice::Auto,
        }
    }

    /// Whether its exit status answers a question, which must not turn out well because nobody reads on.
    pub fn judges(&self) -> bool {
        match self {
            Command::Status(_) | Command::Check(_) | Command::Doctor(_) => true,
            Command::Redact(args) => !args.check.is_empty(),
            _ => false,
        }
    }

    /// Runs a command that is not the proxy.
    ///
    /// # Errors
    /// Whatever made the command fail, with a hint where there is a way out; `main` prints it once.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        match self {
            Command::Run(args) => args.run(),
            Command::Wrap(args) => args.run(out),
            Command::Unwrap(args) => args.run(out),
            Command::Status(args) => args.run(out),
            Command::Tail(args) => args.run(out),
            Command::Sessions(args) => args.run(out),
            Command::Show(args) => args.run(out),
            Command::Stats(args) => args.run(out),
            Command::Report(args) => args.run(out),
            Command::Check(args) => args.run(out),
            Command::Doctor(args) => args.run(out),
            Command::Demo(args) => args.run(out),
            Command::Export(args) => args.run(out),
            Command::Redact(args) => args.run(out),
            Command::Dashboards(args) => args.run(out),
            Command::Prune(args) => args.run(out),
            Command::Schema(args) => args.run(out),
            Command::Completions(args) => args.run(out),
            Command::Man(args) => args.run(out),
        }
    }
}

/// An error with the command that helps: `main` prints `error: …` and then `hint: …`.
#[derive(Debug)]
pub struct Hinted {
    pub error: anyhow::Error,
    pub hint: String,
    /// Exit status; 1 unless the contract says another.
    pub status: u8,
}

impl std::fmt::Display for Hinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Hinted {}

/// The exit status of work that is done, however much of what was said of it has been read.
///
/// # Errors
/// What went wrong with saying it, but for a reader that went away.
fn done(status: ExitCode, said: std::io::Result<()>) -> anyhow::Result<ExitCode> {
    match said {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(status),
    }
}

/// The config file that these options name, or the usual one.
///
/// # Errors
/// When it cannot be read.
fn config_file(args: &run::RunArgs) -> anyhow::Result<Option<crate::settings::File>> {
    use crate::settings::{self, process_environment};
    let path =
        settings::file_path(args, &process_environment, crate::settings::paths::config_dir().as_deref());
    settings::read(path.as_deref(), args, &process_environment).map_err(|error| {
        let path = path.as_deref().unwrap_or(Path::new("")).display();
        anyhow::anyhow!("config file `{path}` cannot be read: {error}")
    })
}

/// The redactor that the config file asks for, for what a command of a server says. Without a readable
/// config file nobody knows what was to be hidden: no free text is shown then.
pub(crate) fn redactor(config_file: Option<&Path>, command: &[OsString]) -> Redactor {
    use crate::settings::{self, Config, process_environment};
    let args = run::RunArgs { config: config_file.map(Path::to_owned), ..run::RunArgs::default() };
    let path =
        settings::file_path(&args, &process_environment, crate::settings::paths::config_dir().as_deref());
    let name = crate::settings::server_name::server_name(command);
    match settings::read(path.as_deref(), &args, &process_environment) {
        Ok(file) => Config::resolve(&args, &process_environment, file.as_ref(), &name).redaction.redactor(),
        Err(_) => Redactor::closed(),
    }
}

/// Attaches the way out to an error.
pub fn hint(error: anyhow::Error, hint: impl Into<String>) -> anyhow::Error {
    Hinted { error, hint: hint.into(), status: 1 }.into()
}

/// The server command, exactly as the host would run it.
#[derive(Clone, Debug, Default, Args)]
pub struct ServerCommand {
    /// The server command, exactly as the host would run it
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
