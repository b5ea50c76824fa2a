//! `spantap export`: sends recorded sessions to a collector, again or for the first time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::{Out, hint};
use crate::cli::run::{RunArgs, Side};
use crate::config::{self, Config, File, process_environment};
use crate::export::log::is_session_file;
use crate::export::metrics::Prices;
use crate::export::otlp::settings::Target;
use crate::export::otlp::{Otlp, Settings};
use crate::export::record::{EventName, Record};
use crate::export::{Identity, Output, trace};
use crate::{export, places};

/// Send spans and logs of recorded sessions, with the ids and times they had
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Collector, e.g. http://localhost:4318 [default: from the config file or OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Whose side the spans take [default: server]
    #[arg(long, value_enum)]
    side: Option<Side>,
    /// Send log records too
    #[arg(long)]
    logs: bool,
    /// Only sessions (or connections) whose id begins like this
    #[arg(long, value_name = "PREFIX")]
    session: Option<String>,
    /// Only this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only records from then on: RFC 3339, today, yesterday, or an age such as 6h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only records before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Leave out what an earlier run with --resume has sent there, and remember what this one sends
    #[arg(long, conflicts_with_all = ["session", "server", "since", "until"])]
    resume: bool,
    /// Folder of session logs [default: see spantap doctor]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Read these files instead of a folder
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// How long a collector may take nothing before we give up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the collector has for what is left when all files are read.
const LAST_WAIT: Duration = Duration::from_secs(30);

impl ExportArgs {
    /// Exit status 1 when something was not taken.
    ///
    /// # Errors
    /// When there is no collector to send to, or nothing to read.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let run = RunArgs { otlp: self.otlp.clone(), side: self.side, ..RunArgs::default() };
        let path = config::file_path(&run, &process_environment, places::config_dir().as_deref());
        let file = path.as_deref().map(File::read).transpose()?.flatten();
        let config = Config::resolve(&run, &process_environment, file.as_ref(), "");
        let endpoint = config.otlp_endpoint.value.as_deref();
        let (settings, _) = Settings::resolve(endpoint, &config.otlp, &process_environment);
        let Some(mut settings) = settings else {
            return Err(hint(
                anyhow::anyhow!("no collector to send to"),
                "name one: spantap export --otlp http://localhost:4318",
            ));
        };
        // Points of a moment that has passed would be taken for points of now.
        settings.metrics = None;
        if self.logs && settings.logs.is_none() {
            let mut asked = config.otlp.clone();
            asked.logs = Some(true);
            settings.logs =
                Settings::resolve(endpoint, &asked, &process_environment).0.and_then(|asked| asked.logs);
        }
        let side = match config.side.value {
            Side::Server => trace::Side::Server,
            Side::Client => trace::Side::Client,
        };
        let folder = self.log_dir.clone().or(config.log_dir.value).or_else(places::sessions_dir);
        let files = self.files(folder.as_deref())?;
        let mut progress = if self.resume { Progress::load() } else { Progress::default() };
        let window = Window::new(self.since.as_deref(), self.until.as_deref())?;
        let bar = Bar::new(files.len());
        let mut sent = Sent::default();
        for (index, file) in files.iter().enumerate() {
            bar.show(index, file);
            let key = key(&settings, file);
            let from = progress.lines(&key);
            let read = self.send(file, from, &settings, side, &window, &mut sent)?;
            progress.set(key, from + read);
        }
        bar.clear();
        if self.resume && sent.lost == 0 {
            progress.save()?;
        }
        let Sent { records, connections, lost } = sent;
        writeln!(out, "{records} records of {connections} connections sent, {lost} spans or logs not taken")?;
        Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn files(&self, folder: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let Some(folder) = folder else { bail!("there is no home folder; name the logs with --log-dir") };
        let entries =
            std::fs::read_dir(folder).with_context(|| format!("failed to read `{}`", folder.display()))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(is_session_file))
            .map(|entry| entry.path())
            .collect();
        files.sort();
        Ok(files)
    }

    /// Sends one file's records from line `from` on; returns how many lines it read.
    fn send(
        &self,
        file: &Path,
        from: u64,
        settings: &Settings,
        side: trace::Side,
        window: &Window,
        sent: &mut Sent,
    ) -> anyhow::Result<u64> {
        let opened =
            std::fs::File::open(file).with_context(|| format!("failed to read `{}`", file.display()))?;
        let mut connections: HashMap<String, Otlp> = HashMap::new();
        let mut lines = 0;
        let mut reader = BufReader::new(opened);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line without its newline is still being written, or was cut off.
            if reader.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
                break;
            }
            lines += 1;
            let Ok(record) = serde_json::from_slice::<Record<'_>>(&line) else { continue };
            let is_new = lines > from;
            // The start of a connection is needed even if it was sent before: its span may end now.
            if !(is_new || record.event == EventName::SessionStarted) || !self.selects(&record) {
                continue;
            }
            if !window.holds(&record) && record.event != EventName::SessionStarted {
                continue;
            }
            let id = record.connection_id.to_string();
            let otlp = connections.entry(id).or_insert_with(|| {
                let warn = |line: &str| tracing::warn!("{line}");
                Otlp::new(settings.clone(), &identity(&record), side, Prices::default(), warn)
            });
            if !otlp.wait_for_room(PATIENCE) {
                return Err(hint(
                    anyhow::anyhow!("the collector has taken nothing for {} s", PATIENCE.as_secs()),
                    "see that it runs, and send the same again; `spantap doctor` looks whether it answers",
                ));
            }
            otlp.send(&record);
            sent.records += u64::from(is_new);
        }
        let deadline = Instant::now() + LAST_WAIT;
        sent.connections += connections.len() as u64;
        connections.values_mut().for_each(Output::begin_close);
        for connection in connections.values_mut() {
            connection.finish_close(deadline);
            sent.lost +=
                connection.dropped().iter().map(|dropped: &export::Dropped| dropped.count).sum::<u64>();
        }
        Ok(lines.saturating_sub(from))
    }

    fn selects(&self, record: &Record<'_>) -> bool {
        let session = self.session.as_deref().is_none_or(|prefix| {
            record.session_id.starts_with(prefix) || record.connection_id.starts_with(prefix)
        });
        session && self.server.as_deref().is_none_or(|server| record.server_name == server)
    }
}

