//! `spantap export`: sends recorded sessions to a collector.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

mod progress;

use crate::cli::selection::{DefaultRange, Reading, SelectArgs, note, since_help};
use crate::cli::{Out, done, help, hint};
use crate::export::Output;
use crate::export::otlp::settings::SignalSwitch;
use crate::export::otlp::{ConnectionEncoder, Otlp, OtlpSettings};
use crate::present::format::plural;
use crate::query::entry::LogEntry;
use crate::query::files::LogSource;
use crate::query::scan::{LineReader, LogLine, ScanFindings};
use crate::query::select::Selection;
use crate::record::file_name::stem_and_part;
use crate::record::words::Side;
use crate::record::{Identity, Record};
use crate::settings::{GivenSettings, process_environment};
use progress::{ExportProgress, ProgressLine, SeqRanges, collector};

/// Send spans and logs of recorded sessions, with the ids and times they had
#[derive(Debug, Args)]
#[command(
    mut_arg("since", |argument| argument.help(since_help("all"))),
    after_help = "Exit status: 0 all records were sent; 1 some were not, or no collector is configured; 2 usage."
)]
pub struct ExportArgs {
    #[arg(long, value_name = "URL", help = help::of("otlp.endpoint"))]
    otlp: Option<String>,
    #[arg(long, value_name = "KEY=VALUE", help = help::OTLP_SET)]
    otlp_set: Vec<String>,
    #[arg(long, value_enum, help = help::of("side"))]
    side: Option<Side>,
    /// Send log records too
    #[arg(long)]
    logs: bool,
    #[command(flatten)]
    select: SelectArgs,
    /// Skip records that an earlier run with --resume sent to this collector, and remember those of this run
    #[arg(long, conflicts_with_all = ["server", "tool", "session", "method", "status", "since", "until", "on", "min_duration"])]
    resume: bool,
}

/// How long a collector may take no data before the run ends.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for the answers to the last data.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of records after which the run waits until all are taken, and a resumed run can begin.
const CHECKPOINT: u64 = 8_192;
/// Longest time between two checkpoints, if the collector is slow.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

impl ExportArgs {
    /// Sends the selected records; exit status 1 if the collector did not take all of them.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let (settings, side) = self.settings()?;
        let mut reading = Reading::open(&self.select, DefaultRange::All)?;
        reading.leave_out_inner();
        let sessions = sessions(reading.sources.clone());
        let progress = if self.resume { ExportProgress::load() } else { ExportProgress::default() };
        let line = ProgressLine::start(reading.sources.len());
        let notices = line.notices();
        let mut run = ExportRun {
            collector: collector(&settings, side),
            otlp: Otlp::of_records(settings.clone(), move |notice| {
                notices(notice);
                note(&notice.to_string());
            }),
            settings,
            side,
            // A collector gets what the log has.
            select: Selection { checks: true, ..reading.select.clone() },
            resume: self.resume,
            progress,
            seen: HashMap::new(),
            read: HashMap::new(),
            checkpoint: Instant::now(),
            since_checkpoint: 0,
            line,
            lost: BTreeMap::new(),
            findings: ScanFindings::default(),
        };
        let sent = sessions.iter().try_for_each(|session| run.send(session)).and_then(|()| run.finish());
        let ExportRun { line, seen, lost, resume, findings, .. } = run;
        let records = line.end();
        reading.print_problems(&findings);
        sent?;
        let count = format!("{} of {}", plural(records, "record"), plural(seen.len() as u64, "connection"));
        if lost.is_empty() {
            let printed = writeln!(out, "{count} sent");
            if records == 0 && !resume {
                reading.print_no_data("no records", &findings)?;
            }
            return done(reading.read_status(&findings), printed);
        }
        let reasons: Vec<String> = lost.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let all: u64 = lost.values().sum();
        let reasons = reasons.join(", ");
        done(ExitCode::FAILURE, writeln!(out, "{count} read, {all} spans or logs not taken: {reasons}"))
    }

    fn settings(&self) -> anyhow::Result<(OtlpSettings, Side)> {
        let mut config = crate::cli::settings(GivenSettings {
            otlp_endpoint: self.otlp.clone(),
            otlp_set: self.otlp_set.clone(),
            side: self.side,
            ..GivenSettings::default()
        })?;
        if self.logs && !matches!(config.otlp_tables.all.logs, Some(SignalSwitch::Own(_))) {
            config.otlp_tables.all.logs = Some(SignalSwitch::Sent(true));
        }
        let (settings, warnings) = config.otlp(&process_environment);
        for warning in
            config.problems.iter().map(ToString::to_string).chain(warnings.iter().map(ToString::to_string))
        {
            note(&warning);
        }
        let Some(mut settings) = settings else {
            return Err(hint(
                anyhow::anyhow!("no collector to send to"),
                "name one: spantap export --otlp http://localhost:4318",
            ));
        };
        // A collector would take data points of the past for current ones.
        settings.metrics = None;
        if settings.traces.is_none() && settings.logs.is_none() {
            return Err(hint(
                anyhow::anyhow!("nothing to send: traces are turned off, and logs are not requested"),
                "--logs sends log records; traces are turned off by `traces` in [otlp] or OTEL_TRACES_EXPORTER",
            ));
        }
        Ok((settings, config.side.value))
    }
}

