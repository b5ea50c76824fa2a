//! Secrets that a text announces from afar: by the head of a table, by the line before, or earlier in a sentence.
//!
//! A value counts only if it looks random, because the announcement is weaker than a name and an operator.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::keys::{self, NameKind};
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::pairs::KeyRules;
use crate::observe::redact::detect::pairs::next_line::log_prefix;
use crate::observe::redact::detect::word_list::WordList;
use crate::observe::redact::detect::{harmless, labels, looks, runs};
use crate::observe::redact::placeholder::Placeholder;

/// Matches every such secret in `text`.
pub(crate) fn find(text: &str, rules: &KeyRules, placeholder: &Placeholder, matches: &mut Matches) {
    if !text.bytes().any(|byte| byte.is_ascii_whitespace() || !byte.is_ascii()) {
        return;
    }
    let mut columns = Columns::default();
    let mut label = Label::default();
    let mut at = 0;
    for line in lines(text) {
        let length = line.len();
        let line = line.strip_suffix("\\u{a}").unwrap_or(line).trim_end();
        let mut push = |start: usize, value: &str, rule: &'static str| {
            if !placeholder.is_whole(value) {
                matches.push(at + start, at + start + value.len(), KnownClass::KeyValue, rule);
            }
        };
        columns.next(line, rules, &mut push);
        label.next(line, rules, &mut push);
        find_in_sentence(line, rules, &mut push);
        at += length;
    }
    find_inserts(text, rules, placeholder, matches);
    matches.settle();
}

/// Splits a text after each line end, real or made visible.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let end = memchr::memchr2_iter(b'\n', b'\\', bytes).find_map(|at| match bytes.get(at..) {
            Some([b'\n', ..]) => Some(at + 1),
            Some([b'\\', b'u', b'{', b'a', b'}', ..]) => Some(at + 5),
            _ => None,
        });
        let (line, next) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        rest = next;
        (!line.is_empty()).then_some(line)
    })
}

/// Returns true if a value looks random: a password of letters, digits and more, or 20 hexadecimal digits.
pub(super) fn is_value(value: &str) -> bool {
    let has = |test: fn(&u8) -> bool| value.bytes().any(|byte| test(&byte));
    let changes = || {
        value.as_bytes().windows(2).filter(|pair| {
            matches!(pair, [a, b] if a.is_ascii_digit() != b.is_ascii_digit() || a.is_ascii_uppercase() != b.is_ascii_uppercase())
        })
    };
    let is_hex = || value.len() >= 20 && !value.contains('-');
    let is_odd = || has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && changes().count() >= 4;
    // `2026-11-28T10:00:00Z`, `sha256:9f86…`
    let is_fact = || {
        value.starts_with("20") && value.as_bytes().get(4) == Some(&b'-')
            || ["sha", "md5", "v1:", "urn:", "arn:"].iter().any(|start| value.starts_with(start))
                && value.contains(':')
    };
    looks::is_mixed(value)
        && value.is_ascii()
        && !value.contains(['(', '<', '{', '[', ' '])
        && !is_fact()
        && (!looks::is_wordy(value) && (!looks::is_digest(value) || is_hex()) || is_odd())
        && !value.contains("://")
        && !looks::is_path(value)
        && !harmless::is_reference(value)
}

fn is_name(word: &str, rules: &KeyRules) -> bool {
    (rules.is_secret(word) || keys::is_phrase(word) && !rules.allows(word))
        && !word.eq_ignore_ascii_case("pat")
}

/// The columns of a table whose heads name a secret.
#[derive(Default)]
struct Columns {
    separator: Option<CellSeparator>,
    count: usize,
    secret: Vec<usize>,
}

#[derive(Clone, Copy)]
enum CellSeparator {
    Bar,
    Box,
    Tab,
    Comma,
    Blanks,
}

