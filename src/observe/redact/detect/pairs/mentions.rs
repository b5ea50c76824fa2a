//! A name in one place and its value in another: `{"name": "API_KEY", "value": …}`, the message of a validator
//! that names a setting and then quotes the value that it got.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::pairs::{
    NameKind, PairName, PairOperator, PairScanner, is_name_byte, is_quote, keys,
};
use crate::observe::redact::detect::word_list::WordList;
use crate::observe::redact::detect::{looks, values};

/// Words that announce the value of a name that was mentioned.
static ANNOUNCEMENTS: WordList = WordList::new(&[
    "value",
    "val",
    "v",
    "values",
    "content",
    "input_value",
    "input",
    "received",
    "got",
    "actual",
    "given",
    "provided",
    "data",
    "found",
    "instance",
    "current",
]);

/// Bytes between a name and its value.
const FARTHEST: usize = 280;

/// The last secret name that the text mentions without a value of its own.
#[derive(Default)]
pub(super) struct Mentions<'a> {
    /// The end of the part of the text that was searched.
    searched: usize,
    /// The name and its end.
    last: Option<(&'a str, usize)>,
}

impl<'a> PairScanner<'a> {
    pub(super) fn is_announcement(&self, word: &str) -> bool {
        let tail = word.as_bytes().get(word.len().saturating_sub(5)..).unwrap_or_default();
        tail.eq_ignore_ascii_case(b"value") || ANNOUNCEMENTS.contains_any_case(word)
    }

    /// Returns the secret name that the text mentions shortly before `at`, and the bytes between them.
    pub(super) fn mentioned(&mut self, at: usize) -> Option<(&'a str, usize)> {
        let mut from = self.mentions.searched;
        while from < at {
            let rest = self.bytes.get(from..at).unwrap_or_default();
            let length = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
            if length >= 3
                && self.is_identifier(from, from + length)
                && matches!(self.rules.judge(self.slice(from, from + length), false), Some(kind) if kind != NameKind::Weak)
            {
                self.mentions.last = Some((self.slice(from, from + length), from + length));
            }
            from += length.max(1);
        }
        self.mentions.searched = from.max(self.mentions.searched);
        let (name, end) = self.mentions.last.filter(|(_, end)| *end <= at && at - *end <= FARTHEST)?;
        Some((name, at - end))
    }

    /// Returns the secret name that the text mentions right after a value: `invalid value '…' for '--token <TOKEN>'`.
    fn mentioned_after(&mut self, at: usize) -> Option<(&'a str, usize)> {
        const NEAR: usize = 80;
        self.budget = self.budget.saturating_sub(NEAR / 8);
        let end = self.bytes.len().min(at + NEAR);
        let mut from = at;
        while from < end && self.line_end(from) == 0 {
            let rest = self.bytes.get(from..).unwrap_or_default();
            let length = rest.iter().take(NEAR).take_while(|byte| is_name_byte(**byte)).count();
            let word = self.slice(from, from + length);
            let name = word.trim_start_matches('-');
            if (word.len() > name.len() || self.is_identifier(from, from + length))
                && self.rules.is_secret(name)
            {
                return Some((name, FARTHEST));
            }
            from += length.max(1);
        }
        None
    }

    /// Returns true if a word is the name of a setting, and not a word of a sentence: in quotes, with a separator
    /// or a hump, or on a line of its own.
    fn is_identifier(&self, start: usize, end: usize) -> bool {
        let word = self.slice(start, end);
        let inner = word.get(1..).unwrap_or_default();
        let is_apart = |index: usize| {
            index == 0 || index >= self.bytes.len() || self.line_end(index) > 0 || self.before(index) == b'\n'
        };
        (is_quote(self.before(start)) && (is_quote(self.at(end)) || self.at(end) == b'\\')
            || inner.contains(['_', '.'])
            || inner.bytes().any(|byte| byte.is_ascii_uppercase())
            || is_apart(start) && is_apart(end)
            || self.is_named_setting(start))
            && !looks::is_random_short(word)
    }

    /// Returns true if the word before `start` says that a name follows.
    fn is_named_setting(&self, start: usize) -> bool {
        const WORDS: [&str; 9] =
            ["parameter", "field", "setting", "option", "property", "variable", "argument", "env", "var"];
        self.before(start) == b' ' && self.key_before(start).is_some_and(|word| WORDS.contains(&word.text))
    }

    /// Matches the value after `from` if it belongs to a secret name that was mentioned before `key`.
    pub(super) fn take_mentioned(
        &mut self,
        key: &PairName<'a>,
        operator: PairOperator,
        from: usize,
    ) -> usize {
        const ADJACENT: usize = 24;
        let before = self.mentioned(key.start);
        let Some(value) = self.value(from) else { return from };
        let Some((name, distance)) = before.or_else(|| self.mentioned_after(value.next)) else { return from };
        let text = self.slice(value.start, value.end);
        let is_near = distance <= ADJACENT && (value.quoted || self.starts_line(key.start));
        let is_secret = values::is_secret(text, name, operator, value.quoted)
            && (is_near || looks::is_random_short(text))
            // The name of another secret.
            && !(text.contains('_') && values::is_lower_path(text) && keys::judge(text).is_some());
        let is_done = self.placeholder.is_whole(text);
        if is_done || is_secret {
            self.mentions.last = None;
        }
        if is_done || !is_secret {
            return from;
        }
        self.push(value.start, value.end, KnownClass::KeyValue, "name-value");
        value.next.max(from)
    }
}
