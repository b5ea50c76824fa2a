//! What was typed, the environment and the config file become the settings that each floor declares.
//!
//! A setting has one name everywhere: `thrash.threshold` in the file is `--thrash-threshold` and
//! `SPANTAP_THRASH_THRESHOLD`. Flag wins over environment, environment over the server's own section of
//! the file, that over the file's top level, that over the default. A value that cannot be read is a
//! [`Problem`] and the next source counts, so that one bad line does not take the rest with it.
//! After this nothing asks the environment again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod file;
pub mod hash_key;
pub mod paths;
mod resolve;
pub mod server_name;

pub use file::{File, read as read_file};
pub use resolve::{Origin, Problem, Setting, Size};
use resolve::{Resolver, Word, variable};

use crate::cli::run::{LogLevel, Overload, RunArgs};
use crate::record::words::Side;

/// Every scalar setting: its name in the file, and what it does in one line. `docs/configuration.md`
/// lists the same, and a test compares.
pub const SETTINGS: &[(&str, &str)] = &[
    ("server", "name of the server in logs and metrics; derived from its command otherwise"),
    ("log", "whether a session log is written"),
    ("log_dir", "folder of the session logs"),
    ("max_log_size", "size at which a session log goes on in a new part"),
    ("max_total_size", "size of all session logs together, beyond which old ones are deleted at start"),
    ("log_level", "info, or debug with result summaries, notifications and stderr lines"),
    ("debug_for", "debug for this long from the start, then info"),
    ("session_id", "agent session that the connection belongs to"),
    ("user_id", "person on whose behalf the host runs"),
    ("slow", "how long a call may be open before it is reported"),
    ("call_timeout", "how long a call may take before it counts as timed out"),
    ("overload", "lose records, or wait and slow the traffic down, when the observer cannot keep up"),
    ("trace_env", "whether the server gets TRACEPARENT in its environment"),
    ("strict", "whether a log or export that cannot be set up stops the start"),
    ("args_hash", "hmac (keyed, one key an installation) or sha256 (comparable everywhere, guessable)"),
    ("hash_key_file", "file with the 32-byte hash key, to share one across machines"),
    ("thrash.threshold", "how often the same call may be made before agent_thrashing is reported"),
    ("thrash.warn", "from which repetition on a call is marked on the terminal"),
    ("denied.codes", "JSON-RPC error codes that mean a refusal"),
    ("denied.words", "words in an error message that mean a refusal"),
    ("cost.usd_per_million_tokens", "price of a million tokens, for the estimate of cost"),
    ("otlp.endpoint", "collector that spans and metrics are sent to"),
    ("side", "whose side spans and metrics take: server or client"),
];

/// Tables of the file that have a reader of their own.
pub const TABLES: &[&str] = &["otlp", "redaction", "cost.per_call", "server"];

/// All settings, each with where it came from.
#[derive(Clone, Debug)]
pub struct Config {
    pub file: Option<PathBuf>,
    pub log: Setting<bool>,
    pub log_dir: Setting<Option<PathBuf>>,
    pub max_log_size: Setting<u64>,
    pub max_total_size: Setting<Option<u64>>,
    pub log_level: Setting<LogLevel>,
    pub debug_for: Setting<Option<Duration>>,
    pub session_id: Setting<Option<String>>,
    pub user_id: Setting<Option<String>>,
    pub slow: Setting<Duration>,
    pub call_timeout: Setting<Option<Duration>>,
    pub overload: Setting<Overload>,
    pub trace_env: Setting<bool>,
    pub strict: Setting<bool>,
    pub args_hash: Setting<ArgsHash>,
    pub hash_key_file: Setting<Option<PathBuf>>,
    pub thrash_threshold: Setting<u32>,
    pub thrash_warn: Setting<u32>,
    pub denied_codes: Setting<Vec<i64>>,
    pub denied_words: Setting<Vec<String>>,
    pub usd_per_million_tokens: Setting<Option<f64>>,
    /// What an MCP provider charges for one call, in USD, by `server/tool` glob.
    pub cost_per_call: BTreeMap<String, f64>,
    pub side: Setting<Side>,
    pub redaction: Redaction,
    /// `--otlp`, which wins over the table's endpoint.
    pub otlp_endpoint: Setting<Option<String>>,
    pub otlp: crate::export::otlp::OtlpTable,
    /// What could not be used, one line each.
    pub problems: Vec<Problem>,
}

