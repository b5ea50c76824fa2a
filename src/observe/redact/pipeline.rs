//! The steps between a text and its redacted form, in the order that the parent module shows.

use std::borrow::Cow;

use crate::observe::canonical::{self, HashKey};
use crate::observe::redact::class::{KnownClass, RedactionClass};
use crate::observe::redact::detect::matches::{Match, Matches};
use crate::observe::redact::detect::pem::{KeyLine, KeyLines};
use crate::observe::redact::detect::{
    announced, entropy, forms, harmless, pairs, pem, pii, runs, shapes, tokens, url,
};
use crate::observe::redact::placeholder::Placeholder;
use crate::observe::redact::policy::{CompiledRules, RedactionMode};
use crate::observe::redact::sanitize::{self, KeptControls, TextLimit};
use crate::observe::redact::unwrap;
use crate::observe::redact::{Field, Finding};

/// One run over one text.
pub(super) struct Pipeline<'a> {
    rules: &'a CompiledRules,
    /// Key for user ids that contain personal data.
    hash_key: Option<&'a HashKey>,
    /// The replaced texts so far.
    pub(super) findings: Vec<Finding>,
}

/// A detector. The detectors are applied in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    PrivateKeys,
    Urls,
    Tokens,
    Pairs,
    PersonalData,
    CustomPatterns,
    Forms,
    Entropy,
    /// All before, in the text behind percent signs, entities and backslashes.
    Escapes,
    /// Pairs, in the text behind markup.
    Markup,
    /// All before, in the text behind base64.
    Base64,
}

impl Pass {
    const ALL: &[Pass] = &[
        Pass::PrivateKeys,
        Pass::Urls,
        Pass::Tokens,
        Pass::Pairs,
        Pass::PersonalData,
        Pass::CustomPatterns,
        Pass::Forms,
        Pass::Entropy,
        Pass::Escapes,
        Pass::Markup,
        Pass::Base64,
    ];
    /// The passes over a text without blanks and signs, in which no value follows a name. Most ids are one.
    const ONE_WORD: &[Pass] =
        &[Pass::Tokens, Pass::PersonalData, Pass::CustomPatterns, Pass::Forms, Pass::Entropy, Pass::Base64];
    /// The passes over a text that was unwrapped.
    const INNER: &[Pass] = &[
        Pass::PrivateKeys,
        Pass::Urls,
        Pass::Tokens,
        Pass::Pairs,
        Pass::PersonalData,
        Pass::CustomPatterns,
        Pass::Forms,
    ];
}

impl<'a> Pipeline<'a> {
    /// Number of rounds after which a text that still changes is replaced as a whole.
    const MOST_ROUNDS: usize = 8;

