//! Lists of words that are compared with most words of a text.

/// A list of words, with an index that rules out most other words at once.
pub(super) struct WordList {
    pub(super) words: &'static [&'static str],
    /// The lengths of the words, by their first byte.
    lengths: [u32; 256],
}

impl WordList {
    pub(super) const fn new(words: &'static [&'static str]) -> WordList {
        let mut lengths = [0; 256];
        let mut at = 0;
        while at < words.len() {
            let word = words[at].as_bytes();
            assert!(!word[0].is_ascii_uppercase());
            lengths[word[0] as usize] |= 1 << (word.len() % 32);
            at += 1;
        }
        WordList { words, lengths }
    }

    pub(super) fn contains(&self, word: &[u8]) -> bool {
        self.may_contain(word.first().copied(), word.len())
            && self.words.iter().any(|known| known.as_bytes() == word)
    }

    /// Returns true if the list, which is in lower case, contains `word` in any case.
    pub(super) fn contains_any_case(&self, word: &str) -> bool {
        let first = word.as_bytes().first().map(u8::to_ascii_lowercase);
        self.may_contain(first, word.len()) && self.words.iter().any(|known| known.eq_ignore_ascii_case(word))
    }

    fn may_contain(&self, first: Option<u8>, length: usize) -> bool {
        let lengths = first.and_then(|first| self.lengths.get(usize::from(first)));
        lengths.is_some_and(|lengths| lengths >> (length % 32) & 1 == 1)
    }
}
