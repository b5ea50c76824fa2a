//! Searches that skip most bytes of a text: for the next byte of a set, for long runs of bytes of one kind.

/// A set of bytes.
pub(crate) struct ByteSet([bool; 256]);

impl ByteSet {
    pub(crate) const fn of(bytes: &[u8]) -> ByteSet {
        let mut set = [false; 256];
        let mut at = 0;
        while at < bytes.len() {
            set[bytes[at] as usize] = true;
            at += 1;
        }
        ByteSet(set)
    }

    /// Adds all bytes of characters that are not ASCII.
    pub(crate) const fn with_wide(mut self) -> ByteSet {
        let mut byte = 0x80;
        while byte < self.0.len() {
            self.0[byte] = true;
            byte += 1;
        }
        self
    }

    /// Returns the first position from `from` on that has a byte of the set.
    pub(crate) fn next(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let next = bytes.get(from..)?.iter().position(|byte| self.0[usize::from(*byte)])?;
        Some(from + next)
    }
}

/// Returns the start and the end of every run of at least `shortest` bytes for which `is_part` returns true.
pub(crate) fn long(
    bytes: &[u8],
    shortest: usize,
    is_part: impl Fn(u8) -> bool,
) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        // No run that starts before the last other byte of the window is long enough.
        while let Some(last) = bytes.get(at..at + shortest)?.iter().rposition(|byte| !is_part(*byte)) {
            at += last + 1;
        }
        let start = at;
        let rest = bytes.get(at + shortest..).unwrap_or_default();
        at += shortest + rest.iter().take_while(|byte| is_part(**byte)).count();
        Some((start, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_long_run_is_found_as_a_whole() {
        for (text, expected) in [
            ("", vec![]),
            ("abc", vec![(0, 3)]),
            ("ab abc abcd a", vec![(3, 6), (7, 11)]),
            ("  abcdefg", vec![(2, 9)]),
            ("ab  ab", vec![]),
        ] {
            let found: Vec<_> = long(text.as_bytes(), 3, |byte| byte != b' ').collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
