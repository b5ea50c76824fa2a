//! What a user may configure, and what is wrong with it.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::observe::redact::detect::keys::KeyPatterns;
use crate::observe::redact::detect::pairs::KeyRules;
use crate::observe::redact::detect::pii::PiiClass;
use crate::observe::redact::placeholder::{CLASSES, Placeholder};

/// The `[redaction]` table of the config file. There is no way to turn the hiding of secrets off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub mode: Mode,
    /// Personal data that is hidden.
    pub pii: Vec<PiiClass>,
    /// Further names whose values are secret; `*` stands for anything, case and `-`/`_` do not matter.
    pub extra_keys: Vec<String>,
    /// Names whose values are never secret.
    pub allow_keys: Vec<String>,
    /// Expressions; what would be hidden and matches one is shown.
    pub allow_values: Vec<String>,
    /// Fields that are left as they are, made safe for a log only.
    pub reveal_fields: Vec<RevealedField>,
    /// What is put in the place of a secret; `{class}` becomes its class.
    pub placeholder: String,
    /// The user's own patterns.
    pub pattern: Vec<Pattern>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mode: Mode::Default,
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

/// How much is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Known secrets and personal data.
    #[default]
    Default,
    /// Also whatever looks random; no message texts and no summaries at all.
    Strict,
}

/// A field that `reveal_fields` may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevealedField {
    /// Error messages and notification texts.
    ErrorMessage,
    ResultSummary,
    ServerStderr,
    ResourceUri,
    UserId,
}

impl RevealedField {
    fn name(self) -> &'static str {
        match self {
            RevealedField::ErrorMessage => "error_message",
            RevealedField::ResultSummary => "result_summary",
            RevealedField::ServerStderr => "server_stderr",
            RevealedField::ResourceUri => "resource_uri",
            RevealedField::UserId => "user_id",
        }
    }
}

/// `[[redaction.pattern]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Stands in the placeholder: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// An expression of the `regex` crate, over ASCII classes.
    pub regex: String,
    /// The group that is replaced; 0 is the whole match.
    #[serde(default)]
    pub group: usize,
}

/// A setting that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as it is called in the config file: `redaction.allow_values[1]`.
    pub setting: String,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use {}: {}", self.setting, self.reason)
    }
}

impl std::error::Error for Problem {}

impl Settings {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first that cannot be applied, with the way out. Never quotes a value: a pattern may be a secret.
    pub fn check(&self) -> Result<(), Problem> {
        Compiled::new(self).map(drop)
    }

    /// What the user should be told at the start, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .reveal_fields
            .iter()
            .map(|field| {
                format!("redaction.reveal_fields: {} is recorded as it is, secrets included", field.name())
            })
            .collect();
        if self.pii.is_empty() {
            warnings.push("redaction.pii is empty: personal data is recorded as it is".to_owned());
        }
        warnings
    }
}

/// The settings in the form in which they are applied.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) mode: Mode,
    pub(super) pii: Vec<PiiClass>,
    pub(super) keys: KeyRules,
    pub(super) allow_values: Vec<Regex>,
    pub(super) reveal: Vec<RevealedField>,
    pub(super) placeholder: Placeholder,
    pub(super) patterns: Vec<CompiledPattern>,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledPattern {
    pub(super) name: &'static str,
    pub(super) regex: Regex,
    pub(super) group: usize,
}

impl Compiled {
    pub(super) fn new(settings: &Settings) -> Result<Compiled, Problem> {
        let problem = |setting: String, reason: &str| Problem { setting, reason: reason.to_owned() };
        for (list, keys) in [("extra_keys", &settings.extra_keys), ("allow_keys", &settings.allow_keys)] {
            for (index, key) in keys.iter().enumerate() {
                if key.chars().all(|c| matches!(c, '*' | '?')) {
                    return Err(problem(
                        format!("redaction.{list}[{index}]"),
                        "it names every key; name some",
                    ));
                }
            }
        }
        let mut allow_values = Vec::new();
        for (index, text) in settings.allow_values.iter().enumerate() {
            let setting = format!("redaction.allow_values[{index}]");
            let regex = expression(text).map_err(|reason| problem(setting.clone(), reason))?;
            if regex.is_match(b"") {
                return Err(problem(
                    setting,
                    "it matches the empty text and would allow every value; anchor it",
                ));
            }
            allow_values.push(regex);
        }
        let mut patterns = Vec::new();
        for (index, pattern) in settings.pattern.iter().enumerate() {
            let at = |key: &str| format!("redaction.pattern[{index}].{key}");
            let is_name =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
            if pattern.name.is_empty() || pattern.name.len() > 40 || !pattern.name.bytes().all(is_name) {
                return Err(problem(at("name"), "use 1 to 40 of a-z, 0-9, - and _"));
            }
            if CLASSES.contains(&pattern.name.as_str()) {
                return Err(problem(at("name"), "a built-in class has this name; choose another"));
            }
            let regex = expression(&pattern.regex).map_err(|reason| problem(at("regex"), reason))?;
            if regex.is_match(b"") {
                return Err(problem(at("regex"), "it matches the empty text; make it match something"));
            }
            if pattern.group >= regex.captures_len() {
                return Err(problem(at("group"), "the expression has no such group; 0 is the whole match"));
            }
            // Counts are kept under this name for as long as the process lives; there is one per pattern.
            let name: &'static str = String::leak(pattern.name.clone());
            patterns.push(CompiledPattern { name, regex, group: pattern.group });
        }
        let own = patterns.iter().map(|pattern| pattern.name).collect();
        let placeholder = Placeholder::new(&settings.placeholder, own)
            .map_err(|reason| problem("redaction.placeholder".to_owned(), reason))?;
        Ok(Compiled {
            mode: settings.mode,
            pii: settings.pii.clone(),
            keys: KeyRules {
                extra: KeyPatterns::new(&settings.extra_keys),
                allow: KeyPatterns::new(&settings.allow_keys),
            },
            allow_values,
            reveal: settings.reveal_fields.clone(),
            placeholder,
            patterns,
        })
    }

    /// What is applied when the settings cannot be: everything is hidden that strict mode hides.
    pub(super) fn closed() -> Compiled {
        Compiled {
            mode: Mode::Strict,
            pii: PiiClass::STANDARD.to_vec(),
            keys: KeyRules::default(),
            allow_values: Vec::new(),
            reveal: Vec::new(),
            placeholder: Placeholder::standard(),
            patterns: Vec::new(),
        }
    }
}

fn expression(text: &str) -> Result<Regex, &'static str> {
    const SIZE_LIMIT: usize = 1 << 20;
    RegexBuilder::new(text).unicode(false).size_limit(SIZE_LIMIT).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the expression is too big; use smaller counts than {1000}",
        _ => {
            "not a valid expression; look-around and back-references do not exist, try it on regex101 (Rust)"
        }
    })
}
