//! The vendor tokens: every rule with its name, its anchor (whose rule it follows) and a made-up sample.
//!
//! To compare with another tool's list, look up the anchor there. A rule asks for the distinctive start
//! and a minimum of what follows, never for an exact length or a checksum: formats grow, and a redactor
//! must not decide that a credential is fake.

mod agents;
mod developers;
mod platforms;
mod services;

use crate::observe::redact::class::KnownClass;

/// A rule for one kind of token.
pub(crate) struct TokenRule {
    pub(crate) name: &'static str,
    pub(crate) class: KnownClass,
    /// Tool and rule (or vendor) that this rule follows.
    pub(crate) anchor: &'static str,
    /// A made-up token that the rule finds.
    pub(crate) sample: &'static str,
    /// Texts of which one starts the token, or follows its [`TokenBorder::Lead`].
    pub(crate) starts: &'static [&'static str],
    pub(crate) border: TokenBorder,
    /// Regular expression over ASCII for the text after the start. A last group `(?:[^…]|$)` looks ahead
    /// and is not replaced.
    pub(crate) rest: &'static str,
}

const fn rule(
    name: &'static str,
    class: KnownClass,
    anchor: &'static str,
    sample: &'static str,
    starts: &'static [&'static str],
    border: TokenBorder,
    rest: &'static str,
) -> TokenRule {
    TokenRule { name, class, anchor, sample, starts, border, rest }
}

/// The text that may precede the start of a token.
#[derive(Clone, Copy)]
pub(crate) enum TokenBorder {
    /// Anything, because the start is too distinctive to occur by chance.
    None,
    /// Anything but a letter or digit. `_` is allowed, because tools have names like `use_ghp_…`.
    NotAlphanumeric,
    /// Anything but a letter or digit. The token must contain upper-case letters, lower-case letters and
    /// digits.
    NotAlphanumericMixed,
    /// Anything but a letter, digit or `-`, because the start is a common end of words.
    NotAlphanumericOrDash,
    /// Anything but a letter, digit or `-`. The token must contain upper-case letters, lower-case letters
    /// and digits.
    NotAlphanumericOrDashMixed,
    /// A number of characters of one kind, which belong to the token.
    Lead { set: fn(u8) -> bool, least: usize, most: usize },
}

fn is_azure(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'-')
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_environment(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'-')
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

const ANY: TokenBorder = TokenBorder::None;
const SYMBOL: TokenBorder = TokenBorder::NotAlphanumeric;
const MIXED: TokenBorder = TokenBorder::NotAlphanumericMixed;
const NO_DASH: TokenBorder = TokenBorder::NotAlphanumericOrDash;
const NO_DASH_MIXED: TokenBorder = TokenBorder::NotAlphanumericOrDashMixed;

/// Returns all rules. The rule with the first start wins; of those that start at the same place, the one with
/// the longest token or else the longest start.
pub(crate) fn all() -> impl Iterator<Item = &'static TokenRule> {
    [platforms::RULES, agents::RULES, developers::RULES, services::RULES].into_iter().flatten()
}
