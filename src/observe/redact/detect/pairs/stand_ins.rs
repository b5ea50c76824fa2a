//! Values that the text after them, or their members, show to be harmless.

use crate::observe::redact::detect::pairs::{PairOperator, PairScanner, PairValue, is_name_byte};
use crate::observe::redact::detect::values;

impl PairScanner<'_> {
    /// Returns true if the name and operator from `start` to `end` are in an Amazon resource name or in
    /// `${NAME:?must be set}`.
    pub(super) fn is_in_reference(&self, start: usize, end: usize) -> bool {
        self.at(end) == b'?' && self.before(start) == b'{' || self.is_in_arn(start)
    }

    /// Returns true if the text around or in `value` shows that it is not a secret.
    pub(super) fn is_harmless(&self, text: &str, value: PairValue, operator: PairOperator) -> bool {
        // `fn set(token: Token2)`
        operator == PairOperator::Colon
            && !value.quoted
            && matches!(self.at(value.end), b')' | b',' | b';')
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && values::is_wordy(text)
            || !value.quoted && self.is_counted_or_called(text, value.end)
            || self.is_public_jwks(text)
    }

    /// Returns true if an aside with blanks starts at `start`: `(sensitive value)`, `<paste here>`.
    pub(super) fn has_aside(&self, start: usize) -> bool {
        const LONGEST: usize = 48;
        let close = match self.at(start) {
            b'(' => b')',
            b'<' => b'>',
            _ => return false,
        };
        let window = self.bytes.get(start..self.bytes.len().min(start + LONGEST)).unwrap_or_default();
        let length = memchr::memchr(close, window).map_or(0, |at| at + 1);
        let text = self.slice(start, start + length);
        values::is_stand_in(text) || values::is_aside(text)
    }

    /// Returns true for `${NAME}` and `${{ secrets.NAME }}`, which may contain blanks.
    pub(super) fn has_reference(&self, start: usize) -> bool {
        const LONGEST: usize = 128;
        let window = self.bytes.get(start..self.bytes.len().min(start + LONGEST)).unwrap_or_default();
        let close: &[u8] = if window.starts_with(b"${{") { b"}}" } else { b"}" };
        let length = memchr::memmem::find(window, close).map_or(0, |at| at + close.len());
        window.starts_with(b"${") && values::is_reference(self.slice(start, start + length))
    }

    /// Returns true for `24 bytes`, the size of a secret, and for `await getToken(…)`.
    fn is_counted_or_called(&self, text: &str, end: usize) -> bool {
        const UNITS: [&str; 8] = ["byte", "bytes", "bits", "chars", "characters", "B", "KB", "KiB"];
        let start = self.skip_blanks(end);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let length = rest.iter().take(64).take_while(|byte| is_name_byte(**byte)).count();
        if start == end || length == 0 {
            return false;
        }
        if matches!(text, "await" | "yield" | "new") {
            return rest.get(length) == Some(&b'(');
        }
        text.len() <= 5
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && UNITS.contains(&self.slice(start, start + length))
    }

    /// Returns true for a list of JSON web keys without a private member (RFC 7518).
    fn is_public_jwks(&self, text: &str) -> bool {
        const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "k", "oth"];
        self.is_jwk
            && text.starts_with('[')
            && text.contains("kty")
            && text
                .split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
                .all(|word| !PRIVATE.contains(&word))
    }
}
