//! The flags that select records, and what a reading command makes of them, the environment and the config file.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ColorChoice};
use jiff::tz::TimeZone;

use crate::cli::{exit_with, help, hint};
use crate::export::bodies;
use crate::present::Printable;
use crate::present::commands::{CommandEscape, without_commands};
use crate::present::table::Terminal;
use crate::present::trace_link::TraceLink;
use crate::query::agents::join::{AgentJoins, WithAgents};
use crate::query::files::{LogSource, TimeWindow, is_stream};
use crate::query::nested::{inner_connections, mcp_connections};
use crate::query::scan::{Fold, ScanFindings, scan};
use crate::query::select::{Selection, day, moment};
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;
use crate::settings::paths::home_as_tilde;
use crate::settings::{GivenSettings, Settings, process_variable};
use crate::system::stdio;
use crate::text::glob::Glob;

mod hints;
mod live;
mod problems;

pub(super) use problems::NEWER;

/// The flags that select records.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Select")]
pub(super) struct SelectArgs {
    /// Only servers whose name matches GLOB; repeatable
    #[arg(long, value_name = "GLOB")]
    pub(super) server: Vec<String>,
    /// Only tools, prompts or resources whose name matches GLOB; repeatable
    #[arg(long, value_name = "GLOB")]
    pub(super) tool: Vec<String>,
    /// Only sessions or connections whose id begins with PREFIX
    #[arg(long, value_name = "PREFIX")]
    pub(super) session: Option<String>,
    /// Only requests with this method; * and ? are wildcards
    #[arg(long, value_name = "NAME")]
    pub(super) method: Option<String>,
    /// Only operations with this status; error includes timeout and cancelled
    #[arg(long, value_parser = status())]
    pub(super) status: Option<Status>,
    #[arg(long, value_name = "TIME", help = since_help("24h; with --session, show, why: all"))]
    pub(super) since: Option<String>,
    /// End of the time range (same formats as --since); a day means its first instant
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// Only this day: today, yesterday, a weekday or a date
    #[arg(long, value_name = "DAY", conflicts_with_all = ["since", "until"])]
    pub(super) on: Option<String>,
    /// Only operations that took at least this long, e.g. 500ms
    #[arg(long, value_name = "DURATION", value_parser = crate::text::duration::parse)]
    pub(super) min_duration: Option<Duration>,
    /// Also sessions that `spantap check` made, if the command that it started was a proxy
    #[arg(long)]
    pub(super) checks: bool,
    #[arg(long, value_name = "DIR", help = help::of("log_dir"))]
    pub(super) log_dir: Option<PathBuf>,
    /// Files to read instead of the folder; .gz, .zst and - (standard input) work
    #[arg(value_name = "FILE", help_heading = None)]
    pub(super) files: Vec<PathBuf>,
    /// The limits of `spantap mcp`, whose words never name files.
    #[arg(skip)]
    pub(super) scope: Option<ReadScope>,
}

/// The limits of what `spantap mcp` reads.
#[derive(Clone, Debug)]
pub(super) struct ReadScope {
    /// Only this session; `None` for all.
    pub(super) session: Option<String>,
    /// Connections that are never read.
    pub(super) left_out: HashSet<Box<str>>,
    /// The config file to read instead of the usual one.
    pub(super) config: Option<PathBuf>,
}

