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
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Piece<'_>)) {
        if self.skipping {
            let Some(newline) = memchr::memchr(b'\n', bytes) else { return };
            self.skipping = false;
            self.frames_lost += 1;
            bytes = &bytes[newline + 1..];
        }
        while let Some(newline) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(newline);
            if !line.is_empty() {
                each(Piece::Bytes(line));
            }
            each(Piece::End { size: self.size + line.len() as u64 });
            self.size = 0;
            self.frames += 1;
            bytes = &rest[1..];
        }
        if !bytes.is_empty() {
            self.size += bytes.len() as u64;
            each(Piece::Bytes(bytes));
        }
    }

    /// Takes note of lost bytes with `newlines` newlines. `ends_line` is true if the next byte begins a line.
    pub fn gap(&mut self, newlines: u64, ends_line: bool, mut each: impl FnMut(Piece<'_>)) {
        if self.size > 0 {
            each(Piece::Cut { size: self.size });
            self.size = 0;
        }
        self.frames_lost += newlines;
        self.skipping = !ends_line;
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
}
