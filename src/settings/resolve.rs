//! One setting: looked up source by source, and remembered with where it was found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::settings::{Environment, File, Redaction};

/// A value and where it came from.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Environment(String),
    File { path: PathBuf, line: usize },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Environment(name) => f.write_str(name),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// Something in the settings that cannot be used. Its text names the setting, never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// A size in bytes, as people write it.
pub struct Size;

impl Size {
    /// Reads `4096`, `64KiB`, `64k`, `1.5GiB`, `2GB`; 1 k is 1024 with and without the `i`.
    pub fn parse(text: &str) -> Option<u64> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let number: f64 = text[..split].parse().ok()?;
        let unit = text[split..].trim().to_ascii_lowercase();
        let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return None,
        };
        let bytes = number * (1u64 << shift) as f64;
        (bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
    }
}

/// A choice that is one word in flags, environment and file.
pub(super) trait Word: Copy + PartialEq + 'static {
    /// The words, as an error says them.
    const CHOICES: &'static str;
    const WORDS: &'static [(&'static str, Self)];

    fn from_word(text: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
    }

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, choice)| *choice == self).map_or("", |(word, _)| word)
    }
}

/// Why the entry `key` of a table cannot be used: `place` is what stands before the key, `doc` the page that
/// says more. Of the reader's own words only what it expected: the rest quotes the value.
fn misfit(place: &str, key: &str, doc: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().next().unwrap_or_default();
    let expected = message.rsplit_once("expected ").map_or("", |(_, expected)| expected);
    let entry = format!("`{place}{}`", crate::settings::file::shown(key));
    let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") {
        let meant = crate::settings::file::nearest_of(key, names.into_iter());
        let way_out = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        return format!("{entry} is no entry{way_out}");
    }
    if !names.is_empty() {
        return format!("{entry} is none of {}", names.join(", "));
    }
    let wanted = match expected {
        "u64" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table of texts",
        "a string" | "path string" => "a text",
        _ => return format!("{entry} is not what docs/{doc} says"),
    };
    format!("{entry} is not {wanted}")
}

/// The environment variable of the setting `name`.
pub(super) fn variable(name: &str) -> String {
    format!("SPANTAP_{}", name.to_uppercase().replace('.', "_"))
}

