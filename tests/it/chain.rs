//! The chain of a session: `show` joins the records of agents and of servers' own spans to the calls on the wire.

use std::path::{Path, PathBuf};

use crate::support::*;

fn session() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agents/session")
}

fn joins(name: &str) -> PathBuf {
    session().with_file_name("joins").join(name)
}

#[test]
fn the_made_sessions_are_of_the_contract() {
    for folder in [session(), joins("trace"), joins("conversation"), joins("host")] {
        for path in logs_in(&folder) {
            assert!(!validate_log(&path).is_empty());
        }
    }
}

/// Returns what `show last` prints of a folder, with 100 columns.
fn shown(folder: &Path) -> String {
    let (printed, said) = show(folder, &["--no-pager"]);
    assert_eq!(said, "");
    printed
}

fn show(folder: &Path, more: &[&str]) -> (String, String) {
    let home = Home::new();
    let folder = folder.to_str().unwrap();
    let arguments = ["show", "last", folder].into_iter().chain(more.iter().copied());
    text(&home.spantap(arguments).env("COLUMNS", "100").env("LC_ALL", "C.UTF-8").output().unwrap())
}

/// Returns the lines of the tree, each as far as its name.
fn tree(folder: &Path) -> Vec<String> {
    let shown = shown(folder);
    let name = |line: &str| line.split("  ").filter(|part| !part.is_empty()).take(1).collect::<String>();
    let lines = shown.lines().skip_while(|line| !line.is_empty()).skip(1).take_while(|line| !line.is_empty());
    let is_node = |line: &&str| {
        let begin = line.trim_start();
        !begin.starts_with("~ joined")
            && ["turn", "outside", "model", "tool", "span", "~ ", "start"]
                .iter()
                .any(|word| begin.starts_with(word))
            || begin.as_bytes().get(6) == Some(&b'.')
    };
    let indent = |line: &str| line.len() - line.trim_start().len();
    let of = |line: &str| format!("{}{}", " ".repeat(indent(line) / 2), name(line.trim_start()).trim());
    lines.filter(is_node).map(of).collect()
}

#[test]
fn show_draws_the_session_from_the_turn_to_the_call() {
    let expected = [
        "turn 1",
        " model claude-opus-5",
        "  tool files/list_directory",
        "   110001.2",
        " model claude-opus-5",
        "  tool files/read_text_file",
        "   110001.3",
        "  tool files/write_file",
        "turn 2",
        " model claude-opus-5",
        "  tool Bash",
    ];
    assert_eq!(tree(&session()), expected);
    let shown = shown(&session());
    for part in [
        "2 calls, 1 error, 2 turns, ~218 tokens\n",
        "agent: 3 model calls of claude-opus-5, 6.0k in (3.0k cached), 60 out, $0.043\n",
        "refused before a server was asked: write_file by user\n",
        "1.0k in (200 cached), 10 out, $0.013, first token 640 ms",
        "allowed by user, waited 1.50 s for a person",
        "refused by user, waited 4.50 s for a person, no server was asked",
        "built in",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains('~') || !shown.contains("joined by its time"), "{shown}");
}

