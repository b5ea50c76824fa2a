//! The `[redaction]` settings, their checks, and the form in which the pipeline applies them.

use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::key_patterns::KeyPatterns;
use crate::observe::redact::detect::pairs::KeyRules;
use crate::observe::redact::detect::pii::PiiClass;
use crate::observe::redact::placeholder::Placeholder;
use crate::text::words::words;

/// The `[redaction]` table of the config file. No setting turns the redaction of secrets off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedactionSettings {
    pub mode: RedactionMode,
    /// Classes of personal data that are replaced.
    pub pii: Vec<PiiClass>,
    /// Patterns of further names whose values are secret. Case and `-`/`_` do not matter.
    pub extra_keys: Vec<String>,
    /// Patterns of names whose values are never secret.
    pub allow_keys: Vec<String>,
    /// Expressions. A match of any rule that also matches one of them is not replaced.
    pub allow_values: Vec<String>,
    /// Fields that are recorded without redaction; they are still sanitized and cut.
    pub reveal_fields: Vec<RevealedField>,
    /// Replacement of a secret; `{class}` becomes its class.
    pub placeholder: String,
    /// The user's own patterns.
    pub pattern: Vec<CustomPattern>,
}

impl Default for RedactionSettings {
    fn default() -> RedactionSettings {
        RedactionSettings {
            mode: RedactionMode::Default,
            pii: PiiClass::STANDARD.to_vec(),
            extra_keys: Vec::new(),
            allow_keys: Vec::new(),
            allow_values: Vec::new(),
            reveal_fields: Vec::new(),
            placeholder: Placeholder::STANDARD.to_owned(),
            pattern: Vec::new(),
        }
    }
}

/// How much is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedactionMode {
    /// Known secrets and personal data.
    #[default]
    Default,
    /// Also texts that look random, and all message texts and summaries.
    Strict,
}

words! {
    /// A field that `reveal_fields` may name.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum RevealedField {
        /// Error messages and notification texts.
        ErrorMessage = "error_message",
        ResultSummary = "result_summary",
        ServerStderr = "server_stderr",
        ResourceUri = "resource_uri",
        UserId = "user_id",
    }
}

/// `[[redaction.pattern]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomPattern {
    /// Class in the placeholder: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// An expression of the `regex` crate, over ASCII classes.
    pub regex: String,
    /// The group that is replaced; 0 is the whole match.
    #[serde(default)]
    pub group: usize,
}

/// A setting that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedactionProblem {
    /// The key in `[redaction]`.
    pub key: &'static str,
    /// The place within the key's value: `[1]`, `[0].regex`, or nothing.
    place: String,
    reason: &'static str,
}

impl fmt::Display for RedactionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use redaction.{}{}: {}", self.key, self.place, self.reason)
    }
}

impl std::error::Error for RedactionProblem {}

impl RedactionSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// If a setting cannot be applied. The first one is returned, with a way to fix it and without its
    /// value, because a pattern may be a secret.
    pub fn check(&self) -> Result<(), RedactionProblem> {
        CompiledRules::new(self).map(drop)
    }

    /// Returns the warnings that the user gets at the start, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .reveal_fields
            .iter()
            .map(|field| format!("redaction.reveal_fields: {field} is recorded as it is, secrets included"))
            .collect();
        if self.pii.is_empty() {
            warnings.push("redaction.pii is empty: personal data is recorded as it is".to_owned());
        }
        warnings
    }
}

