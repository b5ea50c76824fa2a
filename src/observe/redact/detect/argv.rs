//! Command lines, element by element.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::observe::redact::{Field, Mode, Redacted, Redactor, values};

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
    /// Something that is a secret if it looks random, or has letters and digits and is no path: `--key`. Of a
    /// path it is each part that may look so.
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
            Takes::Unknown if is_path(value) => value.split(['/', '\\']).any(values::looks_random),
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
            cleaned.push(if is_value || attached.is_some() {
                before = Takes::Nothing;
                self.hide_from(&text, attached.filter(|_| !is_value))
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
                let (takes, attached) = self.option(word, &words);
                let is_value = std::mem::replace(&mut before, takes).is_met_by(word);
                if !is_value && attached.is_none() {
                    return Cow::Borrowed(word);
                }
                before = Takes::Nothing;
                hidden = true;
                Cow::Owned(self.hide_from(word, attached.filter(|_| !is_value)).as_str().to_owned())
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

    /// `element` with everything from `at` on hidden, or hidden as a whole.
    fn hide_from(&mut self, element: &str, at: Option<usize>) -> Redacted {
        let hidden = self.replace_all("flag");
        match element.get(..at.unwrap_or(0)) {
            None | Some("") => hidden,
            Some(name) => self.redact_argument((name.to_owned() + hidden.as_str()).as_bytes()),
        }
    }

    /// What the option in `element` takes, and where in `element` itself the secret begins, if it is there.
    fn option(&self, element: &str, argv: &[OsString]) -> (Takes, Option<usize>) {
        if let Some(found) = self.program_option(element, argv) {
            return found;
        }
        let Some(option) = element.strip_prefix("--").or_else(|| element.strip_prefix('-')) else {
            return (Takes::Nothing, None);
        };
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let takes = match name {
            _ if name.contains([':', ' ']) => Takes::Nothing,
            _ if self.rules.keys.is_secret(name) => Takes::Password,
            _ if self.rules.keys.allows(name) => Takes::Nothing,
            "user" | "userpwd" => Takes::UserAndPasswordOrGroup,
            "key" | "auth" | "pat" => Takes::Unknown,
            _ if name.ends_with("-key") || name.ends_with("_key") => Takes::Unknown,
            _ => Takes::Nothing,
        };
        match value {
            None => (takes, None),
            Some(value) => {
                let at = element.len() - value.len();
                (Takes::Nothing, takes.is_met_by(value).then_some(at))
            }
        }
    }

    /// The same for the options of single programs; `None` where `element` is none of them.
    fn program_option(&self, element: &str, argv: &[OsString]) -> Option<(Takes, Option<usize>)> {
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
                    (if *takes == Takes::Attached { Takes::Nothing } else { *takes }, None)
                }
                Takes::UserAndPassword => (Takes::Nothing, rest.contains(':').then_some(0)),
                _ => (Takes::Nothing, Some(0)),
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