#[derive(Default)]
struct Sent {
    records: u64,
    connections: u64,
    lost: u64,
}

fn identity(record: &Record<'_>) -> Identity {
    Identity {
        connection_id: record.connection_id.to_string(),
        session_id: record.session_id.to_string(),
        server_name: record.server_name.to_string(),
        user_id: record.user_id.as_ref().map(|user| user.to_string()),
    }
}

/// The time that was asked for.
struct Window {
    since: Option<i64>,
    until: Option<i64>,
}

impl Window {
    fn new(since: Option<&str>, until: Option<&str>) -> anyhow::Result<Window> {
        let zone = jiff::tz::TimeZone::system();
        let now = crate::export::timestamp::Timestamp::now();
        let read = |text: Option<&str>| {
            let read = text.map(|text| crate::read::select::moment(text, now, &zone));
            read.transpose().map_err(|error| anyhow::anyhow!("{error}"))
        };
        Ok(Window { since: read(since)?.map(|at| at.0), until: read(until)?.map(|at| at.0) })
    }

    fn holds(&self, record: &Record<'_>) -> bool {
        let at = record.timestamp.0;
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// What was sent, where to, and from which file. An endpoint may hold credentials: it is hashed.
fn key(settings: &Settings, file: &Path) -> String {
    use sha2::{Digest, Sha256};
    let path = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let endpoint =
        |target: &Option<Target>| target.as_ref().map(|target| target.endpoint.clone()).unwrap_or_default();
    let what = format!("{}\n{}\n{}", endpoint(&settings.traces), endpoint(&settings.logs), path.display());
    Sha256::digest(what).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many lines of each file have been sent.
#[derive(Default)]
struct Progress(HashMap<String, u64>);

impl Progress {
    fn file() -> Option<PathBuf> {
        Some(places::state_dir()?.join("exported.json"))
    }

    fn load() -> Progress {
        let text = Progress::file().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        Progress(serde_json::from_slice(&text).unwrap_or_default())
    }

    fn lines(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn set(&mut self, key: String, lines: u64) {
        self.0.insert(key, lines);
    }

    fn save(&self) -> anyhow::Result<()> {
        let file = Progress::file().context("no home folder to remember in")?;
        let folder = file.parent().context("no folder")?;
        std::fs::create_dir_all(folder)?;
        let temporary = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&temporary, &self.0)?;
        temporary.persist(&file).with_context(|| format!("failed to write `{}`", file.display()))?;
        Ok(())
    }
}

/// Shows how far we are, where somebody is watching.
struct Bar {
    files: usize,
    shown: bool,
}

impl Bar {
    fn new(files: usize) -> Bar {
        Bar { files, shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, index: usize, file: &Path) {
        if self.shown {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let _ = write!(std::io::stderr(), "\r\x1b[K{}/{} {name}", index + 1, self.files);
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
