//! Every setting with its value and its origin, without any part that may be a secret.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cli::Out;
use crate::cli::doctor::shown;
use crate::export::otlp::SignalTarget;
use crate::observe::redact::RedactionMode;
use crate::present::Printable;
use crate::present::format::plural;
use crate::present::table::Tone;
use crate::settings::{
    DECLARATIONS, RedactionTable, SettingDeclaration, Settings, address, process_environment,
};

#[derive(Debug, Serialize)]
pub(super) struct SettingRow {
    pub setting: &'static str,
    pub value: String,
    pub origin: String,
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "none".to_owned(), |time| format!("{} s", time.as_secs_f64()))
}

/// Returns one row for each declared setting, then one for each table; `folder` is the folder of the logs.
pub(super) fn rows(settings: &Settings, folder: Option<&Path>) -> Vec<SettingRow> {
    let folder = folder.map(|folder| folder.display().to_string());
    let row = |setting: &SettingDeclaration| {
        let value = match (setting.name, (setting.show)(settings)) {
            ("log_dir", _) => folder.clone().unwrap_or_else(|| "none".to_owned()),
            (_, Some(value)) => value,
            ("server", None) => "from the command".to_owned(),
            (_, None) => setting.default.to_owned(),
        };
        SettingRow {
            setting: setting.name,
            value: shown(&value),
            origin: shown(&(setting.origin)(settings).to_string()),
        }
    };
    let mut rows: Vec<SettingRow> = DECLARATIONS.iter().map(row).collect();
    rows.extend(tables(settings));
    rows
}

/// Prints the settings that are set, or all of them.
pub(super) fn print(out: &mut Out<'_>, settings: &[SettingRow], all: bool) -> std::io::Result<()> {
    let is_shown = |row: &&SettingRow| all || row.origin != "default";
    let shown: Vec<&SettingRow> = settings.iter().filter(is_shown).collect();
    let defaults = plural((settings.len() - shown.len()) as u64, "setting");
    writeln!(out)?;
    if !shown.is_empty() {
        writeln!(out, "{}", Tone::Strong.paint("Settings:"))?;
    }
    let width = shown.iter().map(|row| row.setting.len()).max().unwrap_or(0);
    for row in &shown {
        let value = Printable::new(&row.value);
        writeln!(
            out,
            "  {:width$}  {value}  {}",
            row.setting,
            Tone::Faint.paint(format!("({})", row.origin))
        )?;
    }
    match shown.len() == settings.len() {
        true => Ok(()),
        false => writeln!(out, "{defaults} with the default; `spantap doctor --all` lists them"),
    }
}

/// Returns the rows of the tables. A table has several sources, so its origin is a text.
fn tables(config: &Settings) -> Vec<SettingRow> {
    let table = |setting, value: String, origin: &str| SettingRow {
        setting,
        value: shown(&value),
        origin: origin.to_owned(),
    };
    let file = |is_default: bool| if is_default { "default" } else { "config file" };
    let (settings, _) = config.otlp(&process_environment);
    let mut rows = Vec::new();
    if let Some(settings) = settings {
        let signals = [
            ("otlp traces", &settings.traces),
            ("otlp metrics", &settings.metrics),
            ("otlp logs", &settings.logs),
        ];
        for (setting, target) in signals {
            let value = target.as_ref().map_or_else(|| "not sent".to_owned(), way);
            rows.push(table(setting, value, "flag, OTEL_* and [otlp] together"));
        }
    }
    let redaction = match &config.redaction {
        RedactionTable::Unusable => "cannot be applied: no free text is written".to_owned(),
        RedactionTable::Settings(settings) => match settings.mode {
            RedactionMode::Default => "default rules".to_owned(),
            RedactionMode::Strict => "strict: no free text".to_owned(),
        },
    };
    let is_default =
        matches!(&config.redaction, RedactionTable::Settings(settings) if **settings == Default::default());
    rows.push(table("redaction", redaction, file(is_default)));
    let prices = config.cost_per_call.len();
    rows.push(table("cost.per_call", plural(prices as u64, "price"), file(prices == 0)));
    // The arguments may contain a secret.
    let program = config.notify.first().cloned().unwrap_or_else(|| "none".to_owned());
    rows.push(table("notify", program, file(config.notify.is_empty())));
    rows
}

/// Describes how one signal is sent, without any part that may be a secret.
fn way(target: &SignalTarget) -> String {
    let scheme = target.endpoint.split("://").next().unwrap_or_default();
    let address = address(&target.endpoint).unwrap_or_else(|| "none".to_owned());
    let mut way = format!("{scheme}://{address} by {}", target.protocol);
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
        (
            "left out: headers and certificates of",
            Some(target.left_out.join(", ")).filter(|layers| !layers.is_empty()),
        ),
    ];
    for (name, fact) in facts {
        way.extend(fact.map(|fact| format!(", {name} {fact}")));
    }
    way
}
