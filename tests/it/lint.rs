//! `check --lint` over servers with the definitions of `fixtures/lint`, and the documents that it prints.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::*;

/// A server of an older revision that answers everything with the same result, whose tools are `$TOOLS`.
const SERVER: &str = r#"while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case $line in
    *server/discover*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"x"}}\n' "$id" ;;
    *'"id"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"},"tools":%s}}\n' "$id" "$TOOLS" ;;
  esac
done"#;

/// Returns the definitions of a file of `fixtures/lint`.
fn tools(fixture: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/lint/{fixture}.json"));
    let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    fixture["tools"].to_string()
}

/// Runs `check --lint` on a server with these definitions. Returns the exit status and what it prints.
fn lint(fixture: &str, options: &[&str]) -> (i32, String) {
    let words = ["check", "--lint", "--timeout", "30s"].iter().chain(options).copied();
    let words = words.chain(["--", "sh", "-c", SERVER]);
    let output = Home::new().spantap(words).env("TOOLS", tools(fixture)).output().unwrap();
    let (printed, said) = text(&output);
    assert_eq!(said, "", "{printed}");
    (output.status.code().unwrap(), printed)
}

#[test]
fn findings_name_the_tool_the_reason_and_the_way_out_and_refusals_have_a_status() {
    let (status, printed) = lint("odata-parameters", &[]);
    assert_eq!(status, 1, "{printed}");
    for part in [
        "error  property-name: the name of a property does not match",
        "  list_files  property `$top`\n",
        "  upload      property `@microsoft.graph.conflictBehavior`\n",
        "  hosts: the API of Claude refuses the whole request",
        "  way out: rename the property",
        "  https://github.com/ComposioHQ/composio/issues/3500\n",
        "lint of 3 tools: 2 errors, 0 warnings\n",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    for (fixture, status, sum) in [
        ("draft-07-output", 0, "lint of 1 tool: 0 errors, 1 warning"),
        ("good-definitions", 0, "lint of 1 tool: 0 errors, 0 warnings"),
    ] {
        let (code, printed) = lint(fixture, &[]);
        assert!(code == status && printed.ends_with(&format!("{sum}\n")), "{code}: {printed}");
    }
}

#[test]
fn the_json_and_sarif_of_a_server_have_each_finding() {
    let (status, printed) = lint("union-at-the-top", &["--json"]);
    let report: Value = serde_json::from_str(&printed).unwrap();
    let found: Vec<[&Value; 3]> = report["lint"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| [&it["tool"], &it["rule"], &it["level"]])
        .collect();
    let expected = [
        [json!("run"), json!("input-schema-union"), json!("error")],
        [json!("report"), json!("output-schema-type"), json!("error")],
    ];
    assert_eq!((status, found), (1, expected.iter().map(|it| it.each_ref()).collect()));
    let (status, printed) = lint("union-at-the-top", &["--sarif", "--server", "files"]);
    let results = validate_sarif(&printed);
    let rules: Vec<&Value> = results.iter().map(|it| &it["ruleId"]).collect();
    assert_eq!((status, rules), (1, vec![&expected[0][1], &expected[1][1]]));
    let (status, printed) = lint("good-definitions", &["--sarif"]);
    assert_eq!((status, validate_sarif(&printed)), (0, Vec::new()));
}

/// Makes a home with servers in Cursor and one in Claude Code, and returns what `check --all --lint` prints.
fn lint_all(option: &str) -> (i32, String, String) {
    let home = Home::new();
    let server =
        |fixture: &str| json!({"command": "sh", "args": ["-c", SERVER], "env": {"TOOLS": tools(fixture)}});
    let write = |file: &str, servers: Value| {
        let path = home.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, json!({"mcpServers": servers}).to_string()).unwrap();
    };
    let dies = json!({"command": "false"});
    write(
        ".cursor/mcp.json",
        json!({"a": server("good-definitions"), "b": server("good-definitions"), "gone": dies}),
    );
    write(".claude.json", json!({"c": server("good-definitions")}));
    let output = home.spantap(["check", "--all", "--lint", "--timeout", "30s", option]).output().unwrap();
    let (printed, said) = text(&output);
    (output.status.code().unwrap(), printed, said)
}

#[test]
fn a_name_that_several_servers_of_one_host_have_is_found_in_each_of_them() {
    let (status, printed, _) = lint_all("--json");
    let document: Value = serde_json::from_str(&printed).unwrap();
    let lint = |name: &str| {
        let servers = document["servers"].as_array().unwrap();
        let server = servers.iter().find(|server| server["name"] == name).unwrap();
        server["lint"].clone()
    };
    for (server, message) in [("a", "also in b"), ("b", "also in a")] {
        assert_eq!(
            (&lint(server)[0]["rule"], &lint(server)[0]["message"]),
            (&"shared-name".into(), &message.into())
        );
    }
    assert_eq!((lint("c"), lint("gone")), (json!([]), Value::Null));
    assert_eq!((status, &document["lint_errors"], &document["lint_warnings"]), (1, &json!(0), &json!(2)));
}

#[test]
fn a_server_that_could_not_be_linted_is_named_and_the_document_says_that_it_is_not_whole() {
    let (status, printed, said) = lint_all("--sarif");
    let results = validate_sarif(&printed);
    let places: Vec<&Value> =
        results.iter().map(|it| &it["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]).collect();
    assert_eq!((status, places), (1, vec![&json!("a/weather"), &json!("b/weather")]));
    let document: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["runs"][0]["invocations"][0]["executionSuccessful"], false);
    assert!(said.contains("gone is not linted: "), "{said}");
}

#[test]
fn documents_exclude_each_other_and_sarif_needs_the_lint() {
    for options in [&["--lint", "--sarif", "--json"][..], &["--sarif"], &["--lint", "--every", "1s"]] {
        let words = ["check"].iter().chain(options).copied().chain(["--", "true"]);
        assert_eq!(Home::new().spantap(words).output().unwrap().status.code(), Some(2), "{options:?}");
    }
}
