//! `spantap dashboards`: writes the boards, rules and collector configurations of `docs/dashboards`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::cli::{Out, help, hint};
use crate::present::Printable;
use crate::system::files::read_limited;

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../docs/dashboards/", $path)))),*]
    };
}

/// Longest file that is compared with a shipped one, in bytes.
const LARGEST: u64 = 4 << 20;

/// Files below `docs/dashboards`, each with its text; a test compares the list with the folder.
const FILES: &[(&str, &str)] = &shipped![
    "README.md",
    "grafana/mcp-1-health.json",
    "grafana/mcp-2-errors.json",
    "grafana/mcp-3-latency.json",
    "grafana/mcp-4-sessions.json",
    "grafana/mcp-5-cost.json",
    "grafana/provisioning.yaml",
    "prometheus/rules.yml",
    "prometheus/rules-optional.yml",
    "prometheus/rules_test.yml",
    "prometheus/recording.yml",
    "lnav/spantap_log.json",
    "otelcol.yaml",
    "vector.yaml",
    "victoriametrics-relabel.yml",
    "config.alloy",
    "compose/compose.yaml",
    "compose/datasources.yaml",
    "compose/otelcol.yaml",
    "compose/prometheus.yml",
    "compose/tempo.yaml",
];

/// Threshold in the shipped files: the default of `--thrash-threshold`.
const SHIPPED_THRESHOLD: u32 = 5;

#[derive(Debug, Args)]
pub struct DashboardsArgs {
    /// Folder to write to; created if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[arg(long, alias = "thrashing", value_name = "N", default_value_t = SHIPPED_THRESHOLD)]
    #[arg(help = help::of("thrash.threshold"), hide_default_value = true)]
    thrash_threshold: u32,
    /// Replace existing files that differ
    #[arg(long)]
    force: bool,
}

impl DashboardsArgs {
    /// Writes the files and prints their paths. Without `--force` it writes no file if one exists with another text.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let files: Vec<(PathBuf, String)> = FILES
            .iter()
            .map(|(path, text)| (self.out.join(path), with_threshold(path, text, self.thrash_threshold)))
            .collect();
        if !self.force
            && let Some((path, _)) = files.iter().find(|(path, text)| differs(path, text))
        {
            return Err(hint(
                anyhow::anyhow!("{} exists and differs", path.display()),
                "choose another folder with --out, or replace the file with --force",
            ));
        }
        for (path, text) in &files {
            let folder = path.parent().unwrap_or(&self.out);
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
            writeln!(out, "{}", Printable::new(&path.to_string_lossy()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn differs(path: &Path, text: &str) -> bool {
    path.exists() && read_limited(path, LARGEST).map_or(true, |found| found != text.as_bytes())
}

/// Returns the text of a shipped file for another threshold. `rules_test.yml` gets inputs on both sides of it.
fn with_threshold(path: &str, text: &str, threshold: u32) -> String {
    let above = u64::from(threshold) + 1;
    match path {
        "prometheus/rules.yml" => text.replace(
            "(spantap_session_repeats) > 5\n",
            &format!("(spantap_session_repeats) > {threshold}\n"),
        ),
        "prometheus/rules_test.yml" => text
            .replace("'0 1 5'", &format!("'0 1 {threshold}'"))
            .replace("'0 1 6'", &format!("'0 1 {above}'"))
            .replace("description: 6 identical calls", &format!("description: {above} identical calls")),
        "grafana/mcp-4-sessions.json" => text.replace("\"value\": 6\n", &format!("\"value\": {above}\n")),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_threshold_changes_nothing() {
        for (path, text) in FILES {
            assert_eq!(with_threshold(path, text, SHIPPED_THRESHOLD), *text, "{path}");
        }
    }

    #[test]
    fn another_threshold_reaches_the_alert_its_test_and_the_board() {
        let changed: Vec<&str> = FILES
            .iter()
            .filter(|(path, text)| with_threshold(path, text, 1234) != *text)
            .map(|file| file.0)
            .collect();
        assert_eq!(
            changed,
            ["grafana/mcp-4-sessions.json", "prometheus/rules.yml", "prometheus/rules_test.yml"]
        );
        for (path, text) in FILES.iter().filter(|(path, _)| changed.contains(path)) {
            let text = with_threshold(path, text, 1234);
            assert!(text.contains("1234") || text.contains("1235"), "{path}");
        }
    }
}
