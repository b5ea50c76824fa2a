//! Arguments, then a command; the only file that may touch standard output, and only for the
//! commands that are not the proxy.

use std::io::Write;
use std::process::ExitCode;

use spantap::cli::{Cli, Hinted};
use spantap::observe::redact::Redactor;

fn main() -> ExitCode {
    let cli = Cli::read().unwrap_or_else(|error| refuse(&error));
    let outcome = match cli.command {
        Some(command) => {
            command.color().write_global();
            let judges = command.judges();
            finish(command.run(&mut anstream::stdout()), judges)
        }
        None => cli.run.run(),
    };
    outcome.unwrap_or_else(|error| {
        let mut stderr = anstream::stderr();
        let _ = writeln!(stderr, "error: {}", safe(&format!("{error:#}")));
        match error.downcast_ref::<Hinted>() {
            Some(hinted) => {
                let _ = writeln!(stderr, "hint: {}", safe(&hinted.hint));
                ExitCode::from(hinted.status)
            }
            None => ExitCode::FAILURE,
        }
    })
}

/// A reader that went away (`| head`) is no failure, nor is it a good verdict.
fn finish(result: anyhow::Result<ExitCode>, judges: bool) -> anyhow::Result<ExitCode> {
    match result {
        Err(error) if is_broken_pipe(&error) && judges => Ok(ExitCode::FAILURE),
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        other => other,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// An error's text without secrets and without what could steer a terminal; its lines stay lines.
fn safe(text: &str) -> String {
    Redactor::default().explain(text.as_bytes()).0.to_string()
}

/// Says what is wrong with the command line, and what a bare word was probably meant to be.
fn refuse(error: &clap::Error) -> ! {
    // It repeats what was typed, and a host keeps what we say: `--api-key=…` without the dashes before it.
    let plain = error.render().to_string();
    let shown = safe(&plain);
    let _ = match error.use_stderr() && shown != plain {
        true => write!(anstream::stderr(), "{shown}"),
        false => error.print(),
    };
    let word = std::env::args_os().nth(1).map(|word| word.to_string_lossy().into_owned());
    let word = word.filter(|word| !word.starts_with('-'));
    if let (Some(word), clap::error::ErrorKind::UnknownArgument) = (word, error.kind())
        && Cli::whole().find_subcommand(&word).is_none()
    {
        let commands = Cli::whole();
        let likeness = |name: &str| strsim::jaro_winkler(&word, name);
        let closest = commands
            .get_subcommands()
            .map(clap::Command::get_name)
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
            .filter(|name| likeness(name) > 0.85);
        let _ = match closest {
            Some(name) => writeln!(anstream::stderr(), "hint: did you mean `spantap {name}`?"),
            None => writeln!(
                anstream::stderr(),
                "hint: to watch a program put it behind two dashes: spantap -- {} …",
                safe(&word)
            ),
        };
    }
    std::process::exit(error.exit_code())
}
