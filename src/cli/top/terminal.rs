//! The terminal of a full screen: taken at the beginning, and given back as it was.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{self, Event};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use crate::settings::process_variable;
use crate::system::signals::{self, NotedSignal};
use crate::system::{descriptor, stdio};

/// The terminal while a screen is on it. Dropping it gives the terminal back.
pub(super) struct ScreenTerminal {
    pub(super) terminal: Terminal<CrosstermBackend<BufWriter<File>>>,
    signal: NotedSignal,
}

impl ScreenTerminal {
    /// Returns why there cannot be a screen here; `None` if there can.
    pub(super) fn obstacle() -> Option<&'static str> {
        let term = process_variable("TERM").unwrap_or_default();
        if !io::stdin().is_terminal() || !stdio::is_terminal(descriptor::STDOUT) {
            Some("standard input and output are not a terminal")
        } else if term.is_empty() {
            Some("TERM is not set")
        } else {
            (term == "dumb").then_some("TERM=dumb")
        }
    }

    /// Takes the terminal. It is given back also if spantap panics, and before it dies of a signal. SIGKILL cannot be
    /// noticed.
    pub(super) fn take() -> io::Result<ScreenTerminal> {
        let signal = NotedSignal::watch()?;
        let show_panic = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            show_panic(panic);
        }));
        let output = BufWriter::new(stdio::open_stdout()?);
        let terminal = Terminal::new(CrosstermBackend::new(output))?;
        let screen = ScreenTerminal { terminal, signal };
        enter()?;
        Ok(screen)
    }

    /// Waits for keys for at most `time`, and returns what came. The end of the terminal is the error.
    pub(super) fn events(&self, time: Duration) -> io::Result<Vec<Event>> {
        // crossterm would read the end of a closed terminal again and again.
        if descriptor::is_readable_within(descriptor::STDIN, time) && stdio::has_lost_peer(descriptor::STDIN)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut events = Vec::new();
        while event::poll(Duration::ZERO)? {
            events.push(event::read()?);
        }
        Ok(events)
    }

    /// Returns the signal that came since the last call.
    pub(super) fn signal(&self) -> Option<i32> {
        self.signal.take()
    }

    /// Gives the terminal back while spantap is stopped, and takes it again.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        leave();
        signals::stop_self();
        enter()?;
        self.terminal.clear()
    }

    /// Gives the terminal back, and lets spantap die of the signal as if it had not been caught.
    pub(super) fn die(self, signal: i32) {
        drop(self);
        signals::die_of(signal);
    }
}

impl Drop for ScreenTerminal {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    crossterm::execute!(stdio::open_stdout()?, EnterAlternateScreen, Hide)
}

/// Gives the terminal back. A terminal that is gone needs nothing.
fn leave() {
    if let Ok(mut output) = stdio::open_stdout() {
        let _ = crossterm::execute!(output, LeaveAlternateScreen, Show);
    }
    let _ = disable_raw_mode();
}

// `script` runs it in a terminal.
#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const PANICS: &str = "SPANTAP_TEST_PANICS";

    /// Runs itself in a terminal, where it panics without unwinding through the [`ScreenTerminal`].
    #[test]
    fn a_panic_gives_the_terminal_back_before_its_message() {
        if std::env::var_os(PANICS).is_some() {
            std::mem::forget(ScreenTerminal::take().unwrap());
            panic!("oh no");
        }
        let program = std::env::current_exe().unwrap();
        let name = "a_panic_gives_the_terminal_back_before_its_message";
        let command = format!("stty -g; '{}' {name} --nocapture; stty -g", program.display());
        let mut script = std::process::Command::new("script");
        script.args(["-q", "-c", &command, "/dev/null"]).env(PANICS, "1").env("TERM", "xterm");
        let output = script.stdin(std::process::Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_mode =
            |line: &&str| line.len() > 20 && line.bytes().all(|b| b == b':' || b.is_ascii_hexdigit());
        let modes: Vec<&str> = text.lines().filter(is_mode).collect();
        assert!(modes.len() == 2 && modes[0] == modes[1], "{text:?}");
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part:?} is in {text:?}"));
        assert!(
            place("\x1b[?1049h") < place("\x1b[?1049l") && place("\x1b[?1049l") < place("oh no"),
            "{text:?}"
        );
    }
}
