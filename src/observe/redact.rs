//! The only way from an outside string into an event.
//!
//! A [`Redacted`] can be made by a [`Redactor`] alone, and an event holds no other text. Every sink
//! thus gets values that have been cleaned once, by one definition.
//!
//! The order: terminal sequences and invisible characters out, control characters made visible (so that
//! the rules see what a reader sees), private keys, URLs, vendor tokens, pairs of name and value, personal
//! data, the user's patterns, and only then the cut to the field's limit: a token that is cut first is no
//! longer recognised, and half of it stays. The rules are applied until they find nothing more, so that
//! cleaning a clean text changes nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

mod detect;
mod placeholder;
mod policy;
mod sanitize;

pub use detect::pii::PiiClass;
pub use policy::{Mode, Pattern, Problem, RevealedField, Settings};

use crate::observe::canonical::{self, HashKey};
use detect::matches::Matches;
use detect::{entropy, pairs, pem, pii, rules, tokens, url, values};
use policy::Compiled;
use sanitize::{Keep, Limit};

/// Text that has passed the redactor: secrets replaced, control characters made visible, cut to the
/// limit of its [`Field`]. Cloned without a copy: the same names and ids stand in many events.
///
/// Nobody else can make one:
///
/// ```compile_fail,E0423
/// let forged = spantap::observe::redact::Redacted("as it came".into());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Redacted(Arc<str>);

impl Redacted {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a text is, which decides its limit and how it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Tool, prompt, method, peer and server names, versions: 128 characters.
    Name,
    /// Request, call, conversation, turn, session and user ids: 128 characters.
    Id,
    /// `user_id`: like [`Field::Id`], and hashed where it looks like personal data.
    UserId,
    /// A resource URI: 500 characters; user info, sensitive query and fragment values replaced.
    Uri,
    /// `error_message` and notification texts: 500 characters.
    Message,
    /// `result_summary`: 200 characters.
    Summary,
    /// One line of stderr: 8 KiB.
    StderrLine,
    /// `tracestate`: 512 characters.
    TraceState,
}

impl Field {
    fn limit(self) -> Limit {
        match self {
            Field::Name | Field::Id | Field::UserId => Limit::Characters(128),
            Field::Uri | Field::Message => Limit::Characters(500),
            Field::Summary => Limit::Characters(200),
            Field::StderrLine => Limit::Bytes(8 << 10),
            Field::TraceState => Limit::Characters(512),
        }
    }

    /// Texts that people write, in which anything may stand.
    fn is_free_text(self) -> bool {
        matches!(self, Field::Message | Field::Summary | Field::StderrLine)
    }

    fn revealed_by(self) -> Option<RevealedField> {
        match self {
            Field::Message => Some(RevealedField::ErrorMessage),
            Field::Summary => Some(RevealedField::ResultSummary),
            Field::StderrLine => Some(RevealedField::ServerStderr),
            Field::Uri => Some(RevealedField::ResourceUri),
            Field::UserId => Some(RevealedField::UserId),
            Field::Name | Field::Id | Field::TraceState => None,
        }
    }
}

/// Whether a private key is being printed, at some line of stderr: for those who keep the last lines and
/// clean them later, when the key's first line is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyLines(pem::Lines);

impl KeyLines {
    /// Takes the next line, as it is.
    pub fn next(&mut self, line: &[u8]) {
        self.0.next(line);
    }
}

/// One thing that was replaced, for those who try rules out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule that found it, or the name of a user's pattern.
    pub rule: &'static str,
    pub class: &'static str,
    /// Tool and rule that a vendor token's rule follows.
    pub anchor: Option<&'static str>,
    /// Where its placeholder starts in the result, in bytes.
    pub at: usize,
    /// How long it was, in bytes.
    pub length: usize,
}

/// One rule for vendor tokens, as `spantap redact --rules` lists it.
#[derive(Clone, Copy, Debug)]
pub struct RuleInfo {
    pub name: &'static str,
    pub class: &'static str,
    /// Tool and rule (or vendor) that it follows.
    pub anchor: &'static str,
    /// A made-up token that it finds.
    pub sample: &'static str,
}

