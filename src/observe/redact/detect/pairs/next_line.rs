//! A name at the end of a line and its value on the next.

use crate::observe::redact::detect::looks;
use crate::observe::redact::detect::pairs::{NameKind, PairScanner, is_name_byte, is_quote, keys};

/// Returns the end of a line of stderr if it is a name without its value: `secret_key: >-`, `"password":`,
/// `Enter API key:`, or a name on a line of its own. `open` is what this function returned for the line before.
pub(crate) fn open_name(open: Option<&str>, line: &str) -> Option<String> {
    const LONGEST: usize = 160;
    let end = line.trim_end();
    let is_operator =
        |c: char| matches!(c, ':' | '=' | '>' | '|' | '-' | '+' | '[' | ']' | '{' | '"' | '\'' | ' ');
    let is_block = |name: &str| name.ends_with(['|', '>']) || name.ends_with("|-") || name.ends_with(">-");
    if let Some(open) = open {
        let goes_on = !end.is_empty() && end.chars().all(is_operator)
            || is_block(open) && line.starts_with([' ', '\t']);
        if goes_on {
            return Some(if is_block(open) { open.to_owned() } else { format!("{open} {end}") })
                .filter(|open| open.len() < LONGEST);
        }
    }
    let name = end.trim_end_matches(is_operator);
    let is_alone =
        name.len() >= 3 && name.trim_start().bytes().all(|byte| is_name_byte(byte) || is_quote(byte));
    // `- name: API_TOKEN`
    let is_named = end.len() <= 80 && ["name: ", "key: ", "field: "].iter().any(|field| end.contains(field));
    if name.len() == end.len() && !is_alone && !is_named || end.len() - name.len() > 8 {
        return None;
    }
    let tail = line.get(line.ceil_char_boundary(line.len().saturating_sub(LONGEST))..).unwrap_or_default();
    let near = name.get(name.ceil_char_boundary(name.len().saturating_sub(48))..).unwrap_or_default();
    let mut words = near.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')));
    let announces = words.next().is_some_and(|word| keys::judge(word).is_some())
        || keys::judge_phrase(near).is_some()
        || end.ends_with(':') && words.take(3).any(|word| keys::judge(word) == Some(NameKind::Secret));
    announces.then(|| tail.to_owned())
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

    /// Returns true if the line ends at `index`, and the next line is one word that looks random.
    pub(super) fn is_lone_value(&self, index: usize) -> bool {
        const LONGEST: usize = 256;
        let blanks = self.skip_blanks(index);
        if self.line_end(blanks) == 0 {
            return false;
        }
        let start = self.skip_blanks(blanks + self.line_end(blanks));
        let rest = self.bytes.get(start..self.bytes.len().min(start + LONGEST)).unwrap_or_default();
        let length = (0..rest.len()).find(|at| self.is_break(start + at)).unwrap_or(rest.len());
        looks::is_random_short(self.slice(start, start + length).trim_end())
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
