//! Command lines, element by element.

use std::borrow::Cow;
use std::ffi::OsString;

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::keys::{self, NameKind};
use crate::observe::redact::detect::programs::{self, OptionArgument};
use crate::observe::redact::{Field, Redacted, RedactionMode, Redactor};

impl Redactor {
    /// Redacts a command line element by element. The secret of an option may be the next element.
    pub fn redact_argv(&mut self, argv: &[OsString]) -> Vec<Redacted> {
        let mut before = OptionArgument::Harmless;
        let mut redacted = Vec::with_capacity(argv.len());
        for argument in argv {
            let text = argument.to_string_lossy();
            let (takes, attached) = self.option(&text, argv);
            let is_value = std::mem::replace(&mut before, takes).is_secret(&text);
            redacted.push(if is_value || attached.is_some() {
                before = OptionArgument::Harmless;
                self.hide_from(&text, attached.filter(|_| !is_value))
            } else {
                let text = self.redact_command(&text);
                self.redact_argument(text.as_bytes())
            });
        }
        redacted
    }

    /// Redacts an argument that is a command line itself, as that of `sh -c`.
    fn redact_command<'a>(&mut self, argument: &'a str) -> Cow<'a, str> {
        if !argument.contains(' ') {
            return Cow::Borrowed(argument);
        }
        let argv: Vec<OsString> = argument.split(' ').map(OsString::from).collect();
        let mut before = OptionArgument::Harmless;
        let mut hidden = false;
        let words: Vec<Cow<'_, str>> = argument
            .split(' ')
            .map(|word| {
                let (takes, attached) = self.option(word, &argv);
                let is_value = std::mem::replace(&mut before, takes).is_secret(word);
                if !is_value && attached.is_none() {
                    return Cow::Borrowed(word);
                }
                before = OptionArgument::Harmless;
                hidden = true;
                Cow::Owned(self.hide_from(word, attached.filter(|_| !is_value)).as_str().to_owned())
            })
            .collect();
        if hidden { Cow::Owned(words.join(" ")) } else { Cow::Borrowed(argument) }
    }

    /// Redacts one element. Strict mode keeps it, because it is not free text.
    fn redact_argument(&mut self, argument: &[u8]) -> Redacted {
        let mode = std::mem::replace(&mut self.rules.mode, RedactionMode::Default);
        let redacted = self.redact(Field::Message, argument);
        self.rules.mode = mode;
        redacted
    }

    /// Replaces everything in `element` from `at` on, or the whole element.
    fn hide_from(&mut self, element: &str, at: Option<usize>) -> Redacted {
        let hidden = self.placeholder(KnownClass::Flag);
        match element.get(..at.unwrap_or(0)) {
            None | Some("") => hidden,
            Some(name) => self.redact_argument((name.to_owned() + hidden.as_str()).as_bytes()),
        }
    }

    /// Returns what the option in `element` takes, and where the secret starts if `element` contains it.
    fn option(&self, element: &str, argv: &[OsString]) -> (OptionArgument, Option<usize>) {
        if let Some(found) = self.program_option(element, argv) {
            return found;
        }
        let Some(option) = element.strip_prefix("--").or_else(|| element.strip_prefix('-')) else {
            return (self.bare_name(element), None);
        };
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let takes = match name {
            _ if name.contains([':', ' ']) => OptionArgument::Harmless,
            _ if self.rules.keys.is_secret(name) => OptionArgument::Password,
            _ if self.rules.keys.allows(name) => OptionArgument::Harmless,
            "user" | "userpwd" => OptionArgument::UserAndPasswordOrGroup,
            "u" => OptionArgument::UserAndPasswordOrOther,
            _ => match keys::judge(name) {
                Some(NameKind::Weak | NameKind::Key | NameKind::Code | NameKind::Session) => {
                    OptionArgument::Unknown
                }
                _ => OptionArgument::Harmless,
            },
        };
        match value {
            None => (takes, None),
            Some(value) => {
                let at = element.len() - value.len();
                (OptionArgument::Harmless, takes.is_secret(value).then_some(at))
            }
        }
    }

    /// Returns what an element takes that is a name without dashes: `config set api_secret V`.
    fn bare_name(&self, element: &str) -> OptionArgument {
        let is_name =
            element.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        let is_secret = is_name && self.rules.keys.is_secret(element)
            || is_name && !self.rules.keys.allows(element) && keys::judge(element) == Some(NameKind::Key);
        if is_secret { OptionArgument::Unknown } else { OptionArgument::Harmless }
    }

    /// Returns what `element` takes if it is an option of a program that `argv` names; else `None`.
    fn program_option(&self, element: &str, argv: &[OsString]) -> Option<(OptionArgument, Option<usize>)> {
        if !element.starts_with('-') {
            return None;
        }
        let programs = argv.iter().filter_map(|word| programs::named(word.to_str()?));
        let (takes, rest) = programs.into_iter().find_map(|program| programs::option(program, element))?;
        Some(match takes {
            OptionArgument::Attached if rest.is_empty() => (OptionArgument::Harmless, None),
            _ if rest.is_empty() => (takes, None),
            OptionArgument::UserAndPassword => (OptionArgument::Harmless, rest.contains(':').then_some(0)),
            OptionArgument::UserPercentPassword => {
                (OptionArgument::Harmless, rest.contains('%').then_some(0))
            }
            OptionArgument::Harmless | OptionArgument::PasswordOrPorts => (OptionArgument::Harmless, None),
            _ => (OptionArgument::Harmless, Some(0)),
        })
    }
}