impl SelectArgs {
    /// Returns the first given option that selects calls by what they are.
    pub(super) fn first_of_operations(&self) -> Option<&'static str> {
        let given = [
            ("--server", !self.server.is_empty()),
            ("--tool", !self.tool.is_empty()),
            ("--method", self.method.is_some()),
            ("--status", self.status.is_some()),
            ("--min-duration", self.min_duration.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }

    /// Makes `target` the first file if it names a file or folder: the last session there is meant. Refuses standard
    /// input, which can be read only once.
    pub(super) fn take_place(&mut self, target: &mut Option<String>, command: &str) -> anyhow::Result<()> {
        if self.scope.is_some() {
            return Ok(());
        }
        let is_place =
            |target: &mut String| *target == "-" || (*target != "last" && Path::new(target).exists());
        if let Some(file) = target.take_if(is_place) {
            self.files.insert(0, PathBuf::from(file));
        }
        self.refuse_stream(command)
    }

    /// Refuses standard input and pipes, which can be read only once.
    pub(super) fn refuse_stream(&self, command: &str) -> anyhow::Result<()> {
        let Some(stream) = self.files.iter().find(|file| is_stream(file)) else { return Ok(()) };
        let name = match stream.to_str() {
            Some("-") => "standard input".into(),
            _ => Printable::from(stream.to_string_lossy()),
        };
        Err(hint(
            anyhow::anyhow!("`{command}` reads its files more than once, which {name} does not allow"),
            format!("write {name} to a file first"),
        ))
    }
}

/// Leaves options out of the help of a command that refuses them.
pub(super) fn hiding(ids: &'static [&str]) -> impl FnMut(clap::Arg) -> clap::Arg {
    |option| {
        let is_refused = ids.contains(&option.get_id().as_str());
        if is_refused { option.hide(true) } else { option }
    }
}

/// Sets the help of `--limit` in a command that has a limit without the option.
pub(super) fn limit_help(default: &'static str) -> impl FnOnce(clap::Arg) -> clap::Arg {
    move |option| option.help(format!("{LIMIT} [default: {default}]"))
}

/// The help of `--json` in a command that prints one object.
pub(super) fn one_object(option: clap::Arg) -> clap::Arg {
    option.help("Print one JSON object")
}

/// Parses what `show` and `why` look for. An empty word, as an unset variable gives, would match everything.
pub(super) fn target(word: &str) -> Result<String, &'static str> {
    (!word.is_empty()).then(|| word.to_owned()).ok_or("expected a word; leave it out for the last session")
}

/// Returns the help of `--since`, which differs between commands in its default only.
pub(super) fn since_help(default: &str) -> String {
    format!(
        "Start of the time range: RFC 3339, a day as for --on, or an age such as 30m, 6h, 7d [default: {default}]"
    )
}

const LIMIT: &str = "Maximum number of rows or operations";

/// The flags that shape the answer.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct OutputArgs {
    #[arg(short = 'n', long, value_name = "N", help_heading = "Select", help = LIMIT)]
    pub(super) limit: Option<usize>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(super) json: bool,
    /// Exit with status 1 if nothing is found
    #[arg(long)]
    pub(super) fail_if_empty: bool,
    #[command(flatten)]
    pub(super) color: ColorArgs,
    /// Do not send long output through $SPANTAP_PAGER, $PAGER or less
    #[arg(long)]
    pub(super) no_pager: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct ColorArgs {
    /// Use colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub(super) color: ColorChoice,
}

fn status() -> impl TypedValueParser<Value = Status> {
    let words = PossibleValuesParser::new(Status::ALL.map(Status::as_str));
    words.map(|word| Status::from_word(&word).unwrap_or_default())
}

/// Prints one line on standard error that is not an error.
pub(super) fn note(text: &str) {
    let text = Printable::new(text);
    let _ = writeln!(io::stderr(), "note: {}", without_commands(&text, CommandEscape::Text));
}

/// Ends the thread of a progress bar when it is dropped.
struct EndOfBar<'a> {
    done: &'a AtomicBool,
    bar: &'a Thread,
}

impl Drop for EndOfBar<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.bar.unpark();
    }
}

/// The time range of a command without `--since` and `--on`. It is everything if files or a session are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DefaultRange {
    LastDay,
    All,
}

/// Everything that a reading command needs to begin.
pub(super) struct Reading {
    pub(super) select: Selection,
    pub(super) sources: Vec<LogSource>,
    /// Folders in which new files may appear.
    pub(super) folders: Vec<PathBuf>,
    pub(super) terminal: Terminal,
    pub(super) prices: Prices,
    /// Names of the files that the user named.
    named: Vec<String>,
    /// Names of the folder or files, for messages.
    place: String,
    /// The flags that select, for messages.
    wanted: String,
    /// True if the user chose the time.
    is_time_chosen: bool,
    /// False if nothing may be written to the terminal.
    pub(super) shows_progress: bool,
    /// The files or folders of the command line.
    files: Vec<PathBuf>,
    settings: Settings,
    answers_an_agent: bool,
}

/// Least width: a shorter line cannot hold anything useful.
const LEAST_WIDTH: usize = 40;
/// Bytes from which on reading takes long enough to show its progress.
const LONG: u64 = 256 << 20;