/// Groups the parts of each session log, in their order: later parts depend on earlier ones.
fn sessions(sources: Vec<LogSource>) -> Vec<Vec<LogSource>> {
    let mut sessions: Vec<(PathBuf, Vec<(u64, LogSource)>)> = Vec::new();
    for source in sources {
        let path = source.path().unwrap_or(Path::new("-"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (stem, part) = stem_and_part(&name);
        let stem = path.with_file_name(stem);
        match sessions.iter_mut().rev().find(|(known, _)| *known == stem) {
            Some((_, parts)) => parts.push((part, source)),
            None => sessions.push((stem, vec![(part, source)])),
        }
    }
    let in_order = |(_, mut parts): (PathBuf, Vec<(u64, LogSource)>)| {
        parts.sort_by_key(|(part, _)| *part);
        parts.into_iter().map(|(_, source)| source).collect()
    };
    sessions.into_iter().map(in_order).collect()
}

struct ExportRun {
    settings: OtlpSettings,
    otlp: Otlp,
    /// The name of the collector in `progress`.
    collector: String,
    side: Side,
    select: Selection,
    resume: bool,
    progress: ExportProgress,
    /// Records by connection that this run has sent: a log may be there twice.
    seen: HashMap<String, SeqRanges>,
    /// Records by connection that were read since the last checkpoint.
    read: HashMap<String, SeqRanges>,
    /// Time of the last checkpoint.
    checkpoint: Instant,
    since_checkpoint: u64,
    line: ProgressLine,
    /// Number of spans and logs that were not taken, by reason.
    lost: BTreeMap<&'static str, u64>,
    /// Files and lines that could not be read.
    findings: ScanFindings,
}

impl ExportRun {
    /// Sends the new records of one session.
    fn send(&mut self, parts: &[LogSource]) -> anyhow::Result<()> {
        let mut connections: HashMap<String, ConnectionEncoder> = HashMap::new();
        for source in parts {
            self.read(source, &mut connections)?;
            self.line.file_done();
        }
        Ok(())
    }

    /// Sends the records of one file.
    fn read(
        &mut self,
        source: &LogSource,
        connections: &mut HashMap<String, ConnectionEncoder>,
    ) -> anyhow::Result<()> {
        let failed = || format!("failed to read `{}`", source.name());
        let mut buffer = Vec::new();
        let mut reader = LineReader::new(source.open(0).with_context(failed)?, &mut buffer, 0);
        let (mut records, mut unreadable) = (0, 0);
        loop {
            let line = match reader.next().with_context(failed)? {
                LogLine::Whole(line) => line,
                LogLine::TooLong => {
                    unreadable += 1;
                    continue;
                }
                // A line without a newline is still being written, or was cut off.
                LogLine::Last(_) | LogLine::End => break,
            };
            let entry = LogEntry::parse(line);
            if entry.as_ref().is_ok_and(|entry| entry.event.is_of_agent()) {
                records += 1;
                continue;
            }
            let (Ok(entry), Ok(record)) = (entry, serde_json::from_slice::<Record<'_>>(line)) else {
                unreadable += u64::from(!line.iter().all(u8::is_ascii_whitespace));
                continue;
            };
            records += 1;
            let connection = connections.entry(record.connection_id.to_string());
            let connection = connection
                .or_insert_with(|| ConnectionEncoder::new(&self.settings, &identity(&record), self.side));
            let seen = self.seen.get(&*record.connection_id);
            let is_sent = seen.is_some_and(|seen| seen.has(record.seq))
                || self.progress.has(&self.collector, &record.connection_id, record.seq);
            if is_sent || !takes(&self.select, &entry) {
                connection.observe_without_sending(&record);
                continue;
            }
            if !self.otlp.wait_for_room(COLLECTOR_TIMEOUT) {
                return Err(no_progress());
            }
            self.otlp.send_recorded(connection, &record);
            for numbers in [&mut self.read, &mut self.seen] {
                numbers.entry(record.connection_id.to_string()).or_default().add((record.seq, record.seq));
            }
            self.line.record_read();
            self.since_checkpoint += 1;
            if self.since_checkpoint >= CHECKPOINT || self.checkpoint.elapsed() >= CHECKPOINT_INTERVAL {
                self.reach_checkpoint()?;
            }
        }
        match (records, unreadable) {
            (_, 0) => {}
            (0, _) => self.findings.foreign.push(source.name()),
            _ => _ = self.findings.unreadable.insert(source.name(), unreadable),
        }
        Ok(())
    }

    /// Waits until all records are taken, and saves that. Records are sent again by the next run if some of those
    /// since the last checkpoint were not taken.
    fn reach_checkpoint(&mut self) -> anyhow::Result<()> {
        let in_time = self.otlp.flush(COLLECTOR_TIMEOUT);
        let lost = self.losses();
        let is_taken = in_time && lost == self.lost;
        self.lost = lost;
        if is_taken {
            self.line.records_taken(self.since_checkpoint);
        }
        let read = std::mem::take(&mut self.read);
        if self.resume && is_taken && !read.is_empty() {
            self.progress.add(&self.collector, read)?;
        }
        (self.checkpoint, self.since_checkpoint) = (Instant::now(), 0);
        if in_time { Ok(()) } else { Err(no_progress()) }
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.reach_checkpoint()?;
        self.otlp.begin_close();
        self.otlp.finish_close(Instant::now() + CLOSE_TIMEOUT);
        self.lost = self.losses();
        Ok(())
    }

    fn losses(&self) -> BTreeMap<&'static str, u64> {
        self.otlp.dropped().into_iter().map(|dropped| (dropped.reason, dropped.count)).collect()
    }
}

fn takes(select: &Selection, entry: &LogEntry<'_>) -> bool {
    match entry.is_operation() || select.is_about_operations() {
        true => select.takes_operation(entry),
        false => select.takes_context(entry),
    }
}

fn no_progress() -> anyhow::Error {
    hint(
        anyhow::anyhow!("the collector has taken nothing for {} s", COLLECTOR_TIMEOUT.as_secs()),
        "start it and run the command again; `spantap doctor` checks whether it answers",
    )
}

fn identity(record: &Record<'_>) -> Identity {
    Identity {
        connection_id: record.connection_id.to_string(),
        session_id: record.session_id.to_string(),
        server_name: record.server_name.to_string(),
        user_id: record.user_id.as_ref().map(|user| user.to_string()),
    }
}
