//! Private keys in armour, also over several lines of stderr.
//!
//! Sources: gitleaks `private-key`, detect-secrets `private_key`, RFC 7468 (PEM), PuTTY key files.

use memchr::memmem;

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;

const BEGIN: &[u8] = b"BEGIN ";
const END: &[u8] = b"END ";
/// Dashes before [`BEGIN`] and [`END`]: PEM, and the format of SSH2.
const DASHES: [&[u8]; 2] = [b"-----", b"---- "];
const PUTTY: &[u8] = b"PuTTY-User-Key-File-";
/// Starts the last line of a PuTTY key: `Private-MAC: <hex>`.
const PUTTY_END: &[u8] = b"Private-MAC:";
/// Length of the dashes.
const DASH: usize = 5;
/// Bytes between `BEGIN` and the dashes that close the line.
const LONGEST_LABEL: usize = 64;

/// Matches every private key in `text`: from `BEGIN` to the end of its `END` line, or to the end of the
/// text. Line ends may be real, escaped, or replaced by blanks.
pub(crate) fn find(text: &str, matches: &mut Matches) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(start) = next_key(bytes, from) {
        let end = key_end(bytes, start);
        matches.push(start, end, KnownClass::PrivateKey, "private-key");
        from = end;
    }
}

fn next_key(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let putty = memmem::find(rest, PUTTY).map(|at| from + at);
    let armoured = find_armour(rest, BEGIN).map(|at| from + at).find(|&at| {
        let label = at + DASH + BEGIN.len();
        is_private(bytes, label) && !is_quoted(bytes, label)
    });
    match (putty, armoured) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Iterates over the lines of armour that start with dashes and `word`.
fn find_armour<'a>(bytes: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memmem::find_iter(bytes, word).filter_map(|at| {
        let before = bytes.get(..at)?;
        DASHES.iter().find(|dashes| before.ends_with(dashes)).map(|dashes| at - dashes.len())
    })
}

/// Returns true if a label names a secret: `PRIVATE KEY`, `OpenVPN Static key V1`, `AGE SECRET KEY`.
fn is_private(bytes: &[u8], label: usize) -> bool {
    let window = bytes.get(label..bytes.len().min(label + LONGEST_LABEL)).unwrap_or_default();
    let label = memmem::find(window, b"----").map_or(window, |end| window.get(..end).unwrap_or(window));
    let label = label.to_ascii_uppercase();
    let has = |word: &[u8]| memmem::find(&label, word).is_some();
    (has(b"KEY") || has(b"SECRET") || has(b"CREDENTIAL") || has(b"TOKEN"))
        && !has(b"PUBLIC")
        && !has(b"CERTIFICATE")
}

/// Returns true if a sentence quotes the first line of a key, and no key follows: `"-----BEGIN PRIVATE KEY-----" is missing`.
fn is_quoted(bytes: &[u8], label: usize) -> bool {
    const SHORTEST_BODY: usize = 20;
    let rest = bytes.get(label..).unwrap_or_default();
    let Some(dashes) = memmem::find(rest.get(..rest.len().min(LONGEST_LABEL)).unwrap_or(rest), b"-----")
    else {
        return false;
    };
    let after = rest.get(dashes + DASH..).unwrap_or_default();
    matches!(after, [b'"' | b'\'' | b'`', b' ', next, ..] if next.is_ascii_lowercase())
        && !after
            .split(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'+' | b'/' | b'='))
            .any(|run| run.len() >= SHORTEST_BODY)
}

fn key_end(bytes: &[u8], start: usize) -> usize {
    let body = bytes.get(start..).unwrap_or_default();
    if body.starts_with(PUTTY) {
        return memmem::find(body, PUTTY_END).map_or(bytes.len(), |at| {
            let rest = body.get(at + PUTTY_END.len()..).unwrap_or_default();
            let tail = rest.iter().take_while(|byte| byte.is_ascii_hexdigit() || **byte == b' ').count();
            start + at + PUTTY_END.len() + tail
        });
    }
    let Some(end) = find_armour(body, END).next() else { return bytes.len() };
    let label = body.get(end + DASH + END.len()..).unwrap_or_default();
    let window = label.get(..label.len().min(LONGEST_LABEL)).unwrap_or(label);
    let dashes = memmem::find(window, b"----").map_or(window.len(), |at| {
        at + window.get(at..).unwrap_or_default().iter().take_while(|byte| **byte == b'-').count()
    });
    start + end + DASH + END.len() + dashes
}

/// Follows a private key from one line of stderr to the next. A caller that keeps only the last lines and
/// redacts them later needs it, because the first line of the key may be gone by then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyLines {
    /// Number of lines that may still belong to the key.
    left: u32,
}

/// Where a line of stderr is, in relation to a private key that began on an earlier line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyLine {
    /// No part of the line belongs to the key.
    Outside,
    /// The whole line belongs to the key.
    Inside,
    /// The key ends on the line, at this byte.
    Ends(usize),
}

impl KeyLines {
    /// A key of 4096 bytes has 64 lines. After this many lines its `END` line was lost.
    const MOST: u32 = 200;

    /// Takes the next line, as the server wrote it.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> KeyLine {
        let mut line = KeyLine::Outside;
        let mut from = 0;
        if self.left > 0 {
            let armour = find_armour(bytes, END).next();
            if armour.is_none() && memmem::find(bytes, PUTTY_END).is_none() {
                self.left -= 1;
                return KeyLine::Inside;
            }
            self.left = 0;
            from = armour.map_or(bytes.len(), |at| key_end(bytes, 0).max(at));
            line = KeyLine::Ends(from);
        }
        // A key that begins on this line and does not end on it goes on in the next line.
        while let Some(start) = next_key(bytes, from) {
            let end = key_end(bytes, start);
            let is_closed = bytes.get(start..end).is_some_and(|key| {
                find_armour(key, END).next().is_some() || memmem::find(key, PUTTY_END).is_some()
            });
            if !is_closed {
                self.left = KeyLines::MOST;
            }
            from = end;
        }
        line
    }
}
