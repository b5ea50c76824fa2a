//! `spantap why`.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::cli::selection::{
    self, DefaultRange, OutputArgs, Reading, SelectArgs, limit_help, note, one_object,
};
use crate::cli::show::{self, not_found};
use crate::cli::{Out, exit_with};
use crate::present::{Printable, why as sentences};
use crate::query::agents;
use crate::query::find::{OperationMatch, Search, SearchResult, SearchTarget};
use crate::query::live::LiveConnection;
use crate::query::nested::inner_connections;
use crate::query::row::OperationRow;
use crate::query::scan::ScanFindings;
use crate::query::select::Selection;
use crate::query::why::story::{Story, StoryReader};
use crate::query::why::usual::{CallHistory, HistoryReader};
use crate::query::why::{Fact, of_call, of_session};
use crate::record::timestamp::Timestamp;

#[derive(Debug, Args)]
#[command(mut_arg("json", one_object))]
#[command(mut_arg("limit", limit_help("5 sentences, and not more")))]
pub struct WhyArgs {
    /// SESSION, HANDLE of a call, last, -1 (last call), or any other word that `show` takes
    #[arg(value_name = "WHAT", allow_negative_numbers = true, value_parser = selection::target)]
    target: Option<String>,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl WhyArgs {
    pub(super) fn run(mut self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        self.select.take_place(&mut self.target, "why")?;
        let target = SearchTarget::parse(self.target.as_deref());
        let mut reading = Reading::open(&self.select, DefaultRange::All)?;
        reading.select.checks |= target.has_id();
        let (search, findings) = reading.scan(|| Search::new(&reading.select, &target));
        reading.print_problems(&findings);
        let (session_id, call) = match search.finish(&reading.live().0) {
            SearchResult::Nothing if matches!(self.target.as_deref(), None | Some("last")) => {
                reading.print_no_data("no session", &findings)?;
                return Ok(reading.status(&findings, true, &self.output));
            }
            SearchResult::Nothing => return Err(self.not_found(&reading, &target, &findings)),
            SearchResult::Session(session_id) => (session_id, None),
            SearchResult::Sessions(ids) => return Err(self.ambiguous(ids.len(), "sessions or connections")),
            SearchResult::Operations { mut found, left_out } => match (found.pop(), found.len()) {
                (Some(OperationMatch { row, .. }), 0) => (row.session_id.to_string(), Some(row)),
                (_, others) => return Err(self.ambiguous(others + 1 + left_out as usize, "operations")),
            },
        };
        match &target {
            // A connection is looked at alone.
            SearchTarget::Word(word) if call.is_none() && !session_id.starts_with(word.as_str()) => {
                reading.select.session = Some(word.clone());
            }
            _ if call.is_some() => {}
            _ => {
                reading.select.session = Some(session_id.clone());
                reading.leave_out_inner();
            }
        }
        let (facts, is_lossy) = facts(&reading, &session_id, call.as_ref());
        if is_lossy {
            note("a part of this session was not observed or not recorded; it is missing here");
        }
        let out = &mut BufWriter::new(out);
        if self.output.json {
            let handle = call.as_ref().map(OperationRow::handle);
            writeln!(out, "{}", sentences::json(&session_id, handle.as_deref(), &facts)?)?;
        } else {
            sentences::write(out, &reading.terminal, &facts, self.output.limit)?;
        }
        out.flush()?;
        Ok(reading.status(&findings, false, &self.output))
    }

    fn not_found(&self, reading: &Reading, target: &SearchTarget, findings: &ScanFindings) -> anyhow::Error {
        let lines = agents::find::find(&reading.sources, reading.select.window, target);
        if lines.facts().is_empty() {
            return not_found(self.target.as_deref(), reading, findings);
        }
        let word = Printable::new(self.target.as_deref().unwrap_or_default());
        exit_with(
            1,
            anyhow::anyhow!("`{word}` is a report of an agent or a server, not a session or a call"),
            format!("`spantap show {word}` prints it"),
        )
    }

    fn ambiguous(&self, count: usize, what: &str) -> anyhow::Error {
        let word = Printable::new(self.target.as_deref().unwrap_or_default());
        exit_with(
            1,
            anyhow::anyhow!("`{word}` matches {count} {what}"),
            format!("`spantap show {word}` lists them"),
        )
    }
}

/// Returns the facts, and true if a part of the session was lost.
fn facts(reading: &Reading, session_id: &str, call: Option<&OperationRow>) -> (Vec<Fact>, bool) {
    let (story, _) = reading.scan(|| StoryReader::new(&reading.select, session_id));
    let mut story = story.settle();
    story.agent = show::agent_story(reading, session_id);
    let live = reading.live_noted();
    let history = history(reading, &story, &live, call);
    let facts = match call {
        Some(call) => of_call(&story, &history, call),
        None => of_session(&story, &history, &live, Timestamp::now()),
    };
    (facts, story.is_lossy)
}

/// Reads the durations of the tools that the facts are about, from all sessions.
fn history(
    reading: &Reading,
    story: &Story,
    live: &[LiveConnection],
    call: Option<&OperationRow>,
) -> CallHistory {
    let of_row = |row: &OperationRow| (Arc::clone(&row.server_name), Arc::clone(&row.target));
    let open = live.iter().flat_map(|connection| {
        let server = Arc::from(&*connection.state.server_name);
        connection.state.open.iter().map(move |request| (Arc::clone(&server), Arc::from(&*request.target)))
    });
    let tools: HashSet<(Arc<str>, Arc<str>)> = match call {
        Some(call) => HashSet::from([of_row(call)]),
        None => story.rows.iter().filter(|row| row.is_tool_call).map(of_row).chain(open).collect(),
    };
    // Of all sessions, whatever is selected.
    let inner = inner_connections(&reading.sources, &Selection::default());
    let (history, _) = reading.scan(|| HistoryReader::new(&tools, &inner));
    history.finish()
}
