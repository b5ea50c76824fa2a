//! The pager: on a terminal, the output of commands that read logs goes through it, as that of git.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

use anstream::{AutoStream, ColorChoice};

use crate::cli::Out;
use crate::settings::process_variable;
use crate::system::signals;

/// Most bytes that are kept in case the pager cannot be started: more than a pipe holds.
const KEPT: usize = 256 << 10;

/// Output that starts the pager when something is written.
pub struct PagedOutput<'a> {
    plain: &'a mut Out<'a>,
    color: ColorChoice,
    /// The command that is started at the first write.
    pager: Option<String>,
    running: Option<Pager>,
}

impl<'a> PagedOutput<'a> {
    /// Returns an output to the pager of the user; to `plain` without a pager.
    pub fn new(plain: &'a mut Out<'a>, color: ColorChoice) -> PagedOutput<'a> {
        PagedOutput { plain, color, pager: wanted(), running: None }
    }

    /// Runs `write`, and waits until the user quits the pager.
    pub fn run<T>(mut self, write: impl FnOnce(&mut Out<'_>) -> T) -> T {
        let result = write(&mut self);
        if let Some(Pager { mut process, input, kept }) = self.running {
            drop(input);
            if could_not_start(&mut process) {
                // As without the pager, a reader may have left.
                let _ = self.plain.write_all(&kept.unwrap_or_default());
            }
        }
        result
    }
}

impl Write for PagedOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(pager) = self.pager.take() {
            // Without the pager the output is plain.
            self.running = Pager::start(&pager, self.color).ok();
        }
        let Some(pager) = &mut self.running else { return self.plain.write(bytes) };
        let written = pager.write(bytes);
        if let Err(error) = &written
            && error.kind() == io::ErrorKind::BrokenPipe
            && could_not_start(&mut pager.process)
            && let Some(kept) = pager.kept.take()
        {
            self.running = None;
            self.plain.write_all(&kept)?;
            return self.plain.write(bytes);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.running {
            Some(pager) => pager.input.flush(),
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

/// A pager that was started.
struct Pager {
    process: Child,
    input: AutoStream<Box<dyn Write>>,
    /// Everything that was written, until it is more than [`KEPT`]: then the pager has read some of it.
    kept: Option<Vec<u8>>,
}

impl Pager {
    /// Starts the pager. From then on spantap leaves Ctrl-C to it: without spantap it would lose the terminal.
    fn start(pager: &str, color: ColorChoice) -> io::Result<Pager> {
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
        let mut process = command.stdin(Stdio::piped()).spawn()?;
        let input = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        signals::leave_the_keyboard();
        Ok(Pager { process, input: AutoStream::new(Box::new(input), color), kept: Some(Vec::new()) })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.input.write(bytes)?;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&bytes[..count]);
        }
        self.kept = self.kept.take().filter(|kept| kept.len() <= KEPT);
        Ok(count)
    }
}

/// Waits until the user quits the pager. Returns true if the shell could not start it, as sh(1) reports a command that
/// cannot be executed or is not found.
fn could_not_start(pager: &mut Child) -> bool {
    pager.wait().is_ok_and(|status| matches!(status.code(), Some(126 | 127)))
}
