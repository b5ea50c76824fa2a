//! `check --lint` over servers with the definitions of `fixtures/lint`, and the documents that it prints.

use std::path::Path;

use serde_json::{Value, json};
use spantap::relay::chunk::Stream;

use crate::replay::{CLIENT, Player, SERVER};
use crate::support::*;

/// A server of an older revision that answers everything with the same result, whose tools are `$TOOLS`.
const SCRIPT: &str = r#"while read -r line; do
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
    let words = words.chain(["--", "sh", "-c", SCRIPT]);
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
        |fixture: &str| json!({"command": "sh", "args": ["-c", SCRIPT], "env": {"TOOLS": tools(fixture)}});
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
fn the_document_of_a_server_that_fails_is_valid_and_has_the_reason() {
    let words =
        ["check", "--lint", "--sarif", "--timeout", "30s", "--", "sh", "-c", "echo no database >&2; exit 3"];
    let output = Home::new().spantap(words).output().unwrap();
    let (printed, said) = text(&output);
    assert_eq!((output.status.code(), validate_sarif(&printed)), (Some(1), Vec::new()));
    assert!(said.starts_with("error: "), "{said}");
    let document: Value = serde_json::from_str(&printed).unwrap();
    let invocation = &document["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let reason = invocation["toolExecutionNotifications"][0]["message"]["text"].as_str().unwrap();
    assert!(reason.contains("exit status 3") && reason.contains("no database"), "{reason}");
}

/// A CI system reads the output of a job, and its errors.
#[test]
fn no_text_of_a_server_is_a_command_for_a_ci_system() {
    let hostile = r###"[{"name":"::error::x ##vso[task.debug]y"}, {"name":"##[error]z"}]"###;
    let lint = |tools: &str, option: &str| {
        let words = ["check", "--lint", "--timeout", "30s", option, "--", "sh", "-c", SCRIPT];
        let output = Home::new().spantap(words).env("TOOLS", tools).output().unwrap();
        let (printed, said) = text(&output);
        let all = printed + &said;
        assert!(!all.contains("##vso[") && !all.contains("##["), "{all}");
        assert!(!all.lines().any(|line| line.trim_start().starts_with("::")), "{all}");
        all
    };
    assert!(lint(hostile, "--color=never").contains("## [error]z"));
    let found: Value = serde_json::from_str(&lint(hostile, "--json")).unwrap();
    assert!(found["lint"].to_string().contains("##[error]z"), "{found}");
    validate_sarif(&lint(hostile, "--sarif"));
    let words = ["check", "--", "sh", "-c", "echo '##vso[task.debug]x' >&2; exit 1"];
    let said = text(&Home::new().spantap(words).output().unwrap()).1;
    assert!(said.contains("stderr: ## vso[task.debug]x"), "{said}");
}

#[test]
fn documents_exclude_each_other_and_sarif_needs_the_lint() {
    for options in [&["--lint", "--sarif", "--json"][..], &["--sarif"], &["--lint", "--every", "1s"]] {
        let words = ["check"].iter().chain(options).copied().chain(["--", "true"]);
        assert_eq!(Home::new().spantap(words).output().unwrap().status.code(), Some(2), "{options:?}");
    }
}

fn send(player: &mut Player, stream: Stream, message: &Value) {
    player.send(stream, format!("{message}\n"));
}

/// Observes a list of tools.
fn list(player: &mut Player, tools: &[Value]) {
    send(player, CLIENT, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    send(player, SERVER, &json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}));
}

/// Observes a call with its result.
fn call(player: &mut Player, tool: &str, result: &Value) {
    let params = json!({"name": tool, "arguments": {}});
    send(player, CLIENT, &json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}));
    send(player, SERVER, &json!({"jsonrpc": "2.0", "id": 2, "result": result}));
}

fn good(name: &str) -> Value {
    json!({"name": name, "description": "x", "inputSchema": {"type": "object"}})
}

/// Returns the tools of all `tools_linted` records, each with its rules, and the number of the tools that are not named.
fn linted(records: &[Value]) -> (Vec<(String, String)>, u64) {
    let (mut tools, mut unlisted) = (Vec::new(), 0);
    for record in records.iter().filter(|record| record["event"] == "tools_linted") {
        drop(validate_line(Path::new("player"), &record.to_string()));
        unlisted += record["unlisted"].as_u64().unwrap_or_default();
        for tool in record["linted"].as_array().unwrap() {
            tools.push((tool["name"].as_str().unwrap().to_owned(), tool["rules"].to_string()));
        }
    }
    (tools, unlisted)
}

#[test]
fn findings_in_observed_definitions_are_recorded_once_for_each_definition() {
    let mut player = Player::new();
    let mut bad = good("b");
    bad["inputSchema"]["anyOf"] = json!([{}]);
    for _ in 0..3 {
        list(&mut player, &[good("a"), bad.clone(), good("c.d")]);
    }
    bad["description"] = json!("other");
    list(&mut player, &[good("a"), bad, good("c.d"), good("a")]);
    let records = player.end();
    let found = |tool: &str, rules: &str| (tool.to_owned(), rules.to_owned());
    let union = r#"["input-schema-union"]"#;
    let expected = [
        found("b", union),
        found("c.d", r#"["tool-name"]"#),
        found("b", union),
        found("a", r#"["duplicate-name"]"#),
    ];
    assert_eq!(linted(&records), (expected.to_vec(), 0));
    let first = records.iter().find(|record| record["event"] == "tools_linted").unwrap();
    assert_eq!(
        (&first["level"], &first["message"]),
        (&json!("info"), &json!("lint of b: input-schema-union; c.d: tool-name"))
    );
}

#[test]
fn a_result_without_structured_content_is_found_if_the_tool_declares_an_output_schema() {
    let mut with_output = good("a");
    with_output["outputSchema"] = json!({"type": "object"});
    let results = [
        (json!({"content": [], "structuredContent": {}}), false),
        (json!({"content": [], "isError": true}), false),
        (json!({"resultType": "input_required", "inputRequests": {}}), false),
        (json!({"content": []}), true),
    ];
    for (result, is_found) in results {
        let mut player = Player::new();
        list(&mut player, &[with_output.clone(), good("b")]);
        for tool in ["b", "a", "a"] {
            call(&mut player, tool, &result);
        }
        let expected = vec![("a".to_owned(), r#"["structured-content"]"#.to_owned())];
        assert_eq!(linted(&player.end()).0, if is_found { expected } else { Vec::new() }, "{result}");
    }
    let mut player = Player::new();
    list(&mut player, &[with_output]);
    list(&mut player, &[good("a")]);
    call(&mut player, "a", &json!({"content": []}));
    assert_eq!(linted(&player.end()).0, [], "the tool no longer declares an output schema");
}

#[test]
fn hostile_lists_make_few_records_of_limited_size() {
    let mut player = Player::new();
    for page in 0..8 {
        let tools: Vec<Value> = (0..1000).map(|n| good(&format!("t.{page}.{n}"))).collect();
        list(&mut player, &tools);
    }
    // Too long to be linted.
    list(&mut player, &[json!({"name": "long.name", "description": "x".repeat(300 << 10)})]);
    let records = player.end();
    let (tools, unlisted) = linted(&records);
    assert_eq!((tools.len(), tools.len() as u64 + unlisted), (5 * 500 - 404, 4096));
    let longest = records.iter().map(|record| record.to_string().len()).max().unwrap();
    assert!(longest < 64 << 10, "{longest}");
}
