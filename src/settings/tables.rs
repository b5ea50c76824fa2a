//! The tables of the config file that are not single settings: `[otlp]`, `[redaction]`, `[cost.per_call]`,
//! `[cost.models]`, `[thrash.tools]`; and `notify`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::export::otlp;
use crate::observe::redact;
use crate::record::cost::ModelPrice;
use crate::settings::entry::{Misfit, read};
use crate::settings::file::{ConfigFile, nearest_of, shown};
use crate::settings::origin::{SettingOrigin, SettingProblem};
use crate::settings::redaction::RedactionTable;
use crate::settings::resolve::{IGNORED, SettingResolver};
use crate::settings::table::{NOTIFY, variable};
use crate::system::files::home::expand_home;

impl SettingResolver<'_> {
    pub(super) fn cost_per_call(&mut self) -> BTreeMap<String, f64> {
        self.by_glob("cost.per_call", "a price in USD, from 0")
    }

    pub(super) fn cost_models(&mut self) -> BTreeMap<String, ModelPrice> {
        self.by_glob("cost.models", "a table with the prices input and output")
    }

    /// Returns the thresholds of `thrash.threshold` for tools, by glob.
    pub(super) fn thrash_tools(&mut self) -> BTreeMap<String, NonZeroU32> {
        self.by_glob("thrash.tools", "a number of calls, from 1")
    }

    /// Returns the command of `notify`: one text is a program without arguments, or `desktop`. Only the user's own
    /// config file may name it: the entry of a repository can name another file, and set variables.
    pub(super) fn notify(&mut self) -> Vec<String> {
        let variable = variable(NOTIFY);
        if (self.environment)(&variable).is_some() {
            self.ignore(NOTIFY, SettingOrigin::Environment(variable), "only the config file sets `notify`");
        }
        let Some(file) = self.file else { return Vec::new() };
        for (value, origin) in file.values(self.server_name, NOTIFY) {
            match command(value) {
                _ if self.is_named => {
                    let text = "`notify` counts only in your own config file, not in one that is named";
                    self.ignore(NOTIFY, origin, text);
                }
                Some(mut words) => {
                    let program = expand_home(PathBuf::from(&words[0]))
                        .and_then(|path| path.to_str().map(str::to_owned));
                    words[0] = program.unwrap_or_else(|| words[0].clone());
                    return words;
                }
                None => {
                    self.refuse(
                        NOTIFY,
                        "a program, or a list of a program and its arguments, each in quotes",
                        origin,
                    );
                }
            }
        }
        Vec::new()
    }

    /// Returns the table `name`, whose keys are globs. An entry that is not what is `expected` is a problem, and the
    /// others count.
    fn by_glob<T: DeserializeOwned>(&mut self, name: &'static str, expected: &str) -> BTreeMap<String, T> {
        let Some(file) = self.file else { return BTreeMap::new() };
        let Some((table, origin)) = file.table(self.server_name, name) else { return BTreeMap::new() };
        let Value::Table(table) = table else {
            self.refuse(name, "a table", origin);
            return BTreeMap::new();
        };
        let mut found = BTreeMap::new();
        for (key, value) in table {
            let entry = format!("`{name}` has an entry `{}`", shown(&key));
            let text = match read::<T>(value) {
                Ok(value) => {
                    found.insert(key, value);
                    continue;
                }
                Err(Misfit::UnknownEntry(names)) => {
                    format!("{entry} that contains something else than {}", names.join(", "))
                }
                Err(_) => format!("{entry} that is not {expected}"),
            };
            let mut entries = file.entries_in(self.server_name, name);
            let line = entries.find(|(path, ..)| path.first() == Some(&key)).map(|(.., line)| line);
            self.ignore(name, line.unwrap_or_else(|| origin.clone()), &text);
        }
        found
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
                let mut entries = file.entries_in(self.server_name, NAME);
                let line = entries.find(|(path, ..)| path.first() == Some(&key)).map(|(.., line)| line);
                let text = describe("otlp.", &key, &misfit);
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
                    let text = describe(&format!("{FLAG} "), key, &misfit);
                    self.ignore(NAME, SettingOrigin::Flag, &text);
                }
            }
        }
        let [flags, file, all] = [flags, file, all].map(|table| read(table).unwrap_or_default());
        otlp::OtlpTables { flags, file, all }
    }

    fn ignore(&mut self, setting: &'static str, origin: SettingOrigin, text: &str) {
        let text = text.to_owned();
        self.problems.push(SettingProblem { origin, setting: Some(setting), text, consequence: IGNORED });
    }

    /// Returns the `[redaction]` table. If a part of it cannot be used, the whole table cannot be applied:
    /// the user relies on it.
    pub(super) fn redaction(&mut self) -> RedactionTable {
        const NAME: &str = "redaction";
        let Some(file) = self.file else { return RedactionTable::Settings(Box::default()) };
        let problems = match file.hides_redaction() {
            Some(origin) => {
                vec![("a line of this file cannot be read, and may belong to `redaction`".to_owned(), origin)]
            }
            None => {
                let Some((table, origin)) = file.table(self.server_name, NAME) else {
                    return RedactionTable::Settings(Box::default());
                };
                match redaction_of(file, self.server_name, table, origin) {
                    Ok(settings) => return RedactionTable::Settings(Box::new(settings)),
                    Err(problems) => problems,
                }
            }
        };
        self.problems.extend(problems.into_iter().map(|(text, origin)| {
            let consequence = "no free text is written until this is fixed";
            SettingProblem { origin, setting: Some(NAME), text, consequence }
        }));
        RedactionTable::Unusable
    }
}

