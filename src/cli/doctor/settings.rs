//! Every setting with its value and where it came from; nothing that could be a secret is shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cli::doctor::{address, tilde};
use crate::export::otlp::SignalTarget;
use crate::observe::redact::RedactionMode;
use crate::settings::{self, Config, Redaction};

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub setting: &'static str,
    pub value: String,
    pub origin: String,
}

fn row<T>(setting: &'static str, value: &settings::Setting<T>, shown: impl Into<String>) -> Shown {
    Shown { setting, value: tilde(&shown.into()), origin: tilde(&value.origin.to_string()) }
}

fn word(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(none, |time| format!("{} s", time.as_secs_f64()))
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(none, |bytes| match bytes {
        0..1_048_576 => format!("{bytes} B"),
        _ => format!("{} MiB", bytes >> 20),
    })
}

fn none() -> String {
    "none".to_owned()
}

/// Ids may name a person: whether there is one is enough.
fn is_set(value: Option<&String>) -> &'static str {
    if value.is_some() { "set" } else { "none" }
}

/// The name as the proxy would take it, before it looks at the command.
fn server_row(flag: &str) -> Shown {
    let (value, origin) = match (flag, settings::process_environment("SPANTAP_SERVER")) {
        ("", Some(name)) => (name, settings::Origin::Environment("SPANTAP_SERVER".to_owned())),
        ("", None) => ("from the command".to_owned(), settings::Origin::Default),
        (name, _) => (name.to_owned(), settings::Origin::Flag),
    };
    Shown { setting: "server", value, origin: origin.to_string() }
}

/// One row for each of [`settings::SETTINGS`], in its order, then what the tables come to.
pub(super) fn rows(config: &Config, folder: Option<&Path>, server: &str) -> Vec<Shown> {
    let folder = folder.map_or_else(none, |folder| folder.display().to_string());
    let file = config.hash_key_file.value.as_deref();
    let codes: Vec<String> = config.denied_codes.value.iter().map(i64::to_string).collect();
    let price = config.usd_per_million_tokens.value;
    let endpoint = config.otlp_endpoint.value.as_deref().and_then(address).unwrap_or_else(none);
    let mut rows = vec![
        server_row(server),
        row("log", &config.log, config.log.value.to_string()),
        row("log_dir", &config.log_dir, folder),
        row("max_log_size", &config.max_log_size, size(Some(config.max_log_size.value))),
        row("max_total_size", &config.max_total_size, size(config.max_total_size.value)),
        row("log_level", &config.log_level, word(&config.log_level.value)),
        row("debug_for", &config.debug_for, time(config.debug_for.value)),
        row("session_id", &config.session_id, is_set(config.session_id.value.as_ref())),
        row("user_id", &config.user_id, is_set(config.user_id.value.as_ref())),
        row("slow", &config.slow, time(Some(config.slow.value))),
        row("call_timeout", &config.call_timeout, time(config.call_timeout.value)),
        row("overload", &config.overload, word(&config.overload.value)),
        row("trace_env", &config.trace_env, config.trace_env.value.to_string()),
        row("strict", &config.strict, config.strict.value.to_string()),
        row("args_hash", &config.args_hash, word(&config.args_hash.value)),
        row(
            "hash_key_file",
            &config.hash_key_file,
            file.map_or_else(none, |file| file.display().to_string()),
        ),
        row("thrash.threshold", &config.thrash_threshold, config.thrash_threshold.value.to_string()),
        row("thrash.warn", &config.thrash_warn, config.thrash_warn.value.to_string()),
        row("denied.codes", &config.denied_codes, codes.join(", ")),
        row("denied.words", &config.denied_words, format!("{} words", config.denied_words.value.len())),
        row(
            "cost.usd_per_million_tokens",
            &config.usd_per_million_tokens,
            price.map_or_else(none, |price| price.to_string()),
        ),
        row("otlp.endpoint", &config.otlp_endpoint, endpoint),
        row("side", &config.side, word(&config.side.value)),
    ];
    rows.extend(tables(config));
    rows
}

/// Where a table's value is from is said with the value: it is put together from several sources.
fn tables(config: &Config) -> Vec<Shown> {
    let shown = |setting, value: String, origin: &str| Shown {
        setting,
        value: tilde(&value),
        origin: origin.to_owned(),
    };
    let file = |is_default: bool| if is_default { "default" } else { "config file" };
    let (settings, _) = config.otlp(&settings::process_environment);
    let mut rows = Vec::new();
    if let Some(settings) = settings {
        let signals = [
            ("otlp traces", &settings.traces),
            ("otlp metrics", &settings.metrics),
            ("otlp logs", &settings.logs),
        ];
        for (setting, target) in signals {
            let value = target.as_ref().map_or_else(|| "not sent".to_owned(), way);
            rows.push(shown(setting, value, "flag, OTEL_* and [otlp] together"));
        }
    }
    let redaction = match &config.redaction {
        Redaction::Unusable => "cannot be applied: no free text is written".to_owned(),
        Redaction::Settings(settings) => match settings.mode {
            RedactionMode::Default => "default rules".to_owned(),
            RedactionMode::Strict => "strict: no free text".to_owned(),
        },
    };
    let is_default =
        matches!(&config.redaction, Redaction::Settings(settings) if **settings == Default::default());
    rows.push(shown("redaction", redaction, file(is_default)));
    let prices = config.cost_per_call.len();
    rows.push(shown("cost.per_call", format!("{prices} prices"), file(prices == 0)));
    rows
}

/// How one signal is sent, without what may be a secret.
fn way(target: &SignalTarget) -> String {
    let scheme = target.endpoint.split("://").next().unwrap_or_default();
    let address = address(&target.endpoint).unwrap_or_else(none);
    let mut way = format!("{scheme}://{address} by {}", target.protocol.word());
    if target.gzip {
        way.push_str(", gzip");
    }
    way.push_str(&format!(", time limit {}", time(target.timeout)));
    let names: Vec<&str> = target.headers.iter().map(|(name, _)| name.as_str()).collect();
    let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let facts = [
        ("headers", (!names.is_empty()).then(|| names.join(" "))),
        ("certificate", file(&target.certificate)),
        ("client certificate", file(&target.client_certificate)),
    ];
    for (name, fact) in facts {
        way.extend(fact.map(|fact| format!(", {name} {fact}")));
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run::RunArgs;

    #[test]
    fn every_setting_is_shown_once_and_no_value_that_names_a_person() {
        let args = RunArgs { user_id: Some("ann".to_owned()), ..RunArgs::default() };
        let config = Config::resolve(&args, &|_| None, None, "");
        let rows = rows(&config, None, "");
        let shown: Vec<&str> = rows.iter().map(|row| row.setting).take(settings::SETTINGS.len()).collect();
        let names: Vec<&str> = settings::SETTINGS.iter().map(|(name, _)| *name).collect();
        assert_eq!(shown, names);
        assert!(rows.iter().all(|row| !row.value.contains("ann")));
    }
}