impl CellSeparator {
    fn of(line: &str) -> Option<CellSeparator> {
        match () {
            () if line.contains('|') => Some(CellSeparator::Bar),
            () if line.contains('│') => Some(CellSeparator::Box),
            () if line.contains('\t') => Some(CellSeparator::Tab),
            () if line.contains("  ") => Some(CellSeparator::Blanks),
            () if line.contains(',') => Some(CellSeparator::Comma),
            () => None,
        }
    }

    fn cells(self, line: &str) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            CellSeparator::Bar => Box::new(line.split('|')),
            CellSeparator::Box => Box::new(line.split('│')),
            CellSeparator::Tab => Box::new(line.split('\t')),
            CellSeparator::Comma => Box::new(line.split(',')),
            CellSeparator::Blanks => {
                Box::new(line.trim_start().split("  ").filter(|cell| !cell.trim().is_empty()))
            }
        }
    }
}

impl Columns {
    const MOST: usize = 64;

    /// Reads the next line: a head, a row, a border or the end of a table.
    fn next<'a>(
        &mut self,
        line: &'a str,
        rules: &KeyRules,
        push: &mut impl FnMut(usize, &'a str, &'static str),
    ) {
        if line.chars().all(|c| {
            matches!(
                c,
                '-' | '+' | '|' | '=' | ' ' | ':' | '─' | '┼' | '├' | '┤' | '│' | '═' | '╪' | '╞' | '╡'
            )
        }) && !line.is_empty()
        {
            return;
        }
        if let Some(separator) = self.separator
            && separator.cells(line).count() == self.count
        {
            for cell in self.secret.iter().filter_map(|index| separator.cells(line).nth(*index)) {
                let value = cell.trim().trim_matches(['"', '\'']);
                if is_value(value) || looks::is_password_like(value) {
                    push(value.as_ptr() as usize - line.as_ptr() as usize, value, "table-cell");
                }
            }
            return;
        }
        *self = Columns::head(line, rules);
    }

    /// Reads a head: two or more names, of which one is that of a secret.
    fn head(line: &str, rules: &KeyRules) -> Columns {
        let Some(separator) = CellSeparator::of(line).filter(|_| line.len() <= 400) else {
            return Columns::default();
        };
        let is_head = |cell: &str| {
            let cell = cell.trim().trim_matches(['"', '\'']);
            cell.len() <= 40
                && cell.split(' ').count() <= 3
                && !cell.contains(['=', ':', '(', '{', '/', '"', ';'])
        };
        let cells: Vec<&str> = separator.cells(line).take(Columns::MOST).collect();
        if cells.len() < 2 || !cells.iter().all(|cell| is_head(cell)) {
            return Columns::default();
        }
        let is_secret = |cell: &str| is_name(cell.trim().trim_matches(['"', '\'']), rules);
        let secret: Vec<usize> =
            (0..cells.len()).filter(|index| cells.get(*index).is_some_and(|cell| is_secret(cell))).collect();
        match secret.is_empty() {
            true => Columns::default(),
            false => Columns { separator: Some(separator), count: cells.len(), secret },
        }
    }
}

/// A line that announces a secret, with a blank line or nothing between it and the value.
#[derive(Default)]
struct Label {
    is_open: bool,
    blanks: usize,
}

impl Label {
    fn next<'a>(
        &mut self,
        line: &'a str,
        rules: &KeyRules,
        push: &mut impl FnMut(usize, &'a str, &'static str),
    ) {
        let value = line.get(log_prefix(line)..).unwrap_or_default().trim();
        // A fence or a rule of Markdown is like a blank line.
        if value.is_empty() || value.bytes().all(|byte| matches!(byte, b'`' | b'-' | b'=' | b'~')) {
            self.blanks += usize::from(value.is_empty());
            self.is_open &= self.blanks < 2;
            return;
        }
        if self.is_open
            && !value.contains(' ')
            && value.len() <= 256
            && (is_value(value) || looks::is_password_like(value))
        {
            push(line.len() - value.len(), value, "value-after-label");
        }
        self.blanks = 0;
        self.is_open = (value.ends_with([':', '：'])
            || value.len() <= 32 && !value.contains(['=', ':', '.']))
            && value.len() <= 200
            && last_name(value, value.split_whitespace().count(), rules).is_some();
    }
}

