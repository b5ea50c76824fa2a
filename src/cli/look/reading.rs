//! SELECT options, environment and config file become what floor `read` takes.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use jiff::tz::TimeZone;

use crate::cli::look::{SelectArgs, StatusArg, note};
use crate::cli::run::RunArgs;
use crate::cli::{Hinted, config_file, hint};
use crate::present::format;
use crate::present::table::Terminal;
use crate::query::files::{Source, Window};
use crate::query::scan::{Findings, Fold, scan};
use crate::query::select::{Select, StatusFilter, day, moment};
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;
use crate::settings::paths;
use crate::settings::{self, Config};
use crate::text::glob::Glob;

/// From when records count if nobody says: all of them where files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Since {
    LastDay,
    Ever,
}

/// Everything that a reading command needs to begin.
pub(in crate::cli) struct Reading {
    pub(in crate::cli) select: Select,
    pub(in crate::cli) sources: Vec<Source>,
    /// Where new files may appear.
    pub(super) folders: Vec<PathBuf>,
    pub(super) terminal: Terminal,
    pub(super) prices: Prices,
    /// From which repetition on a call is marked.
    pub(super) warn: u32,
    /// Where we looked, and for what, for people.
    looked: String,
    wanted: String,
    /// The time was said, and is not the default.
    is_chosen: bool,
}

/// Lines are this wide where nobody says.
const WIDTH: usize = 80;
/// Below this a line holds nothing worth reading.
const LEAST_WIDTH: usize = 40;
/// Bytes from which reading takes long enough to show how far it is.
const LONG: u64 = 256 << 20;

impl Reading {
    pub(in crate::cli) fn open(
        args: &SelectArgs,
        files: &[PathBuf],
        default: Since,
    ) -> anyhow::Result<Reading> {
        let reading = Reading::open_early(args, files, default)?;
        // A folder that is named has to be there.
        if files.is_empty()
            && args.log_dir.is_some()
            && let Some(dir) = reading.folders.first()
            && let Err(error) = std::fs::metadata(dir)
        {
            return Err(hint(
                anyhow::Error::from(error).context(format!("failed to read folder `{}`", dir.display())),
                "`spantap doctor` says where session logs are",
            ));
        }
        Ok(reading)
    }

    /// The same where the folder may yet be made.
    ///
    /// # Errors
    /// A time that cannot be read, a folder or file that cannot.
    pub(super) fn open_early(
        args: &SelectArgs,
        files: &[PathBuf],
        default: Since,
    ) -> anyhow::Result<Reading> {
        let zone = TimeZone::system();
        let settings = settings(args);
        let window = window(args, if files.is_empty() { default } else { Since::Ever }, &zone)?;
        let (sources, folders, looked) = sources(&settings, files, window)?;
        let globs = |patterns: &[String]| patterns.iter().map(Glob::new).collect();
        let select = Select {
            servers: globs(&args.server),
            tools: globs(&args.tool),
            session: args.session.clone(),
            method: args.method.as_deref().map(Glob::new),
            status: args.status.map(|status| match status {
                StatusArg::Ok => StatusFilter::Is(Status::Ok),
                StatusArg::Error => StatusFilter::AnyFailure,
                StatusArg::Denied => StatusFilter::Is(Status::Denied),
                StatusArg::Timeout => StatusFilter::Is(Status::Timeout),
                StatusArg::Cancelled => StatusFilter::Is(Status::Cancelled),
                StatusArg::Unknown => StatusFilter::Is(Status::Unknown),
            }),
            window,
            min_duration: args.min_duration.map(|duration| duration.as_secs_f64() * 1000.0),
        };
        Ok(Reading {
            select,
            sources,
            folders,
            terminal: Terminal { width: width(), unicode: is_unicode(), zone },
            prices: Prices::new(settings.usd_per_million_tokens.value, &settings.cost_per_call),
            warn: settings.thrash_warn.value,
            looked,
            wanted: wanted(args),
            is_chosen: args.since.is_some() || args.until.is_some() || args.on.is_some(),
        })
    }

