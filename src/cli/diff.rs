//! `spantap diff`.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::cli::selection::{DefaultRange, OutputArgs, Reading, SelectArgs, limit_help, note, one_object};
use crate::cli::show::not_found;
use crate::cli::{Out, exit_with};
use crate::present::{Printable, diff};
use crate::query::diff::{Diff, DiffSide, SideReader};
use crate::query::find::{Search, SearchResult, SearchTarget};
use crate::query::scan::ScanFindings;
use crate::query::select::day;
use crate::record::timestamp::Timestamp;

const PLACES: &str =
    "--since, --until and --on select in folders and sessions, --session in folders and days.";

#[derive(Debug, Args)]
#[command(after_help = PLACES, mut_arg("json", one_object))]
#[command(mut_arg("limit", limit_help("as many as fit a screen")))]
pub struct DiffArgs {
    /// Session, day (as for --on) or folder that is compared
    #[arg(value_name = "A", default_value = "yesterday")]
    a: String,
    /// Session, day or folder that A is compared with
    #[arg(value_name = "B", default_value = "today")]
    b: String,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl DiffArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let (a_reading, mut a, a_findings) = self.side(&self.a)?;
        let (b_reading, mut b, b_findings) = self.side(&self.b)?;
        let mut problems = a_reading.problems(&a_findings);
        problems.extend(b_reading.problems(&b_findings));
        let mut said = HashSet::new();
        problems.iter().filter(|problem| said.insert(*problem)).for_each(|problem| note(problem));
        for (name, side) in [("A", &a), ("B", &b)] {
            if side.is_lossy {
                note(&format!("a part of {name} was not observed or not recorded; it is missing here"));
            }
        }
        let is_empty = a.is_empty() || b.is_empty();
        if is_empty {
            let (reading, findings) =
                if a.is_empty() { (&a_reading, &a_findings) } else { (&b_reading, &b_findings) };
            reading.print_no_data("nothing to compare: no records", findings)?;
        } else {
            let found = Diff::new(&mut a, &mut b);
            let sides = [(&*self.a, &a), (&*self.b, &b)];
            let out = &mut BufWriter::new(out);
            match self.output.json {
                true => writeln!(out, "{}", diff::json(&sides, &found)?)?,
                false => diff::write(out, &b_reading.terminal, &sides, &found, self.output.limit)?,
            }
            out.flush()?;
        }
        let status = a_reading.status(&a_findings, is_empty, &self.output);
        Ok(if status == ExitCode::SUCCESS {
            b_reading.status(&b_findings, is_empty, &self.output)
        } else {
            status
        })
    }

    fn side(&self, word: &str) -> anyhow::Result<(Reading, DiffSide, ScanFindings)> {
        let reading = open_side(&self.select, word, "diff")?;
        let (side, findings) = reading.scan(|| SideReader::new(&reading.select));
        let live = if reading.select.is_about_operations() { Vec::new() } else { reading.live().0 };
        let side = side.finish(&live);
        Ok((reading, side, findings))
    }
}

/// Selects the records that `word` names: those of a folder or file that exists, of a day, or of a session.
pub(super) fn open_side(select: &SelectArgs, word: &str, command: &str) -> anyhow::Result<Reading> {
    let mut select = select.clone();
    let is_place = Path::new(word).exists();
    let is_day = !is_place && day(word, Timestamp::now(), &jiff::tz::TimeZone::system()).is_ok();
    let has_time = select.since.is_some() || select.until.is_some() || select.on.is_some();
    if is_day && has_time || !is_place && !is_day && select.session.is_some() {
        let what =
            if is_day { "a day, so --since, --until and --on have" } else { "a session, so --session has" };
        let problem = anyhow::anyhow!("`{}` is {what} no effect", Printable::new(word));
        return Err(exit_with(2, problem, "leave the option out, or compare two folders"));
    }
    if is_place {
        select.files = vec![word.into()];
    } else if is_day {
        select.on = Some(word.to_owned());
    }
    select.refuse_stream(command)?;
    let mut reading = Reading::open(&select, DefaultRange::All)?;
    if !is_place && !is_day {
        choose_session(&mut reading, word)?;
    }
    reading.leave_out_inner();
    Ok(reading)
}

/// Selects the session that is meant by `word`: `last`, or the beginning of its id.
fn choose_session(reading: &mut Reading, word: &str) -> anyhow::Result<()> {
    let target = SearchTarget::parse(Some(word));
    reading.select.checks |= target.has_id();
    let (search, findings) = reading.scan(|| Search::new(&reading.select, &target));
    let ambiguous = |what: String| {
        let problem = anyhow::anyhow!("`{}` {what}", Printable::new(word));
        Err(exit_with(1, problem, "`spantap sessions` lists sessions; a longer prefix matches fewer"))
    };
    match search.finish(&[]) {
        // The id of a connection selects that connection alone.
        SearchResult::Session(id) if word == "last" || id.starts_with(word) => {
            reading.select.session = Some(id);
        }
        SearchResult::Session(_) => reading.select.session = Some(word.to_owned()),
        SearchResult::Nothing => return Err(not_found(Some(word), reading, &findings)),
        SearchResult::Sessions(ids) => {
            return ambiguous(format!("matches {} sessions or connections", ids.len()));
        }
        SearchResult::Operations { .. } => {
            return ambiguous("is not a session, a day or a folder".to_owned());
        }
    }
    Ok(())
}
