//! The rules of `spantap gate`, from options and from a file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use serde::Deserialize;

use crate::cli::exit_with;
use crate::query::gate::GateRules;
use crate::text::duration;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rules")]
pub(super) struct RuleArgs {
    /// At most N calls fail
    #[arg(long, value_name = "N")]
    max_errors: Option<u64>,
    /// At most this share of the calls fails, such as 5% or 0.05
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_error_rate: Option<f64>,
    /// No server dies, and every server starts
    #[arg(long)]
    no_deaths: bool,
    /// No alarm about repeated calls
    #[arg(long)]
    no_loops: bool,
    /// The 95th percentile of each matching tool is at most this, such as 'search_*=200ms'; repeatable
    #[arg(long, value_name = "TOOL=DURATION", value_parser = tool_ms)]
    p95: Vec<(String, f64)>,
    /// The definitions of all servers of a session have at most this many estimated tokens, such as 12k
    #[arg(long, value_name = "TOKENS", value_parser = tokens)]
    max_definitions: Option<u64>,
    /// No result of a matching tool has more estimated tokens, such as '*=20k'; repeatable
    #[arg(long, value_name = "TOOL=TOKENS", value_parser = tool_tokens)]
    max_result: Vec<(String, u64)>,
    /// A matching tool is called; repeatable
    #[arg(long, value_name = "TOOL")]
    expect_tool: Vec<String>,
    /// No matching tool is called; repeatable
    #[arg(long, value_name = "TOOL")]
    forbid_tool: Vec<String>,
    /// Every listed tool is also listed in this session, day or folder
    #[arg(long, value_name = "BASELINE")]
    no_new_tools: Option<String>,
    /// Hosts refuse no tool that was listed; see `spantap check --lint`
    #[arg(long)]
    lint: bool,
    /// Pass also if a part of the sessions is missing or unknown
    #[arg(long)]
    allow_loss: bool,
}

/// The section `[gate]`. A value may be a number or a text.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GateSection {
    max_errors: Option<u64>,
    max_error_rate: Option<toml::Value>,
    no_deaths: bool,
    no_loops: bool,
    p95: BTreeMap<String, toml::Value>,
    max_definitions: Option<toml::Value>,
    max_result: BTreeMap<String, toml::Value>,
    expect_tool: Vec<String>,
    forbid_tool: Vec<String>,
    no_new_tools: Option<String>,
    lint: bool,
    allow_loss: bool,
}

/// A file with the section; other sections are not read.
#[derive(Debug, Deserialize)]
struct RulesFile {
    gate: GateSection,
}

impl RuleArgs {
    /// Returns the rules of the options and of `file`, and the baseline. An option replaces an entry of the file; of a
    /// rule that can be repeated it adds one.
    pub(super) fn with_file(&self, file: Option<&Path>) -> anyhow::Result<(GateRules, Option<String>)> {
        let section = file.map_or_else(|| Ok(GateSection::default()), read)?;
        let usage = |problem: String| {
            let place = file.map(|file| file.display().to_string()).unwrap_or_default();
            exit_with(2, anyhow::anyhow!("`{place}`: {problem}"), "`spantap gate --help` lists the forms")
        };
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let parsed = |entry: &str, value: &toml::Value, parse: fn(&str) -> Result<f64, String>| {
            parse(&text(value)).map_err(|problem| usage(format!("{entry}: {problem}")))
        };
        let tokens_of = |text: &str| tokens(text).map(|count| count as f64);
        let ms = |text: &str| milliseconds(text);
        let given = |entry, value: &Option<toml::Value>, parse| {
            value.as_ref().map(|value| parsed(entry, value, parse)).transpose()
        };
        let each = |entry, values: &BTreeMap<String, toml::Value>, parse| {
            let pair =
                |(tool, value): (&String, &toml::Value)| Ok((tool.clone(), parsed(entry, value, parse)?));
            values.iter().map(pair).collect::<anyhow::Result<Vec<(String, f64)>>>()
        };
        let max_result = each("max_result", &section.max_result, tokens_of)?;
        let max_definitions = given("max_definitions", &section.max_definitions, tokens_of)?;
        let baseline = self.no_new_tools.clone().or(section.no_new_tools);
        let rules = GateRules {
            max_errors: self.max_errors.or(section.max_errors),
            max_error_rate: self.max_error_rate.or(given("max_error_rate", &section.max_error_rate, share)?),
            no_deaths: self.no_deaths || section.no_deaths,
            no_loops: self.no_loops || section.no_loops,
            p95: [each("p95", &section.p95, ms)?, self.p95.clone()].concat(),
            max_definitions: self.max_definitions.or(max_definitions.map(|tokens| tokens as u64)),
            max_result: max_result
                .into_iter()
                .map(|(tool, tokens)| (tool, tokens as u64))
                .chain(self.max_result.iter().cloned())
                .collect(),
            expect_tool: [section.expect_tool, self.expect_tool.clone()].concat(),
            forbid_tool: [section.forbid_tool, self.forbid_tool.clone()].concat(),
            no_new_tools: baseline.is_some(),
            lint: self.lint || section.lint,
            allow_loss: self.allow_loss || section.allow_loss,
        };
        Ok((rules, baseline))
    }
}

