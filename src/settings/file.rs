//! The config file: TOML, read entry by entry so that one bad entry does not affect the others.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use crate::observe::redact::{Field, Redactor};
use crate::settings::kind::SettingText;
use crate::settings::origin::{SettingOrigin, SettingProblem};
use crate::system::files::read_limited;
use crate::text::line_of;

/// Tables that are read as a whole.
const TABLES: &[&str] = &["otlp", "redaction", "cost.per_call", "cost.models", "thrash.tools"];

/// The setting that names one server. In the file it is the table of the servers' sections, and no setting.
const NAME_OF_SERVER: &str = "server";

/// Largest config file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The entries of a config file with their lines, and the lines that cannot be read.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Entries that are not tables, in the order of the file. The name of an entry of `[server.NAME]` begins
    /// with `server` and the server's name.
    entries: Vec<ConfigEntry>,
    problems: Vec<SettingProblem>,
    /// True if a line that cannot be read may belong to `[redaction]`.
    hides_redaction: bool,
}

#[derive(Clone, Debug)]
struct ConfigEntry {
    name: Vec<String>,
    line: usize,
    value: Value,
}

impl ConfigFile {
    /// Reads the file `path`; returns `None` if it does not exist.
    pub(super) fn read(path: &Path) -> io::Result<Option<ConfigFile>> {
        let utf8 = |bytes| {
            String::from_utf8(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
        };
        match read_limited(path, LARGEST).and_then(utf8) {
            Ok(text) => Ok(Some(ConfigFile::parse(path, &text))),
            // Without its redaction rules a session must not look like one that never had any.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                Err(io::Error::other("it is a link to a file that does not exist"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Parses `text`. Each line that cannot be read is a problem that contains the number of the line. The
    /// messages of the TOML parser are not used: they quote the file, which may contain secrets.
    pub fn parse(path: &Path, text: &str) -> ConfigFile {
        let origin = |line| SettingOrigin::File { path: path.to_owned(), line };
        let mentions_redaction = text.contains("redaction");
        // The line may belong to `[collect]`, and a collector must not start without its token.
        let may_be_of = text.contains("collect").then_some("collect");
        let mut problems: Vec<SettingProblem> = Vec::new();
        let mut text = text.to_owned();
        // A line that is not TOML is blanked and the text parsed again, so that the other lines count.
        let table = loop {
            match DeTable::parse(&text) {
                Ok(table) => break table,
                Err(error) if problems.len() < MAX_BAD_LINES => {
                    let at = error.span().map_or(0, |span| span.start).min(text.len());
                    let start =
                        text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    let end = text.as_bytes()[at..].iter().position(|byte| *byte == b'\n');
                    let end = end.map_or(text.len(), |length| at + length);
                    problems.push(SettingProblem {
                        origin: origin(line_of(&text, at)),
                        setting: may_be_of,
                        text: "not valid TOML".to_owned(),
                        consequence: "this line is ignored",
                    });
                    if start == end {
                        break DeTable::parse_recoverable(&text).0;
                    }
                    text.replace_range(start..end, "");
                }
                Err(_) => break DeTable::parse_recoverable(&text).0,
            }
        };
        let hides_redaction = mentions_redaction && !problems.is_empty();
        let newlines: Vec<usize> = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
        let line = |at: usize| 1 + newlines.partition_point(|newline| *newline < at);
        let mut entries = Vec::new();
        flatten(&mut Vec::new(), table.get_ref(), &line, &mut entries);
        entries.sort_by_key(|entry| entry.line);
        ConfigFile { path: path.to_owned(), entries, problems, hides_redaction }
    }

    /// Returns the lines that cannot be read, then the entries that have no effect: those that are not one of the
    /// settings `names`, and those in a place where the setting has no meaning.
    pub(super) fn problems(&self, names: impl Iterator<Item = &'static str> + Clone) -> Vec<SettingProblem> {
        let problem = |entry: &ConfigEntry| {
            if let Some(text) = misplaced(&entry.name) {
                let origin = self.origin(entry.line);
                return Some(SettingProblem { origin, setting: None, text, consequence: "" });
            }
            if is_known(&entry.name, names.clone()) {
                return None;
            }
            let name = shown(&entry.name.join("."));
            let nearest = nearest_of(&general(&entry.name), names.clone());
            let way_out = match nearest {
                Some(setting) => format!("did you mean `{setting}`?"),
                None => "`spantap doctor --all` lists the settings".to_owned(),
            };
            let text = format!("unknown setting `{name}`; {way_out}");
            let is_of_collect = entry.name.first().is_some_and(|table| table == "collect")
                || nearest.is_some_and(|setting| setting.starts_with("collect."));
            let setting = is_of_collect.then_some("collect");
            Some(SettingProblem { origin: self.origin(entry.line), setting, text, consequence: "" })
        };
        self.problems.iter().cloned().chain(self.entries.iter().filter_map(problem)).collect()
    }

    /// Returns the texts of a setting: of the server's own section, then of the top level.
    pub(super) fn scalars(&self, server: &str, name: &str) -> Vec<SettingText> {
        if name == NAME_OF_SERVER {
            return Vec::new();
        }
        let texts = |value: &Value| match value {
            Value::Array(items) => items.iter().map(text_of).collect(),
            other => vec![text_of(other)],
        };
        let written = |(value, origin)| SettingText { texts: texts(value), origin };
        self.values(server, name).map(written).collect()
    }

    /// Returns the values of a setting: of the server's own section, then of the top level.
    pub(super) fn values(&self, server: &str, name: &str) -> impl Iterator<Item = (&Value, SettingOrigin)> {
        let entries = [self.find(&scoped(server, name)), self.find(&split(name))];
        entries.into_iter().flatten().map(|entry| (&entry.value, self.origin(entry.line)))
    }

    /// Returns a table, made of its entries: that of the server's own section, else that of the top level.
    pub(super) fn table(&self, server: &str, name: &str) -> Option<(Value, SettingOrigin)> {
        self.table_under(&scoped(server, name)).or_else(|| self.table_under(&split(name)))
    }

    /// Returns the entries of the table `name`, each with its name in the table, its value and its line.
    pub(super) fn entries_in(
        &self,
        server: &str,
        name: &str,
    ) -> impl Iterator<Item = (&[String], &Value, SettingOrigin)> {
        let own = scoped(server, name);
        let prefix = if self.table_under(&own).is_some() { own } else { split(name) };
        self.entries.iter().filter_map(move |entry| {
            let name = entry.name.strip_prefix(prefix.as_slice())?;
            Some((name, &entry.value, self.origin(entry.line)))
        })
    }

    /// Returns the first line that cannot be read, if one may belong to `[redaction]`.
    pub(super) fn hides_redaction(&self) -> Option<SettingOrigin> {
        let first = self.problems.first().filter(|_| self.hides_redaction)?;
        Some(first.origin.clone())
    }

    fn table_under(&self, prefix: &[String]) -> Option<(Value, SettingOrigin)> {
        let mut root = toml::Table::new();
        let mut first = None;
        for entry in self.entries.iter().filter(|entry| entry.name.starts_with(prefix)) {
            let (last, path) = entry.name[prefix.len()..].split_last()?;
            let mut table = &mut root;
            for part in path {
                let next = table.entry(part.clone()).or_insert_with(|| Value::Table(toml::Table::new()));
                table = next.as_table_mut()?;
            }
            table.insert(last.clone(), entry.value.clone());
            first.get_or_insert(entry.line);
        }
        first.map(|line| (Value::Table(root), self.origin(line)))
    }

    fn find(&self, name: &[String]) -> Option<&ConfigEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    fn origin(&self, line: usize) -> SettingOrigin {
        SettingOrigin::File { path: self.path.clone(), line }
    }
}

/// Returns a name of the file in a form that a message may contain. The user may have written a value in the
/// place of the name. A name with characters that settings do not use may be several lines after a stray quote.
pub(super) fn shown(name: &str) -> String {
    let is_odd = |c: char| c.is_control() || matches!(c, '=' | '"' | '\'' | '#');
    match name.contains(is_odd) {
        true => "…".to_owned(),
        false => Redactor::default().redact(Field::StderrLine, name.as_bytes()).as_str().to_owned(),
    }
}

/// Most lines that are blanked; a file with more of them is not a config file.
const MAX_BAD_LINES: usize = 20;

fn split(name: &str) -> Vec<String> {
    name.split('.').map(str::to_owned).collect()
}

fn scoped(server: &str, name: &str) -> Vec<String> {
    ["server".to_owned(), server.to_owned()].into_iter().chain(split(name)).collect()
}

/// Returns the name of an entry without the server to whose section it belongs.
fn general(name: &[String]) -> String {
    match name {
        [server, _, rest @ ..] if server == NAME_OF_SERVER && !rest.is_empty() => rest.join("."),
        _ => name.join("."),
    }
}

/// Returns the one of `names` that the user probably meant by `name`.
pub(super) fn nearest_of<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// As clap's for mistyped flags.
    const LIKENESS: f64 = 0.8;
    let likeness = |other: &str| strsim::jaro_winkler(name, other);
    // The likeness counts the beginning of a word most, so that `colour` would be `collect.forward`.
    let alike = names.filter(|other| likeness(other) >= LIKENESS && other.len() <= 2 * name.len());
    alike.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// Returns what the user can do about an entry that has no effect in its place.
fn misplaced(name: &[String]) -> Option<String> {
    let (table, rest) = name.split_first()?;
    match rest {
        _ if table != NAME_OF_SERVER => None,
        [] => Some(
            "`server` has no effect: the file is for all servers; name one with --server or SPANTAP_SERVER"
                .to_owned(),
        ),
        [setting] => Some(format!(
            "`server.{}` has no effect: it names no server; write it below `[server.NAME]`, or without `server.` for all",
            shown(setting)
        )),
        [_, setting] if setting == NAME_OF_SERVER => {
            Some("`server` has no effect: the section names the server".to_owned())
        }
        _ => None,
    }
}

fn is_known(name: &[String], mut names: impl Iterator<Item = &'static str>) -> bool {
    let general = general(name);
    names.any(|setting| setting == general)
        || TABLES.iter().any(|table| general.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')))
}

fn flatten(
    prefix: &mut Vec<String>,
    table: &DeTable<'_>,
    line: &impl Fn(usize) -> usize,
    entries: &mut Vec<ConfigEntry>,
) {
    for (key, value) in table {
        prefix.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => flatten(prefix, inner, line, entries),
            _ => entries.extend(to_value(value.clone()).map(|value| ConfigEntry {
                name: prefix.clone(),
                line: line(key.span().start),
                value,
            })),
        }
        prefix.pop();
    }
}

fn to_value(value: Spanned<DeValue<'_>>) -> Option<Value> {
    use serde::Deserialize;
    Value::deserialize(toml::de::ValueDeserializer::from(value)).ok()
}

fn text_of(value: &Value) -> OsString {
    match value {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}