#[test]
fn a_tool_is_built_in_only_if_its_agent_reports_servers() {
    let folder = tempfile::tempdir().unwrap();
    for path in logs_in(&session()) {
        let text = std::fs::read_to_string(&path).unwrap().replace("claude-code", "opencode");
        let text = text.replace(r#""tool_server":"files","#, "");
        std::fs::write(folder.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let shown = shown(folder.path());
    let tool = shown.lines().find(|line| line.contains("Bash")).unwrap();
    assert!(tool.contains("no call on the wire") && !shown.contains("built in"), "{shown}");
}

/// Runs a command on the made session.
fn run_on_session(arguments: &[&str]) -> (String, String) {
    let home = Home::new();
    let folder = session();
    let arguments = arguments.iter().copied().chain([folder.to_str().unwrap()]);
    text(&home.spantap(arguments).env("LC_ALL", "C.UTF-8").output().unwrap())
}

#[test]
fn sessions_have_the_tokens_and_the_cost_that_the_agent_reported_beside_the_estimates() {
    let (printed, _) = run_on_session(&["sessions", "--no-pager"]);
    let lines: Vec<&str> = printed.lines().collect();
    let words: Vec<&str> = lines[0].split_whitespace().collect();
    assert!(words.ends_with(&["TURNS", "TOKENS~", "IN", "OUT", "COST", "NOTES"]), "{printed}");
    let row: Vec<&str> = lines[1].split_whitespace().collect();
    assert!(row.windows(5).any(|cells| cells == ["2", "218", "6.0k", "60", "$0.043"]), "{printed}");
    assert!(lines[1].ends_with("1 refused before a server was asked"), "{printed}");

    let (printed, _) = run_on_session(&["sessions", "--json"]);
    let session: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let expected = serde_json::json!({
        "turns": 2, "tokens_est": 218, "denied": 0, "refused": 1, "model_calls": 3, "calls_with_tokens": 3,
        "calls_with_cost": 3, "input_tokens": 6000, "cached_tokens": 3000, "output_tokens": 60,
        "cost_usd": 0.0428, "calculated_costs": 0,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&session[key], value, "{key}");
    }
}

#[test]
fn why_says_how_long_the_model_worked() {
    let (printed, _) = run_on_session(&["why", "--no-pager"]);
    assert!(printed.contains("4.35 s in model calls"), "{printed}");
    assert!(printed.contains("6.00 s waiting for a person"), "{printed}");
}

#[test]
fn why_names_model_calls_that_failed_and_tools_that_were_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in logs_in(&session()) {
        let text = std::fs::read_to_string(&path).unwrap();
        // The last model call fails.
        let failed = text.lines().map(|line| match line.contains("\"model_call\"") && line.contains("p2") {
            true => {
                line.replace(r#""status":"ok""#, r#""status":"error","error_type":"overloaded_error""#) + "\n"
            }
            false => format!("{line}\n"),
        });
        std::fs::write(folder.path().join(path.file_name().unwrap()), failed.collect::<String>()).unwrap();
    }
    let home = Home::new();
    let why = ["why", "--no-pager", folder.path().to_str().unwrap()];
    let (printed, _) = text(&home.spantap(why).env("COLUMNS", "200").output().unwrap());
    for part in [
        "1 of 3 model calls of claude-opus-5 failed after 2.00 s in all: overloaded_error.",
        "A person refused write_file on files before a server was asked, which is not an error.",
    ] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    assert!(!printed.contains("Nothing stood out"), "{printed}");
}

#[test]
fn show_of_a_call_names_the_model_call_the_tool_and_the_turn_above_it() {
    let (printed, _) = run_on_session(&["show", "110001.3", "--no-pager"]);
    let (_, section) = printed.split_once("what agent and server reported\n").unwrap();
    let lines: Vec<&str> = section.lines().take(3).map(str::trim_start).collect();
    let begins = [
        "turn           1, id p1, c70001.",
        "model call     claude-opus-5, 2.0k in",
        "tool           files/",
    ];
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{printed}");
    }
    let (printed, _) = run_on_session(&["show", "110001.3", "--json"]);
    let record: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let parent = record["chain"]["parent"].as_str().unwrap();
    assert_eq!((&record["seq"], &record["chain"]["joined_by"]), (&3.into(), &"call_id".into()), "{record}");
    let (above, _) = run_on_session(&["show", parent, "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&above).unwrap()["event"], "agent_tool");
}

#[test]
fn stats_are_by_model_and_by_turn_as_the_agent_reported_them() {
    let (printed, said) = run_on_session(&["stats", "--by", "model", "--no-pager"]);
    let expected = "\
MODEL          AGENT        CALLS     P50     P95    IN  CACHED  OUT    COST
claude-opus-5  claude-code      3  2.00 s  2.09 s  6.0k    3.0k   60  $0.043
3 model calls, 6.0k in (3.0k cached), 60 out, $0.043, as the agents reported
";
    assert_eq!((&*printed, &*said), (expected, ""));
    let (printed, _) = run_on_session(&["stats", "--by", "turn", "--json"]);
    let rows: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |row: &serde_json::Value| {
        [&row["turn_id"], &row["model_calls"], &row["tools"], &row["refused"], &row["cost_usd"]]
            .map(ToString::to_string)
    };
    assert_eq!(of(&rows[0]), ["\"p1\"", "2", "3", "1", "0.0266"]);
    assert_eq!(of(&rows[1]), ["\"p2\"", "1", "1", "0", "0.0162"]);
    for (option, value) in [("--server", "x"), ("--tool", "x"), ("--method", "x"), ("--status", "ok")] {
        let (printed, said) = run_on_session(&["stats", "--by", "model", option, value]);
        let expected = format!(
            "error: --by model counts requests to models, which have no server, and {option} selects calls to servers\n\
             hint: leave out {option}, or use `stats {option} …` without --by model\n"
        );
        assert_eq!((&*printed, said), ("", expected));
    }
}

#[test]
fn a_connection_selects_what_the_agent_of_its_session_reported() {
    let log = session().join("files-2026-11-28-a6e27a110001.jsonl");
    let first = std::fs::read_to_string(log).unwrap();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    let [connection, session] = ["connection_id", "session_id"].map(|key| first[key].as_str().unwrap());
    for by in ["turn", "model"] {
        let rows = |id: &str| run_on_session(&["stats", "--by", by, "--json", "--session", id]).0;
        assert!(rows(session).contains("model_calls"));
        assert_eq!(rows(connection), rows(session), "{by}");
        assert_eq!(rows(&connection[24..]), rows(session), "{by}");
    }
    assert_eq!(run_on_session(&["stats", "--by", "turn", "--json", "--session", "nosuch"]).0, "");
}

#[test]
fn a_figure_that_no_model_call_reported_is_not_shown_as_0() {
    let home = Home::new();
    for path in logs_in(&session()) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            record.as_object_mut().unwrap().remove("input_tokens");
            record.as_object_mut().unwrap().remove("cached_tokens");
            format!("{record}\n")
        });
        std::fs::create_dir_all(home.logs()).unwrap();
        std::fs::write(home.logs().join(path.file_name().unwrap()), lines.collect::<String>()).unwrap();
    }
    let print = |words: &[&str]| text(&home.spantap(words.iter().copied()).output().unwrap()).0;
    let printed = print(&["stats", "--by", "model", "--since", "2026-01-01"]);
    assert!(!printed.contains(" IN ") && printed.contains(" OUT ") && !printed.contains(" in,"), "{printed}");
    assert!(printed.contains("3 model calls, 60 out, $0.043, as the agents reported"), "{printed}");
    let sessions = print(&["sessions", "--since", "2026-01-01"]);
    assert!(!sessions.contains(" IN ") && sessions.contains(" OUT "), "{sessions}");
}

#[test]
fn where_only_the_agent_or_only_the_servers_are_the_way_out_names_the_other() {
    let home = Home::new();
    std::fs::create_dir_all(home.logs()).unwrap();
    let copy = |of_agent: bool, folder: &Path| {
        for path in logs_in(&session()) {
            let name = path.file_name().unwrap();
            if name.to_str().unwrap().starts_with("collect-") == of_agent {
                std::fs::copy(&path, folder.join(name)).unwrap();
            }
        }
    };
    copy(true, &home.logs());
    let said = |arguments: &[&str]| text(&home.spantap(arguments.iter().copied()).output().unwrap()).1;
    for arguments in
        [&["show", "last"][..], &["why"], &["sessions", "--since", "2026-01-01"], &["show", "7d1f6c1e"]]
    {
        let said = said(arguments);
        assert!(said.contains("`spantap stats --by turn"), "{arguments:?}: {said}");
    }
    let of_servers = home.path().join("of servers");
    std::fs::create_dir_all(&of_servers).unwrap();
    copy(false, &of_servers);
    let said = said(&["stats", "--by", "model", of_servers.to_str().unwrap()]);
    assert!(said.contains("`spantap collect --setup PROGRAM`"), "{said}");
}

#[test]
fn stats_count_the_turns_that_the_agent_reported() {
    let (printed, _) = run_on_session(&["stats", "--by", "session", "--no-pager"]);
    assert!(printed.contains("2 turns in 1 conversation (2.0 each)"), "{printed}");
    for by in ["session", "host"] {
        let (printed, _) = run_on_session(&["stats", "--by", by, "--json"]);
        assert!(printed.contains(r#""turns":2,"#), "{printed}");
    }
}

#[test]
fn a_failed_request_that_names_no_turn_is_in_the_turn_around_it_in_every_view() {
    let home = Home::new();
    std::fs::create_dir_all(home.logs()).unwrap();
    for path in logs_in(&session()) {
        let mut log = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap();
        if name.to_str().unwrap().starts_with("collect-") {
            log.push_str(
                &serde_json::json!({
                    "schema": "spantap/1", "timestamp": "2026-11-28T10:00:09.700000Z", "event": "model_call",
                    "seq": 99, "session_id": "7d1f6c1e-52a0-4c52-9a57-0a6b1c3f9e42", "status": "error",
                    "connection_id": "019acac6-0000-7fff-8000-c0117ec70001", "agent_name": "claude-code",
                    "fact_id": "0000000000000099", "started_at": "2026-11-28T10:00:09.600000Z",
                    "ended_at": "2026-11-28T10:00:09.700000Z", "duration_ms": 100.0, "model": "claude-opus-5",
                })
                .to_string(),
            );
            log.push('\n');
        }
        std::fs::write(home.logs().join(name), log).unwrap();
    }
    let run = |arguments: &[&str]| {
        let since = ["--since", "2026-11-28"];
        text(&home.spantap(arguments.iter().chain(&since).copied()).output().unwrap()).0
    };
    let rows = run(&["stats", "--by", "turn", "--json"]);
    let of = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        ["turn_id", "model_calls", "errors"].map(|key| row[key].to_string()).join(" ")
    };
    assert_eq!(rows.lines().map(of).collect::<Vec<_>>(), [r#""p1" 3 1"#, r#""p2" 1 0"#]);
    let shown = run(&["show", "last", "--no-pager"]);
    let turn = shown.lines().find(|line| line.starts_with("turn 1 ")).unwrap();
    assert!(turn.contains("3 model calls"), "{shown}");
}

#[test]
fn rows_of_turns_sort_by_the_column_that_is_asked_for() {
    let folders = [session(), joins("trace"), joins("host")];
    let sorted = |order: &[&str]| {
        let home = Home::new();
        let folders = folders.iter().map(|folder| folder.to_str().unwrap());
        let arguments = ["stats", "--by", "turn", "--json"].into_iter().chain(order.iter().copied());
        let (printed, said) = text(&home.spantap(arguments.chain(folders)).output().unwrap());
        assert_eq!(said, "");
        let turn = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let id = row["turn_id"].as_str().unwrap_or("-").to_owned();
            format!("{} {id}", row["agent_name"].as_str().unwrap())
        };
        printed.lines().map(turn).collect::<Vec<_>>().join(", ")
    };
    let by_cost = "claude-code p1, claude-code p2, opencode -, codex t1, gemini-cli -";
    assert_eq!(sorted(&[]), by_cost);
    let by_tokens = "opencode -, claude-code p1, claude-code p2, codex t1, gemini-cli -";
    assert_eq!(sorted(&["--sort", "tokens"]), by_tokens);
    let by_calls = "claude-code p1, codex t1, claude-code p2, opencode -, gemini-cli -";
    assert_eq!(sorted(&["--sort", "calls"]), by_calls);
}

#[test]
fn show_prints_what_an_agent_reported_of_one_model_call_or_tool() {
    let (printed, said) = run_on_session(&["show", "c70001.0"]);
    assert_eq!(said, "");
    for part in [
        "c70001.0  model call claude-opus-5 of claude-code\n",
        "took 2.10 s\n",
        "  first token    after 640 ms\n",
        "  status         ok\n",
        "  tokens in      1000\n",
        "  from the cache 200\n",
        "  tokens out     10\n",
        "  cost           $0.013, as the agent reported\n",
        "  turn           p1\n",
        "  collector run  019acac6-0000-7fff-8000-c0117ec70001\n",
    ] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    let (printed, _) = run_on_session(&["show", "c70001.4"]);
    assert!(printed.starts_with("c70001.4  tool files/write_file of claude-code\n"), "{printed}");
    assert!(printed.contains("  decision       refused by user, before a server was asked\n"), "{printed}");
    assert!(printed.contains("  waited         4.50 s for a person\n"), "{printed}");
    let (printed, _) = run_on_session(&["show", "c70001.4", "--json"]);
    let record: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&record["seq"], &record["event"]), (&4.into(), &"agent_tool".into()));
    // The id of a call that never reached a server names the agent's tool; that of one that did names the call.
    let call_id = record["call_id"].as_str().unwrap();
    assert!(run_on_session(&["show", call_id]).0.starts_with("c70001.4  tool files/write_file"));
    let (_, said) = run_on_session(&["show", "c70001.99"]);
    assert!(said.contains("no session or operation `c70001.99`"), "{said}");
}

#[test]
fn show_joins_by_trace_and_draws_the_servers_own_spans_below_the_call() {
    let expected = [
        "turn 1",
        " model gpt-6-codex",
        "  ~ tool get_sum",
        "   220001.1",
        "    span tools/call get-sum",
        "     span SELECT",
        " model gpt-6-codex",
        "  ~ tool echo",
        "   220001.2",
    ];
    assert_eq!(tree(&joins("trace")), expected);
}

#[test]
fn show_joins_by_conversation_and_time_one_to_one_and_marks_it() {
    let expected = [
        "outside turns",
        " model gpt-6-codex",
        "  ~ tool math/get_sum",
        "   ~ 220004.1",
        "  ~ tool shell",
        "  ~ tool math/get_sum",
        "   ~ 220004.2",
    ];
    assert_eq!(tree(&joins("conversation")), expected);
    assert!(shown(&joins("conversation")).contains("~ joined by its time: no id says where it belongs"));
}

#[test]
fn show_joins_a_run_of_the_host_by_its_tools_and_no_run_of_another_agent() {
    let expected = ["outside turns", " model gpt-6-codex", "  ~ tool math/echo", "   ~ 220006.1"];
    assert_eq!(tree(&joins("host")), expected);
    assert!(shown(&joins("host")).contains("agent: 1 model call of gpt-6-codex, 1.0k in, 10 out\n"));
}

#[test]
fn show_says_that_two_runs_of_one_agent_can_be_the_session_s_unless_the_process_tells() {
    let folder = tempfile::tempdir().unwrap();
    for path in logs_in(&joins("host")) {
        let text = std::fs::read_to_string(&path).unwrap();
        // The other agent has the same name, and is another process.
        let text =
            text.replace(r#""agent_name":"opencode","#, r#""agent_name":"gemini-cli","host_pid":5001,"#);
        std::fs::write(folder.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let line =
        "agent: 2 runs of gemini-cli at this time, and no id says which one; what they reported is left out";
    let way_out = "`spantap stats --by turn` has them";
    assert!(
        [line, way_out].iter().all(|text| shown(folder.path()).contains(text)),
        "{}",
        shown(folder.path())
    );
    assert!(!shown(folder.path()).contains("model call"));
    let (printed, said) = show(folder.path(), &["--json"]);
    assert!(said.contains(line) && !printed.contains("agent_name"), "{said}");
    let server =
        logs_in(folder.path()).into_iter().find(|path| path.to_str().unwrap().contains("math-")).unwrap();
    let text = std::fs::read_to_string(&server).unwrap();
    let text = text.replace(r#""event":"session_started","#, r#""event":"session_started","host_pid":5000,"#);
    std::fs::write(&server, text).unwrap();
    assert_eq!(tree(folder.path()), tree(&joins("host")));
}

#[test]
fn the_lines_of_json_say_what_each_record_belongs_to() {
    let (printed, said) = show(&joins("trace"), &["--json"]);
    assert_eq!(said, "");
    let records: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |record: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let chain = &record["chain"];
        let parts = [&record["event"], &chain["handle"], &chain["parent"], &chain["joined_by"]].map(text);
        format!("{} {}", parts.join(" "), chain["by_time"].as_bool().unwrap_or(false))
    };
    let expected = [
        "agent_turn c70002.4 - - false",
        "model_call c70002.0 c70002.4 turn false",
        "agent_tool c70002.1 c70002.0 conversation true",
        "mcp_tool_call 220001.1 c70002.1 trace false",
        "server_span c70003.0 220001.1 trace false",
        "server_span c70003.1 c70003.0 trace false",
        "model_call c70002.2 c70002.4 turn false",
        "agent_tool c70002.3 c70002.2 conversation true",
        "mcp_tool_call 220001.2 c70002.3 trace false",
    ];
    assert_eq!(records.iter().map(of).collect::<Vec<_>>(), expected);
    // With a condition on calls only they are drawn, with what is above them.
    let (printed, _) = show(&session(), &["--no-pager", "--status", "error"]);
    assert!(
        printed.contains("tool files/read_text_file") && !printed.contains("list_directory"),
        "{printed}"
    );
    assert!(!printed.contains("Bash"), "{printed}");
}
