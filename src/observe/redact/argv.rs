//! Command lines, element by element.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::{Field, Mode, Redacted, Redactor, values};

/// Short options that take a secret, by program; options of other programs with the same letter do not.
/// An entry whose option takes `user:password` keeps a value without a colon.
const OPTIONS: &[(&[&str], &[&str], Takes)] = &[
    (&["curl"], &["-u", "-U", "--user", "--proxy-user"], Takes::UserAndPassword),
    (&["mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump"], &["-p"], Takes::Attached),
    (&["sshpass", "mongosh", "mongo", "mongodump"], &["-p"], Takes::Password),
    (&["redis-cli", "valkey-cli"], &["-a"], Takes::Password),
    (&["ldapsearch", "ldapmodify"], &["-w"], Takes::Password),
];

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// In the same element or the next.
    Password,
    UserAndPassword,
    /// The same, or a user and a group, as of containers.
    UserAndPasswordOrGroup,
    /// In the same element only: `-pSECRET`.
    Attached,
    /// Something that is a secret if it looks random, or has letters and digits and is no path: `--key`.
    Unknown,
}

impl Takes {
    /// Whether `value`, which stands behind the option, is the secret.
    fn is_met_by(self, value: &str) -> bool {
        if value.starts_with('-') || value.is_empty() {
            return false;
        }
        match self {
            Takes::Password => true,
            Takes::UserAndPassword => value.contains(':'),
            // `1000:1000` and `node:node` are users and groups.
            Takes::UserAndPasswordOrGroup => value.split_once(':').is_some_and(|(user, password)| {
                user != password && value.bytes().any(|byte| !byte.is_ascii_digit() && byte != b':')
            }),
            Takes::Unknown => {
                values::looks_random(value)
                    || values::is_mixed(value) && !value.contains(['/', '.', '\\', ':'])
            }
            Takes::Nothing | Takes::Attached => false,
        }
    }
}

impl Redactor {
    /// Cleans a command line element by element, knowing that a sensitive flag's value may be the
    /// next element.
    pub fn redact_argv(&mut self, argv: &[OsString]) -> Vec<Redacted> {
        let mut before = Takes::Nothing;
        let mut cleaned = Vec::with_capacity(argv.len());
        for argument in argv {
            let text = argument.to_string_lossy();
            let (takes, attached) = self.option(&text, argv);
            let is_value = std::mem::replace(&mut before, takes).is_met_by(&text);
            cleaned.push(if is_value || attached {
                before = Takes::Nothing;
                self.replace_all("flag")
            } else {
                let text = self.redact_command(&text);
                self.redact_argument(text.as_bytes())
            });
        }
        cleaned
    }

    /// An argument that is a command line itself, as of `sh -c`: its words are looked at like ours.
    fn redact_command<'a>(&mut self, argument: &'a str) -> Cow<'a, str> {
        if !argument.contains(' ') {
            return Cow::Borrowed(argument);
        }
        let words: Vec<OsString> = argument.split(' ').map(OsString::from).collect();
        let mut before = Takes::Nothing;
        let mut hidden = false;
        let cleaned: Vec<Cow<'_, str>> = argument
            .split(' ')
            .map(|word| {
                let (takes, attached) = self.program_option(word, &words).unwrap_or((Takes::Nothing, false));
                let is_value = std::mem::replace(&mut before, takes).is_met_by(word);
                if !is_value && !attached {
                    return Cow::Borrowed(word);
                }
                before = Takes::Nothing;
                hidden = true;
                Cow::Owned(self.replace_all("flag").as_str().to_owned())
            })
            .collect();
        if hidden { Cow::Owned(cleaned.join(" ")) } else { Cow::Borrowed(argument) }
    }

    /// An element of a command line is not free text: strict mode keeps it.
    fn redact_argument(&mut self, argument: &[u8]) -> Redacted {
        let mode = std::mem::replace(&mut self.rules.mode, Mode::Default);
        let redacted = self.redact(Field::Message, argument);
        self.rules.mode = mode;
        redacted
    }

    /// What the option in `element` takes, and whether the secret stands in `element` itself.
    fn option(&self, element: &str, argv: &[OsString]) -> (Takes, bool) {
        if let Some(found) = self.program_option(element, argv) {
            return found;
        }
        let Some(name) = element.strip_prefix("--").or_else(|| element.strip_prefix('-')) else {
            return (Takes::Nothing, false);
        };
        let is_alone = !name.contains(['=', ':', ' ']);
        match name {
            _ if !is_alone => (Takes::Nothing, false),
            _ if self.rules.keys.is_secret(name) => (Takes::Password, false),
            _ if self.rules.keys.allows(name) => (Takes::Nothing, false),
            "user" | "userpwd" => (Takes::UserAndPasswordOrGroup, false),
            "key" | "auth" | "pat" => (Takes::Unknown, false),
            _ if name.ends_with("-key") || name.ends_with("_key") => (Takes::Unknown, false),
            _ => (Takes::Nothing, false),
        }
    }

    /// The same for the options of single programs; `None` where `element` is none of them.
    fn program_option(&self, element: &str, argv: &[OsString]) -> Option<(Takes, bool)> {
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
                    (if *takes == Takes::Attached { Takes::Nothing } else { *takes }, false)
                }
                Takes::UserAndPassword => (Takes::Nothing, rest.contains(':')),
                _ => (Takes::Nothing, true),
            });
        }
        None
    }
}

fn is_program(word: &OsStr, program: &str) -> bool {
    word.as_bytes().rsplit(|&byte| byte == b'/').next() == Some(program.as_bytes())
}
