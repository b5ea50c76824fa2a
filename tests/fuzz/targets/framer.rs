//! Lines of a stream, whole and with gaps, against lines that are cut in a plain way.

use spantap::observe::frame::{Framer, Piece};

use super::pieces;
use crate::random::Random;

pub fn run(input: &[u8]) {
    for most in [1, 16, 1 << 16] {
        whole(input, most);
        with_holes(input, most);
    }
}

/// Returns the lines of a stream. The last one counts only if it has bytes.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if lines.last() == Some(&&b""[..]) {
        lines.pop();
    }
    lines
}

fn whole(input: &[u8], most: usize) {
    let mut framer = Framer::default();
    let (mut found, mut line) = (Vec::new(), Vec::new());
    let mut each = |piece: Piece<'_>| match piece {
        Piece::Bytes(bytes) => line.extend_from_slice(bytes),
        Piece::End { size } => {
            assert_eq!(size, line.len() as u64);
            found.push(std::mem::take(&mut line));
        }
        Piece::Cut { .. } => panic!("nothing was lost"),
    };
    pieces(input, most).into_iter().for_each(|piece| framer.feed(piece, &mut each));
    framer.end(&mut each);
    assert_eq!(found, lines(input));
    assert_eq!((framer.frames, framer.frames_lost), (found.len() as u64, 0));
}

/// A line is returned if none of its bytes was lost, and counted as lost otherwise.
fn with_holes(input: &[u8], most: usize) {
    let mut random = Random::of(input);
    let mut framer = Framer::default();
    let mut lost = vec![false; input.len()];
    let (mut found, mut line, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
    let mut each = |piece: Piece<'_>| match piece {
        Piece::Bytes(bytes) => line.extend_from_slice(bytes),
        Piece::End { size } => {
            assert_eq!(size, line.len() as u64);
            found.push(std::mem::take(&mut line));
        }
        Piece::Cut { size } => {
            assert_eq!(size, line.len() as u64);
            cuts.push(std::mem::take(&mut line));
        }
    };
    let mut at = 0;
    for piece in pieces(input, most) {
        if random.below(4) == 0 {
            lost[at..at + piece.len()].fill(true);
            let newlines = piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            framer.gap(newlines, piece.ends_with(b"\n"), &mut each);
        } else {
            framer.feed(piece, &mut each);
        }
        at += piece.len();
    }
    framer.end(&mut each);
    let (mut whole, mut broken, mut beginnings) = (Vec::new(), 0, Vec::new());
    let mut at = 0;
    for line in lines(input) {
        let end = (at + line.len() + 1).min(input.len());
        match lost[at..end].iter().position(|lost| *lost) {
            None => whole.push(line),
            Some(first) => {
                broken += 1;
                beginnings.extend((first > 0).then(|| &input[at..at + first]));
            }
        }
        at = end;
    }
    assert_eq!(found, whole);
    assert_eq!(cuts, beginnings);
    assert_eq!((framer.frames, framer.frames_lost), (whole.len() as u64, broken));
}