/// All rules for vendor tokens.
pub fn rules() -> impl Iterator<Item = RuleInfo> {
    rules::RULES.iter().map(|rule| RuleInfo {
        name: rule.name,
        class: rule.class,
        anchor: rule.anchor,
        sample: rule.sample,
    })
}

/// Cleans outside strings. Costs nothing until used: what needs compiling is compiled when first
/// needed, which is on the observer's thread.
#[derive(Debug)]
pub struct Redactor {
    rules: Compiled,
    /// For user ids that are personal data.
    hash_key: Option<HashKey>,
    lines: pem::Lines,
    counts: BTreeMap<&'static str, u32>,
}

impl Default for Redactor {
    fn default() -> Redactor {
        Redactor::new(&Settings::default())
    }
}

impl Redactor {
    /// A redactor with these settings, or, where one of them cannot be applied, [`Redactor::closed`]:
    /// ask [`Settings::check`] first.
    pub fn new(settings: &Settings) -> Redactor {
        Redactor::try_new(settings).unwrap_or_else(|_| Redactor::closed())
    }

    /// A redactor with these settings.
    ///
    /// # Errors
    /// The first setting that cannot be applied.
    pub fn try_new(settings: &Settings) -> Result<Redactor, Problem> {
        Compiled::new(settings).map(Redactor::with)
    }

    /// The redactor for when the settings are not known: strict, and thus without any free text.
    pub fn closed() -> Redactor {
        Redactor::with(Compiled::closed())
    }

    fn with(rules: Compiled) -> Redactor {
        Redactor { rules, hash_key: None, lines: pem::Lines::default(), counts: BTreeMap::new() }
    }

    /// Lets user ids that are personal data be hashed with the installation's key instead of hidden.
    pub fn set_hash_key(&mut self, key: HashKey) {
        self.hash_key = Some(key);
    }

    /// Cleans `text` (any bytes; invalid UTF-8 becomes U+FFFD) for `field`. Never fails and never
    /// panics; the result is at most the field's limit plus a note of how much was cut.
    ///
    /// Lines of stderr are to be given in their order: a private key may span several.
    pub fn redact(&mut self, field: Field, text: &[u8]) -> Redacted {
        let is_plain_name = field != Field::StderrLine
            && !(field.is_free_text() && self.rules.mode == Mode::Strict)
            && !(self.rules.mode == Mode::Strict && text.len() >= 20)
            && self.rules.patterns.is_empty()
            && self.rules.pii.iter().all(|class| PiiClass::STANDARD.contains(class))
            && is_harmless(text);
        if is_plain_name && let Ok(text) = std::str::from_utf8(text) {
            return Redacted(text.into());
        }
        // Whatever is shown comes from this window; a big text is not looked at as a whole.
        const BEYOND_LIMIT: usize = 4 << 10;
        let window = field.limit().number().saturating_mul(4).min(16 << 10) + BEYOND_LIMIT;
        let head = text.get(..window).unwrap_or(text);
        let lossy = String::from_utf8_lossy(head);
        let unseen = text.len() - head.len();
        let head = if unseen > 0 { whole_words(&lossy) } else { &lossy };
        let unseen = unseen + lossy.len() - head.len();
        Redacted(self.clean(field, head, unseen).into())
    }

    /// Goes on with lines of stderr from where `state` stands.
    pub fn resume(&mut self, state: KeyLines) {
        self.lines = state.0;
    }

    fn replace_all(&mut self, class: &'static str) -> Redacted {
        *self.counts.entry(class).or_default() += 1;
        let mut text = String::new();
        self.rules.placeholder.write(class, &mut text);
        Redacted(text.into())
    }

    /// Cleans a text of any length, of which lines stay lines, without cutting it, and says what was
    /// found. Pieces of one text are to be given in their order. For `spantap redact`.
    pub fn explain(&mut self, text: &[u8]) -> (Redacted, Vec<Finding>) {
        let text = String::from_utf8_lossy(text);
        let mut findings = Vec::new();
        let cleaned = self.clean_key_lines(&text, Keep::TabsAndLines, &mut findings).into_owned();
        (Redacted(cleaned.into()), findings)
    }