/// Returns the program and the arguments of `notify`, if the value is of the right type.
fn command(value: &Value) -> Option<Vec<String>> {
    let words = match value {
        Value::Array(words) => words.as_slice(),
        program => std::slice::from_ref(program),
    };
    let words: Option<Vec<String>> = words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
    words.filter(|words| {
        words.first().is_some_and(|program| !program.is_empty())
            && !words.iter().any(|word| word.contains('\0'))
    })
}

/// Reads the `[redaction]` table, which begins at `first`, or returns every entry that cannot be used with its
/// line.
fn redaction_of(
    file: &ConfigFile,
    server: &str,
    table: Value,
    first: SettingOrigin,
) -> Result<redact::RedactionSettings, Vec<(String, SettingOrigin)>> {
    let read_alone = |key: &str, value: Value| {
        let table = Value::Table(Table::from_iter([(key.to_owned(), value)]));
        let settings = read::<redact::RedactionSettings>(table)
            .map_err(|misfit| describe("redaction.", key, &misfit))?;
        settings.check().map_err(|problem| problem.to_string())
    };
    let whole = match read::<redact::RedactionSettings>(table) {
        Ok(settings) => match settings.check() {
            Ok(()) => return Ok(settings),
            Err(problem) => problem.to_string(),
        },
        Err(_) => "`redaction` is not a table".to_owned(),
    };
    // Each entry is tried alone, and each item of a list.
    let mut problems = Vec::new();
    for (name, value, line) in file.entries_in(server, "redaction") {
        let key = name.join(".");
        let items = match value {
            Value::Array(items) => items.iter().map(|item| Value::Array(vec![item.clone()])).collect(),
            other => vec![other.clone()],
        };
        for (index, item) in items.into_iter().enumerate() {
            let Err(text) = read_alone(&key, item) else { continue };
            let problem = (text.replacen("[0]", &format!("[{index}]"), 1), line.clone());
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    if problems.is_empty() {
        problems.push((whole, first));
    }
    Err(problems)
}

/// Describes why the entry `key` of a table cannot be used; `place` is the text before the key. The
/// value is never quoted.
fn describe(place: &str, key: &str, misfit: &Misfit) -> String {
    let entry = format!("`{place}{}`", shown(key));
    match misfit {
        Misfit::UnknownEntry(names) => match nearest_of(key, names.iter().copied()) {
            Some(meant) => format!("{entry} is not an entry; did you mean `{meant}`?"),
            None => format!("{entry} is not an entry"),
        },
        Misfit::UnknownWord(words) => format!("{entry} is not one of {}", words.join(", ")),
        Misfit::Type(Some(expected)) => format!("{entry} is not {expected}"),
        Misfit::Type(None) | Misfit::Other => format!("{entry} is not a value of the right form"),
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
