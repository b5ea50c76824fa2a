//! Values that the text after them, or their members, show to be harmless.

use crate::observe::redact::detect::pairs::{PairName, PairOperator, PairScanner, PairValue, is_name_byte};
use crate::observe::redact::detect::{harmless, keys, looks, values};

impl PairScanner<'_> {
    /// Returns true if the name and operator from `start` to `end` are in an Amazon resource name or in
    /// `${NAME:?must be set}`.
    pub(super) fn is_in_reference(&self, start: usize, end: usize) -> bool {
        self.at(end) == b'?' && self.before(start) == b'{' || self.is_in_arn(start)
    }

    /// Returns true if the text around or in `value` shows that it is not a secret.
    pub(super) fn is_harmless(
        &self,
        key: &PairName<'_>,
        text: &str,
        value: PairValue,
        operator: PairOperator,
    ) -> bool {
        let next = self.skip_blanks(value.end);
        // `fn set(token: Token2)`, `token: Optional[Token] = None`
        let is_typed = matches!(self.at(value.end), b')' | b',' | b';')
            || self.at(next) == b'=' && self.at(next + 1) != b'=' && next > value.end;
        operator == PairOperator::Colon
            && !value.quoted
            && is_typed
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && looks::is_wordy(text)
            || !value.quoted && self.is_counted_or_called(text, value.end)
            || !value.quoted
                && self.is_in_code(key)
                && (is_cmdlet(text.trim_start_matches('(')) || is_identifier(text))
            || self.is_part_of_path(key, text, value, operator)
            // `--secret=db-password`
            || key.text.starts_with('-')
                && text.contains(['-', '_'])
                && values::is_lower_path(text)
                && keys::judge(text).is_some()
            || value.quoted && self.before(key.start) == b'#' && is_identifier(text)
            || self.is_public_jwks(text)
            || is_instruction(key.text, text)
    }

    /// Returns true if the name is one of several parts between colons, and the value is another of them or a command:
    /// `token:user:42`, `"test:token": "vitest run token"`.
    fn is_part_of_path(
        &self,
        key: &PairName<'_>,
        text: &str,
        value: PairValue,
        operator: PairOperator,
    ) -> bool {
        let is_part = self.before(key.start) == b':';
        let is_word = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                || part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        operator == PairOperator::Colon
            && !value.quoted
            && self.before(value.start) == b':'
            && (is_part || text.contains(':'))
            && text.split(':').all(is_word)
            || key.quoted && is_part && text.contains(' ') && !text.split(' ').any(looks::is_random_short)
    }

    /// Returns true if a colon starts the name of an attribute: `type="password" :label="…"`.
    pub(super) fn is_attribute(&self, at: usize, end: usize) -> bool {
        const LONGEST: usize = 40;
        let rest = self.bytes.get(end..self.bytes.len().min(end + LONGEST)).unwrap_or_default();
        let name = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
        self.before(at) == b' '
            && name > 0
            && matches!(rest.get(name..name + 2), Some([b'=', b'"' | b'\'' | b'{']))
    }

    /// Returns true if a name is that of a variable in code, where a text without quotes is an expression.
    fn is_in_code(&self, key: &PairName<'_>) -> bool {
        const DECLARING: [&str; 4] = ["let", "const", "var", "val"];
        key.text.starts_with('$')
            || self.before(key.start) == b'@'
            || self.before(key.start) == b' '
                && self.key_before(key.start).is_some_and(|word| DECLARING.contains(&word.text))
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
        harmless::is_mask(text) || harmless::is_aside(text)
    }

    /// Returns true for `${NAME}`, `${{ secrets.NAME }}`, `<%= ENV["NAME"] %>`, `` `vault read …` ``, which may contain
    /// blanks.
    pub(super) fn has_reference(&self, start: usize) -> bool {
        const LONGEST: usize = 128;
        let window = self.bytes.get(start..self.bytes.len().min(start + LONGEST)).unwrap_or_default();
        let up_to = |close: &[u8]| {
            let length = memchr::memmem::find(window.get(1..)?, close).map(|at| 1 + at + close.len())?;
            Some(self.slice(start, start + length))
        };
        match window {
            [b'$', b'{', b'{', ..] => up_to(b"}}").is_some_and(harmless::is_reference),
            [b'$', b'{', ..] => up_to(b"}").is_some_and(harmless::is_reference),
            [b'(', b'(', ..] => up_to(b"))").is_some_and(harmless::is_reference),
            [b'`', ..] => up_to(b"`").is_some_and(harmless::is_command),
            [b'<' | b'{' | b'#', b'%' | b'?' | b'{', ..] => harmless::TEMPLATES
                .iter()
                .any(|(_, close)| up_to(close.as_bytes()).is_some_and(harmless::is_template)),
            _ => false,
        }
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

/// Returns true for `mnemonic: MOVZX` of an assembler: a phrase of a wallet is not one short word.
fn is_instruction(name: &str, value: &str) -> bool {
    name.eq_ignore_ascii_case("mnemonic")
        && value.len() <= 10
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_identifier(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.'))
        && looks::is_wordy(value)
}

/// Returns true for the name of a command of PowerShell: `Get-Secret`.
fn is_cmdlet(value: &str) -> bool {
    const VERBS: [&str; 12] = [
        "Get",
        "New",
        "Read",
        "ConvertTo",
        "ConvertFrom",
        "Import",
        "Invoke",
        "Join",
        "Select",
        "Unprotect",
        "Find",
        "Resolve",
    ];
    value.split_once('-').is_some_and(|(verb, noun)| {
        VERBS.contains(&verb) && noun.len() >= 2 && noun.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}
