//! Private keys in armour, also over several lines of stderr.
//!
//! Sources: gitleaks `private-key`, detect-secrets `private_key`, RFC 7468 (PEM), PuTTY key files.

use memchr::memmem;

use crate::observe::redact::detect::matches::Matches;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const PUTTY: &[u8] = b"PuTTY-User-Key-File-";
/// Between `BEGIN` and the dashes that close the line.
const LONGEST_LABEL: usize = 64;

/// Matches every private key in `text`: from `BEGIN` to the end of its `END` line, or to the end of the
/// text. Line ends may be real, escaped or blanks.
pub(crate) fn find(text: &str, marks: &mut Matches) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(start) = next_key(bytes, from) {
        let end = key_end(bytes, start);
        marks.push(start, end, "private_key", "private-key");
        from = end;
    }
}

fn next_key(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let putty = memmem::find(rest, PUTTY).map(|at| from + at);
    let armoured =
        memmem::find_iter(rest, BEGIN).map(|at| from + at).find(|&at| is_private(bytes, at + BEGIN.len()));
    match (putty, armoured) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn is_private(bytes: &[u8], label: usize) -> bool {
    let window = bytes.get(label..bytes.len().min(label + LONGEST_LABEL)).unwrap_or_default();
    let label = memmem::find(window, b"-----").map_or(window, |end| window.get(..end).unwrap_or(window));
    memmem::find(label, b"PRIVATE KEY").is_some()
}

fn key_end(bytes: &[u8], start: usize) -> usize {
    let body = bytes.get(start..).unwrap_or_default();
    if body.starts_with(PUTTY) {
        // The last line is `Private-MAC: <hex>`.
        return memmem::find(body, b"Private-MAC:").map_or(bytes.len(), |at| {
            let rest = body.get(at + 12..).unwrap_or_default();
            let tail = rest.iter().take_while(|byte| byte.is_ascii_hexdigit() || **byte == b' ').count();
            start + at + 12 + tail
        });
    }
    let Some(end) = memmem::find(body, END) else { return bytes.len() };
    let label = body.get(end + END.len()..).unwrap_or_default();
    let window = label.get(..label.len().min(LONGEST_LABEL)).unwrap_or(label);
    let dashes = memmem::find(window, b"-----").map_or(window.len(), |at| at + 5);
    start + end + END.len() + dashes
}

/// Remembers, from one line of stderr to the next, that a private key is being printed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lines {
    /// Lines that may still belong to the key.
    left: u32,
}

/// What to do with a line of stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It holds no part of a key that began earlier.
    Outside,
    /// All of it belongs to a key.
    Inside,
    /// The key ends on it, at this byte.
    Ends(usize),
}

impl Lines {
    /// A key of 4096 bytes has 64 lines; beyond this the `END` line was lost.
    const MOST: u32 = 200;

    /// Takes the next line.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Line {
        let was_open = self.left > 0;
        let mut verdict = Line::Outside;
        let mut rest = 0;
        if was_open {
            let end = memmem::find(bytes, END).or_else(|| memmem::find(bytes, b"Private-MAC:"));
            match end {
                Some(at) => {
                    let end = key_end(bytes, 0).max(at);
                    let end = if bytes.get(at..).is_some_and(|line| line.starts_with(END)) {
                        end
                    } else {
                        bytes.len()
                    };
                    self.left = 0;
                    verdict = Line::Ends(end);
                    rest = end;
                }
                None => {
                    self.left -= 1;
                    return Line::Inside;
                }
            }
        }
        // The last key that begins here and does not end here goes on in the next line.
        let mut from = rest;
        while let Some(start) = next_key(bytes, from) {
            let end = key_end(bytes, start);
            let closed = bytes.get(start..end).is_some_and(|key| {
                memmem::find(key, END).is_some() || memmem::find(key, b"Private-MAC:").is_some()
            });
            if !closed {
                self.left = Lines::MOST;
            }
            from = end;
        }
        verdict
    }
}
