//! XML elements: the tag names the secret, the content is its value.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::pairs::{NameKind, PairOperator, PairScanner};
use crate::observe::redact::detect::values;

impl PairScanner<'_> {
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
        const CDATA: &[u8] = b"<![CDATA[";
        let mut start = self.skip_space(at + 1);
        let is_data = self.bytes.get(start..start + CDATA.len()) == Some(CDATA);
        if is_data {
            start += CDATA.len();
        }
        let rest = self.bytes.get(start..).unwrap_or_default();
        let close = if is_data { memchr::memmem::find(rest, b"]]>") } else { memchr::memchr(b'<', rest) };
        let mut end = start + close.unwrap_or(rest.len());
        while end > start && matches!(self.before(end), b' ' | b'\t' | b'\n' | b'\r') {
            end -= 1;
        }
        let value = self.slice(start, end);
        let value = value.split("\\u{a}").next().unwrap_or(value).trim_end();
        let end = start + value.len();
        self.budget = self.budget.saturating_sub(end - start);
        // `impl From<TokenStream> for A` is not an element.
        let is_closed =
            rest.get(end - start..).is_some_and(|rest| rest.trim_ascii_start().starts_with(b"</"));
        if end > start
            && (is_closed || is_data || !value.contains(' ') && !value.starts_with('@'))
            && !self.placeholder.is_whole(value)
            && values::is_secret(value, name, PairOperator::Assignment, true)
        {
            self.push(start, end, KnownClass::KeyValue, "xml-element");
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