    pub(super) fn new(rules: &'a CompiledRules, hash_key: Option<&'a HashKey>) -> Pipeline<'a> {
        Pipeline { rules, hash_key, findings: Vec::new() }
    }

    /// Redacts `text` for `field`. `unseen` is the number of bytes after `text` that are not looked at.
    pub(super) fn field(
        &mut self,
        field: Field,
        text: &str,
        unseen: usize,
        key_lines: &mut KeyLines,
    ) -> String {
        let kept = if field.is_free_text() { KeptControls::Tabs } else { KeptControls::None };
        if field.revealed_by().is_some_and(|field| self.rules.reveal.contains(&field)) {
            let text = sanitize::sanitize(text, kept, &[]);
            return cut(&text.spelled_out.unwrap_or(text.visible.into_owned()), field.limit(), unseen, None);
        }
        let (text, note) = if unseen == 0 { sanitize::split_cut_note(text) } else { (text, "") };
        if self.rules.mode == RedactionMode::Strict && field.is_free_text() {
            let all = text.len() + unseen;
            return if all == 0 { note.to_owned() } else { sanitize::cut_note(all) };
        }
        let redacted = match field {
            Field::StderrLine => self.next_piece(text, kept, key_lines),
            _ => self.rewrite(text, kept),
        };
        if field == Field::UserId
            && let Some(key) = self.hash_key
            && self.findings.iter().any(is_personal_data)
        {
            return canonical::Hashing::new(key).raw(text.as_bytes()).text();
        }
        if unseen == 0 && field.limit().fitting(&redacted) == redacted.len() {
            return if note.is_empty() { redacted.into_owned() } else { redacted.into_owned() + note };
        }
        self.cut_and_detect(redacted, field.limit(), unseen)
    }

    /// Cuts a redacted text to `limit`. `unseen` is the number of bytes after it.
    fn cut_and_detect(&mut self, mut redacted: Cow<'_, str>, limit: TextLimit, unseen: usize) -> String {
        // A cut may separate a name from its value, or one quote from the other: the detectors run again.
        for _ in 0..Pipeline::MOST_ROUNDS {
            let shown = cut(&redacted, limit, unseen, Some(&self.rules.placeholder));
            let (body, note) = sanitize::split_cut_note(&shown);
            let again = self.detect(Cow::Borrowed(body));
            if again == body {
                return again.into_owned() + note;
            }
            redacted = Cow::Owned(again.into_owned());
        }
        self.hide_whole(KnownClass::Unchecked, "unchecked", redacted.len())
    }

    /// Redacts the whole of a JSON text: first each string as its reader sees it, then the names and values around
    /// them. Cuts the result to `limit` after that.
    pub(super) fn body(&mut self, json: &str, limit: TextLimit) -> String {
        /// Levels of JSON text within strings of JSON text.
        const DEEPEST: u32 = 4;
        let text = self.redact_strings(json, DEEPEST);
        let redacted = self.rewrite(&text, KeptControls::TabsAndLines);
        match limit.fitting(&redacted) == redacted.len() {
            true => redacted.into_owned(),
            false => self.cut_and_detect(redacted, limit, 0),
        }
    }

    /// Redacts the strings of a JSON text. A string may hold JSON text with strings of its own, up to `depth` levels.
    fn redact_strings(&mut self, json: &str, depth: u32) -> String {
        let mut redacted = String::with_capacity(json.len());
        let mut rest = json;
        while let Some((before, literal, after)) = split_at_string(rest) {
            redacted.push_str(before);
            match serde_json::from_str::<String>(literal) {
                Ok(text) => {
                    // A string without escapes reads the same in the text around it.
                    let has_inner = depth > 1 && literal.contains('\\');
                    let inner = if has_inner { self.redact_strings(&text, depth - 1) } else { text.clone() };
                    let inner = self.rewrite(&inner, KeptControls::TabsAndLines);
                    let changed = (inner != text).then(|| serde_json::to_string(&inner).ok()).flatten();
                    redacted.push_str(changed.as_deref().unwrap_or(literal));
                }
                Err(_) => redacted.push_str(literal),
            }
            rest = after;
        }
        redacted.push_str(rest);
        redacted
    }

    /// Redacts the next piece of a text in which a private key may continue from an earlier piece.
    pub(super) fn next_piece<'t>(
        &mut self,
        text: &'t str,
        kept: KeptControls,
        key_lines: &mut KeyLines,
    ) -> Cow<'t, str> {
        match key_lines.next(text.as_bytes()) {
            KeyLine::Outside => self.rewrite(text, kept),
            KeyLine::Inside => Cow::Owned(self.hide_key_line(text.len())),
            KeyLine::Ends(end) => {
                let mut redacted = self.hide_key_line(end);
                let key = self.findings.len();
                let rest = self.rewrite(text.get(end..).unwrap_or_default(), kept);
                for finding in self.findings.iter_mut().skip(key) {
                    finding.at += redacted.len();
                }
                redacted.push_str(&rest);
                Cow::Owned(redacted)
            }
        }
    }

    /// Redacts a line of stderr after the `name` that ends the line before. Returns `None` if the line is not its
    /// value.
    pub(super) fn value_of(&mut self, name: &str, line: &str) -> Option<String> {
        const LONGEST: usize = 1 << 10;
        let (head, rest) = line.split_at(line.floor_char_boundary(LONGEST));
        let before = self.findings.len();
        let redacted = self.rewrite(&format!("{name}\n{head}"), KeptControls::TabsAndLines).into_owned();
        if self.findings.len() == before {
            return None;
        }
        // A match of a list or an object starts on the line before.
        let value = redacted.split_once('\n').map_or_else(
            || redacted.get(name.floor_char_boundary(name.len() - 1)..).unwrap_or_default(),
            |(_, value)| value,
        );
        Some(value.to_owned() + rest)
    }

    fn hide_key_line(&mut self, length: usize) -> String {
        self.hide_whole(KnownClass::PrivateKey, "private-key", length)
    }

    /// Returns the placeholder for a text of `length` bytes that is replaced as a whole.
    fn hide_whole(&mut self, class: KnownClass, rule: &'static str, length: usize) -> String {
        let mut text = String::new();
        self.rules.placeholder.write(class.as_str(), &mut text);
        self.findings.push(Finding { class: RedactionClass::Known(class), rule: Some(rule), at: 0, length });
        text
    }

    /// Sanitizes a text of any length and replaces what the detectors find in it.
    fn rewrite<'t>(&mut self, text: &'t str, kept: KeptControls) -> Cow<'t, str> {
        let before = self.findings.len();
        let mut decoded = Cow::Borrowed(text);
        // A sequence right before a secret may end with the first letter of the secret. So the detectors
        // also look at the text with its sequences.
        if sanitize::may_hold_sequences(&decoded) {
            decoded = self.detect(decoded);
        }
        let found = self.findings.get_mut(before..).unwrap_or_default();
        found.sort_by_key(|finding| finding.at);
        let positions: Vec<usize> = found.iter().map(|finding| finding.at).collect();
        let sanitized = sanitize::sanitize(&decoded, kept, &positions);
        for (finding, (visible, _)) in found.iter_mut().zip(&sanitized.positions) {
            finding.at = *visible;
        }
        let Some(spelled_out) = sanitized.spelled_out else {
            return match self.detect(sanitized.visible) {
                Cow::Borrowed(visible) if std::ptr::eq(visible, text) => Cow::Borrowed(text),
                redacted => Cow::Owned(redacted.into_owned()),
            };
        };
        // Invisible characters are shown, unless they hid a secret: then they are replaced with it.
        let sequences = self.findings.len();
        let redacted = self.detect(sanitized.visible);
        if self.findings.len() > sequences {
            return Cow::Owned(redacted.into_owned());
        }
        let found = self.findings.iter_mut().skip(before);
        for (finding, (_, spelled_out)) in found.zip(&sanitized.positions) {
            finding.at = *spelled_out;
        }
        Cow::Owned(self.detect(Cow::Owned(spelled_out)).into_owned())
    }

    /// Replaces what the detectors find, until they find nothing more.
    fn detect<'t>(&mut self, text: Cow<'t, str>) -> Cow<'t, str> {
        let is_one_word = text.len() <= 128 && text.bytes().all(is_of_word);
        let found = is_one_word && self.find(&text, &mut Matches::default(), Pass::ONE_WORD);
        if is_one_word && !found { text } else { self.detect_by_all(text) }
    }

    fn detect_by_all<'t>(&mut self, mut text: Cow<'t, str>) -> Cow<'t, str> {
        let mut matches = Matches::default();
        // The number of detectors in a row that found nothing in this text.
        let mut idle = 0;
        for _ in 0..Pipeline::MOST_ROUNDS {
            for pass in Pass::ALL {
                if self.find(&text, &mut matches, &[*pass]) {
                    text = Cow::Owned(self.replace(&text, &matches));
                    idle = 0;
                } else {
                    idle += 1;
                }
                if idle == Pass::ALL.len() {
                    return text;
                }
            }
        }
        // The text is gone, and with it the positions of everything that was found in it.
        self.findings.iter_mut().for_each(|finding| finding.at = 0);
        Cow::Owned(self.hide_whole(KnownClass::Unchecked, "unchecked", text.len()))
    }

    /// Collects the matches of `passes`. Stops after the first pass that has any, and returns true.
    fn find(&self, text: &str, matches: &mut Matches, passes: &[Pass]) -> bool {
        let rules = self.rules;
        passes.iter().any(|pass| {
            matches.clear();
            match pass {
                Pass::PrivateKeys => pem::find(text, matches),
                Pass::Urls => url::find(text, matches),
                Pass::Tokens => tokens::find(text, matches),
                Pass::Pairs => {
                    pairs::find(text, &rules.keys, &rules.placeholder, false, matches);
                    announced::find(text, &rules.keys, &rules.placeholder, matches);
                    shapes::find(text, &rules.keys, &rules.placeholder, matches);
                }
                Pass::PersonalData => pii::find(text, &rules.pii, matches),
                Pass::CustomPatterns => self.find_custom(text, matches),
                Pass::Forms => forms::find(text, matches),
                Pass::Entropy if rules.mode == RedactionMode::Strict => entropy::find(text, matches),
                Pass::Entropy => {}
                Pass::Escapes => self.find_behind_escapes(text, matches),
                Pass::Markup => self.find_behind_markup(text, matches),
                Pass::Base64 => self.find_behind_base64(text, matches),
            }
            if matches!(pass, Pass::Pairs | Pass::Escapes | Pass::Markup) {
                matches.add_repeats(text);
            }
            if *pass == Pass::Pairs {
                // The value of a coloured name comes after the sequence, which ends the colour.
                matches.retain(|found| !starts_with_sequence(text, found));
            }
            // A secret of which a part is coloured continues after the sequence.
            if !matches.is_empty() && sanitize::may_hold_sequences(text) {
                matches.widen(text.as_bytes(), &sanitize::sequences(text));
            }
            matches.retain(|found| !self.is_allowed(text, found));
            !matches.is_empty()
        })
    }

    fn find_behind_escapes(&self, text: &str, matches: &mut Matches) {
        let Some(layers) = unwrap::escapes(text) else { return };
        let inner = layers.last().map_or(text, |layer| layer.text.as_str());
        if !self.find(inner, matches, Pass::INNER) {
            // Markup may be escaped as well.
            self.find_behind_markup(inner, matches);
        }
        matches.map(|start, end| unwrap::original(&layers, start, end));
    }

    fn find_behind_markup(&self, text: &str, matches: &mut Matches) {
        let Some(inner) = unwrap::markup(text) else { return };
        pairs::find(&inner.text, &self.rules.keys, &self.rules.placeholder, true, matches);
        matches.retain(|found| !self.is_allowed(&inner.text, found));
        matches.map(|start, end| inner.original(start, end));
    }

    /// Matches runs of base64 that contain the text of a secret.
    fn find_behind_base64(&self, text: &str, matches: &mut Matches) {
        const SHORTEST: usize = 24;
        let bytes = text.as_bytes();
        let mut found = Matches::default();
        for (start, end) in runs::long(bytes, SHORTEST - 1, forms::is_base64) {
            let padding =
                bytes.get(end..).unwrap_or_default().iter().take_while(|byte| **byte == b'=').count();
            if end + padding.min(1) >= start + SHORTEST
                && let Some(inner) = text.get(start..end + padding.min(1)).and_then(unwrap::encoded_text)
                && self.find(&inner, &mut found, Pass::INNER)
                && let Some(inner) = found.iter().next()
            {
                matches.push_as(start, end + padding, inner);
            }
        }
    }

    /// Returns true if a match is a placeholder already or a part of one, or a value that the user allows.
    fn is_allowed(&self, text: &str, found: &Match) -> bool {
        let inside = self.rules.placeholder.across(text, found.start).and_then(|start| {
            text.get(start..)
                .and_then(|rest| self.rules.placeholder.length_at_start(rest))
                .map(|length| start + length)
        });
        if inside.is_some_and(|end| found.end <= end) {
            return true;
        }
        text.get(found.start..found.end).is_some_and(|text| {
            self.rules.placeholder.is_whole(text)
                || found.rule.is_some() && harmless::is_harmless(text)
                || self.rules.allow_values.iter().any(|allowed| allowed.is_match(text.as_bytes()))
        })
    }

    fn find_custom(&self, text: &str, matches: &mut Matches) {
        for pattern in &self.rules.patterns {
            for found in pattern.regex.captures_iter(text.as_bytes()) {
                if let Some(group) = found.get(pattern.group) {
                    // An expression over bytes may end within a character.
                    let start = text.floor_char_boundary(group.start());
                    let end = text.ceil_char_boundary(group.end());
                    matches.push_custom(start, end, &pattern.name);
                }
            }
        }
        matches.settle();
    }

    fn replace(&mut self, text: &str, matches: &Matches) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut done = 0;
        let earlier = self.findings.len();
        for found in matches.iter() {
            replaced.push_str(text.get(done..found.start).unwrap_or_default());
            let at = replaced.len();
            self.rules.placeholder.write(found.class.name(), &mut replaced);
            // An earlier finding moves with the text after the match, or is part of the match.
            let (grown, length) = (replaced.len() - at, found.end - found.start);
            for finding in self.findings.iter_mut().take(earlier) {
                if finding.at >= at + length {
                    finding.at = finding.at + grown - length;
                } else if finding.at > at {
                    finding.at = at;
                }
            }
            self.findings.push(Finding { class: found.class.clone(), rule: found.rule, at, length });
            done = found.end;
        }
        replaced.push_str(text.get(done..).unwrap_or_default());
        replaced
    }
}

