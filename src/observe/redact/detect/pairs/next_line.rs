//! A name at the end of a line and its value on the next.

use crate::observe::redact::detect::looks;
use crate::observe::redact::detect::pairs::{NameKind, PairScanner, is_name_byte, is_quote, keys};

/// The end of a line of stderr that is a name without its value: `secret_key: >-`, `"password":`, `Enter API key:`, or
/// a name on a line of its own.
#[derive(Debug)]
pub(crate) struct OpenName {
    pub(crate) name: String,
    /// A blank line follows the name.
    has_blank: bool,
}

impl OpenName {
    /// Returns the name that is open after `line`. `open` is what this function returned for the line before.
    pub(crate) fn after(open: Option<OpenName>, line: &str) -> Option<OpenName> {
        const LONGEST: usize = 160;
        let end = line.trim_end();
        let is_operator =
            |c: char| matches!(c, ':' | '=' | '>' | '|' | '-' | '+' | '[' | ']' | '{' | '"' | '\'' | ' ');
        let is_block =
            |name: &str| name.ends_with(['|', '>']) || name.ends_with("|-") || name.ends_with(">-");
        if let Some(open) = open {
            if end.is_empty() {
                return (!open.has_blank).then_some(OpenName { has_blank: true, ..open });
            }
            let name = open.name;
            let goes_on = end.chars().all(is_operator) || is_block(&name) && line.starts_with([' ', '\t']);
            if goes_on {
                let name = if is_block(&name) { name } else { format!("{name} {end}") };
                return (name.len() < LONGEST).then_some(OpenName { name, has_blank: false });
            }
        }
        let name = end.trim_end_matches(is_operator);
        let own = name.get(log_prefix(name)..).unwrap_or_default();
        let is_alone = own.len() >= 3 && own.bytes().all(|byte| is_name_byte(byte) || is_quote(byte));
        // `- name: API_TOKEN`
        let is_named =
            end.len() <= 80 && ["name: ", "key: ", "field: "].iter().any(|field| end.contains(field));
        if name.len() == end.len() && !is_alone && !is_named || end.len() - name.len() > 8 {
            return None;
        }
        let tail =
            line.get(line.ceil_char_boundary(line.len().saturating_sub(LONGEST))..).unwrap_or_default();
        let near = name.get(name.ceil_char_boundary(name.len().saturating_sub(48))..).unwrap_or_default();
        let mut words = near.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')));
        let announces = words.next().is_some_and(|word| keys::judge(word).is_some())
            || keys::judge_phrase(near).is_some()
            || end.ends_with(':') && words.take(3).any(|word| keys::judge(word) == Some(NameKind::Secret));
        announces.then(|| OpenName { name: tail.to_owned(), has_blank: false })
    }
}

/// Returns the length of the blanks and of the time, level and source that a logger writes at the start of a line:
/// `[ERROR] `, `2026-11-30T10:00:00Z INFO server: `, `12:00:01 | `.
pub(crate) fn log_prefix(line: &str) -> usize {
    const MOST_WORDS: usize = 6;
    const LONGEST_WORD: usize = 40;
    #[rustfmt::skip]
    const LEVELS: [&str; 14] = [
        "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "TRACE", "FATAL", "CRITICAL", "NOTICE", "ERR", "E", "W", "I", "D",
    ];
    let mut length = line.len() - line.trim_start_matches([' ', '\t']).len();
    for _ in 0..MOST_WORDS {
        let rest = line.get(length..).unwrap_or_default();
        let word = match rest.find(if rest.starts_with('[') { ']' } else { ' ' }) {
            Some(end) if rest.starts_with('[') => rest.get(..=end).unwrap_or_default(),
            Some(end) => rest.get(..end).unwrap_or_default(),
            None => break,
        };
        let after = rest.get(word.len()..).unwrap_or_default();
        let after = after.strip_prefix(':').unwrap_or(after);
        let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
        let level = word.trim_end_matches(':');
        let is_time = || {
            word.starts_with(|c: char| c.is_ascii_digit())
                && word.bytes().all(|byte| byte.is_ascii_digit() || b"-:.,/+TZ".contains(&byte))
                && word.contains([':', '-', '/'])
        };
        let is_prefix = word.starts_with('[') && word.len() > 2
            || LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
            || matches!(word, "|" | ">" | "-")
            || is_time();
        if !is_prefix || blanks == 0 || word.len() > LONGEST_WORD {
            break;
        }
        length = line.len() - after.len() + blanks;
    }
    length
}

impl PairScanner<'_> {
    /// Returns true if the line ends at `index` and the next line is indented and is not a list or a pair.
    pub(super) fn is_indented(&self, index: usize) -> bool {
        let blanks = self.skip_blanks(index);
        let mut next = blanks;
        while self.line_end(next) > 0 {
            next += self.line_end(next);
        }
        let word = self.skip_blanks(next);
        let rest = self.bytes.get(word..).unwrap_or_default();
        let name = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
        let is_pair = matches!(rest.get(name..), Some([b':', b' ' | b'\n' | b'\r' | b'\\', ..] | [b':']));
        next > blanks && word > next && !is_pair && !matches!(rest, [b'-' | b'*' | b'#', b' ', ..])
    }

    /// Returns the start of the word that is alone on the next line and looks random, if the line ends at `index`. A
    /// blank line may be between them, and the prefix of a logger before the word.
    pub(super) fn lone_value(&self, index: usize) -> Option<usize> {
        const LONGEST: usize = 256;
        let mut start = self.skip_blanks(index);
        let mut lines = 0;
        while self.line_end(start) > 0 && lines < 2 {
            start = self.skip_blanks(start + self.line_end(start));
            lines += 1;
        }
        if lines == 0 {
            return None;
        }
        let rest = self.bytes.get(start..self.bytes.len().min(start + LONGEST)).unwrap_or_default();
        let length = (0..rest.len()).find(|at| self.is_break(start + at)).unwrap_or(rest.len());
        let line = self.slice(start, start + length).trim_end();
        let prefix = log_prefix(line);
        looks::is_random_short(line.get(prefix..).unwrap_or_default()).then_some(start + prefix)
    }

    /// Returns true if only blanks, a dash or `export` are before `start` on its line.
    pub(super) fn starts_line(&self, start: usize) -> bool {
        let window = self.slice(self.text.floor_char_boundary(start.saturating_sub(40)), start);
        let line = window.rsplit(['\n', '\r']).next().unwrap_or_default();
        let line = line.rsplit("\\u{a}").next().unwrap_or_default();
        line.len() < 40
            && matches!(line.trim(), "" | "-" | "export" | "set" | "ENV" | "ARG" | "$env:" | "declare -x")
    }
}
