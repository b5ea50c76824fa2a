//! `spantap show`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::look::reading::{Reading, Since};
use crate::cli::look::{SelectArgs, ShowArgs, note};
use crate::cli::{Out, hint};
use crate::present::show::{Finder, Found, OneSession, Summaries, Target, write_operation};
use crate::present::table::Tone;
use crate::present::tail::Printer;
use crate::present::waterfall::{self, Bar};
use crate::present::{format, sessions};
use crate::query::entry::Entry;
use crate::record::Record;

/// Operations of a session that are drawn.
const OPERATIONS: usize = 10_000;
/// Candidates that are listed when several operations or sessions are meant.
const LISTED: usize = 20;

impl ShowArgs {
    pub fn run(mut self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        // `show FILE` shows the last session in a file.
        if let Some(file) = self.target.as_deref().filter(|target| *target == "-" || is_file(target)) {
            self.files.insert(0, PathBuf::from(file));
            self.target = None;
        }
        let target = Target::parse(self.target.as_deref());
        let again = places(&self.select, &self.files);
        let mut reading = Reading::open(&self.select, &self.files, Since::Ever)?;
        if self.files.iter().any(|file| file.as_os_str() == "-") {
            return Err(hint(
                anyhow::anyhow!("`show` reads its files more than once, and standard input cannot be"),
                "write it to a file first",
            ));
        }
        let (finder, findings) = reading.scan(|| Finder::new(&reading.select, &target));
        let found = finder.finish();
        reading.report_findings(&findings);
        let mut out = BufWriter::new(out);
        match found {
            Found::Nothing => {
                let what = match self.target.as_deref() {
                    None | Some("last") => "no session".to_owned(),
                    Some(text) => format!("no session or operation `{}`", format::clean(text)),
                };
                let (text, way) = reading.nothing(&what, &findings);
                return Err(hint(
                    anyhow::anyhow!(text),
                    match self.target {
                        None => way,
                        Some(_) => "`spantap sessions` lists sessions, `spantap tail` operations".to_owned(),
                    },
                ));
            }
            Found::Session(session) => {
                // Known by one of its connections, it is that connection that was asked for.
                let connection = match &target {
                    Target::Word(word) if !session.starts_with(word.as_str()) => Some(word.clone()),
                    _ => None,
                };
                reading.select.session = connection.or(reading.select.session);
                write_session(&mut out, &reading, &self.select, &again, &session)?;
            }
            Found::Sessions(ids) => {
                writeln!(out, "{} sessions or connections match:", ids.len())?;
                for id in ids.iter().take(LISTED) {
                    writeln!(out, "  spantap show {}{again}", format::clean(id))?;
                }
                if ids.len() > LISTED {
                    writeln!(out, "and {} more; a longer beginning finds fewer", ids.len() - LISTED)?;
                }
            }
            Found::Operations(lines) => write_operations(&mut out, &reading, &self.select, &again, &lines)?,
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn is_file(text: &str) -> bool {
    std::path::Path::new(text).is_file()
}

/// The folder and files that were named, as a command names them again; clean.
fn places(args: &SelectArgs, files: &[PathBuf]) -> String {
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ',' | ':' | '@');
    let word = |path: &PathBuf| {
        let path = path.to_string_lossy();
        let path = format::clean(&path);
        match path.chars().all(is_plain) {
            true => path.into_owned(),
            false => format!("'{}'", path.replace('\'', r"'\''")),
        }
    };
    let dir = args.log_dir.iter().map(|dir| format!(" --log-dir {}", word(dir)));
    dir.chain(files.iter().map(|file| format!(" {}", word(file)))).collect()
}

fn write_session(
    out: &mut impl Write,
    reading: &Reading,
    args: &SelectArgs,
    again: &str,
    session: &str,
) -> anyhow::Result<()> {
    let limit = args.limit.unwrap_or(OPERATIONS);
    let (mut one, _) = reading.scan(|| OneSession::new(&reading.select, session, limit));
    one.operations.sort_by_cached_key(|line| {
        Entry::parse(line).ok().map(|entry| (entry.started(), entry.connection_id.to_string(), entry.seq))
    });
    if args.json {
        for line in &one.operations {
            writeln!(out, "{}", format::clean_json(&String::from_utf8_lossy(line)))?;
        }
        if one.operations.is_empty() {
            note("this session has no operations; without --json there is what else is known of it");
        }
        return Ok(());
    }
    let terminal = &reading.terminal;
    let mut bars: Vec<Bar> = one
        .operations
        .iter()
        .filter_map(|line| Entry::parse(line).ok())
        .map(|entry| Bar::new(&entry, reading.warn))
        .collect();
    waterfall::mark_slow(&mut bars);
    let turns = waterfall::turns(bars);

    one.summary.turns.settle();
    let summary = &one.summary;
    let clean = |texts: Vec<&String>| {
        texts.into_iter().map(|text| format::clean(text).into_owned()).collect::<Vec<_>>().join(", ")
    };
    let (first, last) = summary.extent.get().unwrap_or_default();
    let at = |instant, format| format::local(instant, &terminal.zone, format);
    let lines = |facts: &[String], separator| {
        format::lines_of(facts, separator, terminal.width, terminal.ellipsis()).join("\n")
    };
    writeln!(out, "{}", Tone::Strong.paint(&format::clean(session)))?;
    let facts = [
        clean(summary.servers.keys().collect()),
        clean(summary.hosts.iter().collect()),
        format::span(first, last, &terminal.zone, terminal.dash()),
        format::duration(summary.extent.ms()),
    ];
    writeln!(out, "{}", lines(&facts, "  "))?;
    let errors = summary.figures.errors();
    let counts = [
        format::plural(summary.figures.calls, "call"),
        format::plural(errors, "error"),
        format::plural(summary.turns.turns(), "turn"),
        format!("~{} tokens", format::count(summary.figures.tokens)),
    ];
    let (notes, tone) = summary.notes(u64::from(reading.warn));
    writeln!(out, "{}", lines(&counts, ", "))?;
    if !notes.is_empty() {
        writeln!(out, "{}", tone.paint(&format::cut(&notes, terminal.width, terminal.ellipsis())))?;
    }
    one.events.sort_by_key(|event| event.at);
    for event in &one.events {
        let line = format!("{}  {}", at(event.at, "%H:%M:%S"), event.text);
        writeln!(out, "{}", event.tone.paint(&format::cut(&line, terminal.width, terminal.ellipsis())))?;
        for line in &event.stderr {
            let line = format!("{:10}{line}", "");
            writeln!(out, "{}", Tone::Faint.paint(&format::cut(&line, terminal.width, terminal.ellipsis())))?;
        }
    }
    if one.operations.is_empty() && one.more == 0 {
        return Ok(());
    }
    writeln!(out)?;
    waterfall::draw(out, terminal, &turns)?;
    if one.more > 0 {
        writeln!(out, "{} more; --since, --tool or --limit chooses others", one.more)?;
    }
    writeln!(out)?;
    let example = one.operations.iter().rev().find_map(|line| Entry::parse(line).ok());
    if let Some(entry) = example {
        let short = sessions::short(&entry.connection_id, 12, true);
        let mut hint = format!("spantap show {short}/{}{again}", entry.seq);
        let words = " tells all about the last one";
        // A command is copied, and therefore never cut.
        if format::width(&hint) + words.len() <= terminal.width {
            hint.push_str(words);
        }
        writeln!(out, "{}", Tone::Faint.paint(&hint))?;
    }
    Ok(())
}

fn write_operations(
    out: &mut impl Write,
    reading: &Reading,
    args: &SelectArgs,
    again: &str,
    lines: &[Vec<u8>],
) -> anyhow::Result<()> {
    if args.json {
        for line in lines.iter().take(args.limit.unwrap_or(usize::MAX)) {
            writeln!(out, "{}", format::clean_json(&String::from_utf8_lossy(line)))?;
        }
        return Ok(());
    }
    if let [line] = lines {
        let entry = Entry::parse(line)?;
        // A newer record may hold a field of another type; what the entry has is then all there is.
        let record: Record<'_> = serde_json::from_slice(line).unwrap_or_default();
        let summaries = || Summaries {
            connection: entry.connection_id.to_string(),
            request: entry.request_id.to_string(),
            found: None,
        };
        let (summaries, _) = reading.scan(summaries);
        let summary = summaries.found.as_deref();
        write_operation(out, &reading.terminal, &record, &entry, summary, reading.warn)?;
        return Ok(());
    }
    let shown = &lines[lines.len().saturating_sub(args.limit.unwrap_or(LISTED))..];
    writeln!(out, "{} match; the last of them:", format::plural(lines.len() as u64, "operation"))?;
    let mut printer = Printer::new(reading.terminal.clone(), reading.warn, false);
    printer.prepare(shown);
    for line in shown {
        printer.write(out, line)?;
    }
    writeln!(out, "each by itself:")?;
    for entry in shown.iter().filter_map(|line| Entry::parse(line).ok()) {
        // By the connection: numbers count by connection, and a session may have several.
        let connection = sessions::short(&entry.connection_id, 12, true);
        writeln!(out, "  spantap show {connection}/{}{again}", entry.seq)?;
    }
    Ok(())
}