    /// Applies all rules to the next piece of a text in which a private key may go on from the last piece.
    fn clean_key_lines<'a>(
        &mut self,
        text: &'a str,
        keep: Keep,
        findings: &mut Vec<Finding>,
    ) -> Cow<'a, str> {
        match self.lines.next(text.as_bytes()) {
            pem::Line::Outside => self.rewrite(text, keep, findings),
            pem::Line::Inside => Cow::Owned(self.hide_key_line(findings, text.len())),
            pem::Line::Ends(end) => {
                let mut cleaned = self.hide_key_line(findings, end);
                let mut more = Vec::new();
                let rest = self.rewrite(text.get(end..).unwrap_or_default(), keep, &mut more);
                findings
                    .extend(more.into_iter().map(|found| Finding { at: found.at + cleaned.len(), ..found }));
                cleaned.push_str(&rest);
                Cow::Owned(cleaned)
            }
        }
    }

    fn hide_key_line(&mut self, findings: &mut Vec<Finding>, length: usize) -> String {
        let mut text = String::new();
        self.rules.placeholder.write("private_key", &mut text);
        findings.push(Finding { rule: "private-key", class: "private_key", anchor: None, at: 0, length });
        *self.counts.entry("private_key").or_default() += 1;
        text
    }

    /// What has been replaced since the last call, by class.
    pub fn take_counts(&mut self) -> BTreeMap<&'static str, u32> {
        std::mem::take(&mut self.counts)
    }

    fn clean(&mut self, field: Field, text: &str, unseen: usize) -> String {
        let keep = if field.is_free_text() { Keep::Tabs } else { Keep::Nothing };
        if field.revealed_by().is_some_and(|field| self.rules.reveal.contains(&field)) {
            let plain = sanitize::plain(text, keep, &[]);
            return cut(&plain.spelled_out.unwrap_or(plain.seen.into_owned()), field.limit(), unseen, None);
        }
        let (text, note) = if unseen == 0 { sanitize::split_note(text) } else { (text, "") };
        if self.rules.mode == Mode::Strict && field.is_free_text() {
            let all = text.len() + unseen;
            return if all == 0 { note.to_owned() } else { sanitize::note(all) };
        }
        let mut findings = Vec::new();
        let mut cleaned = match field {
            Field::StderrLine => self.clean_key_lines(text, keep, &mut findings),
            _ => self.rewrite(text, keep, &mut findings),
        };
        if field == Field::UserId
            && let Some(key) = &self.hash_key
            && findings.iter().any(|finding| pii_classes().any(|class| class == finding.class))
        {
            return canonical::text_hash(key, text.as_bytes()).to_string();
        }
        if unseen == 0 && field.limit().fitting(&cleaned) == cleaned.len() {
            return if note.is_empty() { cleaned.into_owned() } else { cleaned.into_owned() + note };
        }
        // A cut may part a name from its value, or a quote from the other: the rules look once more.
        for _ in 0..Redactor::MOST_ROUNDS {
            let shown = cut(&cleaned, field.limit(), unseen, Some(&self.rules.placeholder));
            let (body, note) = sanitize::split_note(&shown);
            let again = self.apply(body.to_owned(), &mut findings);
            if again == body {
                return again + note;
            }
            cleaned = Cow::Owned(again);
        }
        self.replace_all("unchecked").as_str().to_owned()
    }

    /// Applies all rules to a text of any length.
    fn rewrite<'a>(&mut self, text: &'a str, keep: Keep, findings: &mut Vec<Finding>) -> Cow<'a, str> {
        let mut decoded = decode_json_escapes(text);
        // A sequence that begins right before a secret may end with its first letter: the rules look at
        // such a text once more as it is.
        let mut found = Vec::new();
        if sanitize::may_hold_sequences(&decoded) {
            decoded = Cow::Owned(self.apply(decoded.into_owned(), &mut found));
            found.sort_by_key(|finding| finding.at);
        }
        let places: Vec<usize> = found.iter().map(|finding| finding.at).collect();
        let plain = sanitize::plain(&decoded, keep, &places);
        for (finding, (seen, _)) in found.iter_mut().zip(&plain.places) {
            finding.at = *seen;
        }
        findings.append(&mut found);
        let Some(spelled_out) = plain.spelled_out else {
            return match plain.seen {
                Cow::Borrowed(seen) if seen.len() == text.len() && !self.would_change(seen) => {
                    Cow::Borrowed(text)
                }
                seen => Cow::Owned(self.apply(seen.into_owned(), findings)),
            };
        };
        // Invisible characters are shown, unless they hid a secret: then they are gone with it.
        let before = findings.len();
        let cleaned = self.apply(plain.seen.into_owned(), findings);
        if findings.len() > before {
            return Cow::Owned(cleaned);
        }
        let first = before - plain.places.len();
        for (finding, (_, spelled_out)) in findings.iter_mut().skip(first).zip(&plain.places) {
            finding.at = *spelled_out;
        }
        Cow::Owned(self.apply(spelled_out, findings))
    }

    fn would_change(&self, text: &str) -> bool {
        let mut marks = Matches::default();
        self.pass(text, &mut marks, Pass::ALL)
    }

    const MOST_ROUNDS: usize = 8;

    /// Applies the rules until they find nothing more.
    fn apply(&mut self, mut text: String, findings: &mut Vec<Finding>) -> String {
        let mut marks = Matches::default();
        for _ in 0..Redactor::MOST_ROUNDS {
            let mut changed = false;
            for pass in Pass::ALL {
                if self.pass(&text, &mut marks, &[*pass]) {
                    text = self.replace(&text, &marks, findings);
                    changed = true;
                }
            }
            if !changed {
                return text;
            }
        }
        // Nothing of the text is left, nor of the places of what was found in it.
        findings.iter_mut().for_each(|finding| finding.at = 0);
        findings.push(Finding {
            rule: "unchecked",
            class: "unchecked",
            anchor: None,
            at: 0,
            length: text.len(),
        });
        self.replace_all("unchecked").as_str().to_owned()
    }

    /// Collects what the given passes find; stops at the first that finds something.
    fn pass(&self, text: &str, marks: &mut Matches, passes: &[Pass]) -> bool {
        let rules = &self.rules;
        passes.iter().any(|pass| {
            marks.clear();
            match pass {
                Pass::PrivateKeys => pem::find(text, marks),
                Pass::Urls => url::find(text, marks),
                Pass::Tokens => tokens::find(text, marks),
                Pass::Pairs => pairs::find(text, &rules.keys, &rules.placeholder, marks),
                Pass::PersonalData => pii::find(text, &rules.pii, marks),
                Pass::OwnPatterns => self.own_patterns(text, marks),
                Pass::Entropy if rules.mode == Mode::Strict => entropy::find(text, marks),
                Pass::Entropy => {}
            }
            // A secret that is coloured in part goes on behind the sequence.
            if !marks.is_empty() && sanitize::may_hold_sequences(text) {
                marks.widen(text.as_bytes(), &sanitize::sequences(text));
            }
            marks.retain(|mark| {
                text.get(mark.start..mark.end).is_none_or(|found| {
                    !rules.placeholder.is_whole(found)
                        && !rules.allow_values.iter().any(|allowed| allowed.is_match(found.as_bytes()))
                })
            });
            !marks.is_empty()
        })
    }

    fn own_patterns(&self, text: &str, marks: &mut Matches) {
        for pattern in &self.rules.patterns {
            for found in pattern.regex.captures_iter(text.as_bytes()) {
                if let Some(group) = found.get(pattern.group) {
                    // An expression over bytes may stop within a character.
                    let start = sanitize::floor_char_boundary(text, group.start());
                    let end = (group.end()..=text.len())
                        .find(|&end| text.is_char_boundary(end))
                        .unwrap_or(text.len());
                    marks.push(start, end, pattern.name, pattern.name);
                }
            }
        }
        marks.settle();
    }

    fn replace(&mut self, text: &str, marks: &Matches, findings: &mut Vec<Finding>) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut done = 0;
        let earlier = findings.len();
        for mark in marks.iter() {
            replaced.push_str(text.get(done..mark.start).unwrap_or_default());
            let at = replaced.len();
            self.rules.placeholder.write(mark.class, &mut replaced);
            // What was found before moves with the text behind it, or is part of what is found now.
            let (grown, gone) = (replaced.len() - at, mark.end - mark.start);
            for finding in findings.iter_mut().take(earlier) {
                if finding.at >= at + gone {
                    finding.at = finding.at + grown - gone;
                } else if finding.at > at {
                    finding.at = at;
                }
            }
            let anchor = rules::RULES.iter().find(|rule| rule.name == mark.rule).map(|rule| rule.anchor);
            findings.push(Finding {
                rule: mark.rule,
                class: mark.class,
                anchor,
                at,
                length: mark.end - mark.start,
            });
            *self.counts.entry(mark.class).or_default() += 1;
            done = mark.end;
        }
        replaced.push_str(text.get(done..).unwrap_or_default());
        replaced
    }
}