/// Looks a setting up in all its sources, strongest first.
pub(super) struct Resolver<'a> {
    flags: BTreeMap<&'static str, String>,
    environment: Environment<'a>,
    file: Option<&'a File>,
    server_name: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        flags: BTreeMap<&'static str, String>,
        environment: Environment<'a>,
        file: Option<&'a File>,
        server_name: &'a str,
    ) -> Resolver<'a> {
        let problems = file.map(File::problems).unwrap_or_default();
        Resolver { flags, environment, file, server_name, problems }
    }

    /// The first source that has `name` in a form that `read` takes.
    pub(super) fn get<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        default: T,
        read: impl Fn(&str) -> Option<T>,
    ) -> Setting<T> {
        for (texts, origin) in self.sources(name) {
            match texts.as_slice() {
                [text] => match read(text) {
                    Some(value) => return Setting { value, origin },
                    None => self.refuse(name, expected, origin),
                },
                _ => self.refuse(name, expected, origin),
            }
        }
        Setting { value: default, origin: Origin::Default }
    }

    /// Like [`Resolver::get`] for a list: an array in the file, commas elsewhere.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        default: Vec<T>,
        read: impl Fn(&str) -> Option<T>,
    ) -> Setting<Vec<T>> {
        for (texts, origin) in self.sources(name) {
            let split =
                |text: &String| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
            let parts: Vec<String> = match origin {
                Origin::File { .. } => texts,
                _ => texts.iter().flat_map(split).collect(),
            };
            match parts.iter().map(|part| read(part)).collect() {
                Some(value) => return Setting { value, origin },
                None => self.refuse(name, expected, origin),
            }
        }
        Setting { value: default, origin: Origin::Default }
    }

    /// A table of the file with a shape of its own, read by serde.
    pub(super) fn table<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Option<T> {
        let (value, origin) = self.file?.table(self.server_name, name)?;
        match value.try_into() {
            Ok(table) => Some(table),
            Err(_) => {
                self.refuse(name, expected, origin);
                None
            }
        }
    }

    /// Like [`Resolver::table`], with `KEY=VALUE` entries of the flag `flag` laid over it. An entry that
    /// cannot be used is refused by itself, and the rest counts.
    pub(super) fn table_with<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &'static str,
        flag: &str,
        entries: &[String],
    ) -> Option<T> {
        let mut kept = toml::Table::new();
        if let Some(file) = self.file
            && let Some((toml::Value::Table(found), origin)) = file.table(self.server_name, name)
        {
            for (key, value) in found {
                let alone = toml::Table::from_iter([(key.clone(), value.clone())]);
                let Err(error) = alone.try_into::<T>() else {
                    kept.insert(key, value);
                    continue;
                };
                let is_it = |path: &[String], _: &toml::Value| (path.first() == Some(&key)).then_some(());
                let line = file.find_in(self.server_name, name, is_it).map(|(_, line)| line);
                let text = misfit(&format!("{name}."), &key, "telemetry.md", &error) + "; ignoring it";
                self.problems.push(Problem { origin: line.unwrap_or_else(|| origin.clone()), text });
            }
        }
        let mut table = toml::Value::Table(kept);
        for entry in entries {
            let key = entry.split('=').next().unwrap_or_default();
            let mut laid_over = table.clone();
            let text = match entry_of(entry) {
                None => format!("`--{flag}` wants KEY=VALUE; ignoring it"),
                Some(entry) => {
                    lay_over(&mut laid_over, entry);
                    match laid_over.clone().try_into::<T>() {
                        Ok(_) => {
                            table = laid_over;
                            continue;
                        }
                        Err(error) => {
                            misfit(&format!("--{flag} "), key, "telemetry.md", &error) + "; ignoring it"
                        }
                    }
                }
            };
            self.problems.push(Problem { origin: Origin::Flag, text });
        }
        table.try_into().ok()
    }

    /// The `[redaction]` table. One that cannot be read or applied is worse than none: somebody relies
    /// on it.
    pub(super) fn redaction(&mut self) -> Redaction {
        if let Some(origin) = self.file.and_then(File::hides_redaction) {
            let text = "a line of this file cannot be read, and may be one of `redaction`; \
                        no free text is written until it is mended";
            self.problems.push(Problem { origin, text: text.to_owned() });
            return Redaction::Unusable;
        }
        let table = self.file.and_then(|file| file.table(self.server_name, "redaction"));
        let Some((value, origin)) = table else { return Redaction::Settings(Box::default()) };
        use crate::observe::redact::RedactionSettings;
        let settings: Result<RedactionSettings, _> = value.try_into();
        let found = self.file.and_then(|file| match &settings {
            Ok(settings) => {
                let text = settings.check().err()?;
                let is_it = |name: &[String], _: &toml::Value| {
                    name.first().is_some_and(|name| name == text.key).then_some(())
                };
                let line = file.find_in(self.server_name, "redaction", is_it).map(|(_, line)| line);
                Some((text.to_string(), line))
            }
            // Each entry is tried by itself, to name the first that cannot be used.
            Err(_) => {
                let why = |name: &[String], value: &toml::Value| {
                    let key = name.join(".");
                    let table = toml::Table::from_iter([(key.clone(), value.clone())]);
                    let error = table.try_into::<RedactionSettings>().err()?;
                    Some(misfit("redaction.", &key, "redaction.md", &error))
                };
                let (text, line) = file.find_in(self.server_name, "redaction", why)?;
                Some((text, Some(line)))
            }
        });
        match (found, settings) {
            (None, Ok(settings)) => Redaction::Settings(Box::new(settings)),
            (found, _) => {
                let (text, line) = found
                    .unwrap_or_else(|| ("`redaction` is not what docs/redaction.md says".to_owned(), None));
                let text = format!("{text}; no free text is written until this is mended");
                self.problems.push(Problem { origin: line.unwrap_or(origin), text });
                Redaction::Unusable
            }
        }
    }

    /// What could not be used, in the order of the file.
    pub(super) fn problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line, .. } => line,
            _ => 0,
        });
        self.problems
    }

    fn sources(&self, name: &'static str) -> Vec<(Vec<String>, Origin)> {
        let variable = variable(name);
        let flag = self.flags.get(name).map(|text| (vec![text.clone()], Origin::Flag));
        let environment = (self.environment)(&variable)
            .filter(|text| !text.is_empty())
            .map(|text| (vec![text], Origin::Environment(variable)));
        let file = self.file.into_iter().flat_map(|file| file.scalars(self.server_name, name));
        flag.into_iter().chain(environment).chain(file).collect()
    }

    fn refuse(&mut self, name: &str, expected: &str, origin: Origin) {
        self.problems.push(Problem { origin, text: format!("`{name}` is not {expected}; ignoring it") });
    }
}

/// `KEY=VALUE` as TOML; a value that is none is text, so that nobody has to quote for two readers.
fn entry_of(text: &str) -> Option<toml::Value> {
    let (key, value) = text.split_once('=')?;
    let quoted = toml::Value::String(value.to_owned());
    let table = toml::from_str::<toml::Table>(&format!("{key} = {value}"))
        .or_else(|_| toml::from_str::<toml::Table>(&format!("{key} = {quoted}")));
    // A line break would begin another entry.
    table.ok().filter(|table| table.len() == 1 && !text.contains('\n')).map(toml::Value::Table)
}

/// Tables are merged, everything else is replaced.
fn lay_over(below: &mut toml::Value, above: toml::Value) {
    match (below, above) {
        (toml::Value::Table(below), toml::Value::Table(above)) => {
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
        let mut table: toml::Value = toml::from_str("a = 1\n[b]\nc = 'x'").unwrap();
        for entry in ["b.d=true", "a=grpc", "b.\"e.f\"=Bearer x=y", "g=[\"h\"]"] {
            lay_over(&mut table, entry_of(entry).unwrap());
        }
        let wanted: toml::Value =
            toml::from_str("a = 'grpc'\ng = ['h']\n[b]\nc = 'x'\nd = true\n'e.f' = 'Bearer x=y'").unwrap();
        assert_eq!(table, wanted);
        assert_eq!(entry_of("novalue"), None);
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", Some(4096)),
            ("64MiB", Some(64 << 20)),
            ("64 mb", Some(64 << 20)),
            ("1.5k", Some(1536)),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(Size::parse(text), bytes, "{text}");
        }
    }
}
