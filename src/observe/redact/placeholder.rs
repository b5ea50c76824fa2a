//! What stands where something was taken out.

/// The text of a placeholder, with its class in the middle.
#[derive(Clone, Debug)]
pub(super) struct Placeholder {
    before: String,
    after: String,
    has_class: bool,
    /// Names of the configuration's own patterns, which are classes too.
    own: Vec<&'static str>,
}

/// Classes of the built-in rules.
pub(super) const CLASSES: &[&str] = &[
    "github",
    "gitlab",
    "slack",
    "stripe",
    "openai",
    "anthropic",
    "model_host",
    "aws",
    "google",
    "azure",
    "package",
    "cloud",
    "vault",
    "mail",
    "work",
    "ci",
    "jwt",
    "private_key",
    "auth_header",
    "cookie",
    "url",
    "webhook",
    "key_value",
    "flag",
    "email",
    "card",
    "iban",
    "ssn",
    "phone",
    "ip",
    "mac",
    "imei",
    "user_path",
    "entropy",
    "unchecked",
];

impl Placeholder {
    pub(super) const STANDARD: &str = "[REDACTED:{class}]";

    /// `[REDACTED:{class}]`.
    pub(super) fn standard() -> Placeholder {
        Placeholder {
            before: "[REDACTED:".to_owned(),
            after: "]".to_owned(),
            has_class: true,
            own: Vec::new(),
        }
    }

    /// Splits a template at `{class}`.
    ///
    /// # Errors
    /// Why the template cannot be used.
    pub(super) fn new(template: &str, own: Vec<&'static str>) -> Result<Placeholder, &'static str> {
        if template.is_empty() || template.len() > 64 {
            return Err("must have 1 to 64 characters");
        }
        let (before, after) = template.split_once("{class}").unwrap_or((template, ""));
        let fits = |text: &str| {
            text.bytes().all(|byte| {
                byte.is_ascii_alphanumeric()
                    || matches!(byte, b'[' | b']' | b':' | b'_' | b'-' | b'*' | b'#' | b'.' | b'!' | b'~')
            })
        };
        if !fits(before) || !fits(after) {
            return Err("may hold letters, digits, {class} and any of [ ] : _ - * # . ! ~");
        }
        if before.is_empty() {
            return Err("must start with something other than {class}");
        }
        let has_class = template.contains("{class}");
        Ok(Placeholder { before: before.to_owned(), after: after.to_owned(), has_class, own })
    }

    pub(super) fn write(&self, class: &str, into: &mut String) {
        into.push_str(&self.before);
        if self.has_class {
            into.push_str(class);
        }
        into.push_str(&self.after);
    }

    /// Length of the placeholder at the start of `text`, if one stands there. Only known classes count, so
    /// that nobody else can make one that holds a text of their own.
    pub(super) fn at_start(&self, text: &str) -> Option<usize> {
        let rest = text.strip_prefix(self.before.as_str())?;
        let class = if self.has_class {
            let length = rest
                .bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                .count();
            // The template may go on with such a character too.
            (1..=length).rev().find(|&length| {
                rest.get(..length).is_some_and(|class| self.knows(class))
                    && rest.get(length..).is_some_and(|rest| rest.starts_with(self.after.as_str()))
            })?
        } else {
            0
        };
        rest.get(class..)?
            .starts_with(self.after.as_str())
            .then_some(self.before.len() + class + self.after.len())
    }

    fn knows(&self, class: &str) -> bool {
        CLASSES.contains(&class) || self.own.contains(&class)
    }

    /// Whether `text` is one or more placeholders, parted by nothing but separators, and nothing else.
    pub(super) fn is_whole(&self, text: &str) -> bool {
        let mut rest = text.trim();
        if rest.is_empty() {
            return false;
        }
        while !rest.is_empty() {
            match self.at_start(rest) {
                Some(length) => {
                    rest = rest.get(length..).unwrap_or_default().trim_start_matches([' ', ',', ':', ';'])
                }
                None => return false,
            }
        }
        true
    }

    /// The start of the placeholder that a cut at `at` would go through.
    pub(super) fn across(&self, text: &str, at: usize) -> Option<usize> {
        const LONGEST: usize = 128;
        let from = crate::observe::redact::sanitize::floor_char_boundary(text, at.saturating_sub(LONGEST));
        let window = text.get(from..at)?;
        window
            .rmatch_indices(self.before.as_str())
            .map(|(start, _)| from + start)
            .chain(
                // The cut may go through the first part of the template.
                (at.saturating_sub(self.before.len())..at).filter(|&start| text.is_char_boundary(start)),
            )
            .find(|&start| {
                text.get(start..)
                    .and_then(|rest| self.at_start(rest))
                    .is_some_and(|length| start < at && start + length > at)
            })
    }
}
