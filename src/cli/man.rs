//! `spantap man`: prints a manual page.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::{Cli, Out, help, hint};

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command that the page is about [default: spantap itself]
    command: Option<String>,
}

impl ManArgs {
    /// Prints a manual page in roff, for `man -l -`.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let mut program = Cli::plain();
        program.build();
        let page = match &self.command {
            None => program.clone(),
            Some(name) => program
                .find_subcommand(name)
                .cloned()
                .with_context(|| format!("unknown command `{name}`"))
                .map_err(|error| hint(error, "`spantap help` lists the commands"))?,
        };
        // The page of a command would not contain the version otherwise.
        let man = Man::new(page.clone()).source(format!("spantap {}", crate::VERSION));
        let mut text = Vec::new();
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        if page.get_name() == program.get_name() {
            commands(&program).to_writer(&mut text)?;
        }
        man.render_options_section(&mut text)?;
        sections(&page).to_writer(&mut text)?;
        out.write_all(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn commands(program: &clap::Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for (title, rows) in help::grouped(program) {
        roff.control("SS", [title]);
        for (name, about) in rows {
            entry(&mut roff, &name, &about);
        }
    }
    roff
}

fn sections(page: &clap::Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (line, about) in help::examples(page.get_name()) {
        entry(&mut roff, line, about);
    }
    if matches!(page.get_name(), "spantap" | "run") {
        roff.control("SH", ["CONFIGURATION FILE"]);
        for (name, meaning) in help::settings() {
            entry(&mut roff, name, &meaning);
        }
    }
    roff.control("SH", ["FILES"]);
    for (path, meaning) in help::FILES {
        entry(&mut roff, path, meaning);
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in help::environment(page) {
        entry(&mut roff, &name, &meaning);
    }
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman(help::statuses(page))]);
    roff
}

/// Adds a term and its description.
fn entry(roff: &mut Roff, term: &str, text: &str) {
    roff.control("TP", []);
    roff.text([bold(term)]);
    roff.text([roman(text)]);
}
