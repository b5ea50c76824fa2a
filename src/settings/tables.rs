//! The tables of the config file that are not single settings: `[otlp]`, `[redaction]`, `[cost.per_call]`.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::export::otlp;
use crate::observe::redact;
use crate::settings::entry::{Misfit, read};
use crate::settings::file::{ConfigFile, nearest_of, shown};
use crate::settings::origin::{SettingOrigin, SettingProblem};
use crate::settings::redaction::RedactionTable;
use crate::settings::resolve::SettingResolver;

impl SettingResolver<'_> {
    pub(super) fn cost_per_call(&mut self) -> BTreeMap<String, f64> {
        const NAME: &str = "cost.per_call";
        let Some((table, origin)) = self.file.and_then(|file| file.table(self.server_name, NAME)) else {
            return BTreeMap::new();
        };
        table.try_into().unwrap_or_else(|_| {
            self.refuse(NAME, "prices by server/tool", origin);
            BTreeMap::new()
        })
    }

    /// Returns the `[otlp]` table, the entries of `--otlp-set`, and both together. An entry that cannot be used
    /// is a problem, and the others count.
    pub(crate) fn otlp_tables(&mut self) -> otlp::OtlpTables {
        const NAME: &str = "otlp";
        const FLAG: &str = "--otlp-set";
        let mut table = Table::new();
        if let Some(file) = self.file
            && let Some((Value::Table(found), origin)) = file.table(self.server_name, NAME)
        {
            for (key, value) in found {
                let alone = Table::from_iter([(key.clone(), value.clone())]);
                let Err(misfit) = read::<otlp::OtlpTable>(Value::Table(alone)) else {
                    table.insert(key, value);
                    continue;
                };
                let is_it = |path: &[String], _: &Value| (path.first() == Some(&key)).then_some(());
                let line = file.find_in(self.server_name, NAME, is_it).map(|(_, line)| line);
                let text = describe("otlp.", &key, &misfit, "telemetry.md");
                self.ignore(NAME, line.unwrap_or_else(|| origin.clone()), &text);
            }
        }
        let file = Value::Table(table);
        let (mut flags, mut all) = (Value::Table(Table::new()), file.clone());
        for entry in &self.given.otlp_set {
            let Some(parsed) = entry_of(entry) else {
                self.ignore(NAME, SettingOrigin::Flag, &format!("`{FLAG}` expects KEY=VALUE"));
                continue;
            };
            let mut laid_over = all.clone();
            lay_over(&mut laid_over, parsed.clone());
            match read::<otlp::OtlpTable>(laid_over.clone()) {
                Ok(_) => {
                    all = laid_over;
                    lay_over(&mut flags, parsed);
                }
                Err(misfit) => {
                    let key = entry.split('=').next().unwrap_or_default();
                    let text = describe(&format!("{FLAG} "), key, &misfit, "telemetry.md");
                    self.ignore(NAME, SettingOrigin::Flag, &text);
                }
            }
        }
        let [flags, file, all] = [flags, file, all].map(|table| read(table).unwrap_or_default());
        otlp::OtlpTables { flags, file, all }
    }

    fn ignore(&mut self, setting: &'static str, origin: SettingOrigin, text: &str) {
        let text = format!("{text}; ignoring it");
        self.problems.push(SettingProblem { origin, setting: Some(setting), text });
    }

    /// Returns the `[redaction]` table. If a part of it cannot be used, the whole table cannot be applied:
    /// the user relies on it.
    pub(super) fn redaction(&mut self) -> RedactionTable {
        const NAME: &str = "redaction";
        let Some(file) = self.file else { return RedactionTable::Settings(Box::default()) };
        let (origin, text) = match file.hides_redaction() {
            Some(origin) => {
                (origin, "a line of this file cannot be read, and may belong to `redaction`".to_owned())
            }
            None => {
                let Some((table, origin)) = file.table(self.server_name, NAME) else {
                    return RedactionTable::Settings(Box::default());
                };
                match redaction_of(file, self.server_name, table) {
                    Ok(settings) => return RedactionTable::Settings(Box::new(settings)),
                    Err((text, line)) => (line.unwrap_or(origin), text),
                }
            }
        };
        let text = format!("{text}; no free text is written until this is fixed");
        self.problems.push(SettingProblem { origin, setting: Some(NAME), text });
        RedactionTable::Unusable
    }
}