    /// Folds all records; shows how far it is if that takes long and somebody is looking.
    pub(super) fn scan<F: Fold>(&self, make: impl Fn() -> F + Sync) -> (F, Findings) {
        let total: u64 = self.sources.iter().map(Source::size).sum();
        let progress = AtomicU64::new(0);
        if total < LONG || !io::stderr().is_terminal() {
            return scan(&self.sources, make, &progress);
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let share = progress.load(Ordering::Relaxed) as f64 / total as f64;
                    let filled = (share.min(1.0) * 30.0) as usize;
                    let bar = format!("{}{}", "#".repeat(filled), "-".repeat(30 - filled));
                    let _ = write!(io::stderr(), "\rreading [{bar}] {:>3.0} %", share.min(1.0) * 100.0);
                    std::thread::park_timeout(Duration::from_millis(100));
                }
                let _ = write!(io::stderr(), "\r{:46}\r", "");
            });
            let result = scan(&self.sources, make, &progress);
            done.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            result
        })
    }

    /// Says on standard error that there is nothing, where we looked, and how to get something.
    ///
    /// # Errors
    /// Those of standard error.
    pub(in crate::cli) fn say_no_data(&self, what: &str, read: &Findings) -> io::Result<()> {
        let (text, hint) = self.nothing(what, read);
        writeln!(io::stderr(), "{text}\nhint: {hint}")
    }

    /// That there is nothing, where we looked and for what; and how to get something.
    pub(super) fn nothing(&self, what: &str, read: &Findings) -> (String, String) {
        (format!("{what}{} in {}", self.wanted, self.whereabouts()), self.way_to_data(read))
    }

    /// Folder or files, and the time.
    pub(super) fn whereabouts(&self) -> String {
        let at = |at: Timestamp| format::local(at, &self.terminal.zone, "%Y-%m-%d %H:%M");
        let time = match (self.select.window.since, self.select.window.until) {
            (Some(since), Some(until)) => format!(" from {} until {}", at(since), at(until)),
            (Some(since), None) => format!(" since {}", at(since)),
            (None, Some(until)) => format!(" until {}", at(until)),
            (None, None) => String::new(),
        };
        format!("{}{time}", self.looked)
    }

    fn way_to_data(&self, read: &Findings) -> String {
        let is_ever = self.select.window == Window::default();
        let has_logs =
            |dir: &PathBuf| Source::in_dir(dir, Window::default()).is_ok_and(|sources| !sources.is_empty());
        let nothing_yet = !self.folders.is_empty() && !self.folders.iter().any(has_logs);
        match (nothing_yet, is_ever || nothing_yet) {
            _ if self.folders.is_empty() && read.records == 0 => {
                "session logs are lines of JSON that begin with `{\"schema\":\"spantap/`".to_owned()
            }
            (true, true) => {
                "watch a server with `spantap -- COMMAND`, or all of a host's with `spantap wrap`; \
                `spantap demo` shows how it looks"
                    .to_owned()
            }
            (_, false) if self.is_chosen => "ask for another time, or for more".to_owned(),
            (_, false) if self.wanted.is_empty() => {
                "look further back with `--since 30d`; `spantap doctor` says whether servers are watched"
                    .to_owned()
            }
            (_, false) => "look further back with `--since 30d`, or ask for more".to_owned(),
            (false, true) if self.wanted.is_empty() => {
                "there are records, and none of this kind; `spantap tail` shows operations".to_owned()
            }
            (false, true) => "leave out an option: nothing there fits all of them".to_owned(),
        }
    }

    /// Says on standard error what could not be read.
    pub(super) fn report_findings(&self, findings: &Findings) {
        self.findings(findings).iter().for_each(|text| note(text));
    }

    /// What could not be read, one line each; clean.
    pub(super) fn findings(&self, findings: &Findings) -> Vec<String> {
        let files = |names: &[String]| {
            let shown: Vec<_> = names.iter().take(3).map(|name| format::clean(name)).collect();
            let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
            format!("{}{more}", shown.join(", "))
        };
        let mut notes = Vec::new();
        if !findings.foreign.is_empty() {
            notes.push(format!("not a session log of spantap: {}", files(&findings.foreign)));
        }
        if !findings.newer.is_empty() {
            notes.push(format!(
                "written by a newer spantap, read as far as known: {}",
                files(&findings.newer)
            ));
        }
        for (name, lines) in &findings.unreadable {
            notes.push(format!(
                "{} of {} could not be read",
                format::plural(*lines, "line"),
                format::clean(name)
            ));
        }
        for (name, error) in &findings.failed {
            notes.push(format!("{} could not be read: {}", format::clean(name), format::clean(error)));
        }
        notes
    }
}

/// The options that leave something out, as they were given; empty if there are none. Clean.
fn wanted(args: &SelectArgs) -> String {
    let mut options: Vec<String> = Vec::new();
    let mut option = |name: &str, value: &str| options.push(format!("{name} {}", format::clean(value)));
    args.server.iter().for_each(|server| option("--server", server));
    args.tool.iter().for_each(|tool| option("--tool", tool));
    args.session.iter().for_each(|session| option("--session", session));
    args.method.iter().for_each(|method| option("--method", method));
    if let Some(status) = args.status.and_then(|status| status.to_possible_value()) {
        option("--status", status.get_name());
    }
    if let Some(least) = args.min_duration {
        option("--min-duration", &format!("{}ms", least.as_millis()));
    }
    if options.is_empty() { String::new() } else { format!(" with {}", options.join(" ")) }
}

