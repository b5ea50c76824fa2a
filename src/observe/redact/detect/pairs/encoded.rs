//! Pairs in notations without an operator of their own: percent-encoded URLs and JSON, XML elements.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::pairs::{NameKind, PairOperator, PairScanner, values};

impl PairScanner<'_> {
    /// Matches the value after `%3D` and `%253D` in nested URLs, and of `%22name%22%3A%22…%22` in JSON in a URL.
    pub(super) fn percent(&mut self, at: usize) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if let [b'%', b'3', b'A' | b'a', rest @ ..] = rest {
            return self.percent_json(at, rest);
        }
        let length = match rest {
            [b'%', b'3', b'D' | b'd', ..] => 3,
            [b'%', b'2', b'5', b'3', b'D' | b'd', ..] => 5,
            _ => return at + 1,
        };
        let from = at + length;
        let Some(key) = self.key_before(at) else { return from };
        if !matches!(self.rules.judge(key.text, true), Some(name) if name != NameKind::Weak) {
            return from;
        }
        let mut end = from;
        while !self.is_break(end)
            && !matches!(self.at(end), b' ' | b'&' | b'#' | b'"' | b'\'' | b'<' | b'>')
            && !matches!(
                self.bytes.get(end..end + 3),
                Some([b'%', b'2', b'3' | b'6']) | Some([b'%', b'2', b'2'])
            )
            && self.bytes.get(end..end + 5) != Some(b"%2526")
        {
            end += 1;
        }
        if end > from && !self.placeholder.is_whole(self.slice(from, end)) {
            self.matches.push(from, end, KnownClass::Url, "query");
        }
        end.max(from)
    }

    /// Matches the value after the encoded colon (`%3A`) at `at`, up to the next encoded quote (`%22`). Returns the
    /// position at which the scan goes on.
    fn percent_json(&mut self, at: usize, rest: &[u8]) -> usize {
        const QUOTE: &[u8] = b"%22";
        let from = at + 3;
        let Some(closing) = at.checked_sub(QUOTE.len()) else { return from };
        if self.bytes.get(closing..at) != Some(QUOTE) {
            return from;
        }
        let Some(key) = self.key_before(closing) else { return from };
        if !matches!(self.rules.judge(key.text, false), Some(name) if name != NameKind::Weak) {
            return from;
        }
        let blanks = rest.chunks_exact(3).take_while(|chunk| *chunk == b"%20").count() * 3;
        let start = from + blanks;
        let (start, end) = match self.bytes.get(start..start + QUOTE.len()) {
            Some(QUOTE) => {
                let start = start + QUOTE.len();
                let rest = self.bytes.get(start..).unwrap_or_default();
                (start, memchr::memmem::find(rest, QUOTE).map_or(self.bytes.len(), |at| start + at))
            }
            _ => {
                let rest = self.bytes.get(start..).unwrap_or_default();
                (start, start + rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count())
            }
        };
        self.budget = self.budget.saturating_sub(end - start);
        if end == start || self.placeholder.is_whole(self.slice(start, end)) {
            return from;
        }
        self.matches.push(start, end, KnownClass::Url, "query");
        end
    }

    /// Matches the content of `<password>…</password>` and `<property name="password">…</property>`.
    pub(super) fn element(&mut self, at: usize) -> usize {
        const LONGEST_TAG: usize = 128;
        let window = self.bytes.get(at.saturating_sub(LONGEST_TAG)..at).unwrap_or_default();
        self.budget = self.budget.saturating_sub(window.len() / 8);
        let Some(open) = memchr::memrchr(b'<', window) else { return at + 1 };
        let tag = self.slice(at - window.len() + open + 1, at);
        let name = tag.split([' ', '/', '\t']).next().unwrap_or_default();
        let name = name.rsplit(':').next().unwrap_or_default();
        let is_secret = |name: &str| {
            matches!(self.rules.judge(name, false), Some(NameKind::Secret | NameKind::Authorization))
        };
        let name = if is_secret(name) { Some(name) } else { named_in(tag).filter(|name| is_secret(name)) };
        let Some(name) = name.filter(|_| !tag.ends_with('/')) else { return at + 1 };
        let start = self.skip_space(at + 1);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let mut end = start + memchr::memchr(b'<', rest).unwrap_or(rest.len());
        while end > start && matches!(self.before(end), b' ' | b'\t' | b'\n' | b'\r') {
            end -= 1;
        }
        let value = self.slice(start, end);
        let value = value.split("\\u{a}").next().unwrap_or(value).trim_end();
        let end = start + value.len();
        self.budget = self.budget.saturating_sub(end - start);
        if end > start
            && !self.placeholder.is_whole(value)
            && values::is_secret(value, name, PairOperator::Assignment, true)
        {
            self.matches.push(start, end, KnownClass::KeyValue, "xml-element");
            return end;
        }
        at + 1
    }
}

/// Returns the attribute of a tag that names the content of the element.
fn named_in(tag: &str) -> Option<&str> {
    ["name=", "key=", "id="].iter().find_map(|attribute| {
        let (_, rest) = tag.split_once(attribute)?;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest.get(1..)?.split(quote).next()
    })
}
