//! Parses the arguments, runs a command, and exits with its status. No other file touches standard output,
//! and this one does so only for commands that are not the proxy.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use spantap::cli::pager::PagedOutput;
use spantap::cli::{Cli, HintedError, Out, error_text, redacted};
use spantap::system::allocator::StoppingAllocator;
use spantap::system::process::{hide_faults, restore_faults};
use spantap::system::stack::with_enough_stack;

spantap::before_runtime!(hide_faults);

#[global_allocator]
static ALLOCATOR: StoppingAllocator = StoppingAllocator;

fn main() -> ExitCode {
    restore_faults();
    with_enough_stack(run)
}

fn run() -> ExitCode {
    let cli = Cli::read().unwrap_or_else(|error| refuse(error));
    let outcome = match cli.command {
        Some(command) => {
            command.color().write_global();
            let status_is_answer = command.status_is_answer();
            let is_paged = command.is_paged();
            finish(print(is_paged, |out| command.run(out)), status_is_answer)
        }
        None => cli.run.run(),
    };
    outcome.unwrap_or_else(|error| {
        let mut stderr = anstream::stderr();
        let _ = writeln!(stderr, "error: {}", error_text(&format!("{error:#}")));
        match error.downcast_ref::<HintedError>() {
            Some(hinted) => {
                let _ = writeln!(stderr, "hint: {}", error_text(&hinted.hint));
                ExitCode::from(hinted.status)
            }
            None => ExitCode::FAILURE,
        }
    })
}

/// Runs `write` with standard output; if `is_paged` and it is a terminal, with the pager.
fn print<T>(is_paged: bool, write: impl FnOnce(&mut Out<'_>) -> T) -> T {
    let stdout = std::io::stdout();
    if !is_paged || !stdout.is_terminal() {
        return write(&mut anstream::stdout());
    }
    let color = anstream::AutoStream::choice(&stdout);
    PagedOutput::new(&mut anstream::stdout(), color).run(write)
}

/// A reader of the output that is gone (`| head`) is a failure only if the exit status is an answer.
fn finish(result: anyhow::Result<ExitCode>, status_is_answer: bool) -> anyhow::Result<ExitCode> {
    match result {
        Err(error) if is_broken_pipe(&error) && status_is_answer => Ok(ExitCode::FAILURE),
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

/// Returns true if the help is that of a command whose output goes through the pager.
fn is_about_logs() -> bool {
    let is_paged = |word: std::ffi::OsString| {
        ["context", "diff", "show", "stats", "sessions", "tail", "why"]
            .iter()
            .any(|command| word == **command)
    };
    std::env::args_os().skip(1).take(2).any(is_paged)
}

/// Reports an error in the command line, or prints the requested help, and exits. A word that is not a
/// command gets a hint.
fn refuse(mut error: clap::Error) -> ! {
    if error.kind() == ErrorKind::UnknownArgument {
        // Words after `--` are the command of a server: the tip to write the argument there is wrong.
        error.remove(ContextKind::Suggested);
    }
    // The report repeats arguments, and a host logs it: `--api-key=…` without `--` before the command.
    let plain = error.render().to_string();
    let shown = redacted(&plain);
    let _ = match error.use_stderr() && shown.as_str() != plain {
        true => write!(anstream::stderr(), "{shown}"),
        false if error.kind() == ErrorKind::DisplayHelp && is_about_logs() => {
            print(true, |out| write!(out, "{}", error.render().ansi()))
        }
        false => error.print(),
    };
    let word = std::env::args_os().nth(1).map(|word| word.to_string_lossy().into_owned());
    let word = word.filter(|word| !word.starts_with('-'));
    if let (Some(word), ErrorKind::UnknownArgument) = (word, error.kind())
        && Cli::whole().find_subcommand(&word).is_none()
    {
        let commands = Cli::whole();
        let likeness = |name: &str| strsim::jaro_winkler(&word, name);
        let closest = commands
            .get_subcommands()
            .map(clap::Command::get_name)
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
            .filter(|name| likeness(name) > 0.85);
        let closest = if word == "version" { Some("--version") } else { closest };
        let _ = match closest {
            Some(name) => writeln!(anstream::stderr(), "hint: did you mean `spantap {name}`?"),
            None => writeln!(
                anstream::stderr(),
                "hint: to watch a program, put `--` before its command: spantap -- {} …",
                redacted(&word)
            ),
        };
    }
    std::process::exit(error.exit_code())
}
