//! Command lines, element by element.

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
    /// In the same element only: `-pSECRET`.
    Attached,
    /// Something that is a secret if it looks random: `--key`.
    Unknown,
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
            let is_value = match std::mem::replace(&mut before, takes) {
                _ if text.starts_with('-') || text.is_empty() => false,
                Takes::Password => true,
                Takes::UserAndPassword => text.contains(':'),
                Takes::Unknown => values::looks_random(&text),
                Takes::Nothing | Takes::Attached => false,
            };
            cleaned.push(if is_value || attached {
                before = Takes::Nothing;
                self.replace_all("flag")
            } else {
                self.redact_argument(argument.as_bytes())
            });
        }
        cleaned
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
        let Some(name) = element.strip_prefix("--").or_else(|| element.strip_prefix('-')) else {
            return (Takes::Nothing, false);
        };
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
            return match takes {
                _ if rest.is_empty() => {
                    (if *takes == Takes::Attached { Takes::Nothing } else { *takes }, false)
                }
                Takes::UserAndPassword => (Takes::Nothing, rest.contains(':')),
                _ => (Takes::Nothing, true),
            };
        }
        let is_alone = !name.contains(['=', ':', ' ']);
        match name {
            _ if !is_alone => (Takes::Nothing, false),
            _ if self.rules.keys.is_secret(name) => (Takes::Password, false),
            "key" | "auth" => (Takes::Unknown, false),
            _ => (Takes::Nothing, false),
        }
    }
}

fn is_program(word: &OsStr, program: &str) -> bool {
    word.as_bytes().rsplit(|&byte| byte == b'/').next() == Some(program.as_bytes())
}