impl Config {
    /// What is sent to collectors, if anything, and what could not be used of it.
    pub fn otlp(
        &self,
        environment: Environment<'_>,
    ) -> (Option<crate::export::otlp::OtlpSettings>, Vec<String>) {
        // The file's endpoint is in the table, where a signal's own wins over it.
        let flag = match self.otlp_endpoint.origin {
            Origin::Flag | Origin::Environment(_) => self.otlp_endpoint.value.as_deref(),
            Origin::File { .. } | Origin::Default => None,
        };
        crate::export::otlp::OtlpSettings::resolve(flag, &self.otlp, environment)
    }
}

/// The `[redaction]` table.
#[derive(Clone, Debug)]
pub enum Redaction {
    Settings(Box<crate::observe::redact::RedactionSettings>),
    /// There is one that cannot be applied: no free text is written at all.
    Unusable,
}

impl Redaction {
    /// What of these settings shows more than people expect, one line each.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Redaction::Settings(settings) => settings.warnings(),
            Redaction::Unusable => Vec::new(),
        }
    }

    /// The redactor that these settings ask for.
    pub fn redactor(&self) -> crate::observe::redact::Redactor {
        use crate::observe::redact::Redactor;
        match self {
            Redaction::Settings(settings) => {
                Redactor::try_new(settings).unwrap_or_else(|_| Redactor::closed())
            }
            Redaction::Unusable => Redactor::closed(),
        }
    }
}

/// How arguments and results are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgsHash {
    Hmac,
    Sha256,
}

/// The environment, as a function so that tests need not change the process's own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process; a variable that is empty or not UTF-8 counts as unset.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the config file is: `--config`, `SPANTAP_CONFIG`, else `spantap/config.toml` in the user's
/// config folder. Never a file of the current folder: a cloned repository must not steer the proxy.
pub fn file_path(args: &RunArgs, environment: Environment<'_>, config_dir: Option<&Path>) -> Option<PathBuf> {
    args.config
        .clone()
        .or_else(|| environment("SPANTAP_CONFIG").map(PathBuf::from))
        .or_else(|| config_dir.map(|dir| dir.join("config.toml")))
}

/// The config file at `path`, which is where [`file_path`] says. `None` where there is none.
///
/// # Errors
/// When it cannot be read, or when somebody named it and it is not there.
pub fn read(
    path: Option<&Path>,
    args: &RunArgs,
    environment: Environment<'_>,
) -> std::io::Result<Option<File>> {
    let is_named = args.config.is_some() || environment("SPANTAP_CONFIG").is_some();
    match path.map(File::read).transpose()?.flatten() {
        None if is_named => Err(std::io::Error::other("there is none")),
        found => Ok(found),
    }
}

/// Variables among `names` that were probably meant as settings and are none.
pub fn misspelt(names: impl Iterator<Item = String>) -> Vec<Problem> {
    let known = |name: &str| {
        name == "SPANTAP_CONFIG" || SETTINGS.iter().any(|(setting, _)| variable(setting) == name)
    };
    let meant = |name: &str| {
        let rest = name.strip_prefix("SPANTAP_")?;
        let off = rest.strip_prefix("NO_").map(|rest| format!("SPANTAP_{rest}"));
        match off.filter(|setting| known(setting)) {
            Some(setting) => Some(format!("{setting}=false")),
            None => file::nearest(&rest.to_lowercase()).map(variable),
        }
    };
    let misspelt = |name: String| {
        let meant = meant(&name).filter(|_| !known(&name))?;
        let text = format!("it is no setting; did you mean {meant}?");
        Some(Problem { origin: Origin::Environment(name), text })
    };
    names.filter_map(misspelt).collect()
}

impl Config {
    /// Like [`Config::resolve`] where the config file exists and cannot be read: nobody knows what it
    /// says is to be hidden.
    pub fn without_file(args: &RunArgs, environment: Environment<'_>, server_name: &str) -> Config {
        let config = Config::resolve(args, environment, None, server_name);
        Config { redaction: Redaction::Unusable, ..config }
    }

