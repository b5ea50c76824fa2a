//! `spantap redact`: redacts a text, checks existing logs, or hashes a text to compare it with a record.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::cli::{Out, exit_with, help, hint};
use crate::observe::canonical::{HashKey, Hashing};
use crate::observe::redact::{self, Finding, RedactionMode, Redactor};
use crate::present::Printable;
use crate::query::files::{LogSource, TimeWindow};
use crate::settings::hash_key::{self, HashKeySource};
use crate::settings::{GivenSettings, RedactionTable, SettingProblem, Settings};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 done; with --check: 1 something would be redacted, 2 a file cannot be read; 2 usage."
)]
pub struct RedactArgs {
    /// File to redact or hash [default: standard input, also as -]
    file: Option<PathBuf>,
    /// Report on stderr which rule replaced what, and where in the output
    #[arg(long)]
    explain: bool,
    /// Scan these logs instead; exit 1 if anything in them would be redacted
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["explain", "hash", "rules", "file"])]
    pub(super) check: Vec<PathBuf>,
    /// Print the hash that a record of the text would have
    #[arg(long, value_name = "WHAT", value_enum, conflicts_with_all = ["explain", "rules"])]
    hash: Option<HashKind>,
    /// List the rules for vendor tokens and the text that each one looks for
    #[arg(long, conflicts_with_all = ["explain", "file"])]
    rules: bool,
    /// Also redact text that looks random
    #[arg(long)]
    strict: bool,
    #[arg(long, value_name = "FILE", help = help::CONFIG)]
    config: Option<PathBuf>,
}

/// Hash of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HashKind {
    /// args_hash: of JSON, whatever its spelling
    Args,
    /// result_hash: of JSON, byte by byte
    Result,
    /// text_hash: of the text that the model got
    Text,
}

