//! spantap's own lines on standard error, between the lines of the server.
//!
//! The server's pump and the threads of spantap write to the same descriptor. A line of spantap begins only where
//! a line of the server has ended; until then it waits here, and the pump writes it after that end. Nothing here
//! allocates, so a thread whose memory was refused can report that.

use std::fmt::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use crate::system::descriptor;
use crate::system::mutex::lock;

/// Longest wait of spantap's own lines for room on standard error.
const PATIENCE: Duration = Duration::from_millis(100);
/// Room for lines that wait. A pipe that can be written takes this much at once.
const ROOM: usize = descriptor::PIPE_ROOM;

/// Place of standard error: nothing or a whole line was written last.
const LINE_START: u8 = 0;
/// The server has written half a line.
const MID_LINE: u8 = 1;
/// A thread writes now.
const WRITING: u8 = 2;

static PLACE: AtomicU8 = AtomicU8::new(LINE_START);
static WAITING: Mutex<WaitingLines> = Mutex::new(WaitingLines { text: [0; ROOM], len: 0, lost: 0 });
/// True if `WAITING` holds a line.
static IS_WAITING: AtomicBool = AtomicBool::new(false);
/// The server writes nothing more.
static SERVER_HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Lines that are still to be written.
struct WaitingLines {
    text: [u8; ROOM],
    len: usize,
    /// Number of lines that were dropped since the last one was written.
    lost: u64,
}

impl WaitingLines {
    /// Adds a line as a whole, or counts it.
    fn add(&mut self, line: fmt::Arguments<'_>) {
        let before = self.len;
        if self.write_fmt(line).is_err() {
            self.len = before;
            self.lost += 1;
        }
    }

    /// Takes the lines out, and returns the number of messages that are lost if they cannot be written. The number
    /// of lost messages is one of the lines, if it fits.
    fn take(&mut self) -> ([u8; ROOM], usize, u64) {
        let (before, lost) = (self.len, self.lost);
        let lines = memchr::memchr_iter(b'\n', &self.text[..before]).count() as u64;
        let mut at_stake = lines;
        if lost > 0 {
            match writeln!(self, "spantap: {lost} earlier messages were lost") {
                Ok(()) => (self.lost, at_stake) = (0, lines + lost),
                // Half a line is taken back.
                Err(_) => self.len = before,
            }
        }
        (self.text, std::mem::take(&mut self.len), at_stake)
    }
}

impl Write for WaitingLines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Writes one line, prefixed with `spantap: `, to standard error. If the reader is gone or does not read, the line
/// is dropped and counted, because spantap must not hang on its own messages.
pub fn say(text: impl fmt::Display) {
    lock(&WAITING).add(format_args!("spantap: {text}\n"));
    IS_WAITING.store(true, Ordering::SeqCst);
    deliver(LINE_START, PATIENCE);
    if SERVER_HAS_ENDED.load(Ordering::SeqCst) {
        deliver_rest();
    }
}

/// Writes complete lines to standard error while no server runs, under the same rules.
pub fn write_lines(lines: &str) {
    if descriptor::is_writable_within(descriptor::STDERR, PATIENCE) {
        let _ = descriptor::write_once(descriptor::STDERR, lines.as_bytes());
    }
}

/// Keeps the lines of spantap away while the server's pump writes.
pub fn begin_servers_bytes() {
    loop {
        let place = PLACE.load(Ordering::Relaxed);
        if place == WRITING {
            // Lines of spantap are written. It waits for room as long as its patience, and writes no more than a
            // pipe with room takes at once.
            std::thread::sleep(Duration::from_millis(1));
        } else if PLACE.compare_exchange(place, WRITING, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Ends what [`begin_servers_bytes`] began. Lines that waited for the end of the server's line are written now.
pub fn end_servers_bytes(ends_line: bool) {
    PLACE.store(if ends_line { LINE_START } else { MID_LINE }, Ordering::SeqCst);
    deliver(LINE_START, Duration::ZERO);
}

/// Ends the server's standard error. If its last line has no end, the lines of spantap begin on the next one.
pub fn end_servers_stream() {
    SERVER_HAS_ENDED.store(true, Ordering::SeqCst);
    deliver_rest();
}

/// Writes the waiting lines wherever the server has ended: within a line or after one.
fn deliver_rest() {
    deliver(MID_LINE, PATIENCE);
    deliver(LINE_START, PATIENCE);
}

/// Writes the waiting lines if standard error is at `place`. Without patience, lines that do not fit now
/// wait on.
fn deliver(place: u8, patience: Duration) {
    // A thread that adds a line while another one writes finds `WRITING`. The other thread looks again.
    while IS_WAITING.load(Ordering::SeqCst)
        && PLACE.compare_exchange(place, WRITING, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    {
        let is_writable = descriptor::is_writable_within(descriptor::STDERR, patience);
        let keeps = !is_writable && patience.is_zero();
        let mut place = place;
        if !keeps {
            IS_WAITING.store(false, Ordering::SeqCst);
            let (text, len, at_stake) = lock(&WAITING).take();
            let write = |bytes: &[u8]| is_writable && descriptor::write_once(descriptor::STDERR, bytes);
            if !write_lines_at(&mut place, &text[..len], write) {
                lock(&WAITING).lost += at_stake;
            }
        }
        PLACE.store(place, Ordering::SeqCst);
        if keeps {
            return;
        }
    }
}

/// Writes `lines` at `place`, after a line end if the server has written half a line. Returns false if `write` refused
/// them; `place` stays where it was if it refused the line end.
fn write_lines_at(place: &mut u8, lines: &[u8], write: impl Fn(&[u8]) -> bool) -> bool {
    if *place == MID_LINE && write(b"\n") {
        *place = LINE_START;
    }
    *place == LINE_START && write(lines)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn lines_that_were_refused_leave_the_servers_half_line_where_it_is() {
        let said = RefCell::new(Vec::new());
        let mut place = MID_LINE;
        let takes = |most: usize| {
            let said = &said;
            move |bytes: &[u8]| {
                let takes = bytes.len() <= most;
                said.borrow_mut().extend_from_slice(if takes { bytes } else { b"" });
                takes
            }
        };
        assert!(!write_lines_at(&mut place, b"spantap: lost\n", takes(0)));
        assert_eq!(place, MID_LINE);
        assert!(!write_lines_at(&mut place, b"spantap: lost too\n", takes(1)));
        assert_eq!(place, LINE_START);
        assert!(write_lines_at(&mut place, b"spantap: read\n", takes(99)));
        assert_eq!(said.into_inner(), b"\nspantap: read\n");
    }
}
