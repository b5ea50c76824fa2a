//! The only way from an outside string into an event.
//!
//! A [`Redacted`] can be made by a [`Redactor`] alone, and an event holds no other text. So every sink
//! gets text that was redacted once, by one definition.
//!
//! A text passes these steps, in this order:
//!
//! ```text
//! window             the first few KiB, in whole words                    redact.rs
//! strict mode        free text: only its length is kept                   pipeline.rs
//! key lines          a private key from an earlier line of stderr         detect/pem.rs
//! open name          a name at the end of the last line of stderr         detect/pairs/next_line.rs
//! sanitize           terminal sequences and invisible characters are      sanitize.rs
//!                    removed, control characters become visible
//! detectors, until none finds anything more (at most 8 rounds):           pipeline.rs
//!   values by form
//!     private keys                                                        detect/pem.rs
//!     URLs           user info, webhook paths                             detect/url.rs
//!     vendor tokens  one scan for the starts of all rules                 detect/tokens.rs, rules.rs
//!     personal data                                                       detect/pii.rs, phones.rs
//!     other forms    prefixes that say what they are, keys, wallets       detect/forms.rs
//!     the user's     custom patterns                                      policy.rs
//!     entropy        strict mode only                                     detect/entropy.rs
//!   values by name   name, operator, value in any notation                detect/pairs.rs, keys.rs, values.rs
//!   values from afar the head of a table, the line before, a sentence    detect/announced.rs
//!   known texts      a secret in a fixed place of a known text           detect/shapes.rs
//!   unwrap           the same detectors read the text behind percent      unwrap.rs
//!                    signs, entities, backslashes, markup and base64;
//!                    a match is mapped back to the text as it came
//!                    every match becomes a placeholder                    placeholder.rs
//! cut                to the limit of the field; then the detectors again  pipeline.rs
//! ```
//!
//! The detectors run after sanitizing, so that they see what a reader sees. The cut comes last, because
//! half a token is not recognised any more. Redacting a redacted text changes nothing.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

mod class;
mod detect;
mod pipeline;
mod placeholder;
mod policy;
mod sanitize;
mod unwrap;

pub use class::{RedactionClass, RedactionCounts};
pub(crate) use detect::pem::KeyLines;
pub use detect::pii::PiiClass;
pub use policy::{CustomPattern, RedactionMode, RedactionProblem, RedactionSettings, RevealedField};

use crate::observe::canonical::HashKey;
use class::KnownClass;
use detect::matches::Matches;
use detect::pairs::next_line::OpenName;
use detect::{forms, looks, rules, tokens};
use pipeline::Pipeline;
use policy::CompiledRules;
use sanitize::{KeptControls, TextLimit};

/// Bytes of the longest body that is redacted.
pub const LONGEST_BODY: usize = 256 << 10;
/// Bytes of a redacted body that are kept.
pub const MOST_OF_BODY: usize = 64 << 10;

/// Text that has passed the redactor: secrets replaced, control characters made visible, cut to the
/// limit of its [`Field`]. Cloned without a copy, because many events contain the same names and ids.
///
/// Other code cannot make one:
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

/// The kind of a text. It decides the limit and the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Tool, prompt, method, peer and server names, versions: 128 characters.
    Name,
    /// Request, call, conversation, turn, session and user ids: 128 characters.
    Id,
    /// `user_id`: like [`Field::Id`], and hashed if it contains personal data.
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
    fn limit(self) -> TextLimit {
        match self {
            Field::Name | Field::Id | Field::UserId => TextLimit::Characters(128),
            Field::Uri | Field::Message => TextLimit::Characters(500),
            Field::Summary => TextLimit::Characters(200),
            Field::StderrLine => TextLimit::Bytes(8 << 10),
            Field::TraceState => TextLimit::Characters(512),
        }
    }

    /// Returns true for texts that people write and that may contain anything.
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

/// A text that was replaced, for `spantap redact`.
#[derive(Clone, Debug)]
pub struct Finding {
    pub class: RedactionClass,
    rule: Option<&'static str>,
    /// The start of the placeholder in the result, in bytes.
    pub at: usize,
    /// The length of the replaced text, in bytes.
    pub length: usize,
}

impl Finding {
    /// Returns the name of the rule, or of the user's pattern.
    pub fn rule(&self) -> &str {
        self.rule.unwrap_or(self.class.name())
    }

    /// Returns the tool and the rule that a rule for vendor tokens follows.
    pub fn anchor(&self) -> Option<&'static str> {
        rules::all().find(|rule| Some(rule.name) == self.rule).map(|rule| rule.anchor)
    }
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

/// Returns all rules for vendor tokens.
pub fn rules() -> impl Iterator<Item = RuleInfo> {
    rules::all().map(|rule| RuleInfo {
        name: rule.name,
        class: rule.class.as_str(),
        anchor: rule.anchor,
        sample: rule.sample,
    })
}