fn read(file: &Path) -> anyhow::Result<GateSection> {
    let place = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read `{place}`"));
    let text =
        text.map_err(|error| exit_with(2, error, "--rules names a TOML file with a section [gate]"))?;
    let parsed: Result<RulesFile, toml::de::Error> = toml::from_str(&text);
    parsed.map(|file| file.gate).map_err(|error| {
        let problem = anyhow::anyhow!("`{place}`: {}", error.message());
        exit_with(2, problem, "the names of the entries are those of the options, with `_` for `-`")
    })
}

fn share(text: &str) -> Result<f64, String> {
    let (number, divisor) = text.strip_suffix('%').map_or((text, 1.0), |number| (number.trim_end(), 100.0));
    let share = number.parse::<f64>().map(|number| number / divisor);
    share
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "expected a share, such as 5% or 0.05".to_owned())
}

fn milliseconds(text: &str) -> Result<f64, String> {
    Ok(duration::parse(text)?.as_secs_f64() * 1000.0)
}

/// Parses `800`, `12k`, `1.5k`, `1M`.
fn tokens(text: &str) -> Result<u64, String> {
    let (number, factor) = match (text.strip_suffix(['k', 'K']), text.strip_suffix('M')) {
        (Some(number), _) => (number, 1e3),
        (_, Some(number)) => (number, 1e6),
        _ => (text, 1.0),
    };
    let count = number.parse::<f64>().ok().filter(|count| (0.0..1e12).contains(count));
    // 1.1k is 1100.0000000000002 of the type `f64`.
    let is_whole = |tokens: &f64| (tokens - tokens.round()).abs() < 1e-6;
    let count = count.map(|count| count * factor).filter(is_whole);
    count.map(|count| count.round() as u64).ok_or_else(|| "expected tokens, such as 800 or 12k".to_owned())
}

fn tool_ms(text: &str) -> Result<(String, f64), String> {
    let (tool, limit) = split(text, "200ms")?;
    Ok((tool, milliseconds(limit)?))
}

fn tool_tokens(text: &str) -> Result<(String, u64), String> {
    let (tool, limit) = split(text, "20k")?;
    Ok((tool, tokens(limit)?))
}

/// Splits at the last `=`, which the name of a tool may contain, too.
fn split<'t>(text: &'t str, example: &str) -> Result<(String, &'t str), String> {
    let (tool, limit) =
        text.rsplit_once('=').ok_or_else(|| format!("expected TOOL=LIMIT, such as '*={example}'"))?;
    if tool.is_empty() {
        return Err(format!("expected a tool before `=`, such as '*={example}'"));
    }
    Ok((tool.to_owned(), limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_people_write_them() {
        assert_eq!([share("5%"), share("0.05"), share("5 %"), share("0")], [0.05, 0.05, 0.05, 0.0].map(Ok));
        assert_eq!(
            [tokens("12k"), tokens("1.5K"), tokens("1M"), tokens("7")],
            [12_000, 1_500, 1_000_000, 7].map(Ok)
        );
        assert_eq!(tool_ms("a=b=1.5s"), Ok(("a=b".to_owned(), 1_500.0)));
        for text in ["", "-1", "5", "101%", "NaN", "x"] {
            assert!(share(text).is_err(), "{text}");
        }
        for text in ["", "k", "-1", "12x", "inf", "1e30"] {
            assert!(tokens(text).is_err(), "{text}");
        }
        for text in ["a", "a=", "=1s", "=7", "*=1.5", "*=1.00051k"] {
            assert!(tool_tokens(text).is_err(), "{text}");
        }
        assert!(tool_ms("a").is_err() && tool_ms("=1s").is_err());
    }
}
