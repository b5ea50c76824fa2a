//! `spantap gate`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::cli::selection::{ColorArgs, DefaultRange, Reading, SelectArgs, hiding, note};
use crate::cli::{Out, diff, done, exit_with};
use crate::present::gate::{self, GateForm};
use crate::query::gate::{GateFacts, GateReader, GateRules, GateVerdict, judge, overall};

mod rules;

use rules::RuleArgs;

const STATUSES: &str = "\
Exit status: 0 every rule passed; 1 a rule failed, or a log could not be opened; 2 usage;
3 a rule had nothing to judge, which is not a pass.";

#[derive(Debug, Args)]
#[command(after_help = STATUSES, mut_args = hiding(&["status", "min_duration"]))]
pub struct GateArgs {
    #[command(flatten)]
    rules: RuleArgs,
    /// Take rules from the section [gate] of this TOML file; an option replaces or extends its entry
    #[arg(long = "rules", value_name = "FILE")]
    rules_file: Option<PathBuf>,
    /// Form of the verdict
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    format: GateForm,
    /// File to write the verdict to, in the form of --format; text goes to standard output
    #[arg(short, long = "output", value_name = "FILE")]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    select: SelectArgs,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    pub(super) color: ColorArgs,
}

impl GateArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        self.refuse_conditions()?;
        let (rules, baseline) = self.rules.with_file(self.rules_file.as_deref())?;
        let none = GateRules { allow_loss: rules.allow_loss, ..GateRules::default() };
        if rules == none {
            return Err(exit_with(
                2,
                anyhow::anyhow!("no rule is given, so every session would pass"),
                "name a rule, such as --max-errors 0 or --no-deaths, or a file with --rules FILE",
            ));
        }
        let baseline = match baseline {
            Some(word) => Some(self.known_tools(&word)?),
            None => None,
        };
        let mut reading = Reading::open(&self.select, DefaultRange::LastDay)?;
        reading.leave_out_inner();
        let (found, findings) = reading.scan(|| GateReader::new(&reading.select));
        reading.print_problems(&findings);
        let mut facts = found.finish(&findings, &reading.live_noted());
        let checks = judge(&rules, &mut facts, baseline.as_ref());
        if facts.connections == 0 {
            reading.print_no_data("nothing to judge: no records", &findings)?;
        }
        let form = if self.json { GateForm::Json } else { self.format };
        let mut printed = form;
        if let Some(path) = &self.output_file {
            let failed = || format!("failed to write `{}`", path.display());
            let mut file = Vec::new();
            gate::write(&mut file, &reading.terminal, form, &facts, &checks)?;
            std::fs::write(path, file).with_context(failed)?;
            printed = GateForm::Text;
        }
        let mut out = BufWriter::new(out);
        gate::write(&mut out, &reading.terminal, printed, &facts, &checks)?;
        let status = match overall(&checks) {
            GateVerdict::Passed if facts.connections > 0 => ExitCode::SUCCESS,
            GateVerdict::Failed => ExitCode::FAILURE,
            _ => ExitCode::from(3),
        };
        done(status, out.flush())
    }

    /// Refuses conditions that leave out the calls that a rule is about.
    fn refuse_conditions(&self) -> anyhow::Result<()> {
        let SelectArgs { status, min_duration, .. } = &self.select;
        let given = [("--status", status.is_some()), ("--min-duration", min_duration.is_some())];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => {
                let problem = anyhow::anyhow!("{option} would leave out calls that `gate` judges");
                Err(exit_with(2, problem, "leave it out; `spantap stats` selects calls"))
            }
            None => Ok(()),
        }
    }

    /// Reads the baseline: a session, a day or a folder.
    fn known_tools(&self, word: &str) -> anyhow::Result<GateFacts> {
        let select = SelectArgs { log_dir: self.select.log_dir.clone(), ..SelectArgs::default() };
        let reading = diff::open_side(&select, word, "gate").map_err(|error| {
            let problem = anyhow::anyhow!("the baseline of --no-new-tools cannot be read: {error}");
            exit_with(2, problem, "name a session, a day, or a folder or file of logs")
        })?;
        let (found, findings) = reading.scan(|| GateReader::new(&reading.select));
        let facts = found.finish(&findings, &[]);
        if facts.catalogues.is_empty() {
            note(&format!("no list of tools is recorded in the baseline `{word}`"));
        }
        Ok(facts)
    }
}
