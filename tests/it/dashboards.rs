//! The shipped boards and rules: every query parses and asks for metrics that exist, and every panel has a
//! description.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use promql_parser::parser::{self, Expr};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use spantap::export::otlp::semconv::{INSTRUMENTS, Instrument};

/// Instruments that the boards do not use: the client side, and the spantap process itself.
const ON_NO_BOARD: &[&str] = &[
    "mcp_client_operation_duration_seconds",
    "mcp_client_session_duration_seconds",
    "mcp_server_session_duration_seconds",
    "spantap_server_start_duration_seconds",
    "spantap_server_memory_bytes",
    "spantap_server_cpu_time_seconds_total",
    "spantap_relay_added_latency_seconds",
    "spantap_relay_queue_depth_bytes",
    "spantap_check_up",
    "spantap_check_attempts_total",
    "spantap_check_duration_seconds",
    "spantap_check_failures_total",
];

/// Returns the name that Prometheus gives an instrument: dots become underscores, the unit is appended in
/// full unless it is in braces, a counter gets `_total`.
fn prometheus_name(instrument: &Instrument) -> String {
    let mut name = instrument.name.replace('.', "_");
    match instrument.unit {
        "s" => name.push_str("_seconds"),
        "By" => name.push_str("_bytes"),
        unit => assert!(unit.starts_with('{'), "{}: unit {unit}", instrument.name),
    }
    if instrument.kind == "counter" {
        name.push_str("_total");
    }
    name
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dashboards")
}

fn shipped() -> BTreeSet<String> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.insert(name.replace('\\', "/"));
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&folder(), &folder(), &mut found);
    found
}

fn boards() -> Vec<(String, Value)> {
    let boards: Vec<_> = shipped()
        .into_iter()
        .filter(|path| path.starts_with("grafana/") && path.ends_with(".json"))
        .map(|path| {
            let text = std::fs::read_to_string(folder().join(&path)).unwrap();
            (path, serde_json::from_str(&text).unwrap())
        })
        .collect();
    assert_eq!(boards.len(), 5);
    boards
}

fn panels(board: &Value) -> &Vec<Value> {
    board["panels"].as_array().unwrap()
}

/// Returns a board's query as Grafana would send it.
fn expanded(expr: &str) -> String {
    expr.replace("$__interval_ms", "60000").replace("$__interval", "1m").replace("$__range", "6h")
}

/// Returns every query of the boards and rules, with its place.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (path, board) in boards() {
        for panel in panels(&board) {
            for target in panel["targets"].as_array().unwrap() {
                found.push((
                    format!("{path}: {}", panel["title"]),
                    expanded(target["expr"].as_str().unwrap()),
                ));
            }
        }
    }
    for path in ["prometheus/rules.yml", "prometheus/rules-optional.yml", "prometheus/recording.yml"] {
        found.extend(rules(path).into_iter().map(|expr| (path.to_owned(), expr)));
    }
    found
}

/// Returns the expressions of a rule file: the text after `expr:`, or the block that is indented below it.
fn rules(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(path)).unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((indent, expr)) = line.split_once("expr: ") else { continue };
        if expr != "|" {
            found.push(expr.to_owned());
            continue;
        }
        let mut block = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(&format!("{indent}  "))) {
            block.push_str(line);
            block.push('\n');
        }
        found.push(block);
    }
    assert!(found.len() >= if path.contains("optional") { 1 } else { 5 }, "{path} has rules");
    found
}

/// Returns the metrics that a query reads.
struct Names(BTreeSet<String>);

impl ExprVisitor for Names {
    type Error = ();

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, ()> {
        let selector = match expr {
            Expr::VectorSelector(selector) => selector,
            Expr::MatrixSelector(range) => &range.vs,
            _ => return Ok(true),
        };
        self.0.insert(selector.name.clone().unwrap_or_default());
        Ok(true)
    }
}

#[test]
fn every_query_parses_and_asks_only_for_metrics_that_exist() {
    let known: BTreeSet<String> = INSTRUMENTS.iter().map(prometheus_name).collect();
    let mut asked = BTreeSet::new();
    for (place, query) in queries() {
        let expr = parser::parse(&query).unwrap_or_else(|error| panic!("{place}: {error}\n{query}"));
        let mut names = Names(BTreeSet::new());
        walk_expr(&mut names, &expr).unwrap();
        for name in &names.0 {
            let of_histogram =
                ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let name = of_histogram.unwrap_or(name);
            assert!(known.contains(name), "{place} asks for {name}, which nothing exports");
            asked.insert(name.to_owned());
        }
    }
    let unused: BTreeSet<&str> = known.difference(&asked).map(String::as_str).collect();
    assert_eq!(unused, ON_NO_BOARD.iter().copied().collect(), "exported, but missing on every board");
}

