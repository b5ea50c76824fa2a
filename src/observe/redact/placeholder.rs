//! The placeholder that replaces redacted text.

use std::sync::Arc;

use crate::observe::redact::class::KnownClass;

/// The text of a placeholder, with the name of a class in the middle.
#[derive(Clone, Debug)]
pub(super) struct Placeholder {
    before: String,
    after: String,
    has_class: bool,
    /// Names of the user's patterns, which are classes too.
    custom: Vec<Arc<str>>,
}

impl Placeholder {
    pub(super) const STANDARD: &str = "[REDACTED:{class}]";

    /// `[REDACTED:{class}]`.
    pub(super) fn standard() -> Placeholder {
        let (before, after) = ("[REDACTED:".to_owned(), "]".to_owned());
        Placeholder { before, after, has_class: true, custom: Vec::new() }
    }

    /// Splits a template at `{class}`.
    ///
    /// # Errors
    /// If the template is empty, too long, starts with `{class}` or contains a character that is not allowed.
    pub(super) fn new(template: &str, custom: Vec<Arc<str>>) -> Result<Placeholder, &'static str> {
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
        Ok(Placeholder { before: before.to_owned(), after: after.to_owned(), has_class, custom })
    }

    pub(super) fn write(&self, class: &str, into: &mut String) {
        into.push_str(&self.before);
        if self.has_class {
            into.push_str(class);
        }
        into.push_str(&self.after);
    }

    /// Returns the length of the placeholder at the start of `text`; `None` without a placeholder or if its
    /// class is unknown, because a peer could otherwise send any text in the form of a placeholder.
    pub(super) fn length_at_start(&self, text: &str) -> Option<usize> {
        let rest = text.strip_prefix(self.before.as_str())?;
        let class = if self.has_class {
            let length = rest
                .bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                .count();
            // The template after the class may start with such a byte too.
            (1..=length).rev().find(|&length| {
                rest.get(..length).is_some_and(|class| self.is_class(class))
                    && rest.get(length..).is_some_and(|rest| rest.starts_with(self.after.as_str()))
            })?
        } else {
            0
        };
        rest.get(class..)?
            .starts_with(self.after.as_str())
            .then_some(self.before.len() + class + self.after.len())
    }

    fn is_class(&self, name: &str) -> bool {
        KnownClass::from_word(name).is_some() || self.custom.iter().any(|custom| **custom == *name)
    }

    /// Returns true if `text` consists of placeholders, with nothing but separators between them.
    pub(super) fn is_whole(&self, text: &str) -> bool {
        let mut rest = text.trim();
        if rest.is_empty() {
            return false;
        }
        while !rest.is_empty() {
            match self.length_at_start(rest) {
                Some(length) => {
                    rest = rest.get(length..).unwrap_or_default().trim_start_matches([' ', ',', ':', ';'])
                }
                None => return false,
            }
        }
        true
    }

    /// Returns the start of the placeholder that a cut at `at` would split.
    pub(super) fn across(&self, text: &str, at: usize) -> Option<usize> {
        const LONGEST: usize = 128;
        let from = text.floor_char_boundary(at.saturating_sub(LONGEST));
        let window = text.get(from..at)?;
        window
            .rmatch_indices(self.before.as_str())
            .map(|(start, _)| from + start)
            .chain(
                // The cut may also split the part before the class.
                (at.saturating_sub(self.before.len())..at).filter(|&start| text.is_char_boundary(start)),
            )
            .find(|&start| {
                text.get(start..)
                    .and_then(|rest| self.length_at_start(rest))
                    .is_some_and(|length| start < at && start + length > at)
            })
    }
}
