//! Settings of a session: flags, environment variables and the config file become one [`Settings`].
//!
//! A setting has one name everywhere: `thrash.threshold` in the file is `--thrash-threshold` and
//! `SPANTAP_THRASH_THRESHOLD`. A flag wins over the environment, the environment over the server's own
//! section of the file, that over the file's top level, that over the default. A value that cannot be used
//! is a [`SettingProblem`] and the next source counts, so that one bad line does not affect the others.
//! [`SettingSources`] reads the file once; no other code reads a setting from the environment.

use std::ffi::OsString;
use std::path::PathBuf;

mod entry;
mod file;
pub(crate) mod hash_key;
mod kind;
mod listen;
mod origin;
pub(crate) mod paths;
mod redaction;
mod resolve;
pub(crate) mod server_name;
mod table;
mod tables;
mod words;

pub use file::ConfigFile;
pub(crate) use kind::FlagValue;
pub use listen::ListenAddress;
pub use origin::{Setting, SettingOrigin, SettingProblem};
pub use redaction::RedactionTable;
pub use resolve::SettingSources;
pub(crate) use resolve::{ConfigFileError, config_file};
pub use table::{DECLARATIONS, GivenSettings, SettingDeclaration, Settings};
pub(crate) use table::{SettingFlag, SettingLookup};
pub use words::{ArgsHash, LogLevel, Overload, Propagate};

use crate::export::otlp;
pub(crate) use crate::export::otlp::address;

/// The environment, as a function, so that tests need not change the environment of the process.
pub type Environment<'a> = &'a (dyn Fn(&str) -> Option<OsString> + Sync);

/// Returns a variable of this process's environment, unless it is empty.
pub(crate) fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns a variable of this process's environment, unless it is empty or not UTF-8.
pub(crate) fn process_variable(name: &str) -> Option<String> {
    process_environment(name)?.into_string().ok()
}

impl Settings {
    /// Returns the folder of the session logs; `None` if it is not set and the user has no home folder.
    pub(crate) fn log_folder(&self) -> Option<PathBuf> {
        self.log_dir.value.clone().or_else(paths::sessions_dir)
    }

    /// Returns what is sent to collectors, if anything, and one warning for each value that cannot be used.
    pub(crate) fn otlp(
        &self,
        environment: Environment<'_>,
    ) -> (Option<otlp::OtlpSettings>, Vec<otlp::OtlpWarning>) {
        let variable = |name: &str| environment(name)?.into_string().ok();
        otlp::OtlpSettings::resolve(given_endpoint(&self.otlp_endpoint), &self.otlp_tables, &variable)
    }
}

/// Returns the endpoint of the flag or its variable. That of the file is in the table, where a signal's own endpoint
/// wins over it.
pub(crate) fn given_endpoint(endpoint: &Setting<Option<String>>) -> Option<&str> {
    match endpoint.origin {
        SettingOrigin::Flag | SettingOrigin::Environment(_) => endpoint.value.as_deref(),
        SettingOrigin::File { .. } | SettingOrigin::Default => None,
    }
    .filter(|endpoint| !endpoint.is_empty())
}