#[test]
fn no_query_uses_a_function_that_loses_what_short_processes_count() {
    for (place, query) in queries() {
        for wrong in ["increase(", "rate("] {
            assert!(!query.contains(wrong), "{place} uses {wrong}");
        }
    }
}

#[test]
fn every_panel_has_a_title_a_description_and_a_unit() {
    for (path, board) in boards() {
        let mut ids = BTreeSet::new();
        for panel in panels(&board) {
            for field in [&panel["title"], &panel["description"], &panel["fieldConfig"]["defaults"]["unit"]] {
                assert!(field.as_str().is_some_and(|text| !text.is_empty()), "{path}: {}", panel["title"]);
            }
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: an id is there twice");
            if panel["type"] != "text" {
                assert!(!panel["targets"].as_array().unwrap().is_empty(), "{path}: {}", panel["title"]);
            }
        }
    }
}

#[test]
fn boards_are_told_apart_and_linked_by_one_tag() {
    let boards = boards();
    let uids: Vec<&str> = boards.iter().map(|(_, board)| board["uid"].as_str().unwrap()).collect();
    assert_eq!(uids, ["mcp-1-health", "mcp-2-errors", "mcp-3-latency", "mcp-4-sessions", "mcp-5-cost"]);
    for (path, board) in &boards {
        assert_eq!(board["tags"], serde_json::json!(["mcp"]), "{path}");
        assert_eq!(board["links"][0]["tags"], board["tags"], "{path}");
    }
}

#[test]
fn panels_of_a_board_do_not_lie_on_each_other() {
    for (path, board) in boards() {
        let mut taken = BTreeSet::new();
        for panel in panels(&board) {
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{path}: {} is wider than the board", panel["title"]);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{path}: {} lies on another panel", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn a_file_that_ci_does_not_run_says_so_in_its_first_line() {
    let run = [
        "README.md",
        "prometheus/rules.yml",
        "prometheus/rules-optional.yml",
        "prometheus/rules_test.yml",
        "prometheus/recording.yml",
        "victoriametrics-relabel.yml",
    ];
    for path in shipped() {
        let text = std::fs::read_to_string(folder().join(&path)).unwrap();
        if path.ends_with(".json") {
            serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        } else if !run.contains(&path.as_str()) {
            let first = text.lines().next().unwrap();
            assert!(["# not run by CI", "// not run by CI"].contains(&first), "{path}: {first}");
        }
    }
}

fn dashboards(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_spantap")).arg("dashboards").args(arguments).output().unwrap()
}

#[test]
fn the_command_writes_the_whole_folder() {
    let target = tempfile::tempdir().unwrap();
    let out = target.path().to_str().unwrap();
    let done = dashboards(&["--out", out]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for path in shipped() {
        let written =
            std::fs::read(target.path().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(written, std::fs::read(folder().join(&path)).unwrap(), "{path}");
    }
    assert_eq!(String::from_utf8(done.stdout).unwrap().lines().count(), shipped().len());
    assert!(dashboards(&["--out", out]).status.success(), "a second run changes nothing and succeeds");
}

#[test]
fn the_command_never_replaces_what_somebody_changed() {
    let target = tempfile::tempdir().unwrap();
    let rules = target.path().join("prometheus/rules.yml");
    std::fs::create_dir_all(rules.parent().unwrap()).unwrap();
    std::fs::write(&rules, "groups: []\n").unwrap();
    let out = target.path().to_str().unwrap();
    let refused = dashboards(&["--out", out]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    assert_eq!(std::fs::read_to_string(&rules).unwrap(), "groups: []\n");
    assert!(!target.path().join("otelcol.yaml").exists(), "all or nothing");

    assert!(dashboards(&["--out", out, "--force", "--thrash-threshold", "9"]).status.success());
    assert!(std::fs::read_to_string(&rules).unwrap().contains("(spantap_session_repeats) > 9\n"));
}
