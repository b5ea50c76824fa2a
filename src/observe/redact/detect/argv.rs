//! Command lines, element by element.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::values;
use crate::observe::redact::{Field, Redacted, RedactionMode, Redactor};

/// Options that take a secret, by program. The same letter means something else to other programs.
const OPTIONS: &[(&[&str], &[&str], OptionArgument)] = &[
    (&["curl"], &["-u", "-U", "--user", "--proxy-user"], OptionArgument::UserAndPassword),
    (&["mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump"], &["-p"], OptionArgument::Attached),
    (&["sshpass", "mongosh", "mongo", "mongodump"], &["-p"], OptionArgument::Password),
    (&["redis-cli", "valkey-cli"], &["-a"], OptionArgument::Password),
    (&["ldapsearch", "ldapmodify"], &["-w"], OptionArgument::Password),
];

/// The argument of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OptionArgument {
    /// Not a secret.
    Harmless,
    /// A secret, in the same element or the next.
    Password,
    /// `user:password`. A value without a colon is not a secret.
    UserAndPassword,
    /// `user:password`, or a user and a group, as containers take them.
    UserAndPasswordOrGroup,
    /// A secret in the same element only: `-pSECRET`.
    Attached,
    /// A secret if it looks random, or contains letters and digits and is not a path (`--key`). A path is
    /// a secret if a part of it looks random.
    Unknown,
}

impl OptionArgument {
    /// Returns true if `value`, which follows the option, is a secret.
    fn is_secret(self, value: &str) -> bool {
        if value.starts_with('-') || value.is_empty() {
            return false;
        }
        match self {
            OptionArgument::Password => true,
            OptionArgument::UserAndPassword => value.contains(':'),
            // `1000:1000` and `node:node` are users and groups.
            OptionArgument::UserAndPasswordOrGroup => {
                value.split_once(':').is_some_and(|(user, password)| {
                    user != password && value.bytes().any(|byte| !byte.is_ascii_digit() && byte != b':')
                })
            }
            OptionArgument::Unknown if is_path(value) => value.split(['/', '\\']).any(values::looks_random),
            OptionArgument::Unknown => {
                values::looks_random(value)
                    || values::is_mixed(value) && !value.contains(['/', '.', '\\', ':'])
            }
            OptionArgument::Harmless | OptionArgument::Attached => false,
        }
    }
}

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
            return (OptionArgument::Harmless, None);
        };
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let takes = match name {
            _ if name.contains([':', ' ']) => OptionArgument::Harmless,
            _ if self.rules.keys.is_secret(name) => OptionArgument::Password,
            _ if self.rules.keys.allows(name) => OptionArgument::Harmless,
            "user" | "userpwd" => OptionArgument::UserAndPasswordOrGroup,
            "key" | "auth" | "pat" => OptionArgument::Unknown,
            _ if name.ends_with("-key") || name.ends_with("_key") => OptionArgument::Unknown,
            _ => OptionArgument::Harmless,
        };
        match value {
            None => (takes, None),
            Some(value) => {
                let at = element.len() - value.len();
                (OptionArgument::Harmless, takes.is_secret(value).then_some(at))
            }
        }
    }

    /// Returns what `element` takes if it is one of the [`OPTIONS`] of a single program and `argv` names that
    /// program; else `None`.
    fn program_option(&self, element: &str, argv: &[OsString]) -> Option<(OptionArgument, Option<usize>)> {
        for (programs, options, takes) in OPTIONS {
            let Some(option) = options.iter().find(|option| match option.len() {
                2 => element.starts_with(**option) && !element.starts_with("--"),
                _ => element == **option,
            }) else {
                continue;
            };
            if !argv.iter().any(|word| programs.iter().any(|program| is_program(word, program))) {
                continue;
            }
            let rest = element.get(option.len()..).unwrap_or_default();
            return Some(match takes {
                _ if rest.is_empty() => {
                    (if *takes == OptionArgument::Attached { OptionArgument::Harmless } else { *takes }, None)
                }
                OptionArgument::UserAndPassword => {
                    (OptionArgument::Harmless, rest.contains(':').then_some(0))
                }
                _ => (OptionArgument::Harmless, Some(0)),
            });
        }
        None
    }
}

fn is_path(value: &str) -> bool {
    let is_drive = value.as_bytes().get(1) == Some(&b':') && value.contains('\\');
    is_drive || ["/", "./", "../", "~/"].iter().any(|start| value.starts_with(start))
}

fn is_program(word: &OsStr, program: &str) -> bool {
    word.as_bytes().rsplit(|&byte| byte == b'/').next() == Some(program.as_bytes())
}