/// Words that end the announcement of a value in a sentence.
#[rustfmt::skip]
static VERBS: WordList = WordList::new(&[
    "is", "was", "are", "to", "ist", "lautet", "war", "est", "était", "es", "era", "è", "é", "är", "er", "jest", "je", "to:",
    "is:", "ist:", "est:", "es:", "=", "—", "–", "это", "то", "adalah", "là",
]);

/// Words that say that a value is a fact about a secret.
#[rustfmt::skip]
static FACTS: WordList = WordList::new(&[
    "id", "name", "file", "path", "type", "length", "hash", "digest", "checksum", "fingerprint", "version", "public",
    "commit", "url", "uri", "count", "manager", "expires", "expiry", "kid", "arn", "sha", "sha256", "algorithm", "size", "not",
]);

/// Words before a colon that say that the value after it is new.
const MADE: [&str; 7] = [" created", " generated", " issued", " received", " made", " ok", " is now"];

/// Returns true if a sentence reports a failure, whose details follow its colon.
fn has_failed(sentence: &str) -> bool {
    const FAILURES: [&str; 9] =
        ["fail", "error", "invalid", "expired", "not ", "cannot", "denied", "refresh", "reject"];
    let sentence = sentence.to_lowercase();
    FAILURES.iter().any(|word| sentence.contains(word))
}

/// Matches a value after the name of a secret, some words, and a verb or a colon.
fn find_in_sentence<'a>(
    line: &'a str,
    rules: &KeyRules,
    push: &mut impl FnMut(usize, &'a str, &'static str),
) {
    const SHORTEST: usize = 6;
    const NEAR: usize = 96;
    const MOST_WORDS: usize = 9;
    const MOST_WORDS_BEFORE_COLON: usize = 6;
    let is_word = |word: &str| word.chars().all(char::is_alphabetic);
    let is_part = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>');
    for (start, end) in runs::long(line.as_bytes(), SHORTEST, is_part) {
        let word = line.get(start..end).unwrap_or_default();
        let value = word.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}']);
        if value.len() < SHORTEST || value.len() > 256 || !value.bytes().any(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let before = line.get(line.ceil_char_boundary(start.saturating_sub(NEAR))..start).unwrap_or_default();
        let before = before.trim_end_matches(['"', '\'', '`', '«', '“', '„', '‹', ' ', '\u{a0}']);
        let glued = !before.is_ascii()
            && ["是", "为", "為", "は", "：", "はこちら"].iter().any(|verb| before.ends_with(verb));
        let last = before.rsplit([' ', '\u{a0}']).next().unwrap_or_default();
        let is_verb = glued || before.ends_with(':') || VERBS.contains_any_case(last);
        let is_led = is_verb || keys::is_password(last);
        let after = after_lead(line.get(start + value.len()..).unwrap_or_default());
        let tail = line.get(start + value.len()..).unwrap_or_default();
        if tail.starts_with(" is your ") && is_code_before(value, tail) {
            push(start, value, "named-after");
            continue;
        }
        // The cheap checks come first.
        if !is_led && after.is_none() {
            continue;
        }
        let is_random = is_value(value);
        if !is_random && (!looks::is_password_like(value) || labels::is_algorithm(value)) {
            continue;
        }
        if after.is_some_and(|after| starts_with_name(after, is_random, rules)) {
            push(start, value, "named-after");
            continue;
        }
        if !(is_verb || is_random && is_word(last)) {
            continue;
        }
        let names = || match before.strip_suffix(':') {
            // `a password was made for root@localhost: V`
            Some(before) => last_name(before, MOST_WORDS_BEFORE_COLON, rules).filter(|name| {
                let is_made = MADE.iter().any(|word| before.ends_with(word));
                (keys::is_password(name) || is_made) && !before.ends_with(name) && !has_failed(before)
            }),
            None => last_name(before, MOST_WORDS, rules),
        };
        let fits = |name: &str| is_random || keys::is_password(name);
        if is_led && names().is_some_and(fits) {
            push(start, value, "announced-value");
        }
    }
}