impl Reading {
    /// Finds the files to read, and resolves what else the command needs.
    pub(super) fn open(args: &SelectArgs, default: DefaultRange) -> anyhow::Result<Reading> {
        let reading = Reading::open_early(args, default)?;
        // A folder that is named has to exist.
        if args.files.is_empty()
            && args.log_dir.is_some()
            && let Some(dir) = reading.folders.first()
            && let Err(error) = std::fs::metadata(dir)
        {
            return Err(unreadable_folder(dir, error));
        }
        Ok(reading)
    }

    /// Like [`open`](Reading::open), but the folder may not exist yet.
    pub(super) fn open_early(args: &SelectArgs, default: DefaultRange) -> anyhow::Result<Reading> {
        let zone = TimeZone::system();
        let settings = settings(args);
        let is_named = !args.files.is_empty() || args.session.is_some();
        let default = if is_named { DefaultRange::All } else { default };
        let window = window(args, default, &zone)?;
        let (sources, folders, place) = sources(&settings, &args.files, window)?;
        let now = std::time::SystemTime::now();
        folders.iter().for_each(|folder| bodies::clean_folder(folder, now));
        let trace_link = trace_link(&settings);
        let prices = Prices::new(settings.usd_per_million_tokens.value, &settings.cost_per_call);
        let scope = args.scope.clone();
        let (only_session, mut left_out) =
            scope.map(|scope| (scope.session, scope.left_out)).unwrap_or_default();
        if args.scope.is_some() {
            let own = std::env::current_exe().ok();
            left_out.extend(mcp_connections(&sources, own.as_deref().and_then(Path::file_stem)));
        }
        let globs = |patterns: &[String]| patterns.iter().map(Glob::new).collect();
        let select = Selection {
            servers: globs(&args.server),
            tools: globs(&args.tool),
            session: args.session.clone(),
            only_session,
            left_out,
            method: args.method.as_deref().map(Glob::new),
            status: args.status,
            window,
            min_duration: args.min_duration.map(|duration| duration.as_secs_f64() * 1000.0),
            checks: args.checks || args.session.is_some() || !args.files.is_empty(),
            ..Selection::default()
        };
        Ok(Reading {
            select,
            sources,
            folders,
            terminal: Terminal { zone, trace_link, ..terminal(settings.thrash_warn.value) },
            prices,
            named: args.files.iter().map(|file| file.display().to_string()).collect(),
            place,
            wanted: wanted(args),
            is_time_chosen: args.since.is_some() || args.until.is_some() || args.on.is_some(),
            shows_progress: true,
            files: args.files.clone(),
            settings,
            answers_an_agent: args.scope.is_some(),
        })
    }

    /// Finds the files again: there may be new ones.
    pub(super) fn find_sources(&mut self) -> anyhow::Result<()> {
        self.sources = sources(&self.settings, &self.files, self.select.window)?.0;
        Ok(())
    }

    /// Leaves out connections inside another connection, so that their calls count once.
    pub(super) fn leave_out_inner(&mut self) {
        self.select.inner = inner_connections(&self.sources, &self.select);
    }

    /// Returns an empty table of what agents reported, to be filled by [`scan_with`](Reading::scan_with); `None` if none
    /// can have reported anything, or if only a part of each session is selected: a report is about a whole session.
    pub(super) fn agents(&self) -> Option<AgentJoins> {
        let is_whole = self.select.servers.is_empty() && !self.select.is_about_operations();
        is_whole.then(|| AgentJoins::of(&self.sources, self.select.window)).flatten()
    }

    /// Like [`scan`](Reading::scan), and fills copies of `agents` in the same scan.
    pub(super) fn scan_with<F: Fold>(
        &self,
        agents: Option<AgentJoins>,
        make: impl Fn() -> F + Sync,
    ) -> (F, Option<AgentJoins>, ScanFindings) {
        let (both, findings) = self.scan(|| WithAgents { fold: make(), agents: agents.clone() });
        (both.fold, both.agents, findings)
    }

