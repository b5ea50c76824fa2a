//! Command-line flags in a text.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::pairs::{LONGEST_NAME, NameKind, PairScanner, is_name_byte, is_quote};
use crate::observe::redact::detect::programs::{self, OptionArgument};
use crate::observe::redact::detect::{harmless, looks, values};

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
        // `[--token, V]`
        let next = if self.at(end) == b',' { self.skip_blanks(end + 1) } else { next };
        let value_start = if self.at(end) == b'=' { end + 1 } else { next };
        let name = self.slice(start, end);
        if start == at + 1 || matches!(name, "user" | "proxy-user") {
            let found = self.program_option(at, end, value_start);
            if found.is_some() {
                return found.unwrap_or(end);
            }
        }
        let judged = self.rules.judge(name, false);
        let is_weak =
            matches!(judged, Some(NameKind::Weak | NameKind::Key | NameKind::Code | NameKind::Session));
        if matches!(name, "u" | "user" | "userpwd") {
            return self.user_and_password(value_start, end);
        }
        if next == end || name.is_empty() || self.at(next) == b'-' || !is_weak && !self.rules.is_secret(name)
        {
            return end.max(at + 1);
        }
        let Some(value) = self.value(next) else { return end };
        let text = self.slice(value.start, value.end);
        if self.placeholder.is_whole(text)
            || !value.quoted && (harmless::is_usage(text) || self.slice(value.end, value.end + 2) == "  ")
            || harmless::is_reference(text)
            || is_weak && (!values::is_key(text) || looks::is_uuid(text))
        {
            return end;
        }
        self.push(value.start, value.end, KnownClass::Flag, "flag");
        value.next
    }

    /// Matches the secret of an option of a program that the text names before: `mysql -pV`, `-p V`,
    /// `['sshpass', '-p', 'V']`. The option is from `at` to `end`. Returns where the scan goes on.
    fn program_option(&mut self, at: usize, end: usize, value_start: usize) -> Option<usize> {
        let program = self.program_before(at)?;
        let (takes, attached) = programs::option(program, self.slice(at, end))?;
        let opener = self.before(at);
        let from = match takes {
            OptionArgument::Harmless => return None,
            OptionArgument::UserAndPassword if attached.is_empty() => {
                let is_listed = is_quote(opener) && self.at(end) == opener && self.at(end + 1) == b',';
                return Some(self.curl_user(if is_listed { self.skip_space(end + 2) } else { value_start }));
            }
            OptionArgument::UserAndPassword => return Some(self.curl_user(end - attached.len())),
            OptionArgument::Attached if attached.is_empty() && !is_quote(self.at(end)) => return None,
            _ if !attached.is_empty() || is_quote(self.at(end)) && !is_quote(opener) => end - attached.len(),
            // The option and its value are elements of a list.
            _ if is_quote(opener) && self.at(end) == opener && self.at(end + 1) == b',' => {
                self.skip_space(end + 2)
            }
            _ if value_start > end => value_start,
            _ => return None,
        };
        let value = self.value(from)?;
        let text = self.slice(value.start, value.end);
        let start = match takes {
            OptionArgument::UserPercentPassword => value.start + text.find('%')? + 1,
            _ => value.start,
        };
        let text = self.slice(start, value.end);
        let is_secret = match takes {
            OptionArgument::Attached | OptionArgument::UserPercentPassword => text.len() >= 3,
            _ => text.len() >= 3 && takes.is_secret(text),
        };
        if !is_secret || harmless::is_reference(text) || self.placeholder.is_whole(text) {
            return None;
        }
        self.push(start, value.end, KnownClass::Flag, "program-option");
        Some(value.next)
    }

    /// Returns the last known program that the text names before `at` on the same line.
    fn program_before(&mut self, at: usize) -> Option<&'static str> {
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let mut from = self.program_searched;
        while from < at {
            let rest = self.bytes.get(from..at).unwrap_or_default();
            let length = rest.iter().take_while(is_part).count();
            match programs::named(self.slice(from, from + length)) {
                Some(program) => self.program = Some(program),
                None if self.line_end(from) > 0 => self.program = None,
                None => {}
            }
            from += length.max(1);
        }
        self.program_searched = from.max(self.program_searched);
        self.program
    }

    /// Matches the password in `user:password` after an option of a program that is not known.
    fn user_and_password(&mut self, from: usize, end: usize) -> usize {
        if from <= end {
            return end;
        }
        let Some(value) = self.value(from) else { return end };
        let text = self.slice(value.start, value.end);
        let Some((user, password)) = text.split_once(':') else { return end };
        if !programs::is_password_of(user, password) || self.placeholder.is_whole(password) {
            return end;
        }
        self.push(value.end - password.len(), value.end, KnownClass::Flag, "user-and-password");
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
        if password.is_empty() || harmless::is_reference(password) || self.placeholder.is_whole(password) {
            return from;
        }
        self.push(start, start + password.len(), KnownClass::Flag, "curl-user");
        start + password.len()
    }
}

fn is_quote_char(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '\\')
}