/// Redacts outside strings. It compiles a rule when a text first needs it, which is on the observer's
/// thread.
#[derive(Debug)]
pub struct Redactor {
    rules: CompiledRules,
    /// Key for user ids that contain personal data.
    hash_key: Option<HashKey>,
    key_lines: KeyLines,
    /// The end of the last line of stderr, if it is a name whose value may be on one of the next lines.
    open_name: Option<OpenName>,
    /// The latest names that were harmless, latest first. Names recur, and thousands of open requests share one text.
    names: VecDeque<Redacted>,
}

/// Number of harmless names that are remembered.
const MAX_NAMES: usize = 8;

impl Default for Redactor {
    fn default() -> Redactor {
        Redactor::new(&RedactionSettings::default())
    }
}

impl Redactor {
    /// Creates a redactor with these settings, or [`Redactor::closed`] if one of them cannot be applied.
    /// [`RedactionSettings::check`] returns the reason.
    pub fn new(settings: &RedactionSettings) -> Redactor {
        Redactor::try_new(settings).unwrap_or_else(|_| Redactor::closed())
    }

    /// Creates a redactor with these settings.
    ///
    /// # Errors
    /// If a setting cannot be applied.
    pub fn try_new(settings: &RedactionSettings) -> Result<Redactor, RedactionProblem> {
        CompiledRules::new(settings).map(Redactor::with)
    }

    /// Creates the redactor for unknown settings: strict, so that no free text is recorded.
    pub fn closed() -> Redactor {
        Redactor::with(CompiledRules::closed())
    }

    fn with(rules: CompiledRules) -> Redactor {
        Redactor {
            rules,
            hash_key: None,
            key_lines: KeyLines::default(),
            open_name: None,
            names: VecDeque::new(),
        }
    }

    /// Sets the installation's key. With it, a user id that contains personal data is hashed, not replaced.
    pub fn set_hash_key(&mut self, key: HashKey) {
        self.hash_key = Some(key);
    }

    /// Redacts `text` (any bytes; invalid UTF-8 becomes U+FFFD) for `field`. Never fails and never
    /// panics. The result has at most the field's limit, plus a note of how much was cut.
    ///
    /// The caller must give lines of stderr in their order, because a private key may span several.
    pub fn redact(&mut self, field: Field, text: &[u8]) -> Redacted {
        self.redact_with_findings(field, text).0
    }

    /// Does the same as [`Redactor::redact`] and adds to `counts` what was replaced.
    pub fn redact_counted(&mut self, field: Field, text: &[u8], counts: &mut RedactionCounts) -> Redacted {
        let (redacted, findings) = self.redact_with_findings(field, text);
        findings.into_iter().for_each(|finding| counts.add(finding.class));
        redacted
    }

    fn redact_with_findings(&mut self, field: Field, text: &[u8]) -> (Redacted, Vec<Finding>) {
        let is_name = field == Field::Name;
        if let Some(name) = self.names.iter().find(|name| is_name && name.as_str().as_bytes() == text) {
            return (name.clone(), Vec::new());
        }
        let is_strict = self.rules.mode == RedactionMode::Strict;
        let is_plain_name = field != Field::StderrLine
            && !(field.is_free_text() && is_strict)
            && !(is_strict && text.len() >= 20)
            && self.rules.patterns.is_empty()
            && self.rules.pii.iter().all(|class| PiiClass::STANDARD.contains(class))
            && is_harmless(text);
        if is_plain_name && let Ok(text) = std::str::from_utf8(text) {
            let redacted = Redacted(text.into());
            if is_name {
                self.names.truncate(MAX_NAMES - 1);
                self.names.push_front(redacted.clone());
            }
            return (redacted, Vec::new());
        }
        let text = if field == Field::StderrLine { without_line_end(text) } else { text };
        // The shown text comes from this window. A big text is not looked at as a whole.
        const BEYOND_LIMIT: usize = 4 << 10;
        let window = field.limit().number().saturating_mul(4).min(16 << 10) + BEYOND_LIMIT;
        let head = text.get(..window).unwrap_or(text);
        let lossy = lossy_text(head);
        let unseen = text.len() - head.len();
        let head = if unseen > 0 { whole_words(&lossy) } else { &lossy };
        let unseen = unseen + lossy.len() - head.len();
        let mut pipeline = Pipeline::new(&self.rules, self.hash_key.as_ref());
        let open = self.open_name.take().filter(|_| field == Field::StderrLine && !is_strict);
        let value = open.as_ref().and_then(|open| pipeline.value_of(&open.name, head));
        let head = value.as_deref().unwrap_or(head);
        let redacted = pipeline.field(field, head, unseen, &mut self.key_lines);
        if field == Field::StderrLine && !is_strict {
            self.open_name = OpenName::after(open, &redacted);
        }
        (Redacted(redacted.into()), pipeline.findings)
    }

