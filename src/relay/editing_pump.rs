//! The pump of a stream whose lines may be added to.
//!
//! Before this pump writes a line onward, a [`LineEditor`] reads it and may insert bytes. The pump holds a line back
//! only while its rest arrives. A line that is incomplete after [`HOLD`], longer than [`MAX_LINE`], or the last one
//! without a newline, passes unread. The observer gets the bytes as they were read.

use std::collections::TryReserveError;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::relay::chunk::{LineMark, Moment};
use crate::relay::line_editor::{LineEdit, LineEditor, UnreadLine};
use crate::relay::pump::{self, Descriptor, FillCheck, PumpState};
use crate::relay::ring::{MAX_READ, Producer};
use crate::system::{clock, descriptor};

/// Longest time for which the beginning of a line is held back.
const HOLD: Duration = Duration::from_millis(20);
/// Length of the longest line that is held back, in bytes.
const MAX_LINE: usize = 1 << 20;
/// Room for the insertions of one write.
const INSERTIONS: usize = 64 << 10;

/// The pump's buffers, which are allocated before the server starts.
pub struct EditingPump {
    editor: Box<dyn LineEditor>,
    /// Bytes that were read. The first `held` of them are the beginning of a line that was not written yet.
    input: Vec<u8>,
    held: usize,
    /// Time at which the first of the held bytes was read.
    held_since: Moment,
    /// Time for which the pump still waits for the rest of the held line. Time in which it writes does not count. After
    /// it the pump takes what has arrived, without waiting.
    patience: Duration,
    /// Time of the last read.
    read_at: Moment,
    /// The beginning of the current line was written, and its rest passes as it comes.
    is_passing: bool,
    /// Edited lines that were not written yet.
    output: Vec<u8>,
}

/// Where the bytes go.
struct Sinks<'a> {
    to: Descriptor,
    producer: Producer,
    state: &'a PumpState,
}

impl EditingPump {
    pub fn new(editor: Box<dyn LineEditor>) -> Result<EditingPump, TryReserveError> {
        let (mut input, mut output) = (Vec::new(), Vec::new());
        input.try_reserve_exact(MAX_LINE + MAX_READ)?;
        output.try_reserve_exact(MAX_LINE + MAX_READ + INSERTIONS)?;
        let start = Moment(0);
        Ok(EditingPump {
            editor,
            input,
            held: 0,
            held_since: start,
            patience: HOLD,
            read_at: start,
            is_passing: false,
            output,
        })
    }

    /// Copies `from` to `to` until one of them ends, then ends the other one.
    pub fn run(mut self, from: Descriptor, to: Descriptor, producer: Producer, state: &PumpState) {
        pump::unblock_background_reads(&from);
        let mut sinks = Sinks { to, producer, state };
        let mut called = false;
        let mut filling = FillCheck::default();
        loop {
            let sent = match self.read(&from) {
                None => self.pass_held(&mut sinks),
                Some(Ok(0) | Err(_)) => {
                    state.end_read_at.store(clock::now().0, Ordering::Release);
                    let _ = self.pass_held(&mut sinks);
                    break;
                }
                Some(Ok(len)) => {
                    let sent = self.take(len, &mut sinks);
                    let needs_help = filling.is_high(&sinks.producer, len);
                    if needs_help && !called {
                        (state.help)();
                    }
                    called = needs_help;
                    sent
                }
            };
            if sent.is_err() {
                break;
            }
        }
        pump::end(from, sinks.to, false, sinks.producer, state);
    }

    /// Reads what comes after the held bytes. Returns `None` if their line is incomplete after [`HOLD`].
    fn read(&mut self, from: &Descriptor) -> Option<io::Result<usize>> {
        if self.held > 0 {
            let start = clock::now();
            if !descriptor::has_bytes_within(from.raw(), self.patience) {
                return None;
            }
            self.patience = self.patience.saturating_sub(clock::now().since(start));
        }
        let end = self.held + MAX_READ;
        if self.input.len() < end {
            self.input.resize(end, 0);
        }
        let read = descriptor::read(from.raw(), &mut self.input[self.held..end]);
        self.read_at = clock::now();
        Some(read)
    }