    /// Folds all records. Shows the progress on a terminal if the logs are large.
    pub(super) fn scan<F: Fold>(&self, make: impl Fn() -> F + Sync) -> (F, ScanFindings) {
        let total: u64 = self.sources.iter().map(LogSource::size).sum();
        let progress = AtomicU64::new(0);
        if total < LONG || !self.shows_progress || !io::stderr().is_terminal() {
            return scan(&self.sources, make, &progress);
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let bar = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let share = progress.load(Ordering::Relaxed) as f64 / total as f64;
                    let filled = (share.min(1.0) * 30.0) as usize;
                    let bar = format!("{}{}", "#".repeat(filled), "-".repeat(30 - filled));
                    let _ = write!(io::stderr(), "\rreading [{bar}] {:>3.0} %", share.min(1.0) * 100.0);
                    std::thread::park_timeout(Duration::from_millis(100));
                }
                let _ = write!(io::stderr(), "\r{:46}\r", "");
            });
            // Ends the bar also if the scan panics: the panic waits for the bar's thread.
            let _end = EndOfBar { done: &done, bar: bar.thread() };
            scan(&self.sources, make, &progress)
        })
    }

    /// Prints on standard error that nothing was found, where, and how to find something.
    pub(super) fn print_no_data(&self, what: &str, read: &ScanFindings) -> io::Result<()> {
        self.print_nothing(what, &self.no_data_hint(read))
    }

    fn print_nothing(&self, what: &str, hint: &str) -> io::Result<()> {
        if self.answers_an_agent {
            // The answer has a note.
            return Ok(());
        }
        let text = format!("{what}{} in {}", self.wanted, self.location());
        writeln!(io::stderr(), "{}\nhint: {hint}", Printable::from(text))
    }

    /// Returns the message that nothing was found, and the hint how to find something.
    pub(super) fn no_data(&self, what: &str, read: &ScanFindings) -> (String, String) {
        (format!("{what}{} in {}", self.wanted, self.location()), self.no_data_hint(read))
    }

    /// Returns folder or files, and the time range.
    pub(super) fn location(&self) -> String {
        let at = |at: Timestamp| at.local(&self.terminal.zone, "%Y-%m-%d %H:%M");
        let time = match (self.select.window.since, self.select.window.until) {
            (Some(since), Some(until)) => format!(" from {} until {}", at(since), at(until)),
            (Some(since), None) => format!(" since {}", at(since)),
            (None, Some(until)) => format!(" until {}", at(until)),
            (None, None) => String::new(),
        };
        format!("{}{time}", self.place)
    }

    /// Returns the exit status of an answer, as [`read_status`](Reading::read_status). An empty answer is an answer,
    /// except with `--fail-if-empty`.
    pub(super) fn status(&self, findings: &ScanFindings, is_empty: bool, output: &OutputArgs) -> ExitCode {
        if is_empty && output.fail_if_empty { ExitCode::FAILURE } else { self.read_status(findings) }
    }

    /// Returns the exit status 1 if a log could not be read, or if a file that the user named is not a log.
    pub(super) fn read_status(&self, findings: &ScanFindings) -> ExitCode {
        let is_foreign = findings.foreign.iter().any(|name| self.named.contains(name));
        if findings.failed.is_empty() && !is_foreign { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Prints one line on standard error that is not an error, unless the terminal is a screen.
    pub(super) fn note(&self, text: &str) {
        if self.shows_progress {
            note(text);
        }
    }
}

fn unreadable_folder(dir: &Path, error: io::Error) -> anyhow::Error {
    hint(
        anyhow::Error::from(error).context(format!("failed to read folder `{}`", dir.display())),
        "`spantap doctor` shows where session logs are",
    )
}

/// Returns the given flags that exclude records; empty if no given flag does.
fn wanted(args: &SelectArgs) -> String {
    let mut options = String::new();
    let mut option = |name: &str, value: &str| options.push_str(&format!(" {name} {value}"));
    args.server.iter().for_each(|server| option("--server", server));
    args.tool.iter().for_each(|tool| option("--tool", tool));
    args.session.iter().for_each(|session| option("--session", session));
    args.method.iter().for_each(|method| option("--method", method));
    args.status.iter().for_each(|status| option("--status", status.as_str()));
    if let Some(least) = args.min_duration {
        option("--min-duration", &format!("{}ms", least.as_millis()));
    }
    if options.is_empty() { options } else { format!(" with{}", Printable::from(options)) }
}

/// Resolves the settings that a reading command needs: folder, prices, and the number of repeats to mark.
fn settings(args: &SelectArgs) -> Settings {
    let sources = crate::cli::sources(GivenSettings {
        log_dir: args.log_dir.clone(),
        config: args.scope.as_ref().and_then(|scope| scope.config.clone()),
        ..GivenSettings::default()
    });
    if let Err(error) = sources.file() {
        note(&format!("{error}; continuing without it"));
    }
    sources.settings("")
}

fn window(args: &SelectArgs, default: DefaultRange, zone: &TimeZone) -> anyhow::Result<TimeWindow> {
    const DAY_US: i64 = 86_400_000_000;
    let now = Timestamp::now();
    let usage = |problem: String, hint: &str| exit_with(2, anyhow::anyhow!(problem), hint);
    let forms = "`spantap help stats` lists the forms";
    if let Some(text) = &args.on {
        return day(text, now, zone).map_err(|problem| usage(format!("--on: {problem}"), forms));
    }
    let read = |text: &str, option: &str| {
        moment(text, now, zone).map_err(|problem| usage(format!("{option}: {problem}"), forms))
    };
    let until = args.until.as_deref().map(|text| read(text, "--until")).transpose()?;
    let since = match (&args.since, default) {
        (Some(text), _) => Some(read(text, "--since")?),
        // The day before `--until`, if that is in the past.
        (None, DefaultRange::LastDay) => {
            let last_day = Timestamp(now.0 - DAY_US);
            Some(
                until
                    .filter(|until| *until <= last_day)
                    .map_or(last_day, |until| Timestamp(until.0 - DAY_US)),
            )
        }
        (None, DefaultRange::All) => None,
    };
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(usage(
            "--since is not before --until: the time range is empty".to_owned(),
            "a day means its first instant: `--since monday --until wednesday` is two days; `--on` selects a whole day",
        ));
    }
    Ok(TimeWindow { since, until })
}

