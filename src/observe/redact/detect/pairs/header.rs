//! Headers whose value is a secret up to the end of the line: authorization and cookies.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::pairs::{PairName, PairScanner, is_quote};
use crate::observe::redact::detect::{harmless, looks};

impl<'a> PairScanner<'a> {
    /// Matches the rest of a header line, up to the quote that encloses it or the end of the line.
    pub(super) fn header(
        &mut self,
        key: &PairName<'a>,
        class: KnownClass,
        rule: &'static str,
        from: usize,
    ) -> usize {
        let start = self.skip_blanks(from);
        let enclosing = self.before(key.start);
        let (start, end) = if is_quote(self.at(start)) || self.at(start) == b'\\' && self.line_end(start) == 0
        {
            match self.value(start) {
                Some(value) => (value.start, value.end),
                None => return from,
            }
        } else {
            let closing = is_quote(enclosing) && !key.quoted;
            let mut end = start;
            let escaped_end =
                |at: usize| self.at(at) == b'\\' && matches!(self.at(at + 1), b'n' | b'r' | b'"');
            while !(self.is_break(end) || closing && self.at(end) == enclosing || escaped_end(end)) {
                end += 1;
            }
            (start, end)
        };
        let text = self.slice(start, end).trim_end();
        self.budget = self.budget.saturating_sub(end - start);
        // The members of an object are pairs of their own.
        let is_object = text.starts_with('{')
            && !text.split(|c: char| !c.is_ascii_alphanumeric()).any(looks::is_random_short);
        if text.is_empty()
            || is_object
            || text.ends_with("()")
            || self.placeholder.is_whole(text)
            || harmless::is_prose_header(text)
            || class == KnownClass::Cookie
                && (harmless::is_cleared_cookie(text)
                    || harmless::is_plain_cookie(text, |name| self.rules.judge(name, false).is_some()))
        {
            return from;
        }
        self.push(start, start + text.len(), class, rule);
        end.max(from)
    }
}