    /// Continues with a line of stderr that comes after the lines that `state` has seen.
    pub(crate) fn resume(&mut self, state: KeyLines) {
        self.key_lines = state;
    }

    /// Redacts a text of any length without cutting it, keeps its lines, and returns what was found. The
    /// caller must give the pieces of one text in their order.
    pub fn explain(&mut self, text: &[u8]) -> (Redacted, Vec<Finding>) {
        let text = lossy_text(text);
        // The note of an earlier cut is not the value of a name before it.
        let (text, note) = sanitize::split_cut_note(&text);
        let mut pipeline = Pipeline::new(&self.rules, None);
        let redacted = pipeline.next_piece(text, KeptControls::TabsAndLines, &mut self.key_lines);
        let redacted = if note.is_empty() { redacted.into() } else { (redacted + note).into() };
        (Redacted(redacted), pipeline.findings)
    }

    /// Redacts a body, which is JSON text, and then cuts it to [`MOST_OF_BODY`] bytes, so that no half of a secret is
    /// left at the cut. Returns `None` in strict mode, which keeps no free text, and for a body of more than
    /// [`LONGEST_BODY`] bytes.
    pub fn body(&self, json: &[u8], counts: &mut RedactionCounts) -> Option<Redacted> {
        if self.rules.mode == RedactionMode::Strict || json.len() > LONGEST_BODY {
            return None;
        }
        let mut pipeline = Pipeline::new(&self.rules, None);
        let redacted = pipeline.body(&lossy_text(json), TextLimit::Bytes(MOST_OF_BODY));
        pipeline.findings.into_iter().for_each(|finding| counts.add(finding.class));
        Some(Redacted(redacted.into()))
    }

    fn placeholder(&self, class: KnownClass) -> Redacted {
        let mut text = String::new();
        self.rules.placeholder.write(class.as_str(), &mut text);
        Redacted(text.into())
    }
}

/// Returns a line without the CR that ends it. The caller split the text at LF.
fn without_line_end(line: &[u8]) -> &[u8] {
    line.get(..line.len() - line.iter().rev().take_while(|byte| **byte == b'\r').count()).unwrap_or(line)
}

/// Returns the text of `bytes`, with U+FFFD for what is not UTF-8. A valid text, which most are, is checked in words of
/// the machine.
fn lossy_text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Returns true if a text contains no token and is too plain for a pair, a URL or personal data. Most
/// names and counted ids are.
fn is_harmless(text: &[u8]) -> bool {
    /// Digits of the longest number that is never a personal one. Cards have 13.
    const LONGEST_NUMBER: usize = 12;
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits == text.len() && digits <= LONGEST_NUMBER {
        return true;
    }
    let is_plain = text.len() <= 128 && digits < 8 && text.iter().all(|byte| pipeline::is_of_word(*byte));
    is_plain && {
        let mut matches = Matches::default();
        std::str::from_utf8(text).is_ok_and(|text| {
            tokens::find(text, &mut matches);
            // A longer word may be a token of no known vendor, a key, or base64.
            matches.is_empty() && (text.len() < forms::SHORTEST || looks::is_wordy(text))
        })
    }
}

/// Returns a text that was cut off somewhere without its last word, which may be half a secret. Every window
/// must pass this before it is redacted: if much is replaced by little, the end of the window is shown.
pub(crate) fn whole_words(window: &str) -> &str {
    let end = window.floor_char_boundary(length_of_whole_words(window.as_bytes()));
    window.get(..end).unwrap_or(window)
}

/// Returns the length of [`whole_words`]. A run without blanks loses 2 KiB: no rule needs more than that
/// to recognise a secret. Groups of digits before the last word go with it, because they may be the start of a
/// number in groups (`FR81 1981 8820`), and so do short words, which may be the start of a recovery phrase.
pub(crate) fn length_of_whole_words(window: &[u8]) -> usize {
    const MOST: usize = 2 << 10;
    const GROUPS: usize = 10;
    const LONGEST_GROUP: usize = 6;
    let last_blank = |end: usize| {
        let from = end.saturating_sub(MOST);
        let tail = window.get(from..end).unwrap_or_default();
        from + memchr::memrchr3(b' ', b'\n', b'\t', tail).unwrap_or(0)
    };
    let mut end = last_blank(window.len());
    for _ in 0..GROUPS {
        let start = last_blank(end);
        let group = window.get(start..end).unwrap_or_default();
        if group.len() > LONGEST_GROUP + 1 || !group.iter().any(u8::is_ascii_digit) {
            break;
        }
        end = start;
    }
    forms::before_phrase(window, end)
}
