//! The table of the settings. A setting is declared here and nowhere else: its flag, its environment
//! variable, its key in the config file, its row in `spantap doctor` and its row in
//! `docs/configuration.md` are made from the declaration.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::export::otlp;
use crate::record::cost::ModelPrice;
use crate::record::words::Side;
use crate::settings::kind::{self, FlagValue, SettingKind, SettingText};
use crate::settings::listen::ListenAddress;
use crate::settings::origin::{Setting, SettingOrigin, SettingProblem};
use crate::settings::redaction::RedactionTable;
use crate::settings::words::{ArgsHash, LogLevel, Overload, Propagate};

/// The flag of a setting, without its dashes.
#[derive(Clone, Copy)]
pub(crate) enum SettingFlag {
    None,
    /// A flag without a value, which sets the setting to `value`.
    Switch {
        long: &'static str,
        value: &'static str,
        help: &'static str,
    },
    /// A flag with a value, which the help calls `value_name`.
    Value {
        long: &'static str,
        value_name: &'static str,
    },
    /// A flag of `spantap collect` alone.
    OfCollect {
        long: &'static str,
    },
}

const fn switch(long: &'static str, value: &'static str, help: &'static str) -> SettingFlag {
    SettingFlag::Switch { long, value, help }
}

const fn value(long: &'static str, value_name: &'static str) -> SettingFlag {
    SettingFlag::Value { long, value_name }
}

const fn of_collect(long: &'static str) -> SettingFlag {
    SettingFlag::OfCollect { long }
}

pub struct SettingDeclaration {
    /// Key in the config file. The variable is `SPANTAP_` with the name in upper case and `_` for `.`.
    pub name: &'static str,
    pub(crate) help: &'static str,
    /// The default as a text for the user; "none" without a default.
    pub(crate) default: &'static str,
    pub(crate) flag: SettingFlag,
    pub(crate) flag_value: FlagValue,
    /// Sets the setting to a text of the command line.
    pub(crate) give: fn(&mut GivenSettings, &OsStr),
    /// Shows the value, without any part that may be a secret; `None` without a value.
    pub(crate) show: fn(&Settings) -> Option<String>,
    pub(crate) origin: fn(&Settings) -> &SettingOrigin,
}

impl SettingDeclaration {
    pub(crate) fn variable(&self) -> String {
        variable(self.name)
    }

    /// Returns the row of this setting in `docs/configuration.md`.
    pub fn documentation(&self) -> String {
        let flag = match self.flag {
            SettingFlag::None => String::new(),
            SettingFlag::Switch { long, .. } | SettingFlag::Value { long, .. } => format!("`--{long}` "),
            SettingFlag::OfCollect { long } => format!("`collect --{long}` "),
        };
        let default = match self.default {
            phrase if phrase == "none" || phrase.contains(' ') => phrase.to_owned(),
            literal => format!("`{literal}`"),
        };
        format!("| `{}` | {flag}| {default} | {} |", self.name, self.help)
    }
}

/// The one setting that has no flag and no variable, and is therefore not in the table of settings.
pub(super) const NOTIFY: &str = "notify";

pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    DECLARATIONS.iter().map(|setting| setting.name)
}

/// Returns the environment variable of the setting `name`.
pub(super) fn variable(name: &str) -> String {
    format!("SPANTAP_{}", name.to_uppercase().replace('.', "_"))
}

macro_rules! value_type {
    ($given:ty) => {
        $given
    };
    ($given:ty, $value:ty) => {
        $value
    };
}

macro_rules! flag {
    () => {
        SettingFlag::None
    };
    ($flag:expr) => {
        $flag
    };
}