impl RedactArgs {
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if self.rules {
            for rule in redact::rules() {
                writeln!(out, "{:<28} {:<11} {}", rule.name, rule.class, rule.anchor)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let config = self.settings()?;
        if let Some(what) = self.hash {
            return print_hash(what, self.input()?, &config, out);
        }
        let RedactionTable::Settings(mut settings) = config.redaction else {
            // `settings` refuses such settings with their problem.
            anyhow::bail!("the [redaction] table of the config file cannot be applied");
        };
        if self.strict {
            settings.mode = RedactionMode::Strict;
        }
        let mut redactor = Redactor::try_new(&settings)?;
        if !self.check.is_empty() {
            return check(&self.check, &mut redactor, out);
        }
        redact_input(self.input()?, &mut redactor, self.explain, out)
    }

    fn input(&self) -> anyhow::Result<Box<dyn Read>> {
        match self.file.as_deref().filter(|file| file.as_os_str() != "-") {
            None => Ok(Box::new(io::stdin().lock())),
            Some(file) => {
                let name = file.display();
                let open = File::open(file).and_then(|open| match open.metadata()?.is_dir() {
                    true => Err(io::ErrorKind::IsADirectory.into()),
                    false => Ok(open),
                });
                Ok(Box::new(open.with_context(|| format!("cannot open {name}"))?))
            }
        }
    }

    /// Resolves the settings. A setting that this command uses and that cannot be applied is an error here,
    /// because the user wants to see its effect.
    fn settings(&self) -> anyhow::Result<Settings> {
        let settings =
            crate::cli::settings(GivenSettings { config: self.config.clone(), ..GivenSettings::default() })?;
        // Problems with other settings do not matter here.
        let concerns = |problem: &&SettingProblem| match settings.redaction {
            RedactionTable::Unusable => problem.setting == Some("redaction"),
            RedactionTable::Settings(_) => problem.setting == Some("args_hash"),
        };
        match settings.problems.iter().find(concerns) {
            Some(problem) => Err(hint(anyhow::anyhow!("{problem}"), "`spantap doctor` lists all problems")),
            None => Ok(settings),
        }
    }
}

/// Redacts whole lines as they arrive, so that `tail -f log | spantap redact` works. Lines that arrive
/// together are redacted together, because a value can be on the line after its name.
fn redact_input(
    input: Box<dyn Read>,
    redactor: &mut Redactor,
    explain: bool,
    out: &mut Out<'_>,
) -> anyhow::Result<ExitCode> {
    const LARGEST: usize = 1 << 20;
    let mut input = BufReader::with_capacity(LARGEST, input);
    let mut lines = Vec::new();
    let mut number = 1;
    loop {
        let read = input.fill_buf().context("cannot read the text")?;
        let length = read.len();
        lines.extend_from_slice(read);
        input.consume(length);
        // Wait for the rest of a line, unless much text is waiting already.
        let last_end = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let whole = match last_end {
            _ if length == 0 || last_end == lines.len() => lines.len(),
            _ if lines.len() <= LARGEST => continue,
            0 => lines.len(),
            end => end,
        };
        let (cleaned, findings) = redactor.explain(lines.get(..whole).unwrap_or_default());
        let cleaned = cleaned.as_str();
        write!(out, "{cleaned}")?;
        out.flush()?;
        for finding in findings.iter().filter(|_| explain) {
            let before = cleaned.get(..finding.at).unwrap_or_default();
            let line = number + before.matches('\n').count();
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let _ = writeln!(io::stderr(), "line {line}, column {column}: {}", described(finding));
        }
        number += cleaned.matches('\n').count();
        lines.drain(..whole);
        if length == 0 {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn described(finding: &Finding) -> String {
    let anchor = finding.anchor().map(|anchor| format!(" (after {anchor})")).unwrap_or_default();
    format!("{} by rule {}{anchor}, {} bytes", finding.class, finding.rule(), finding.length)
}

/// Scans logs: each string of our own records separately, and other files line by line.
fn check(files: &[PathBuf], redactor: &mut Redactor, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
    let mut found = 0_u64;
    let mut lines = 0_u64;
    let mut sources = Vec::new();
    for path in files {
        let found = match path.is_dir() {
            true => LogSource::all_in_dir(path, TimeWindow::default()),
            false => LogSource::named(path).map(|source| vec![source]),
        };
        sources.extend(found.map_err(|error| unchecked(error, "open", &path.display().to_string()))?);
    }
    for source in &sources {
        let name = Printable::new(&source.name());
        let file = source.open(0).map_err(|error| unchecked(error, "open", &name))?;
        for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
            let line = line.map_err(|error| unchecked(error, "read", &name))?;
            lines += 1;
            let record = serde_json::from_slice::<serde_json::Value>(&line).ok();
            let mut findings = Vec::new();
            match record.filter(|record| record.get("schema").is_some()) {
                Some(record) => check_value(&record, "", redactor, &mut findings),
                None => {
                    let (_, found) = redactor.explain(&line);
                    findings.extend(found.into_iter().map(|finding| (String::new(), finding)));
                }
            }
            for (field, finding) in findings {
                found += 1;
                let field =
                    if field.is_empty() { String::new() } else { format!(" in {}", Printable::new(&field)) };
                writeln!(out, "{name}:{}: {}{field}", index + 1, described(&finding))?;
            }
        }
    }
    writeln!(out, "{lines} lines in {} files checked, {found} places would be redacted", sources.len())?;
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the error for a file that cannot be read, which has another exit status than a failed check.
fn unchecked(error: std::io::Error, verb: &str, name: &str) -> anyhow::Error {
    let error = anyhow::Error::from(error).context(format!("cannot {verb} {name}"));
    exit_with(2, error, "it was not checked; make it readable, and run the check again")
}

fn check_value(
    value: &serde_json::Value,
    field: &str,
    redactor: &mut Redactor,
    findings: &mut Vec<(String, Finding)>,
) {
    match value {
        serde_json::Value::String(text) if is_hex_id(field, text) => {}
        serde_json::Value::String(text) => {
            let (_, found) = redactor.explain(text.as_bytes());
            // The message is composed of other fields, which are checked separately. In it, the name from one
            // field can make the value of another look like a secret.
            const ANNOUNCED: [&str; 5] = ["key_value", "auth_header", "cookie", "flag", "url"];
            let counts = |finding: &Finding| field != "message" || !ANNOUNCED.contains(&finding.class.name());
            findings.extend(found.into_iter().filter(counts).map(|finding| (field.to_owned(), finding)));
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| check_value(item, field, redactor, findings));
        }
        serde_json::Value::Object(members) => {
            members.iter().for_each(|(name, item)| check_value(item, name, redactor, findings));
        }
        _ => {}
    }
}

/// Returns true if the text is the id of a trace or a span (W3C Trace Context §3.2.2), or the hash of a definition.
/// These contain nothing else but can look like a card number.
fn is_hex_id(field: &str, text: &str) -> bool {
    let length = match field {
        "definition_hash" => 16,
        _ if field.ends_with("trace_id") => 32,
        _ if field.ends_with("span_id") => 16,
        _ => return false,
    };
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Longest text that is hashed, in bytes.
const LARGEST_HASHED: u64 = 256 << 20;

fn print_hash(
    what: HashKind,
    mut input: Box<dyn Read>,
    config: &Settings,
    out: &mut Out<'_>,
) -> anyhow::Result<ExitCode> {
    let hashing = Hashing::new(&installed_key(&hash_key::choose(config))?);
    let mut text = Vec::new();
    input.by_ref().take(LARGEST_HASHED + 1).read_to_end(&mut text).context("cannot read the text")?;
    if text.len() as u64 > LARGEST_HASHED {
        anyhow::bail!("the text is larger than {} MiB", LARGEST_HASHED >> 20);
    }
    // White space after JSON comes from the shell; after a text it may be part of the text.
    let json = text.trim_ascii_end();
    if what != HashKind::Text && serde_json::from_slice::<serde::de::IgnoredAny>(json).is_err() {
        return Err(hint(
            anyhow::anyhow!("the input is not JSON, so no record has its hash"),
            "give the whole value, as the message contains it; `--hash text` takes any text",
        ));
    }
    let hash = match what {
        HashKind::Args => hashing.args(json),
        HashKind::Result => hashing.raw(json),
        HashKind::Text => hashing.raw(&text),
    };
    writeln!(out, "{hash}")?;
    if what == HashKind::Text
        && let Some(without) = text.strip_suffix(b"\n")
    {
        // `echo`, `pbpaste` and editors add a newline to a text that has none.
        let hash = hashing.raw(without.strip_suffix(b"\r").unwrap_or(without));
        let _ = writeln!(io::stderr(), "without the newline at the end: {hash}");
    }
    Ok(ExitCode::SUCCESS)
}

fn installed_key(source: &HashKeySource) -> anyhow::Result<HashKey> {
    match (source.load()?, source) {
        (Some(key), _) => Ok(key),
        (None, HashKeySource::Installation(state)) => Err(hint(
            anyhow::anyhow!("no hash key exists in {} yet", state.display()),
            "the first recorded session creates it; `hash_key_file` names a shared key",
        )),
        (None, _) => Err(anyhow::anyhow!("the home folder is not known, and thus no hash key")),
    }
}