/// The settings that matter here: the folder, prices and the mark of repetition.
fn settings(args: &SelectArgs) -> Config {
    let run = RunArgs { log_dir: args.log_dir.clone(), ..RunArgs::default() };
    let file = config_file(&run).unwrap_or_else(|error| {
        note(&format!("{error}; going on without it"));
        None
    });
    Config::resolve(&run, &settings::process_environment, file.as_ref(), "")
}

fn window(args: &SelectArgs, default: Since, zone: &TimeZone) -> anyhow::Result<Window> {
    let now = Timestamp::now();
    let misread = |option: &str, problem: String| {
        anyhow::Error::from(Hinted {
            error: anyhow::anyhow!("{option}: {problem}"),
            hint: "`spantap help stats` lists the forms".to_owned(),
            status: 2,
        })
    };
    if let Some(text) = &args.on {
        return day(text, now, zone).map_err(|problem| misread("--on", problem));
    }
    let read = |text: &str, option: &str| moment(text, now, zone).map_err(|problem| misread(option, problem));
    let since = match (&args.since, default) {
        (Some(text), _) => Some(read(text, "--since")?),
        (None, Since::LastDay) => Some(Timestamp(now.0 - 86_400_000_000)),
        (None, Since::Ever) => None,
    };
    let until = args.until.as_deref().map(|text| read(text, "--until")).transpose()?;
    // A default must not contradict what was said: `--until yesterday` alone is a day up to then.
    let since = match (since, until) {
        (Some(since), Some(until)) if args.since.is_none() && since >= until => {
            Some(Timestamp(until.0 - 86_400_000_000))
        }
        (since, _) => since,
    };
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(Hinted {
            error: anyhow::anyhow!("--since is not before --until: there is no time between them"),
            hint: "a day stands for its beginning: `--since monday --until wednesday` is two; `--on` takes a whole one".to_owned(),
            status: 2,
        }
        .into());
    }
    Ok(Window { since, until })
}

/// What to read, where new files may appear, and how to say where we looked.
fn sources(
    settings: &Config,
    files: &[PathBuf],
    window: Window,
) -> anyhow::Result<(Vec<Source>, Vec<PathBuf>, String)> {
    if files.is_empty() {
        let dir = settings.log_dir.value.clone().or_else(paths::sessions_dir).ok_or_else(|| {
            hint(anyhow::anyhow!("no folder for session logs is known"), "name one with --log-dir DIR")
        })?;
        let looked = home_as_tilde(&dir);
        return match Source::in_dir(&dir, window) {
            Ok(sources) => Ok((sources, vec![dir], looked)),
            // Nothing was ever recorded: that is an answer, not an error.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), vec![dir], looked)),
            Err(error) => Err(hint(
                anyhow::Error::from(error).context(format!("failed to read folder `{}`", dir.display())),
                "`spantap doctor` says where session logs are",
            )),
        };
    }
    let mut sources = Vec::new();
    let mut folders = Vec::new();
    for file in files {
        let failed = || format!("failed to read `{}`", file.display());
        if file.is_dir() {
            sources.extend(Source::in_dir(file, window).with_context(failed)?);
            folders.push(file.clone());
        } else {
            sources.push(Source::named(file).with_context(failed)?);
        }
    }
    let name = |file: &PathBuf| match file.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => home_as_tilde(file),
    };
    let names: Vec<String> = files.iter().take(3).map(name).collect();
    let more = if files.len() > 3 { format!(" and {} more", files.len() - 3) } else { String::new() };
    Ok((Source::once(sources), folders, format!("{}{more}", names.join(", "))))
}

fn home_as_tilde(path: &Path) -> String {
    let below_home =
        etcetera::home_dir().ok().and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned));
    match below_home {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

fn width() -> usize {
    let said = settings::process_environment("COLUMNS").and_then(|text| text.parse().ok());
    let measured = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    said.or_else(measured).unwrap_or(WIDTH).max(LEAST_WIDTH)
}

/// Whether the locale says UTF-8; on Windows consoles do.
fn is_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(settings::process_environment);
    let locale = locale.unwrap_or_default().to_ascii_lowercase().replace('-', "");
    cfg!(windows) || locale.contains("utf8")
}