/// Returns a problem for each of the variables `names` whose name is almost that of a setting.
pub(crate) fn misspelt_variables(names: impl Iterator<Item = String>) -> Vec<SettingProblem> {
    let known = |name: &str| {
        name == "SPANTAP_CONFIG" || DECLARATIONS.iter().any(|setting| setting.variable() == name)
    };
    let meant = |name: &str| {
        let rest = name.strip_prefix("SPANTAP_")?;
        let off = rest.strip_prefix("NO_").map(|rest| format!("SPANTAP_{rest}"));
        match off.filter(|setting| known(setting)) {
            Some(setting) => Some(format!("{setting}=false")),
            None => file::nearest_of(&rest.to_lowercase(), table::names()).map(table::variable),
        }
    };
    let misspelt = |name: String| {
        let meant = meant(&name).filter(|_| !known(&name))?;
        let text = format!("unknown setting; did you mean {meant}?");
        let origin = SettingOrigin::Environment(name);
        Some(SettingProblem { origin, setting: None, text, consequence: "" })
    };
    names.filter_map(misspelt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::words::Side;
    use std::path::Path;
    use std::time::Duration;

    fn resolve(given: GivenSettings, environment: &[(&str, &str)], text: &str) -> Settings {
        let file = ConfigFile::parse(Path::new("/etc/spantap.toml"), text);
        let lookup = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        SettingSources::with_file(given, &lookup, file).settings("github")
    }

    #[test]
    fn a_flag_wins_over_the_environment_that_over_the_server_section_that_over_the_file() {
        let text =
            "slow = '1s'\ncall_timeout = '1s'\n[server.github]\ncall_timeout = '2s'\n[thrash]\nthreshold = 9";
        let given = GivenSettings { slow: Some(Duration::from_secs(4)), ..GivenSettings::default() };
        let settings = resolve(given, &[("SPANTAP_SLOW", "3s"), ("SPANTAP_SIDE", "client")], text);
        assert_eq!(settings.slow.value, Duration::from_secs(4));
        assert_eq!(settings.slow.origin, SettingOrigin::Flag);
        assert_eq!(settings.side.value, Side::Client);
        assert_eq!(settings.side.origin, SettingOrigin::Environment("SPANTAP_SIDE".to_owned()));
        assert_eq!(settings.call_timeout.value, Some(Duration::from_secs(2)));
        assert_eq!(
            settings.call_timeout.origin,
            SettingOrigin::File { path: "/etc/spantap.toml".into(), line: 4 }
        );
        assert_eq!(settings.thrash_threshold.value, 9);
        assert_eq!(settings.max_log_size.origin, SettingOrigin::Default);
        assert!(settings.problems.is_empty(), "{:?}", settings.problems);
    }

    #[test]
    fn a_bad_value_is_reported_without_being_quoted_and_the_rest_of_the_file_counts() {
        let settings = resolve(
            GivenSettings::default(),
            &[],
            "slow = 'ghp_secret'\nthrash.threshold = 7\ncolour = 'red'\n[server.other]\nslow = '7s'",
        );
        assert_eq!(settings.slow.value, Duration::from_secs(30));
        assert_eq!(settings.thrash_threshold.value, 7);
        let problems: Vec<String> = settings.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "/etc/spantap.toml:1: `slow` is not a duration, for example 30s; ignoring it",
                "/etc/spantap.toml:3: unknown setting `colour`; `spantap doctor --all` lists the settings",
            ]
        );
    }

    #[test]
    fn every_entry_of_redaction_that_cannot_be_used_is_named() {
        let text = "[redaction]\nmode = 'lax'\npii = ['email', 'shoe_size']\nextra_keys = ['*', 'fine_key', '?']\n\
                    colour = 1\n[[redaction.pattern]]\nname = 'ok'\nregex = 'a+'\n\
                    [[redaction.pattern]]\nname = 'Bad'\nregex = 'a+'\n[[redaction.pattern]]\nname = 'c'\nregex = '('";
        let problems = resolve(GivenSettings::default(), &[], text).problems;
        let named: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for (line, start) in [
            (2, "`redaction.mode` is not one of"),
            (3, "`redaction.pii` is not one of"),
            (4, "cannot use redaction.extra_keys[0]: "),
            (4, "cannot use redaction.extra_keys[2]: "),
            (5, "`redaction.colour` is not an entry"),
            (6, "cannot use redaction.pattern[1].name: "),
            (6, "cannot use redaction.pattern[2].regex: "),
        ] {
            let start = format!("/etc/spantap.toml:{line}: {start}");
            assert_eq!(
                named.iter().filter(|text| text.starts_with(&start)).count(),
                1,
                "{start}: {named:#?}"
            );
        }
        assert_eq!(named.len(), 7, "{named:#?}");
    }

    #[test]
    fn a_line_that_is_no_toml_does_not_take_the_others_with_it() {
        let settings = resolve(GivenSettings::default(), &[], "slow = '9s'\nthis is not toml\nlog = false\n");
        assert_eq!(settings.slow.value, Duration::from_secs(9));
        assert!(!settings.log.value);
        assert_eq!(settings.problems.len(), 1);
        assert!(settings.problems[0].to_string().starts_with("/etc/spantap.toml:2: not valid TOML"));
    }
}