/// Which rules are applied, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    PrivateKeys,
    Urls,
    Tokens,
    Pairs,
    PersonalData,
    OwnPatterns,
    Entropy,
}

impl Pass {
    const ALL: &[Pass] = &[
        Pass::PrivateKeys,
        Pass::Urls,
        Pass::Tokens,
        Pass::Pairs,
        Pass::PersonalData,
        Pass::OwnPatterns,
        Pass::Entropy,
    ];
}

fn pii_classes() -> impl Iterator<Item = &'static str> {
    [PiiClass::Email, PiiClass::Card, PiiClass::Iban, PiiClass::Ssn, PiiClass::Phone, PiiClass::Ip]
        .into_iter()
        .map(PiiClass::name)
}

/// Whether a text is too plain to hold a pair, a URL or personal data, and no token: most names are.
fn is_harmless(text: &[u8]) -> bool {
    let is_plain = text.len() <= 128
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/' | b'-' | b'.'))
        && text.iter().filter(|byte| byte.is_ascii_digit()).count() < 8;
    is_plain && {
        let mut marks = Matches::default();
        std::str::from_utf8(text).is_ok_and(|text| {
            tokens::find(text, &mut marks);
            marks.is_empty()
        })
    }
}

/// A text that was cut off somewhere, without its last word, since what touches the cut may be half a
/// secret. To be applied to every window before it is redacted: what is shown may come from its end, where
/// much before it was taken out.
pub fn whole_words(window: &str) -> &str {
    let keep = sanitize::floor_char_boundary(window, length_of_whole_words(window.as_bytes()));
    window.get(..keep).unwrap_or(window)
}

