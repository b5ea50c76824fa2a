//! Arguments, then a command; the only file that may touch standard output, and only for the
//! commands that are not the proxy.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use spantap::cli::{Cli, Hinted};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(command) => {
            command.color().write_global();
            command.run(&mut anstream::stdout())
        }
        None => cli.run.run(),
    };
    outcome.unwrap_or_else(|error| {
        let mut stderr = anstream::stderr();
        let _ = writeln!(stderr, "error: {error:#}");
        match error.downcast_ref::<Hinted>() {
            Some(hinted) => {
                let _ = writeln!(stderr, "hint: {}", hinted.hint);
                ExitCode::from(hinted.status)
            }
            None => ExitCode::FAILURE,
        }
    })
}