/// Returns the files to read, the folders in which new files may appear, and the names of both for messages.
fn sources(
    settings: &Settings,
    files: &[PathBuf],
    window: TimeWindow,
) -> anyhow::Result<(Vec<LogSource>, Vec<PathBuf>, String)> {
    if files.is_empty() {
        let dir = settings.log_folder().ok_or_else(|| {
            hint(anyhow::anyhow!("the folder of session logs is unknown"), "name it with --log-dir DIR")
        })?;
        let place = home_as_tilde(&dir);
        return match LogSource::in_dir(&dir, window) {
            Ok(sources) => Ok((sources, vec![dir], place)),
            // Nothing was ever recorded: that is an answer, not an error.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), vec![dir], place)),
            Err(error) => Err(unreadable_folder(&dir, error)),
        };
    }
    let mut sources = Vec::new();
    let mut folders = Vec::new();
    for file in files {
        let failed = || format!("failed to read `{}`", file.display());
        if file.is_dir() {
            sources.extend(LogSource::in_dir(file, window).with_context(failed)?);
            folders.push(file.clone());
        } else {
            sources.push(LogSource::named(file).with_context(failed)?);
        }
    }
    let name = |file: &PathBuf| match file.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => home_as_tilde(file),
    };
    let names: Vec<String> = files.iter().take(3).map(name).collect();
    let more = if files.len() > 3 { format!(" and {} more", files.len() - 3) } else { String::new() };
    Ok((LogSource::once(sources), folders, format!("{}{more}", names.join(", "))))
}

/// Returns the terminal of standard output, where `warn` identical calls mark a call.
pub(super) fn terminal(warn: u32) -> Terminal {
    Terminal { width: width(), unicode: is_unicode(), zone: TimeZone::system(), warn, trace_link: None }
}

/// Returns the template of addresses of traces. One that cannot be used is noted.
fn trace_link(settings: &Settings) -> Option<TraceLink> {
    let problems = settings.problems.iter().filter(|problem| problem.setting == Some("links.trace"));
    problems.for_each(|problem| note(&problem.to_string()));
    let is_screen = || stdio::terminal_width().is_some();
    let is_capable = || process_variable("TERM").is_some_and(|name| name != "dumb" && name != "linux");
    let template = settings.links_trace.value.clone()?;
    Some(TraceLink { template, is_marked: is_screen() && is_capable() })
}

/// Returns the columns of a line: `COLUMNS`, else those of the terminal. A pipe or file has no limit.
fn width() -> usize {
    let set = process_variable("COLUMNS").and_then(|text| text.parse().ok());
    set.unwrap_or_else(|| stdio::terminal_width().unwrap_or(Terminal::UNLIMITED))
        .clamp(LEAST_WIDTH, Terminal::UNLIMITED)
}

/// Returns true if the locale is UTF-8; consoles of Windows always are.
fn is_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(process_variable);
    let locale = locale.unwrap_or_default().to_ascii_lowercase().replace('-', "");
    cfg!(windows) || locale.contains("utf8")
}
