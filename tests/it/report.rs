//! The page of `spantap report` without a browser. `tests/report/check_page.mjs` tests it in a browser.

use std::fmt::Write;
use std::process::Command;

fn report(from: &str) -> String {
    report_with(&[from])
}

fn report_with(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_spantap"))
        .args(["report", "-o", "-"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn data(page: &str) -> serde_json::Value {
    let mark = "<script id=\"data\" type=\"application/json\">";
    let start = page.find(mark).unwrap() + mark.len();
    let end = start + page[start..].find("</script>").unwrap();
    assert!(!page[start..end].contains('<'), "nothing in the data can end it or begin an element");
    serde_json::from_str(&page[start..end]).unwrap()
}

#[test]
fn nothing_in_the_page_comes_from_elsewhere() {
    let page = report("fixtures/made-logs");
    let policy =
        page.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for word in
        ["http://", "https://", " src=\"", "innerHTML", "insertAdjacentHTML", "document.write", "eval("]
    {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(word);
        assert!(!found, "{word}");
    }
    assert!(!page.contains("<script>alert"), "names are data");
}

#[test]
fn the_start_of_servers_takes_the_time_in_which_one_of_them_started_as_in_show() {
    // Five servers that start at the same time.
    let folder = "fixtures/why/parallel-starts";
    let page = data(&report(folder));
    let start = &page["sessions"][0]["start"];
    let (ms, slowest) = (start["ms"].as_f64().unwrap(), start["slowest"][1].as_f64().unwrap());
    assert!(start["servers"].as_u64().unwrap() > 1 && ms < 1.5 * slowest, "{start}");
    let shown = Command::new(env!("CARGO_BIN_EXE_spantap"))
        .args(["show", "last", folder])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let line = shown.lines().find(|line| line.starts_with("start of ")).unwrap();
    let took = |ms: f64| format!("{:.2} s", ms / 1000.0);
    assert!(line.contains(&format!("{}, slowest", took(ms))) && line.contains(&took(slowest)), "{line}");
}

#[test]
fn the_page_has_what_the_agents_reported_of_the_sessions_that_are_selected() {
    let folders = ["fixtures/agents/session", "fixtures/agents/joins/trace", "fixtures/agents/joins/host"];
    let of = |more: &[&str]| {
        let page = data(&report_with(&[&folders[..], more].concat()));
        let sum = |field: usize| -> f64 {
            let models = page["agents"]["models"].as_array().unwrap();
            models.iter().map(|model| model[field].as_f64().unwrap()).sum()
        };
        let agents: Vec<String> = page["agents"]["turns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|turn| turn["agent"].as_str().unwrap().to_owned())
            .collect();
        (agents.join(" "), sum(2), sum(5), (sum(9) * 1e4).round() / 1e4, page["agents"]["refused"].clone())
    };
    // Runs of agents without a session here are listed, too.
    let (agents, calls, input, usd, refused) = of(&[]);
    assert_eq!(agents, "claude-code claude-code opencode codex gemini-cli");
    assert_eq!((calls, input, usd), (7.0, 15_000.0, 0.0428));
    assert_eq!(refused, serde_json::json!([["write_file", "user", 1]]));
    let of_session = of(&["--session", "7d1f6c1e"]);
    assert_eq!((&*of_session.0, of_session.1, of_session.3), ("claude-code claude-code", 3.0, 0.0428));
    // What an agent reported is that of whole sessions, and not that of a server.
    assert_eq!(of(&["--server", "files"]).1, 0.0);
    assert_eq!(of(&["--status", "error"]).1, 0.0);
}

#[test]
fn the_page_says_the_same_as_stats() {
    let data = data(&report("fixtures/made-logs"));
    let output = Command::new(env!("CARGO_BIN_EXE_spantap"))
        .args(["stats", "--json", "fixtures/made-logs"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let rows: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(data["pairs"].as_array().unwrap().len(), rows.len());
    for row in rows {
        let same = |pair: &&serde_json::Value| {
            // The page contains names in their clean form.
            let clean = |name: &serde_json::Value| {
                spantap::present::Printable::new(name.as_str().unwrap()).to_string()
            };
            pair["server"] == clean(&row["server_name"]) && pair["tool"] == clean(&row["tool_name"])
        };
        let pair = data["pairs"].as_array().unwrap().iter().find(same).unwrap();
        for (page, stats) in
            [("calls", "calls"), ("errors", "errors"), ("unknown", "unknown"), ("tokens", "tokens_est")]
        {
            assert_eq!(pair[page], row[stats], "{page} of {row}");
        }
        // `--json` has at most nine decimals.
        let rounded = |figure: &serde_json::Value| figure.as_f64().map(|figure| format!("{figure:.9}"));
        assert_eq!(rounded(&pair["ms"][1]), rounded(&row["p95_ms"]), "{row}");
    }
}

fn context(arguments: &[&str]) -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_spantap"))
        .args(["context", "--json"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let rows = String::from_utf8(output.stdout).unwrap();
    rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_context_board_says_the_same_as_context_also_if_only_some_calls_are_selected() {
    for arguments in
        [&["fixtures/context"][..], &["fixtures/context", "--status", "ok"], &["fixtures/days/hostile"]]
    {
        let data = data(&report_with(arguments));
        let board = &data["context"];
        let clean = |name: &serde_json::Value| {
            spantap::present::Printable::new(name.as_str().unwrap_or_default()).to_string()
        };
        let servers = context(&arguments[..1]);
        let mut tools = board["tools"].as_array().unwrap().iter();
        for (server, shown) in servers.iter().zip(board["servers"].as_array().unwrap()) {
            assert_eq!(shown["name"], clean(&server["server_name"]));
            assert_eq!(shown["tokens"], server["definition_tokens_est"], "{server}");
            assert_eq!(shown["unused"], server["never_called_tokens_est"], "{server}");
            assert_eq!(shown["saving"].is_string(), server["never_called"].as_u64() > Some(0), "{server}");
            for tool in server["tools"].as_array().unwrap() {
                let shown = tools.next().unwrap();
                assert_eq!(shown["tool"], clean(&tool["tool_name"]), "in the same order");
                for (ours, theirs) in [
                    ("tokens", "definition_tokens_est"),
                    ("description", "description_tokens_est"),
                    ("schema", "schema_tokens_est"),
                    ("calls", "calls"),
                    ("never", "never_called"),
                    ("median", "result_median_tokens_est"),
                    ("largest", "result_max_tokens_est"),
                    ("over", "results_over_limit"),
                ] {
                    assert_eq!(shown[ours], tool[theirs], "{ours} of {tool}");
                }
            }
        }
        let has_unused = servers.iter().any(|server| server["never_called"].as_u64() > Some(0));
        assert_eq!(has_unused, arguments[0] == "fixtures/context");
        assert_eq!((tools.next(), &board["more"]), (None, &serde_json::json!(0)));
    }
}

#[test]
fn the_context_board_counts_the_tools_that_it_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let head = "{\"schema\":\"spantap/1\",\"timestamp\":\"2026-11-22T10:00:00.000000Z\",\"session_id\":\"s\",\
                \"connection_id\":\"0193340b-8af8-7ac8-abe8-615ce36299d5\",\"server_name\":\"many\"";
    let tool = |number| serde_json::json!({ "name": format!("tool_{number}"), "definition_bytes": 400 });
    let tools = serde_json::json!((0..1_200).map(tool).collect::<Vec<_>>());
    let log = format!(
        "{head},\"event\":\"tools_listed\",\"seq\":1,\"tools\":{tools},\"tools_total\":1200,\
         \"definition_bytes\":480000,\"is_complete\":true}}\n\
         {head},\"event\":\"mcp_tool_call\",\"seq\":2,\"tool_name\":\"tool_0\",\"status\":\"ok\"}}\n"
    );
    let file = folder.path().join("many.jsonl");
    std::fs::write(&file, log).unwrap();
    let board = &data(&report(file.to_str().unwrap()))["context"];
    assert_eq!(board["tools"].as_array().unwrap().len(), 1_000);
    assert_eq!(board["more"], 200);
    assert_eq!(board["servers"][0]["saving"], "many: 1199 of 1200 tools never called, ~120k tokens a turn");
}

#[test]
fn the_context_board_finds_definitions_that_were_listed_before_the_selected_time() {
    let arguments = ["--log-dir", "fixtures/context", "--since", "2026-11-28T00:00:00Z"];
    let data = data(&report_with(&arguments));
    let defined = |server: &serde_json::Value| server["tokens"].is_u64();
    assert_eq!(data["context"]["servers"].as_array().unwrap().iter().filter(|row| defined(row)).count(), 2);
}

#[test]
fn the_page_groups_errors_as_stats_does() {
    for logs in ["fixtures/logs", "fixtures/made-logs"] {
        let data = data(&report(logs));
        let output = Command::new(env!("CARGO_BIN_EXE_spantap"))
            .args(["stats", "--by", "error", "--json", logs])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let clean = |text: &serde_json::Value| {
            spantap::present::Printable::new(text.as_str().unwrap_or_default()).to_string()
        };
        let rows = String::from_utf8(output.stdout).unwrap();
        let stats: Vec<_> = rows
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|row| {
                (clean(&row["tool_name"]), clean(&row["message"]), row["count"].clone(), clean(&row["last"]))
            })
            .collect();
        let page: Vec<_> = data["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                (clean(&row["tool"]), clean(&row["message"]), row["count"].clone(), clean(&row["last"]))
            })
            .collect();
        assert!(stats.len() > 3);
        assert_eq!(page, stats);
        let denied = data["errors"].as_array().unwrap().iter().filter(|row| row["denied"] != 0).count();
        assert_eq!(denied, 2, "{logs}");
    }
}

#[cfg(unix)]
#[test]
fn a_new_page_is_private_and_a_link_to_one_stays() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let [page, link] = ["page.html", "link.html"].map(|name| dir.path().join(name));
    std::os::unix::fs::symlink(&page, &link).unwrap();
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spantap"));
        command.args(["report", "fixtures/logs", "-o"]).arg(&link).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(command.output().unwrap().status.success());
        assert_eq!(std::fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(link.is_symlink() && std::fs::read_to_string(&page).unwrap().contains("</html>"));
    }
}

#[test]
fn a_page_of_many_operations_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    for operations in [10_000_usize, 25_000] {
        let mut log = String::new();
        for seq in 0..operations {
            let status = if seq % 97 == 0 { "error" } else { "ok" };
            writeln!(
                log,
                "{{\"schema\":\"spantap/1\",\"timestamp\":\"2026-11-22T{:02}:{:02}:{:02}.{:06}Z\",\"event\":\"mcp_tool_call\",\
                 \"seq\":{seq},\"session_id\":\"session-{}\",\"connection_id\":\"0193340b-8af8-7ac8-abe8-615ce36299d5\",\
                 \"server_name\":\"github\",\"turn_id\":\"{}\",\"request_id\":\"{seq}\",\"method\":\"tools/call\",\
                 \"tool_name\":\"search_issues\",\"args_hash\":\"hmac-sha256:{:064x}\",\"result_hash\":\"hmac-sha256-raw:{:064x}\",\
                 \"text_hash\":\"hmac-sha256-raw:{:064x}\",\"duration_ms\":{}.{:03},\"status\":\"{status}\",\
                 \"args_tokens_est\":12,\"result_tokens_est\":1234,\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"}}",
                seq / 3600 % 24, seq / 60 % 60, seq % 60, seq, seq / 100, seq / 7, seq, seq * 3, seq * 7, seq % 1000, seq % 997, seq, seq,
            )
            .unwrap();
        }
        let file = dir.path().join(format!("{operations}.jsonl"));
        std::fs::write(&file, log).unwrap();
        let page = report(file.to_str().unwrap());
        assert!(page.len() < 2_000_000, "{operations} operations make {} bytes", page.len());
        let data = data(&page);
        assert_eq!(data["operations"], operations);
        assert_eq!(data["rows"]["list"].as_array().unwrap().len(), 10_000);
        let details = data["rows"]["details"].as_object().unwrap().len();
        assert!((1_000..=2_000).contains(&details), "{details}");
        let failures = data["rows"]["list"].as_array().unwrap().iter().filter(|row| row[4] == 1).count();
        assert_eq!(failures, operations.div_ceil(97), "the worst are kept");
    }
}
