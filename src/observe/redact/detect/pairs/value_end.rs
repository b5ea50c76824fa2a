//! The extent of a value: in quotes, in brackets, or up to a separator.

use crate::observe::redact::detect::pairs::{PairScanner, PairValue, is_name_byte, is_quote};
use crate::observe::redact::detect::{harmless, labels, looks};

/// The quote that is open in a line.
#[derive(Default)]
pub(super) struct OpenQuote {
    /// The end of the part of the text that was searched.
    searched: usize,
    open: u8,
}

impl PairScanner<'_> {
    /// Returns the value after an operator.
    pub(super) fn value(&mut self, from: usize) -> Option<PairValue> {
        let mut start = self.skip_blanks(from);
        // A block of YAML starts on the next line.
        if matches!(self.at(start), b'|' | b'>') {
            let sign = start + 1 + usize::from(matches!(self.at(start + 1), b'-' | b'+'));
            let line_end = self.line_end(sign);
            if line_end > 0 {
                start = self.skip_space(sign);
                if let Some(value) = self.block(start) {
                    return Some(value);
                }
            }
        }
        start = self.skip_styles(start);
        start = self.skip_wrappers(start);
        start = self.skip_printing(start);
        if self.has_reference(start) || self.has_aside(start) {
            return None;
        }
        let backslashes =
            self.bytes.get(start..).map_or(0, |rest| rest.iter().take_while(|&&b| b == b'\\').count());
        let quote = self.at(start + backslashes);
        if let Some(value) = self.triple_quoted(start) {
            return Some(value);
        }
        // `print "Token: ", $token`: the quote closes the text that contains the name.
        let is_closing = backslashes == 0
            && quote == self.enclosing_quote(start)
            && matches!(self.at(start + 1), b',' | b';' | b')' | b'.' | b'+' | b' ' | b'\n' | 0);
        if is_quote(quote) && is_closing {
            return None;
        }
        if is_quote(quote) {
            return self.quoted(start + backslashes + 1, quote, backslashes);
        }
        if matches!(self.at(start), b'{' | b'[')
            && self.placeholder.length_at_start(self.text.get(start..).unwrap_or_default()).is_none()
            && let Some(end) = self.bracketed(start).or_else(|| self.cut_off(start))
        {
            let text = self.slice(start, end);
            // Not a secret: a template, a schema, an aside.
            if text.starts_with("{{") && harmless::is_reference(text)
                || harmless::is_schema(text)
                || harmless::is_aside(text)
                || harmless::is_mask(text)
                || labels::is_described_object(text)
                || end - start <= 2
            {
                return None;
            }
            return Some(PairValue { start, end, next: end, quoted: true });
        }
        self.bare(start)
    }

    /// Returns the lines of a block of YAML that are one secret: they are indented alike and contain no blank.
    fn block(&mut self, start: usize) -> Option<PairValue> {
        const MOST: usize = 32;
        const LONGEST_INDENT: usize = 64;
        let before = self.bytes.get(start.saturating_sub(LONGEST_INDENT)..start)?;
        let indent = before.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let indent = self.slice(start - indent, start);
        let mut end = start;
        let mut lines = 0;
        for line in self.text.get(start..)?.split('\n').take(MOST) {
            let content = if lines == 0 { line } else { line.strip_prefix(indent)? };
            let content = content.trim_end();
            if indent.is_empty() || content.is_empty() || content.contains([' ', ':']) {
                break;
            }
            end += if lines == 0 { content.len() } else { 1 + indent.len() + content.len() };
            lines += 1;
            let next = self.text.get(end..).unwrap_or_default();
            if !next.strip_prefix('\n').is_some_and(|next| next.starts_with(indent)) {
                break;
            }
        }
        self.budget = self.budget.saturating_sub(end - start);
        (lines > 1).then_some(PairValue { start, end, next: end, quoted: true })
    }

    /// Returns the end of single letters with blanks between them, of which the first is at `start`: `h u n t e r`.
    fn spaced_letters(&self, start: usize) -> usize {
        const FEWEST: usize = 6;
        const MOST: usize = 64;
        let is_letter =
            |at: usize| self.at(at).is_ascii_graphic() && matches!(self.at(at + 1), b' ' | b'\n' | 0);
        let count = (0..MOST).take_while(|place| is_letter(start + 2 * place)).count();
        if count < FEWEST { start } else { start + 2 * count - 1 }
    }

    /// Skips the tags of a style that programs print by mistake: `[/bold]`, `[red]`, `{/bold}`.
    fn skip_styles(&self, mut start: usize) -> usize {
        const LONGEST: usize = 24;
        #[rustfmt::skip]
        const STYLES: [&str; 14] = [
            "bold", "dim", "italic", "underline", "red", "green", "yellow", "blue", "magenta", "cyan", "white", "black", "b", "i",
        ];
        loop {
            let close = match self.at(start) {
                b'[' => b']',
                b'{' => b'}',
                _ => return start,
            };
            let window = self.bytes.get(start..self.bytes.len().min(start + LONGEST)).unwrap_or_default();
            let Some(length) = memchr::memchr(close, window) else { return start };
            let tag = self.slice(start + 1, start + length);
            let is_style = match tag.strip_prefix('/') {
                Some(name) => {
                    name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b' ' | b'_'))
                }
                None => !tag.is_empty() && tag.split([' ', '_']).all(|word| STYLES.contains(&word)),
            };
            if !is_style {
                return start;
            }
            start = self.skip_blanks(start + length + 1);
        }
    }

    /// Skips `@`, `b` and other prefixes of a quote, and wrappers like `Some(`.
    fn skip_wrappers(&self, start: usize) -> usize {
        if matches!(self.at(start), b'@' | b'b' | b'r' | b'f' | b'u' | b'$' | b'N')
            && is_quote(self.at(start + 1))
        {
            return start + 1;
        }
        const WRAPPERS: [&str; 6] = ["Some(", "String(", "Secret(", "str(", "String::from(", "Just "];
        let rest = self.text.get(start..).unwrap_or_default();
        // `string(16) "…"` in PHP's dumps.
        if let Some(dumped) = rest.strip_prefix("string(")
            && let Some((length, value)) = dumped.split_once(") ")
            && length.len() <= 6
            && length.bytes().all(|byte| byte.is_ascii_digit())
            && value.starts_with('"')
        {
            return start + rest.len() - value.len();
        }
        if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| rest.starts_with(**wrapper)) {
            return start + wrapper.len();
        }
        // `SecretStr('…')`, unlike `getenv("API_KEY")`.
        const LONGEST: usize = 32;
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':');
        let callee = rest.as_bytes().iter().take(LONGEST).take_while(is_part).count();
        let is_call = callee > 0 && self.at(start + callee) == b'(' && is_quote(self.at(start + callee + 1));
        let text = rest.get(callee + 2..).filter(|_| is_call).unwrap_or_default();
        let end = text.bytes().take(256).position(is_quote).unwrap_or(0);
        match text.get(..end).is_some_and(looks::is_random_short) {
            true => start + callee + 1,
            false => start,
        }
    }

    /// Returns the start of the text that a substitution of a shell prints: `$(echo V)`, `"$(printf %s V)"`.
    fn skip_printing(&self, start: usize) -> usize {
        let rest = self.text.get(start..).unwrap_or_default();
        let inner = rest.strip_prefix('"').unwrap_or(rest);
        let Some(inner) = inner.strip_prefix("$(").or_else(|| inner.strip_prefix('`')) else { return start };
        let command = inner.trim_start_matches(' ');
        const PRINTING: [&str; 3] = ["echo ", "printf ", "cat <<< "];
        let Some(words) = PRINTING.iter().find_map(|print| command.strip_prefix(print)) else {
            return start;
        };
        let mut words = words.trim_start_matches(' ');
        while words.starts_with(['-', '%']) || words.starts_with("'%") || words.starts_with("\"%") {
            let Some((_, next)) = words.split_once(' ') else { return start };
            words = next;
        }
        start + rest.len() - words.len()
    }

    /// Returns the value in `"""…"""` or `'''…'''`.
    fn triple_quoted(&mut self, start: usize) -> Option<PairValue> {
        let quotes = self.bytes.get(start..start + 3)?;
        if quotes != b"\"\"\"" && quotes != b"'''" {
            return None;
        }
        let from = start + 3;
        let rest = self.bytes.get(from..)?;
        let length = memchr::memmem::find(rest, quotes).unwrap_or(rest.len());
        self.budget = self.budget.saturating_sub(length);
        let end = from + length;
        (length > 0).then_some(PairValue {
            start: from,
            end,
            next: (end + 3).min(self.bytes.len()),
            quoted: true,
        })
    }

    /// Returns the end of the text if an object or array starts at `start`, whose end was cut off.
    fn cut_off(&self, start: usize) -> Option<usize> {
        let inner = self.skip_space(start + 1);
        let is_json = matches!(self.at(inner), b'"' | b'\'' | b'{' | b'[')
            || self.at(inner) == b'\\' && is_quote(self.at(inner + 1));
        is_json.then_some(self.bytes.len())
    }

    /// Returns the value up to the closing quote or, without one, to the end of the line.
    fn quoted(&mut self, start: usize, quote: u8, backslashes: usize) -> Option<PairValue> {
        let rest = self.bytes.get(start..).unwrap_or_default();
        for found in memchr::memchr_iter(quote, rest) {
            let escapes = rest.get(..found)?.iter().rev().take_while(|&&byte| byte == b'\\').count();
            let closes = if backslashes == 0 { escapes % 2 == 0 } else { escapes <= backslashes };
            if closes {
                self.budget = self.budget.saturating_sub(found);
                let end = start + found - if backslashes == 0 { 0 } else { escapes };
                return (end > start).then_some(PairValue {
                    start,
                    end,
                    next: start + found + 1,
                    quoted: true,
                });
            }
        }
        self.budget = self.budget.saturating_sub(rest.len());
        let mut end = start;
        while end < self.bytes.len() && self.line_end(end) == 0 {
            end += 1;
        }
        (end > start).then_some(PairValue { start, end, next: end, quoted: true })
    }

    /// Returns the end of the brackets that open at `start`. Brackets in strings count, because the text may be
    /// cut.
    fn bracketed(&mut self, start: usize) -> Option<usize> {
        let open = self.at(start);
        let close = if open == b'{' { b'}' } else { b']' };
        let rest = self.bytes.get(start..)?;
        let mut depth = 0_usize;
        for found in memchr::memchr2_iter(open, close, rest) {
            // The brace of a `\u{…}` escape does not count.
            if rest.get(found.saturating_sub(2)..=found) == Some(b"\\u{") {
                continue;
            }
            if rest.get(found) == Some(&open) {
                depth += 1;
            } else {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    self.budget = self.budget.saturating_sub(found);
                    return Some(start + found + 1);
                }
            }
        }
        self.budget = self.budget.saturating_sub(rest.len());
        None
    }

    /// Returns the value up to a blank, the quote that encloses it, a tag, or a separator before another item.
    fn bare(&mut self, start: usize) -> Option<PairValue> {
        let enclosing = self.enclosing_quote(start);
        let mut end = start;
        while !self.is_break(end) {
            let stop = match self.at(end) {
                b' ' | b'\t' => true,
                b'"' | b'\'' | b'`' => self.at(end) == enclosing || !self.continues(end + 1),
                b'<' => self.is_tag(end),
                b'\\' => is_quote(self.at(end + 1)) || self.at(end + 1) == b'\\',
                b',' | b';' | b'&' | b'|' => self.separates(end),
                _ => false,
            };
            if stop {
                break;
            }
            end += 1;
        }
        let end = if self.owns_line && enclosing == 0 { self.later_words(start, end) } else { end };
        let end = if end == start + 1 { self.spaced_letters(start).max(end) } else { end };
        // The value of a header continues after the authorization scheme.
        let word = self.slice(start, end);
        if ["bearer", "basic", "token"].iter().any(|scheme| scheme.eq_ignore_ascii_case(word))
            && self.at(end) == b' '
            && !matches!(self.at(end + 1), b' ' | b'=')
            // `token = token or other`
            && (!word.eq_ignore_ascii_case("token") || self.has_random_value(end))
        {
            let next = self.skip_blanks(end);
            return self.bare(next).map(|value| PairValue { start, ..value });
        }
        self.budget = self.budget.saturating_sub(end - start);
        let text = self.slice(start, end);
        let mut shown = without_punctuation(text);
        // A closing bracket belongs to a bracket that was opened before the value.
        while let Some(close) = shown.chars().next_back().filter(|c| matches!(c, ')' | ']' | '}' | '>')) {
            let open = match close {
                ')' => '(',
                ']' => '[',
                '}' => '{',
                _ => '<',
            };
            if shown.matches(open).count() >= shown.matches(close).count() {
                break;
            }
            shown = shown.get(..shown.len() - 1).unwrap_or_default();
        }
        let end = start + shown.len();
        (end > start).then_some(PairValue { start, end, next: end, quoted: false })
    }

    /// Returns true if the byte after a quote shows that the quote is part of an unquoted value.
    fn continues(&self, next: usize) -> bool {
        let byte = self.at(next);
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'*' | b'+' | b'-' | b'=' | b'?' | b'@' | b'^' | b'_' | b'~'
            )
    }

    /// Returns true if an HTML element ends at `at`, or one that is common in text starts there.
    fn is_tag(&self, at: usize) -> bool {
        const NAMES: [&str; 16] = [
            "br", "p", "b", "i", "a", "td", "tr", "th", "li", "dd", "dt", "div", "span", "code", "hr",
            "strong",
        ];
        let rest = self.bytes.get(at + 1..).unwrap_or_default();
        let length = rest.iter().take(8).take_while(|byte| byte.is_ascii_lowercase()).count();
        rest.first() == Some(&b'/')
            || NAMES.contains(&self.slice(at + 1, at + 1 + length))
                && matches!(rest.get(length), Some(b'>' | b' ' | b'/'))
    }

    /// Returns the end of a value that contains blanks: the name starts the line, and none of the later words of
    /// the line is a word or starts another pair.
    fn later_words(&self, start: usize, end: usize) -> usize {
        const MOST: usize = 8;
        let line = self.bytes.get(end..self.bytes.len().min(end + 160)).unwrap_or_default();
        let length = (0..line.len()).find(|at| self.is_break(end + at)).unwrap_or(line.len());
        let line = self.slice(end, end + length).trim_end();
        let is_plain = |word: &str| {
            let word = word.trim_matches(|c: char| c.is_ascii_punctuation());
            word.bytes().all(|byte| byte.is_ascii_lowercase())
                || word.bytes().all(|byte| byte.is_ascii_digit())
                || word.contains(['=', ':', '[', '('])
                || !word.is_ascii()
                || word.get(1..).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase()))
        };
        let first = self.slice(start, end);
        let fits = !line.is_empty()
            && end > start
            && !is_plain(first)
            && !self.placeholder.is_whole(first)
            && line.split_whitespace().count() <= MOST
            && !line.split_whitespace().any(is_plain);
        if fits { end + line.len() } else { end }
    }

    /// Returns the quote that is open before `at` on its line, or zero. Must be called with growing positions.
    fn enclosing_quote(&mut self, at: usize) -> u8 {
        let mut from = self.quotes.searched;
        while from < at {
            let byte = self.at(from);
            if self.line_end(from) > 0 || byte == self.quotes.open {
                self.quotes.open = 0;
            } else if is_quote(byte)
                && self.quotes.open == 0
                && !(byte == b'\'' && self.before(from).is_ascii_alphanumeric())
            {
                self.quotes.open = byte;
            }
            from += 1;
        }
        self.quotes.searched = from;
        self.quotes.open
    }

    /// Returns true if another item follows the separator at `at`.
    fn separates(&self, at: usize) -> bool {
        let next = at + 1;
        if self.is_break(next)
            || matches!(
                self.at(next),
                b' ' | b'"' | b'\'' | b')' | b']' | b'}' | b'{' | b'\\' | b',' | b'&' | b'(' | b'['
            )
        {
            return true;
        }
        let mut end = next;
        while end < next + 40 && is_name_byte(self.at(end)) {
            end += 1;
        }
        end > next && matches!(self.at(self.skip_blanks(end)), b'=' | b':' | b',')
    }
}

/// Returns a value without the punctuation of the sentence around it. `!` and `?` are part of a value with digits, and
/// of one in a list: `Pwd=Str0ng!;Encrypt=yes`.
fn without_punctuation(text: &str) -> &str {
    let shown = text.trim_end_matches(['.', ',', ':', ';', '!', '?']);
    let rest = text.get(shown.len()..).unwrap_or_default();
    let signs = rest.len() - rest.trim_start_matches(['!', '?']).len();
    let is_in_list = rest.get(signs..).is_some_and(|rest| rest.starts_with([';', ',']));
    match is_in_list || shown.bytes().any(|byte| byte.is_ascii_digit()) {
        true => text.get(..shown.len() + signs).unwrap_or(shown),
        false => shown,
    }
}
