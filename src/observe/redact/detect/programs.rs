//! Options of known programs that take a secret. The same letter means something else to other programs.

use crate::observe::redact::detect::{harmless, looks};

/// The argument of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptionArgument {
    /// Not a secret.
    Harmless,
    /// A secret, in the same element or the next.
    Password,
    /// `user:password`. A value without a colon is not a secret.
    UserAndPassword,
    /// `user:password`, or a user and a group, as containers take them.
    UserAndPasswordOrGroup,
    /// `user:password`, or anything else (`-u` of a program that is not known).
    UserAndPasswordOrOther,
    /// A secret (`docker login -p`), or ports (`docker run -p`).
    PasswordOrPorts,
    /// `user%password`.
    UserPercentPassword,
    /// A secret in the same element only: `-pSECRET`.
    Attached,
    /// A secret if it looks random, is `user:password`, or contains letters and digits and is not a path (`--key`). A
    /// path is a secret if a part of it looks random.
    Unknown,
}

impl OptionArgument {
    /// Returns true if `value`, which follows the option, is a secret.
    pub(super) fn is_secret(self, value: &str) -> bool {
        if value.starts_with('-') || value.is_empty() || harmless::is_harmless(value) {
            return false;
        }
        let is_number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'/');
        match self {
            OptionArgument::Password => true,
            OptionArgument::PasswordOrPorts => {
                looks::is_mixed(value) && !value.bytes().all(is_number) && !value.contains(['/', ':'])
            }
            OptionArgument::UserAndPassword => value.contains(':'),
            // `1000:1000` and `node:node` are users and groups.
            OptionArgument::UserAndPasswordOrGroup => value
                .split_once(':')
                .is_some_and(|(user, password)| user != password && !value.bytes().all(is_number)),
            OptionArgument::UserAndPasswordOrOther => {
                value.split_once(':').is_some_and(|(user, password)| is_password_of(user, password))
            }
            OptionArgument::UserPercentPassword => value.contains('%'),
            OptionArgument::Unknown if looks::is_path(value) => {
                value.split(['/', '\\']).any(looks::looks_random)
            }
            OptionArgument::Unknown => {
                looks::looks_random(value)
                    || looks::is_mixed(value) && !value.contains(['/', '.', '\\', ':'])
                    || value.split_once(':').is_some_and(|(user, password)| is_password_of(user, password))
            }
            OptionArgument::Harmless | OptionArgument::Attached => false,
        }
    }
}

/// Returns true if `password` after `user:` is a password, and not a group (`app:staff`, `1000:1000`), a port, a version
/// or a path.
pub(super) fn is_password_of(user: &str, password: &str) -> bool {
    let has = |test: fn(&u8) -> bool| password.bytes().any(|byte| test(&byte));
    let is_version =
        password.trim_start_matches('v').bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_pin = password.len() >= 6
        && !has(|byte| !byte.is_ascii_digit())
        && !user.bytes().all(|byte| byte.is_ascii_digit());
    user != password
        && password.len() >= 4
        && !user.contains(['/', '='])
        && !password.contains('/')
        && (!is_version || is_pin)
        && has(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase() || b"!#$%&*+?@^~".contains(byte))
        && !harmless::is_harmless(password)
        && !harmless::is_metavariable(password)
}

/// The programs, their options and what the options take.
#[rustfmt::skip]
const OPTIONS: &[(&[&str], &[&str], OptionArgument)] = &[
    (&["curl"], &["-u", "-U", "--user", "--proxy-user"], OptionArgument::UserAndPassword),
    (&["mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump", "mysqlsh", "mysqlimport", "mycli"], &["-p"], OptionArgument::Attached),
    (&["sshpass", "mongosh", "mongo", "mongodump", "mongorestore", "az", "twine", "cqlsh"], &["-p"], OptionArgument::Password),
    (&["docker", "podman", "nerdctl", "helm"], &["-p"], OptionArgument::PasswordOrPorts),
    (&["redis-cli", "valkey-cli"], &["-a"], OptionArgument::Password),
    (&["ldapsearch", "ldapmodify", "ldapadd", "ldapwhoami", "ldapdelete", "ldappasswd"], &["-w"], OptionArgument::Password),
    (&["sqlcmd", "bcp", "zip", "unzip", "ipmitool", "mosquitto_pub", "mosquitto_sub", "isql", "kinit", "7z"], &["-P"], OptionArgument::Password),
    (&["openssl"], &["-k", "-K", "-pass", "-passin", "-passout"], OptionArgument::Password),
    (&["7z", "7za", "7zz", "rar", "unrar"], &["-p"], OptionArgument::Attached),
    (&["smbclient", "rpcclient"], &["-U"], OptionArgument::UserPercentPassword),
    (&["ssh-keygen"], &["-N", "-P"], OptionArgument::Password),
    (&["psexec", "psexec64", "evil-winrm", "wmiexec"], &["-p"], OptionArgument::Password),
    (&["influx"], &["-t"], OptionArgument::Password),
    (&["psql"], &["-W"], OptionArgument::Harmless),
];

/// Returns the program that `word` names, with or without a path. The name of a file of Windows, `MySQL.exe`, has capital
/// letters or not.
pub(super) fn named(word: &str) -> Option<&'static str> {
    let file = word.rsplit(['/', '\\']).next().unwrap_or(word);
    let of_windows = file.rsplit_once('.').filter(|(_, ending)| {
        ["exe", "cmd", "bat", "com"].iter().any(|known| ending.eq_ignore_ascii_case(known))
    });
    let is_named = |program: &&str| match of_windows {
        Some((name, _)) => program.eq_ignore_ascii_case(name),
        None => *program == file,
    };
    OPTIONS.iter().flat_map(|(programs, ..)| *programs).copied().find(is_named)
}

/// Returns what an option takes, and the part of `element` after the option. An option of one letter may have its
/// value attached.
pub(super) fn option<'a>(program: &str, element: &'a str) -> Option<(OptionArgument, &'a str)> {
    OPTIONS.iter().filter(|(programs, ..)| programs.contains(&program)).find_map(|(_, options, takes)| {
        let option = options.iter().find(|option| match option.len() {
            2 if program == "openssl" => element == **option,
            2 => element.starts_with(**option) && !element.starts_with("--"),
            _ => element == **option,
        })?;
        Some((*takes, element.get(option.len()..)?))
    })
}