    /// Settles every setting for the server `server_name`. Never fails: what cannot be used is in
    /// [`Config::problems`].
    pub fn resolve(
        args: &RunArgs,
        environment: Environment<'_>,
        file: Option<&File>,
        server_name: &str,
    ) -> Config {
        let mut resolver = Resolver::new(flags(args), environment, file, server_name);
        let word = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let denials = crate::observe::Denials::standard();
        let config = Config {
            file: file.map(|file| file.path.clone()),
            log: resolver.get("log", "true or false", true, |text| text.parse().ok()),
            log_dir: resolver.get("log_dir", "a folder", None, |text| Some(Some(expand_home(text)))),
            max_log_size: resolver.get("max_log_size", "a size, for example 64MiB", 64 << 20, Size::parse),
            max_total_size: resolver
                .get("max_total_size", "a size, for example 2GiB", None, |text| Size::parse(text).map(Some)),
            log_level: resolver.get("log_level", LogLevel::CHOICES, LogLevel::Info, LogLevel::from_word),
            debug_for: resolver.get("debug_for", "a duration, for example 15m", None, optional_duration),
            session_id: resolver.get("session_id", "an id", None, |text| Some(word(text))),
            user_id: resolver.get("user_id", "an id", None, |text| Some(word(text))),
            slow: resolver.get("slow", "a duration, for example 30s", Duration::from_secs(30), |text| {
                crate::text::duration::parse(text).ok()
            }),
            call_timeout: resolver.get(
                "call_timeout",
                "a duration, for example 60s",
                None,
                optional_duration,
            ),
            overload: resolver.get("overload", Overload::CHOICES, Overload::Lose, Overload::from_word),
            trace_env: resolver.get("trace_env", "true or false", true, |text| text.parse().ok()),
            strict: resolver.get("strict", "true or false", false, |text| text.parse().ok()),
            args_hash: resolver.get("args_hash", ArgsHash::CHOICES, ArgsHash::Hmac, ArgsHash::from_word),
            hash_key_file: resolver
                .get("hash_key_file", "a file", None, |text| Some(Some(expand_home(text)))),
            thrash_threshold: resolver.get("thrash.threshold", "a number", 5, |text| text.parse().ok()),
            thrash_warn: resolver.get("thrash.warn", "a number", 3, |text| text.parse().ok()),
            denied_codes: resolver
                .list("denied.codes", "a list of numbers", denials.codes, |text| text.parse().ok()),
            denied_words: resolver
                .list("denied.words", "a list of words", denials.words, |text| Some(text.to_lowercase())),
            usd_per_million_tokens: resolver.get("cost.usd_per_million_tokens", "a price", None, |text| {
                text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0).map(Some)
            }),
            cost_per_call: resolver.table("cost.per_call", "prices by server/tool").unwrap_or_default(),
            side: resolver.get("side", Side::CHOICES, Side::Server, Side::from_word),
            redaction: resolver.redaction(),
            otlp_endpoint: resolver.get("otlp.endpoint", "a URL", None, |text| Some(word(text))),
            otlp: resolver.table_with("otlp", "otlp-set", &args.otlp_set).unwrap_or_default(),
            problems: Vec::new(),
        };
        Config { problems: resolver.problems(), ..config }
    }
}

/// The flags that were given, under the names of the settings.
fn flags(args: &RunArgs) -> BTreeMap<&'static str, String> {
    let seconds = |duration: Duration| format!("{}ms", duration.as_millis());
    let mut flags = BTreeMap::new();
    let mut set = |name, value: Option<String>| {
        if let Some(value) = value {
            flags.insert(name, value);
        }
    };
    set("log", args.no_log.then(|| "false".to_owned()));
    set("log_dir", args.log_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()));
    set("max_log_size", args.max_log_size.clone());
    set("log_level", args.log_level.map(|level| level.word().to_owned()));
    set("debug_for", args.debug_for.map(seconds));
    set("session_id", args.session_id.clone());
    set("user_id", args.user_id.clone());
    set("slow", args.slow.map(seconds));
    set("call_timeout", args.call_timeout.map(seconds));
    set("overload", args.overload.map(|overload| overload.word().to_owned()));
    set("trace_env", args.no_trace_env.then(|| "false".to_owned()));
    set("strict", args.strict.then(|| "true".to_owned()));
    set("thrash.threshold", args.thrash_threshold.map(|count| count.to_string()));
    set("otlp.endpoint", args.otlp.clone());
    set("side", args.side.map(|side| side.word().to_owned()));
    flags
}