/// The settings in the form in which the pipeline applies them.
#[derive(Clone, Debug)]
pub(super) struct CompiledRules {
    pub(super) mode: RedactionMode,
    pub(super) pii: Vec<PiiClass>,
    pub(super) keys: KeyRules,
    pub(super) allow_values: Vec<Regex>,
    pub(super) reveal: Vec<RevealedField>,
    pub(super) placeholder: Placeholder,
    pub(super) patterns: Vec<CompiledPattern>,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledPattern {
    pub(super) name: Arc<str>,
    pub(super) regex: Regex,
    pub(super) group: usize,
}

impl CompiledRules {
    pub(super) fn new(settings: &RedactionSettings) -> Result<CompiledRules, RedactionProblem> {
        let keys = KeyRules {
            extra: key_patterns("extra_keys", &settings.extra_keys)?,
            allow: key_patterns("allow_keys", &settings.allow_keys)?,
        };
        let allow_values = allowed_values(&settings.allow_values)?;
        let patterns = custom_patterns(&settings.pattern)?;
        let names = patterns.iter().map(|pattern| pattern.name.clone()).collect();
        let placeholder = Placeholder::new(&settings.placeholder, names)
            .map_err(|reason| RedactionProblem { key: "placeholder", place: String::new(), reason })?;
        Ok(CompiledRules {
            mode: settings.mode,
            pii: settings.pii.clone(),
            keys,
            allow_values,
            reveal: settings.reveal_fields.clone(),
            placeholder,
            patterns,
        })
    }

    /// The rules for settings that cannot be applied: those of strict mode.
    pub(super) fn closed() -> CompiledRules {
        CompiledRules {
            mode: RedactionMode::Strict,
            pii: PiiClass::STANDARD.to_vec(),
            keys: KeyRules::default(),
            allow_values: Vec::new(),
            reveal: Vec::new(),
            placeholder: Placeholder::standard(),
            patterns: Vec::new(),
        }
    }
}

fn key_patterns(key: &'static str, patterns: &[String]) -> Result<KeyPatterns, RedactionProblem> {
    match patterns.iter().position(|pattern| pattern.chars().all(|c| matches!(c, '*' | '?'))) {
        None => Ok(KeyPatterns::new(patterns)),
        Some(index) => {
            let reason = "wildcards alone would match every key; use a more specific pattern";
            Err(RedactionProblem { key, place: format!("[{index}]"), reason })
        }
    }
}

fn allowed_values(expressions: &[String]) -> Result<Vec<Regex>, RedactionProblem> {
    let compile = |(index, text): (usize, &String)| {
        let regex = expression(text).and_then(|regex| match regex.is_match(b"") {
            true => Err("it matches the empty text and would allow every value; anchor it"),
            false => Ok(regex),
        });
        regex.map_err(|reason| RedactionProblem { key: "allow_values", place: format!("[{index}]"), reason })
    };
    expressions.iter().enumerate().map(compile).collect()
}

fn custom_patterns(patterns: &[CustomPattern]) -> Result<Vec<CompiledPattern>, RedactionProblem> {
    let compile = |(index, pattern): (usize, &CustomPattern)| {
        compiled(pattern).map_err(|(key, reason)| {
            let place = format!("[{index}].{key}");
            RedactionProblem { key: "pattern", place, reason }
        })
    };
    patterns.iter().enumerate().map(compile).collect()
}

/// Compiles a pattern of the user.
///
/// # Errors
/// If the pattern cannot be applied: its key that is wrong, and the reason.
fn compiled(pattern: &CustomPattern) -> Result<CompiledPattern, (&'static str, &'static str)> {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if !(1..=40).contains(&pattern.name.len()) || !pattern.name.bytes().all(is_allowed) {
        return Err(("name", "use 1 to 40 of a-z, 0-9, - and _"));
    }
    if KnownClass::from_word(&pattern.name).is_some() {
        return Err(("name", "a built-in class has this name; choose another"));
    }
    let regex = expression(&pattern.regex).map_err(|reason| ("regex", reason))?;
    if regex.is_match(b"") {
        return Err(("regex", "it matches the empty text; make it match something"));
    }
    if pattern.group >= regex.captures_len() {
        return Err(("group", "the expression has no such group; 0 is the whole match"));
    }
    Ok(CompiledPattern { name: pattern.name.as_str().into(), regex, group: pattern.group })
}

/// Compiles an expression of the user, with ASCII classes.
fn expression(text: &str) -> Result<Regex, &'static str> {
    const SIZE_LIMIT: usize = 1 << 20;
    RegexBuilder::new(text).unicode(false).size_limit(SIZE_LIMIT).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the expression is too big; use smaller counts than {1000}",
        _ => {
            "not a valid expression; look-around and back-references do not exist, try it on regex101 (Rust)"
        }
    })
}