/// [`whole_words`] of bytes, as a length. A run without blanks loses 2 KiB: no rule needs more than that to
/// see what it is.
pub fn length_of_whole_words(window: &[u8]) -> usize {
    const MOST: usize = 2 << 10;
    let from = window.len().saturating_sub(MOST);
    let tail = window.get(from..).unwrap_or_default();
    from + memchr::memrchr3(b' ', b'\n', b'\t', tail).unwrap_or(0)
}

/// JSON that spells letters as `\u0070` is read as the letters it means.
fn decode_json_escapes(text: &str) -> Cow<'_, str> {
    if !text.trim_start().starts_with(['{', '[']) || memchr::memmem::find(text.as_bytes(), b"\\u00").is_none()
    {
        return Cow::Borrowed(text);
    }
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => Cow::Owned(value.to_string()),
        Err(_) => Cow::Borrowed(text),
    }
}

/// Cuts `text` to `limit` and says how many bytes are not shown. A placeholder is kept whole or left out.
fn cut(text: &str, limit: Limit, unseen: usize, placeholder: Option<&placeholder::Placeholder>) -> String {
    let mut keep = limit.fitting(text);
    if keep < text.len()
        && let Some(start) = placeholder.and_then(|placeholder| placeholder.across(text, keep))
    {
        keep = start;
    }
    // Nor is a visible escape parted.
    let shown = text.get(..keep).unwrap_or(text);
    let shown = match shown.rfind("\\u{") {
        Some(start) if keep < text.len() && !shown.get(start..).unwrap_or_default().contains('}') => {
            shown.get(..start).unwrap_or(shown)
        }
        _ => shown,
    };
    let left_out = text.len() - shown.len() + unseen;
    if left_out == 0 { shown.to_owned() } else { shown.to_owned() + &sanitize::note(left_out) }
}