/// Returns true for the bytes of names, paths and most ids.
pub(super) fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/' | b'-' | b'.')
}

/// Splits a JSON text around its first string, which includes its quotes.
fn split_at_string(json: &str) -> Option<(&str, &str, &str)> {
    let start = memchr::memchr(b'"', json.as_bytes())?;
    let mut end = start + 1;
    loop {
        end += memchr::memchr2(b'"', b'\\', json.as_bytes().get(end..)?)?;
        if json.as_bytes().get(end) == Some(&b'"') {
            break;
        }
        end += 2;
    }
    Some((json.get(..start)?, json.get(start..=end)?, json.get(end + 1..)?))
}

/// Returns true if a match starts with a terminal sequence, or with the escape of one.
fn starts_with_sequence(text: &str, found: &Match) -> bool {
    let value = text.get(found.start..found.end).unwrap_or_default();
    sanitize::starts_with_sequence(value) || unwrap::written_sequence(value.as_bytes()).is_some()
}

fn is_personal_data(finding: &Finding) -> bool {
    use KnownClass::{Card, Email, Iban, Ip, NationalId, Phone, Ssn};
    matches!(finding.class, RedactionClass::Known(Email | Card | Iban | Ssn | Phone | NationalId | Ip))
}

/// Cuts `text` to `limit` and appends the number of bytes that are not shown. A placeholder is kept whole
/// or left out.
fn cut(text: &str, limit: TextLimit, unseen: usize, placeholder: Option<&Placeholder>) -> String {
    let mut end = limit.fitting(text);
    if end < text.len()
        && let Some(start) = placeholder.and_then(|placeholder| placeholder.across(text, end))
    {
        end = start;
    }
    // A `\u{…}` escape is kept whole or left out as well.
    let shown = text.get(..end).unwrap_or(text);
    let shown = match shown.rfind("\\u{") {
        Some(start) if end < text.len() && !shown.get(start..).unwrap_or_default().contains('}') => {
            shown.get(..start).unwrap_or(shown)
        }
        _ => shown,
    };
    let left_out = text.len() - shown.len() + unseen;
    if left_out == 0 { shown.to_owned() } else { shown.to_owned() + &sanitize::cut_note(left_out) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::redact::{RedactionSettings, Redactor};

    proptest! {
        #[test]
        fn a_number_that_is_not_looked_at_is_one_in_which_nothing_is_found(number in "[0-9]{1,13}") {
            let rules = CompiledRules::new(&RedactionSettings::default()).unwrap();
            let by_all = Pipeline::new(&rules, None).detect_by_all(Cow::Borrowed(&number)).into_owned();
            let redacted = Redactor::default().redact(Field::Id, number.as_bytes());
            prop_assert_eq!(redacted.as_str(), by_all);
        }

        #[test]
        fn the_detectors_that_one_word_passes_find_what_all_find(
            parts in proptest::collection::vec(prop_oneof![
                "[0-9]{1,19}",
                "[a-f0-9]{4,40}",
                "[A-Za-z0-9]{1,32}",
                proptest::sample::select(vec![
                    "-", "_", "/", ".", "--", "password", "token", "API_KEY", "ghp_", "sk-", "AKIA", "toolu_01", "Bearer",
                    "DE89", "basic", "eyJhbGciOi", "0x", "xoxb-", "user", "secret", "data", "com", "Authorization",
                ]).prop_map(str::to_owned),
            ], 1..8),
        ) {
            let word: String = parts.concat();
            let rules = CompiledRules::new(&RedactionSettings::default()).unwrap();
            let by_all = Pipeline::new(&rules, None).detect_by_all(Cow::Borrowed(&word)).into_owned();
            let redacted = Pipeline::new(&rules, None).detect(Cow::Borrowed(&word)).into_owned();
            prop_assert_eq!(redacted, by_all);
        }
    }
}
