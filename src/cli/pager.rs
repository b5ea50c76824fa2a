//! The pager: on a terminal, the output of commands that read logs goes through it, as that of git.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

use anstream::{AutoStream, ColorChoice};

use crate::cli::Out;
use crate::settings::process_variable;
use crate::system::signals;

/// Output that starts the pager when something is written.
pub struct PagedOutput<'a> {
    plain: &'a mut Out<'a>,
    color: ColorChoice,
    /// The command that is started at the first write.
    pager: Option<String>,
    running: Option<(Child, AutoStream<Box<dyn Write>>)>,
}

impl<'a> PagedOutput<'a> {
    /// Returns an output to the pager of the user; to `plain` without a pager.
    pub fn new(plain: &'a mut Out<'a>, color: ColorChoice) -> PagedOutput<'a> {
        PagedOutput { plain, color, pager: wanted(), running: None }
    }

    /// Runs `write`, and waits until the user quits the pager.
    pub fn run<T>(mut self, write: impl FnOnce(&mut Out<'_>) -> T) -> T {
        let result = write(&mut self);
        if let Some((mut pager, input)) = self.running {
            drop(input);
            // The pager has shown what it could.
            let _ = pager.wait();
        }
        result
    }

    fn output(&mut self) -> &mut dyn Write {
        if let Some(pager) = self.pager.take() {
            // Without the pager the output is plain.
            self.running = start(&pager, self.color).ok();
        }
        match &mut self.running {
            Some((_, input)) => input,
            None => self.plain,
        }
    }
}

impl Write for PagedOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.running {
            Some((_, input)) => input.flush(),
            None => self.plain.flush(),
        }
    }
}

/// Returns the command of the pager, `None` if the user wants none.
fn wanted() -> Option<String> {
    let is_dumb = process_variable("TERM").is_none_or(|terminal| terminal == "dumb");
    let set = std::env::var("SPANTAP_PAGER").or_else(|_| std::env::var("PAGER"));
    let pager = set.unwrap_or_else(|_| "less -FRX".to_owned());
    (!is_dumb && !matches!(pager.trim(), "" | "cat")).then_some(pager)
}

/// Starts the pager. From then on spantap leaves Ctrl-C to it: without spantap it would lose the terminal.
fn start(pager: &str, color: ColorChoice) -> io::Result<(Child, AutoStream<Box<dyn Write>>)> {
    let is_plain = |c: char| c.is_alphanumeric() || " -_=+,.:/@".contains(c);
    let mut words = pager.split_whitespace();
    let mut command = match words.next() {
        Some(program) if pager.chars().all(is_plain) => Command::new(program),
        _ => Command::new("sh"),
    };
    if command.get_program() == "sh" {
        command.args(["-c", pager]);
    } else {
        command.args(words);
    }
    for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    signals::leave_the_keyboard();
    Ok((child, AutoStream::new(Box::new(input), color)))
}