macro_rules! settings {
    ($(
        $(#[$doc:meta])*
        $field:ident: $given:ty $(=> $value:ty)? = $default:expr, {
            name: $name:literal, kind: $kind:expr, default: $shown:literal, $(flag: $flag:expr,)?
            help: $help:literal,
        }
    )*) => {
        /// The settings that the command line gives.
        #[derive(Clone, Debug, Default)]
        pub struct GivenSettings {
            /// The config file to read instead of the usual one.
            pub config: Option<PathBuf>,
            /// Entries of the `[otlp]` table, each `KEY=VALUE`.
            pub otlp_set: Vec<String>,
            $($(#[$doc])* pub $field: Option<$given>,)*
            /// Names of the settings whose flag has an unusable value.
            pub(crate) unusable: Vec<&'static str>,
        }

        /// All settings, each with its origin.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[$doc])* pub $field: Setting<value_type!($given $(, $value)?)>,)*
            /// Price of one call in USD, by glob over `server/tool`.
            pub cost_per_call: BTreeMap<String, f64>,
            /// Prices of model calls, by glob over the model.
            pub cost_models: BTreeMap<String, ModelPrice>,
            /// Thresholds of repeated calls for tools, by glob over the tool's name.
            pub thrash_tools: BTreeMap<String, NonZeroU32>,
            /// The command to run when a server needs attention, with its arguments; empty without one.
            pub notify: Vec<String>,
            pub redaction: RedactionTable,
            /// The `[otlp]` table and the entries of `--otlp-set`.
            pub otlp_tables: otlp::OtlpTables,
            /// The values that cannot be used, in the order of the config file.
            pub problems: Vec<SettingProblem>,
        }

        /// All declared settings, in the order in which they are shown.
        pub static DECLARATIONS: &[SettingDeclaration] = &[$(SettingDeclaration {
            name: $name,
            help: $help,
            default: $shown,
            flag: flag!($($flag)?),
            flag_value: { const KIND: SettingKind<$given> = $kind; KIND.flag_value },
            give: |given, text| {
                const KIND: SettingKind<$given> = $kind;
                let written = SettingText { texts: vec![text.to_owned()], origin: SettingOrigin::Flag };
                given.$field = (KIND.parse)(&written);
                if given.$field.is_none() {
                    given.unusable.push($name);
                }
            },
            show: |settings| {
                const KIND: SettingKind<$given> = $kind;
                let value: Option<&$given> = (&settings.$field.value).into();
                value.map(KIND.show)
            },
            origin: |settings| &settings.$field.origin,
        }),*];

        /// Looks settings up in their sources. Each setting has a method.
        pub(crate) trait SettingLookup {
            /// Returns the settings of the command line.
            fn given(&self) -> &GivenSettings;

            /// Returns the value of the first source of the setting `name` that `kind` can parse. `given` is
            /// the value of its flag.
            fn get<G, T: From<G>>(
                &mut self,
                name: &'static str,
                kind: &SettingKind<G>,
                given: Option<G>,
                default: impl FnOnce() -> T,
            ) -> Setting<T>;

            $(fn $field(&mut self) -> Setting<value_type!($given $(, $value)?)> {
                let given = self.given().$field.clone();
                self.get($name, &$kind, given, || $default)
            })*

            /// Returns every setting of the table. The tables of the config file are empty.
            fn single_settings(&mut self) -> Settings {
                Settings {
                    $($field: self.$field(),)*
                    cost_per_call: BTreeMap::new(),
                    cost_models: BTreeMap::new(),
                    thrash_tools: BTreeMap::new(),
                    notify: Vec::new(),
                    redaction: RedactionTable::Unusable,
                    otlp_tables: otlp::OtlpTables::default(),
                    problems: Vec::new(),
                }
            }
        }
    };
}

settings! {
    server: String => Option<String> = None, {
        name: "server", kind: kind::NAME, default: "from the command, e.g. server-filesystem",
        flag: value("server", "NAME"),
        help: "Name of the server in logs and metrics",
    }
    log: bool = true, {
        name: "log", kind: kind::BOOL, default: "true",
        flag: switch("no-log", "false", "Write no session log"),
        help: "Write a session log",
    }
    /// `None`: the folder of [`sessions_dir`](crate::settings::paths::sessions_dir).
    log_dir: PathBuf => Option<PathBuf> = None, {
        name: "log_dir", kind: kind::FOLDER, default: "spantap/sessions in $XDG_STATE_HOME or ~/.local/state",
        flag: value("log-dir", "DIR"),
        help: "Folder for session logs",
    }
    /// In bytes.
    max_log_size: u64 = 64 << 20, {
        name: "max_log_size", kind: kind::SIZE, default: "64MiB", flag: value("max-log-size", "SIZE"),
        help: "Size at which a session log continues in a new file part",
    }
    /// In bytes.
    max_session_size: u64 = 1 << 30, {
        name: "max_session_size", kind: kind::SIZE, default: "1GiB",
        help: "Size of the whole log of one session, above which records are dropped and counted",
    }
    /// In bytes.
    max_total_size: u64 => Option<u64> = None, {
        name: "max_total_size", kind: kind::SIZE, default: "none",
        help: "Size of all session logs together; at start the oldest are deleted until the rest fits",
    }
    log_level: LogLevel = LogLevel::Info, {
        name: "log_level", kind: kind::word("info or debug"), default: "info",
        flag: value("log-level", "LEVEL"),
        help: "Level of detail: info, or debug with result summaries, notifications and stderr lines",
    }
    debug_for: Duration => Option<Duration> = None, {
        name: "debug_for", kind: kind::TIME, default: "none", flag: value("debug-for", "DURATION"),
        help: "Record at debug level for this long after the start, then at info level, e.g. 15m",
    }
    session_id: String => Option<String> = None, {
        name: "session_id", kind: kind::ID, default: "from the host", flag: value("session-id", "ID"),
        help: "Agent session that this connection belongs to",
    }
    user_id: String => Option<String> = None, {
        name: "user_id", kind: kind::ID, default: "none", flag: value("user-id", "ID"),
        help: "Person on whose behalf the host runs",
    }
    origin: String => Option<String> = None, {
        name: "origin", kind: kind::ORIGIN, default: "none", flag: value("origin", "ORIGIN"),
        help: "Entry that started the server, as wrap writes it: host and scope, e.g. claude-code/user",
    }
    record_cwd: bool = true, {
        name: "record_cwd", kind: kind::BOOL, default: "true",
        help: "Record the working folder of the server, with the home folder as ~",
    }
    slow: Duration = Duration::from_secs(30), {
        name: "slow", kind: kind::TIME, default: "30s", flag: value("slow", "DURATION"),
        help: "Report a call that has been open for this long",
    }
    call_timeout: Duration => Option<Duration> = None, {
        name: "call_timeout", kind: kind::TIME, default: "none", flag: value("call-timeout", "DURATION"),
        help: "Record a call as timed out if it was answered later than this, or never",
    }
    overload: Overload = Overload::Lose, {
        name: "overload", kind: kind::word("lose or wait"), default: "lose",
        flag: value("overload", "OVERLOAD"),
        help: "When the observer cannot keep up: lose records, or wait and slow the traffic down",
    }
    trace_env: bool = true, {
        name: "trace_env", kind: kind::BOOL, default: "true",
        flag: switch("no-trace-env", "false", "Leave TRACEPARENT and TRACESTATE in the server's environment alone"),
        help: "Set TRACEPARENT and TRACESTATE in the server's environment",
    }
    session_root: bool = false, {
        name: "session_root", kind: kind::BOOL, default: "false",
        flag: switch("session-root", "true", "Put the servers of one session into one trace, below one root span"),
        help: "Put the servers of one session into one trace, below one root span",
    }
    propagate: Propagate = Propagate::Off, {
        name: "propagate", kind: kind::word("off or meta"), default: "off",
        flag: value("propagate", "PLACE"),
        help: "Insert traceparent into params._meta of requests that have none (meta), or change no byte (off)",
    }
    strict: bool = false, {
        name: "strict", kind: kind::BOOL, default: "false",
        flag: switch("strict", "true", "Refuse to start if logging or export cannot be set up"),
        help: "Refuse to start if logging or export cannot be set up",
    }
    args_hash: ArgsHash = ArgsHash::Hmac, {
        name: "args_hash", kind: kind::word("hmac or sha256"), default: "hmac",
        help: "Hash of arguments and results: hmac with a secret key, or sha256, from which short values can be guessed",
    }
    /// `None`: the key of this installation.
    hash_key_file: PathBuf => Option<PathBuf> = None, {
        name: "hash_key_file", kind: kind::FILE, default: "one key per installation",
        help: "File with the 32-byte hash key, to share one key across machines",
    }
    thrash_threshold: u32 = 5, {
        name: "thrash.threshold", kind: kind::COUNT, default: "5", flag: value("thrash-threshold", "N"),
        help: "Report an agent that makes the same call more often than this",
    }
    thrash_warn: u32 = 3, {
        name: "thrash.warn", kind: kind::COUNT, default: "3",
        help: "Mark a call on the terminal from this repetition on",
    }
    result_limit: u32 => Option<u32> = None, {
        name: "result_limit", kind: kind::COUNT, default: "that of the host",
        help: "Tokens of a result from which on the host cuts it; 0 for no limit",
    }
    denied_codes: Vec<i64> = crate::observe::Denials::standard().codes, {
        name: "denied.codes", kind: kind::CODES, default: "401, 403",
        help: "JSON-RPC error codes that mean a refusal",
    }
    /// In lower case.
    denied_words: Vec<String> = crate::observe::Denials::standard().words, {
        name: "denied.words", kind: kind::WORDS, default: "denied, forbidden, unauthorized, unauthorised, not authorized, rejected by user, rejected by the user, declined by user, declined by the user, user rejected, user declined, blocked by policy",
        help: "Words in an error message that mean a refusal",
    }
    usd_per_million_tokens: f64 => Option<f64> = None, {
        name: "cost.usd_per_million_tokens", kind: kind::PRICE, default: "none",
        help: "Price of a million tokens in USD, for the estimate of cost",
    }
    links_trace: String => Option<String> = None, {
        name: "links.trace", kind: kind::LINK, default: "none",
        help: "Address of a trace in your tracing backend, with {trace_id} or {span_id}: show, top and report link to it",
    }
    /// Wins over the endpoints of the `[otlp]` table if a flag or a variable contains it.
    otlp_endpoint: String => Option<String> = None, {
        name: "otlp.endpoint", kind: kind::URL, default: "none", flag: value("otlp", "URL"),
        help: "Collector that receives spans and metrics, e.g. http://localhost:4318",
    }
    /// `None`: the ports of OTLP on this machine.
    collect_listen: Vec<ListenAddress> => Option<Vec<ListenAddress>> = None, {
        name: "collect.listen", kind: kind::LISTEN, default: "4318 and 4317", flag: of_collect("listen"),
        help: "Ports of this machine, or addresses, on which spantap collect listens",
    }
    collect_token_file: PathBuf => Option<PathBuf> = None, {
        name: "collect.token_file", kind: kind::FILE, default: "none", flag: of_collect("token-file"),
        help: "File with the token that clients must send; spantap collect listens for other machines only with one",
    }
    collect_forward: String => Option<String> = None, {
        name: "collect.forward", kind: kind::URL, default: "none", flag: of_collect("forward"),
        help: "Collector to which spantap collect passes every request as it came, prompts included if agents send them",
    }
    collect_forward_headers: Vec<String> => Option<Vec<String>> = None, {
        name: "collect.forward_headers", kind: kind::HEADERS, default: "none", flag: of_collect("forward-header"),
        help: "Headers of requests that are passed on (NAME), or that are added (NAME=VALUE, NAME=@FILE)",
    }
    side: Side = Side::Server, {
        name: "side", kind: kind::word("server or client"), default: "server", flag: value("side", "SIDE"),
        help: "Side of the connection that spans and metrics describe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SettingSources;

    #[test]
    fn the_default_that_is_shown_is_the_value_without_a_source() {
        let settings = SettingSources::read(GivenSettings::default(), &|_| None, None).settings("");
        for declaration in DECLARATIONS {
            let mut given = GivenSettings::default();
            (declaration.give)(&mut given, OsStr::new(declaration.default));
            let parsed = SettingSources::read(given, &|_| None, None).settings("");
            let name = declaration.name;
            let is_literal = declaration.default != "none" && !declaration.default.contains(' ');
            if is_literal || name.starts_with("denied.") {
                assert_eq!((declaration.show)(&settings).as_deref(), Some(declaration.default), "{name}");
                assert_eq!((declaration.show)(&parsed).as_deref(), Some(declaration.default), "{name}");
            } else {
                assert_eq!((declaration.show)(&settings), None, "{name}");
            }
        }
    }

    #[test]
    fn a_value_that_may_name_a_person_is_not_shown() {
        let given = GivenSettings {
            user_id: Some("ann".into()),
            session_id: Some("ann".into()),
            ..GivenSettings::default()
        };
        let settings = SettingSources::read(given, &|_| None, None).settings("");
        let mut shown = DECLARATIONS.iter().filter_map(|declaration| (declaration.show)(&settings));
        assert!(shown.all(|value| !value.contains("ann")));
    }
}