/// Reads the `[redaction]` table, or finds the first entry that cannot be used and its line.
fn redaction_of(
    file: &ConfigFile,
    server: &str,
    table: Value,
) -> Result<redact::RedactionSettings, (String, Option<SettingOrigin>)> {
    let Ok(settings) = read::<redact::RedactionSettings>(table) else {
        // Each entry is tried alone.
        let misfit = |name: &[String], value: &Value| {
            let key = name.join(".");
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            let misfit = read::<redact::RedactionSettings>(Value::Table(alone)).err()?;
            Some(describe("redaction.", &key, &misfit, "redaction.md"))
        };
        return Err(match file.find_in(server, "redaction", misfit) {
            Some((text, line)) => (text, Some(line)),
            None => ("`redaction` is not a table that docs/redaction.md describes".to_owned(), None),
        });
    };
    let Err(problem) = settings.check() else { return Ok(settings) };
    let is_it =
        |name: &[String], _: &Value| name.first().is_some_and(|first| first == problem.key).then_some(());
    let line = file.find_in(server, "redaction", is_it).map(|(_, line)| line);
    Err((problem.to_string(), line))
}

/// Describes why the entry `key` of a table cannot be used; `place` is the text before the key, `page` the
/// page of the documentation. The value is never quoted.
fn describe(place: &str, key: &str, misfit: &Misfit, page: &str) -> String {
    let entry = format!("`{place}{}`", shown(key));
    match misfit {
        Misfit::UnknownEntry(names) => match nearest_of(key, names.iter().copied()) {
            Some(meant) => format!("{entry} is not an entry; did you mean `{meant}`?"),
            None => format!("{entry} is not an entry"),
        },
        Misfit::UnknownWord(words) => format!("{entry} is not one of {}", words.join(", ")),
        Misfit::Type(Some(expected)) => format!("{entry} is not {expected}"),
        Misfit::Type(None) | Misfit::Other => format!("{entry} is not a value that docs/{page} describes"),
    }
}

/// Parses `KEY=VALUE` as TOML. A value that is not TOML is a text, so that the user need not quote it for the
/// shell and for TOML.
fn entry_of(text: &str) -> Option<Value> {
    let (key, value) = text.split_once('=')?;
    let quoted = Value::String(value.to_owned());
    let table = toml::from_str::<Table>(&format!("{key} = {value}"))
        .or_else(|_| toml::from_str::<Table>(&format!("{key} = {quoted}")));
    // A line break would begin another entry.
    table.ok().filter(|table| table.len() == 1 && !text.contains('\n')).map(Value::Table)
}

/// Merges tables, and replaces everything else.
fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Table(below), Value::Table(above)) => {
            for (key, value) in above {
                match below.get_mut(&key) {
                    Some(entry) => lay_over(entry, value),
                    None => drop(below.insert(key, value)),
                }
            }
        }
        (below, above) => *below = above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_over_a_table() {
        let mut table: Value = toml::from_str("a = 1\n[b]\nc = 'x'").unwrap();
        for entry in ["b.d=true", "a=grpc", "b.\"e.f\"=Bearer x=y", "g=[\"h\"]"] {
            lay_over(&mut table, entry_of(entry).unwrap());
        }
        let wanted: Value =
            toml::from_str("a = 'grpc'\ng = ['h']\n[b]\nc = 'x'\nd = true\n'e.f' = 'Bearer x=y'").unwrap();
        assert_eq!(table, wanted);
        assert_eq!(entry_of("novalue"), None);
    }
}