/// Returns true for a code that a sentence names afterwards: `834920 is your verification code`.
fn is_code_before(value: &str, after: &str) -> bool {
    const NAMES: [&str; 5] = ["code", "OTP", "PIN", "passcode", "TAN"];
    let digits = value.strip_prefix("G-").unwrap_or(value);
    (4..=8).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && after
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .take(7)
            .any(|word| NAMES.contains(&word))
}

/// Returns the text after the words that lead from a value to its name: `use … as the root password`, `… is my password`.
fn after_lead(after: &str) -> Option<&str> {
    #[rustfmt::skip]
    const LEADS: [&str; 13] = [
        "is the ", "is my ", "is our ", "is your ", "is a ", "was the ", "was my ", "as the ", "as my ", "as ", "als ", "comme ", "como ",
    ];
    let after = after.trim_start_matches(['"', '\'', '`', '»', '”', '’', ',', ' ', '-', '—']);
    let lead = || LEADS.iter().find_map(|lead| after.strip_prefix(lead));
    after.starts_with(['i', 'w', 'a', 'c']).then(lead).flatten()
}

/// Returns true if the first words are the name of a secret.
fn starts_with_name(rest: &str, is_random: bool, rules: &KeyRules) -> bool {
    const MOST_WORDS: usize = 5;
    let mut words =
        rest.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).take(MOST_WORDS).peekable();
    while let Some(word) = words.next() {
        if keys::is_password(word) && !rules.allows(word) || is_random && is_name(word, rules) {
            return words.peek().is_none_or(|next| !FACTS.contains(next.as_bytes()));
        }
    }
    false
}

/// Returns the last of the last words of `text` that is the name of a secret, unless a word after it says that the
/// text is about a fact of the secret.
fn last_name<'a>(text: &'a str, most: usize, rules: &KeyRules) -> Option<&'a str> {
    let is_break = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '\''));
    // The ends of the words after the one that is looked at.
    let mut ends = [text.len(); 2];
    for word in text.rsplit(is_break).filter(|word| !word.is_empty()).take(most.min(12)) {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        let mut phrases = ends.iter().filter_map(|end| text.get(start..*end));
        if FACTS.contains_any_case(word) {
            return None;
        }
        if is_name(word, rules) && keys::judge(word) != Some(NameKind::Session)
            || phrases.any(keys::is_phrase) && !rules.allows(word)
        {
            return Some(word);
        }
        ends = [start + word.len(), ends[0]];
    }
    None
}

/// Matches the values of `INSERT INTO users (id, token) VALUES (1, '…')`.
fn find_inserts(text: &str, rules: &KeyRules, placeholder: &Placeholder, matches: &mut Matches) {
    const LONGEST: usize = 2048;
    for at in memchr::memmem::find_iter(text.as_bytes(), b"VALUES") {
        let head = text.get(text.ceil_char_boundary(at.saturating_sub(512))..at).unwrap_or_default();
        let Some((_, names)) = head.trim_end().strip_suffix(')').and_then(|head| head.rsplit_once('('))
        else {
            continue;
        };
        let rest =
            text.get(at + 6..text.floor_char_boundary((at + LONGEST).min(text.len()))).unwrap_or_default();
        for (name, value) in names.split(',').zip(rest.split(',')) {
            let name = name.trim().trim_matches(['"', '`', '[', ']']);
            let value = value.trim_matches([' ', '(', ')', ';', '\'', '"', '\n']);
            if is_name(name, rules) && is_value(value) && !placeholder.is_whole(value) {
                let start = value.as_ptr() as usize - text.as_ptr() as usize;
                matches.push(start, start + value.len(), KnownClass::KeyValue, "inserted-value");
            }
        }
    }
}
