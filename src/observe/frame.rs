//! Lines from chunks: any split of the same bytes gives the same lines.

/// A piece of a stream. A line is never collected, so that it may have any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the current line, without its newline.
    Bytes(&'a [u8]),
    /// The end of the current line, with its length without the newline, in bytes.
    End { size: u64 },
    /// The current line was cut by lost bytes after this many bytes.
    Cut { size: u64 },
}

/// Cuts one stream at its newlines.
#[derive(Debug, Default)]
pub struct Framer {
    /// Bytes of the current line so far.
    size: u64,
    /// True after lost bytes: the bytes up to the next newline belong to a line that was cut.
    skipping: bool,
    pub frames: u64,
    /// Lines of which a part or all was lost.
    pub frames_lost: u64,
}

impl Framer {
    /// Takes the next bytes of the stream. If `each` panics, the bytes that it has not taken are lost.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Piece<'_>)) {
        let mut untaken = Untaken { framer: self, bytes };
        if untaken.framer.skipping {
            let newline = memchr::memchr(b'\n', bytes);
            untaken.bytes = newline.map_or(&[], |newline| &bytes[newline + 1..]);
            if newline.is_none() {
                return;
            }
            untaken.framer.skipping = false;
            untaken.framer.frames_lost += 1;
        }
        while let Some(newline) = memchr::memchr(b'\n', untaken.bytes) {
            let (line, rest) = untaken.bytes.split_at(newline);
            if !line.is_empty() {
                each(Piece::Bytes(line));
            }
            each(Piece::End { size: untaken.framer.size + line.len() as u64 });
            untaken.framer.size = 0;
            untaken.framer.frames += 1;
            untaken.bytes = &rest[1..];
        }
        if !untaken.bytes.is_empty() {
            each(Piece::Bytes(untaken.bytes));
            untaken.framer.size += untaken.bytes.len() as u64;
            untaken.bytes = &[];
        }
    }

    /// Takes note of lost bytes with `newlines` newlines. `ends_line` is true if the next byte begins a line.
    pub fn gap(&mut self, newlines: u64, ends_line: bool, mut each: impl FnMut(Piece<'_>)) {
        self.frames_lost += newlines;
        self.skipping = !ends_line;
        let size = std::mem::take(&mut self.size);
        if size > 0 {
            each(Piece::Cut { size });
        }
    }

    /// Continues at the next line, after the receiver of the pieces failed.
    pub fn restart(&mut self) {
        self.skipping |= self.size > 0;
        self.size = 0;
    }

    /// Ends the stream. A last line without a newline is a line.
    pub fn end(&mut self, mut each: impl FnMut(Piece<'_>)) {
        if self.size > 0 {
            each(Piece::End { size: self.size });
            self.frames += 1;
        } else if self.skipping {
            self.frames_lost += 1;
        }
        self.size = 0;
        self.skipping = false;
    }
}

/// The bytes that the receiver of the pieces has not taken yet. If it panics, they are counted as lost.
struct Untaken<'f, 'b> {
    framer: &'f mut Framer,
    bytes: &'b [u8],
}

impl Drop for Untaken<'_, '_> {
    fn drop(&mut self) {
        if let Some(last) = self.bytes.last() {
            let newlines = memchr::memchr_iter(b'\n', self.bytes).count() as u64;
            self.framer.gap(newlines, *last == b'\n', |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `bytes` fed in two parts cut at `at`.
    fn lines(bytes: &[u8], at: usize) -> Vec<Vec<u8>> {
        let mut framer = Framer::default();
        let (mut lines, mut current) = (Vec::new(), Vec::new());
        let mut each = |piece: Piece<'_>| match piece {
            Piece::Bytes(part) => current.extend_from_slice(part),
            Piece::End { size } => {
                assert_eq!(size, current.len() as u64);
                lines.push(std::mem::take(&mut current));
            }
            Piece::Cut { .. } => unreachable!("nothing was lost"),
        };
        framer.feed(&bytes[..at], &mut each);
        framer.feed(&bytes[at..], &mut each);
        framer.end(&mut each);
        assert_eq!(framer.frames, lines.len() as u64);
        lines
    }

    #[test]
    fn any_split_gives_the_same_lines() {
        let bytes = b"{\"a\":1}\r\n\n\n\xff\0x\nlast without newline";
        let expected: Vec<&[u8]> = vec![b"{\"a\":1}\r", b"", b"", b"\xff\0x", b"last without newline"];
        for at in 0..=bytes.len() {
            assert_eq!(lines(bytes, at), expected, "cut at {at}");
        }
    }

    #[test]
    fn every_newline_of_a_stream_with_holes_is_counted_once() {
        let mut framer = Framer::default();
        let mut cut = 0;
        let mut each = |piece: Piece<'_>| cut += u64::from(matches!(piece, Piece::Cut { .. }));
        framer.feed(b"one\ntw", &mut each);
        framer.gap(3, false, &mut each);
        framer.feed(b"rest of five\nsix\n", &mut each);
        framer.gap(2, true, &mut each);
        framer.feed(b"nine\n", &mut each);
        assert_eq!((framer.frames, framer.frames_lost, cut), (3, 6, 1));
    }

    #[test]
    fn after_a_panic_the_stream_goes_on_at_its_next_line_and_every_newline_is_counted() {
        // What was fed before, what the panic interrupts, whether it is the end or the bytes of the second line.
        for (before, bytes, at_end, seen) in [
            ("", "one\nBAD\n", true, "next"),
            ("", "one\nBAD\n", false, "next"),
            ("", "one\nBAD\nthree\nfo", true, "after"),
            ("", "BAD", false, "after"),
            ("B", "AD\n", true, "next"),
            ("half", "", false, "after"),
            ("whole\n", "", false, "next"),
        ] {
            let mut framer = Framer::default();
            framer.feed(before.as_bytes(), |_| {});
            let mut line = before.as_bytes().to_vec();
            let fed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                framer.feed(bytes.as_bytes(), |piece| match piece {
                    Piece::Bytes(bytes) => {
                        line.extend_from_slice(bytes);
                        assert!(at_end || line != b"BAD");
                    }
                    _ => assert_ne!(std::mem::take(&mut line), b"BAD"),
                });
            }));
            assert_eq!(fed.is_err(), bytes.contains("AD"), "{bytes}");
            framer.restart();
            let mut first = Vec::new();
            framer.feed(b"next\nafter\n", |piece| {
                if let Piece::Bytes(line) = piece
                    && first.is_empty()
                {
                    first = line.to_vec();
                }
            });
            assert_eq!(String::from_utf8(first).unwrap(), seen, "{before:?} {bytes:?}");
            let newlines = [before, bytes].concat().matches('\n').count() as u64 + 2;
            assert_eq!(framer.frames + framer.frames_lost, newlines, "{before:?} {bytes:?}");
        }
    }
}