fn optional_duration(text: &str) -> Option<Option<Duration>> {
    crate::text::duration::parse(text).ok().map(Some)
}

/// `~/x` is `x` in the home folder.
fn expand_home(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), etcetera::home_dir()) {
        (Some(rest), Ok(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

impl Word for LogLevel {
    const CHOICES: &'static str = "info or debug";
    const WORDS: &'static [(&'static str, LogLevel)] =
        &[("info", LogLevel::Info), ("debug", LogLevel::Debug)];
}

impl Word for Overload {
    const CHOICES: &'static str = "lose or wait";
    const WORDS: &'static [(&'static str, Overload)] = &[("lose", Overload::Lose), ("wait", Overload::Wait)];
}

impl Word for Side {
    const CHOICES: &'static str = "server or client";
    const WORDS: &'static [(&'static str, Side)] = &[("server", Side::Server), ("client", Side::Client)];
}

impl Word for ArgsHash {
    const CHOICES: &'static str = "hmac or sha256";
    const WORDS: &'static [(&'static str, ArgsHash)] =
        &[("hmac", ArgsHash::Hmac), ("sha256", ArgsHash::Sha256)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: RunArgs, environment: &[(&str, &str)], text: &str) -> Config {
        let file = File::parse(Path::new("/etc/spantap.toml"), text);
        let lookup = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Config::resolve(&args, &lookup, Some(&file), "github")
    }

    #[test]
    fn a_flag_wins_over_the_environment_that_over_the_server_section_that_over_the_file() {
        let text =
            "slow = '1s'\ncall_timeout = '1s'\n[server.github]\ncall_timeout = '2s'\n[thrash]\nthreshold = 9";
        let args = RunArgs { slow: Some(Duration::from_secs(4)), ..RunArgs::default() };
        let config = resolve(args, &[("SPANTAP_SLOW", "3s"), ("SPANTAP_SIDE", "client")], text);
        assert_eq!(config.slow.value, Duration::from_secs(4));
        assert_eq!(config.slow.origin, Origin::Flag);
        assert_eq!(config.side.value, Side::Client);
        assert_eq!(config.side.origin, Origin::Environment("SPANTAP_SIDE".to_owned()));
        assert_eq!(config.call_timeout.value, Some(Duration::from_secs(2)));
        assert_eq!(config.call_timeout.origin, Origin::File { path: "/etc/spantap.toml".into(), line: 4 });
        assert_eq!(config.thrash_threshold.value, 9);
        assert_eq!(config.max_log_size.origin, Origin::Default);
        assert!(config.problems.is_empty(), "{:?}", config.problems);
    }

    #[test]
    fn a_bad_value_is_reported_without_being_quoted_and_the_rest_of_the_file_counts() {
        let config = resolve(
            RunArgs::default(),
            &[],
            "slow = 'ghp_secret'\nthrash.threshold = 7\ncolour = 'red'\n[server.other]\nslow = '7s'",
        );
        assert_eq!(config.slow.value, Duration::from_secs(30));
        assert_eq!(config.thrash_threshold.value, 7);
        let problems: Vec<String> = config.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "/etc/spantap.toml:1: `slow` is not a duration, for example 30s; ignoring it",
                "/etc/spantap.toml:3: `colour` is no setting; `spantap doctor` lists them",
            ]
        );
    }

    #[test]
    fn a_line_that_is_no_toml_does_not_take_the_others_with_it() {
        let config = resolve(RunArgs::default(), &[], "slow = '9s'\nthis is not toml\nlog = false\n");
        assert_eq!(config.slow.value, Duration::from_secs(9));
        assert!(!config.log.value);
        assert_eq!(config.problems.len(), 1);
        assert!(config.problems[0].to_string().starts_with("/etc/spantap.toml:2: not valid TOML"));
    }
}
