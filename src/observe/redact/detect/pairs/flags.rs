//! Command-line flags in a text.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::pairs::{LONGEST_NAME, PairScanner, is_name_byte, values};

impl PairScanner<'_> {
    /// Matches the value of `--api-key V` and, after `curl`, of `-u user:V`. `at` is the first dash.
    pub(super) fn flag(&mut self, at: usize) -> usize {
        let mut start = at;
        while self.at(start) == b'-' && start < at + 2 {
            start += 1;
        }
        let mut end = start;
        while end < start + LONGEST_NAME && is_name_byte(self.at(end)) {
            end += 1;
        }
        let next = self.skip_blanks(end);
        let value_start = if self.at(end) == b'=' { end + 1 } else { next };
        let name = self.slice(start, end);
        if self.curl.is_some_and(|curl| curl < at) {
            if matches!(name, "u" | "user" | "proxy-user" | "U") && value_start > end {
                return self.curl_user(value_start);
            }
            // `-uUSER:PASSWORD`
            if start == at + 1 && name.starts_with(['u', 'U']) && self.at(end) == b':' {
                return self.curl_user(start + 1);
            }
        }
        let is_weak = matches!(name, "key" | "auth");
        if next == end || name.is_empty() || self.at(next) == b'-' || !is_weak && !self.rules.is_secret(name)
        {
            return end.max(at + 1);
        }
        let Some(value) = self.value(next) else { return end };
        let text = self.slice(value.start, value.end);
        if self.placeholder.is_whole(text)
            || !value.quoted && values::is_usage(text)
            || values::is_reference(text)
            || is_weak && !values::looks_random(text)
        {
            return end;
        }
        self.matches.push(value.start, value.end, KnownClass::Flag, "flag");
        value.next
    }

    /// Matches the password in `user:password`.
    fn curl_user(&mut self, from: usize) -> usize {
        let Some(value) = self.value(from) else { return from };
        // For a shell, `"user":"password"` and `user:'password'` are one word.
        let mut end = value.end;
        while end < self.bytes.len()
            && !matches!(self.at(end), b' ' | b'\t')
            && !self.is_break(end)
            && !value.quoted
        {
            end += 1;
        }
        let text = self.slice(value.start, end);
        if self.placeholder.is_whole(text) {
            return from;
        }
        let Some(colon) = text.find(':') else { return from };
        let password = text.get(colon + 1..).unwrap_or_default();
        let password = password.trim_matches(is_quote_char);
        let start = text.find(password).map_or(value.start + colon + 1, |_| {
            value.start + colon + 1 + text.get(colon + 1..).and_then(|rest| rest.find(password)).unwrap_or(0)
        });
        if password.is_empty() || values::is_reference(password) || self.placeholder.is_whole(password) {
            return from;
        }
        self.matches.push(start, start + password.len(), KnownClass::Flag, "curl-user");
        start + password.len()
    }
}

fn is_quote_char(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '\\')
}
