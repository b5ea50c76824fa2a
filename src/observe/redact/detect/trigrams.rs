//! The first three bytes of words: one look at a text rules out that any of the words starts at a position.

/// The starts of some words, five bits of each byte, so that the case of letters does not matter.
pub(super) struct Trigrams([u64; Trigrams::COUNT / 64]);

impl Trigrams {
    const COUNT: usize = 1 << 15;

    pub(super) const fn new() -> Trigrams {
        Trigrams([0; Trigrams::COUNT / 64])
    }

    /// Adds the start of a word of at least two bytes.
    pub(super) const fn add(&mut self, word: &[u8]) {
        // After a word of two bytes, any third byte may follow.
        let mut third = if word.len() > 2 { word[2] & 31 } else { 0 };
        let last = if word.len() > 2 { third } else { 31 };
        while third <= last {
            let hash = Trigrams::next(Trigrams::next(Trigrams::next(0, word[0]), word[1]), third);
            self.0[hash / 64] |= 1 << (hash % 64);
            third += 1;
        }
    }

    /// Adds the start of a word that is looked for in other words, unless the word contains a start already.
    pub(super) const fn add_part(&mut self, word: &[u8]) {
        if !self.has_part_of(word) {
            self.add(word);
        }
    }

    /// Returns true if one of the words may start anywhere in `bytes`.
    pub(super) const fn has_part_of(&self, bytes: &[u8]) -> bool {
        let (mut hash, mut at) = (0, 0);
        // A word of two bytes may be at the end.
        while at <= bytes.len() {
            hash = Trigrams::next(hash, if at < bytes.len() { bytes[at] } else { 0 });
            if at >= 2 && self.contains(hash) {
                return true;
            }
            at += 1;
        }
        false
    }

    /// Returns the positions at which one of the words may start.
    pub(super) fn positions(&self, bytes: &[u8]) -> impl Iterator<Item = usize> {
        let mut hash = 0;
        bytes.iter().enumerate().filter_map(move |(at, byte)| {
            hash = Trigrams::next(hash, *byte);
            if self.contains(hash) { at.checked_sub(2) } else { None }
        })
    }

    /// Returns the hash of the last three bytes after one more.
    const fn next(hash: usize, byte: u8) -> usize {
        (hash << 5 | (byte & 31) as usize) % Trigrams::COUNT
    }

    const fn contains(&self, hash: usize) -> bool {
        self.0[hash / 64] >> (hash % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_possible_where_it_starts() {
        let mut words = Trigrams::new();
        words.add(b"token");
        words.add(b"pw");
        assert_eq!(words.positions(b"a token, a TOKEN").collect::<Vec<_>>(), [2, 11]);
        for (text, expected) in
            [("my-token", true), ("db_pw", true), ("pwd", true), ("to", false), ("", false)]
        {
            assert_eq!(words.has_part_of(text.as_bytes()), expected, "{text}");
        }
    }
}