    /// Edits and writes the lines that are complete after `len` more bytes, and holds the rest.
    fn take(&mut self, len: usize, sinks: &mut Sinks<'_>) -> io::Result<()> {
        let end = self.held + len;
        let (mut whole, copied) = self.edit_lines(end, sinks)?;
        if whole < end && (self.is_passing || end - whole > MAX_LINE) {
            if !std::mem::replace(&mut self.is_passing, true) {
                self.editor.passes(UnreadLine::TooLong);
            }
            sinks.publish(&self.input[whole..end], None, self.read_at);
            whole = end;
        }
        self.write(copied..whole, end, sinks)
    }

    /// Edits the lines that are complete in the first `end` bytes of the input, and gives them to the observer. Returns
    /// the number of bytes of these lines, and how many of them are in the output or were written.
    fn edit_lines(&mut self, end: usize, sinks: &mut Sinks<'_>) -> io::Result<(usize, usize)> {
        self.output.clear();
        // Bytes of the input that are whole lines, that the observer has got, and that are in the output.
        let (mut whole, mut published, mut copied) = (0, 0, 0);
        let mut searched = self.held;
        while let Some(found) = memchr::memchr(b'\n', &self.input[searched..end]) {
            let (start, line_end) = (whole, searched + found);
            (whole, searched) = (line_end + 1, line_end + 1);
            if std::mem::take(&mut self.is_passing) {
                continue;
            }
            let line = &self.input[start..line_end];
            if line.len() > MAX_LINE {
                self.editor.passes(UnreadLine::TooLong);
                continue;
            }
            let LineEdit { insertion, mark } = self.editor.edit(line, self.read_at);
            if mark.is_some() || insertion.is_some() {
                sinks.publish(&self.input[published..start], None, self.read_at);
                sinks.publish(&self.input[start..whole], mark, self.read_at);
                published = whole;
            }
            if let Some((at, bytes)) = insertion {
                if self.output.len() + (end - copied) + bytes.len() > self.output.capacity() {
                    descriptor::write_all(sinks.to.raw(), &self.output)?;
                    self.output.clear();
                }
                self.output.extend_from_slice(&self.input[copied..start + at]);
                self.output.extend_from_slice(bytes);
                copied = start + at;
            }
        }
        sinks.publish(&self.input[published..whole], None, self.read_at);
        Ok((whole, copied))
    }

    /// Writes the output and the bytes `rest` of the input, and holds the bytes after them, up to `end`.
    fn write(&mut self, rest: Range<usize>, end: usize, sinks: &mut Sinks<'_>) -> io::Result<()> {
        let whole = rest.end;
        let oldest = if self.held > 0 { self.held_since } else { self.read_at };
        if self.held == 0 || whole > 0 {
            self.patience = HOLD;
        }
        self.held = end - whole;
        self.held_since = if whole == 0 { oldest } else { self.read_at };
        if whole == 0 {
            return Ok(());
        }
        let bytes = match self.output.is_empty() {
            true => &self.input[rest],
            false => {
                self.output.extend_from_slice(&self.input[rest]);
                &self.output
            }
        };
        let sent = sinks.write(bytes, oldest);
        self.input.copy_within(whole..end, 0);
        sent
    }

    /// Writes the held bytes as they are. The rest of their line passes as it comes.
    fn pass_held(&mut self, sinks: &mut Sinks<'_>) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if held == 0 {
            return Ok(());
        }
        self.is_passing = true;
        self.editor.passes(UnreadLine::Incomplete);
        sinks.publish(&self.input[..held], None, self.read_at);
        sinks.write(&self.input[..held], self.held_since)
    }
}

impl Sinks<'_> {
    /// Gives `bytes` to the observer.
    fn publish(&mut self, mut bytes: &[u8], mark: Option<LineMark>, read_at: Moment) {
        while !bytes.is_empty() {
            let room = pump::reserve(&mut self.producer, self.state);
            let len = self.producer.publish_copy(room, bytes, mark, read_at);
            bytes = &bytes[len..];
        }
    }

    /// Writes `bytes` onward. The first of them was read at `read_at`.
    fn write(&mut self, bytes: &[u8], read_at: Moment) -> io::Result<()> {
        let sent = descriptor::write_all(self.to.raw(), bytes);
        self.producer.written(read_at, clock::now());
        sent
    }
}

#[cfg(test)]
mod tests;
