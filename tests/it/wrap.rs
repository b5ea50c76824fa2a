//! `wrap`, `unwrap` and `status` as a user runs them: files are edited and restored, and every server is
//! named.

#[cfg(unix)]
mod unix;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::support::*;

/// Writes a file of this home.
pub(crate) fn put(home: &Home, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = home.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn run(home: &Home, arguments: &str) -> Output {
    let mut command = home.spantap(arguments.split_whitespace());
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

/// Returns a path as spantap prints it, with the separators of the system.
fn shown(parts: &[&str]) -> String {
    parts.iter().collect::<PathBuf>().display().to_string()
}

/// Returns the output of a command that must succeed.
#[track_caller]
pub(crate) fn printed(home: &Home, arguments: &str) -> String {
    let output = run(home, arguments);
    let (printed, said) = text(&output);
    assert!(output.status.success(), "{arguments}: {printed}{said}");
    printed
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const CURSOR: &[u8] =
    b"\xef\xbb\xbf{\r\n  \"mcpServers\": {\r\n    \"a\": {\"command\": \"cat\"}\r\n  }\r\n}\r\n";

#[test]
fn wrap_then_unwrap_leaves_the_file_as_it_was() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", CURSOR);
    let said = printed(&home, "wrap --yes");
    assert!(said.contains("Cursor: 1 server changed. To take effect: "), "{said}");
    let now = fs::read(&path).unwrap();
    assert!(now.starts_with(b"\xef\xbb\xbf{\r\n"));
    assert!(String::from_utf8_lossy(&now).contains("spantap"));
    let status = json_lines(&printed(&home, "status --json")).remove(0);
    assert_eq!((&status["server"], &status["watched"]), (&"a".into(), &"yes".into()));
    assert!(printed(&home, "wrap --yes").ends_with("a: left alone: wrapped already\nnothing to do\n"));
    assert_eq!(fs::read(&path).unwrap(), now);
    printed(&home, "unwrap --yes");
    assert_eq!(fs::read(&path).unwrap(), CURSOR);
    assert_eq!(fs::read_dir(home.path().join(".local/state/spantap/backups")).unwrap().count(), 2);
}

#[test]
fn the_files_of_every_host_come_back_byte_for_byte() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
    let home = Home::new();
    for (host, fixture) in [
        ("claude-code", "claude-code/.claude.json"),
        ("codex", "codex/windows.toml"),
        ("goose", "goose/windows.yaml"),
        ("vscode", "vscode/mcp.json"),
        ("opencode", "opencode/opencode.json"),
    ] {
        let before = fs::read(fixtures.join(fixture)).unwrap();
        let name = fixture.split('/').next_back().unwrap();
        let path = put(&home, name, &before);
        printed(&home, &format!("wrap --host {host} --file {name} -y"));
        assert_ne!(fs::read(&path).unwrap(), before, "{fixture}");
        printed(&home, &format!("unwrap --host {host} --file {name} -y"));
        assert_eq!(fs::read(&path).unwrap(), before, "{fixture}");
    }
}

#[test]
fn a_dry_run_shows_the_lines_and_writes_nothing() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", CURSOR);
    let shown = printed(&home, "wrap -n");
    assert!(shown.contains("@@ line 3, server a @@\n-    \"a\": {\"command\": \"cat\"}\n"), "{shown}");
    assert!(shown.contains("+    \"a\": {\"command\": \"") && shown.contains("spantap"), "{shown}");
    assert_eq!(fs::read(&path).unwrap(), CURSOR);
    assert!(!home.path().join(".local").exists());
    let report = json_lines(&printed(&home, "wrap -n --json")).remove(0);
    assert_eq!(report["written"], false);
    assert!(report["diff"].as_str().unwrap().starts_with("@@ line 3"), "{report}");
}

#[test]
fn a_dry_run_shows_no_value_but_the_command_and_no_secret_in_that() {
    let home = Home::new();
    let secrets = "\"env\":{\"TOKEN\":\"s3cret-one\",\"PIN\":4711},\"headers\":{\"Authorization\":\"Bearer s3cret-two\"}";
    put(
        &home,
        ".cursor/mcp.json",
        format!(
            "{{\"other\":\"s3cret-three\",\"mcpServers\":{{\"far\":{{\"url\":\"https://s3cret-four@x.example\"}},\
             \"a\":{{\"command\":\"npx\",\"args\":[\"pkg\",\"--api-key\",\"s3cret-five\"],{secrets}}}}}}}"
        ),
    );
    put(
        &home,
        ".codex/config.toml",
        "[mcp_servers.b]\ncommand = 'b' # password: s3cret-six\nargs = [] \nenv = { KEY = 's3cret-seven' }\n",
    );
    let goose = if cfg!(windows) { "Block/goose/config/config.yaml" } else { ".config/goose/config.yaml" };
    put(&home, goose, "extensions:\n  c: {cmd: c, args: [], envs: {KEY: s3cret-eight}}\n");
    let shown = printed(&home, "wrap -n");
    assert!(!shown.contains("s3cret") && !shown.contains("4711"), "{shown}");
    for kept in ["server a", "\"pkg\",\"--api-key\"", "server b", "server c", "\"--\""] {
        assert!(shown.contains(kept), "{kept} in {shown}");
    }
}

#[test]
fn a_shared_file_names_the_proxy_by_its_bare_name_and_holds_nothing_of_this_machine() {
    let home = Home::new();
    let path = put(&home, ".mcp.json", r#"{"mcpServers":{"a":{"command":"cat"}}}"#);
    let mut command = home.spantap(["wrap", "--project", "-y"]);
    let output = command.env("SPANTAP_LOG_DIR", "/home/ann/logs").output().unwrap();
    assert!(text(&output).0.contains("this file is shared"));
    let wrapped = fs::read_to_string(path).unwrap();
    assert!(wrapped.contains(r#""command":"spantap""#), "{wrapped}");
    assert!(!wrapped.contains("ann"), "{wrapped}");
    // The program is not on that PATH, so the entry cannot start.
    let status = run(&home, "status --project");
    assert!(text(&status).0.contains("stale binary"), "{}", text(&status).0);
    assert_eq!(status.status.code(), Some(1));
    // The entry may work for other users.
    assert!(printed(&home, "wrap --project -y").contains("wrapped already"));
    printed(&home, "unwrap --all -y");
    assert_eq!(
        fs::read_to_string(home.path().join(".mcp.json")).unwrap(),
        r#"{"mcpServers":{"a":{"command":"cat"}}}"#
    );
}

#[test]
fn what_cannot_be_wrapped_is_named_with_the_reason_and_left_alone() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", r#"{"mcpServers":{"far":{"url":"https://mcp.example.com"}}}"#);
    let broken = put(&home, ".codex/config.toml", "[mcp_servers.a\ncommand = 1");
    let (before, broken_before) = (fs::read(&path).unwrap(), fs::read(&broken).unwrap());
    let output = run(&home, "wrap -y");
    let (shown, _) = text(&output);
    assert!(shown.contains("far: left alone: remote"), "{shown}");
    assert!(shown.contains("line 1: not valid TOML"), "{shown}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((fs::read(&path).unwrap(), fs::read(&broken).unwrap()), (before, broken_before));
    assert_eq!(run(&home, "status").status.code(), Some(1));
}

#[test]
fn an_empty_home_is_told_where_was_looked_and_what_to_do() {
    let output = run(&Home::new(), "unwrap -y --all");
    assert_eq!(text(&output).0, "nothing to do: no host has a config file here\n");
    assert!(output.status.success());
    for command in ["wrap -y", "unwrap -y --host cursor --host codex", "status"] {
        let output = run(&Home::new(), command);
        assert_eq!(output.status.code(), Some(1));
        let (_, said) = text(&output);
        let paths = [shown(&["~", ".cursor", "mcp.json"]), shown(&["~", ".codex", "config.toml"])];
        for part in paths.iter().map(String::as_str).chain(["\nhint: ", "--file", "--project"]) {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let (_, said) = text(&run(&Home::new(), "status"));
    assert_eq!(said.contains("com.visualstudio.code"), cfg!(target_os = "linux"), "Flatpak: {said}");
}

#[test]
fn what_was_named_and_is_not_there_is_named() {
    let home = Home::new();
    put(&home, ".cursor/mcp.json", CURSOR);
    for command in ["wrap -y --file nowhere.json", "unwrap --file nowhere.json", "status --file nowhere.json"]
    {
        let output = run(&home, command);
        let said = text(&output).1;
        assert_eq!(output.status.code(), Some(1), "{command}");
        let reason = if cfg!(windows) { "" } else { "No such file" };
        assert!(
            said.starts_with(&format!("error: cannot read `nowhere.json`: {reason}")),
            "{command}: {said}"
        );
    }
    for command in ["wrap -y nosuch", "status nosuch"] {
        let output = run(&home, command);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output).1.starts_with("error: no server is called `nosuch`"), "{command}");
    }
}

#[test]
fn an_option_that_run_would_refuse_is_refused_before_anything_is_written() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", CURSOR);
    for options in ["--no-such-option", "--slow soon", "--server x", "--origin x", "x"] {
        let output = run(&home, &format!("wrap -y -- {options}"));
        assert_eq!(output.status.code(), Some(2), "{options}");
        let word = options.split(' ').next().unwrap();
        assert!(text(&output).1.starts_with("error: `"), "{options}: {}", text(&output).1);
        assert!(text(&output).1.lines().next().unwrap().contains(word), "{options}: {}", text(&output).1);
    }
    assert_eq!(fs::read(path).unwrap(), CURSOR);
}

#[test]
fn only_the_named_servers_and_hosts_are_touched() {
    let home = Home::new();
    let two = r#"{"mcpServers":{"a":{"command":"cat"},"b":{"command":"cat"}}}"#;
    let cursor = put(&home, ".cursor/mcp.json", two);
    let gemini = put(&home, ".gemini/settings.json", two);
    let report = json_lines(&printed(&home, "wrap b --host cursor -y --json"));
    assert_eq!(report.len(), 1);
    assert_eq!((&report[0]["changed"], &report[0]["written"]), (&serde_json::json!(["b"]), &true.into()));
    assert_eq!(fs::read_to_string(gemini).unwrap(), two);
    assert!(fs::read_to_string(&cursor).unwrap().starts_with(r#"{"mcpServers":{"a":{"command":"cat"},"b":"#));
    let output = run(&home, "wrap nosuch -y");
    assert_eq!(text(&output).1, "error: no server is called `nosuch`\nhint: `spantap status` lists them\n");
    assert_eq!(run(&home, "wrap --host nosuch").status.code(), Some(2));
}

#[test]
fn nothing_is_written_unless_somebody_agrees() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", CURSOR);
    let output = run(&home, "wrap");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).1.contains("hint: add --yes to write, or --dry-run to see the changes"));
    // With `--json` it does not ask either.
    assert_eq!(run(&home, "wrap --json").status.code(), Some(1));
    assert_eq!(fs::read(path).unwrap(), CURSOR);
}

#[test]
fn a_diff_shows_tabs_as_blanks() {
    let home = Home::new();
    put(&home, ".cursor/mcp.json", "{\n\t\"mcpServers\": {\n\t\t\"a\": {\"command\": \"cat\"}\n\t}\n}\n");
    let shown = printed(&home, "wrap --dry-run");
    assert!(shown.contains("\n-        \"a\": {\"command\": \"cat\"}"), "{shown}");
}

#[test]
fn an_entry_changed_by_hand_is_shown_with_what_undoing_would_leave() {
    let home = Home::new();
    let path =
        put(&home, ".cursor/mcp.json", r#"{"mcpServers":{"a":{"command":"npx","args":["-y","pkg"]}}}"#);
    printed(&home, "wrap -y");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("pkg", "pkg@2")).unwrap();
    let status = printed(&home, "status");
    assert!(status.contains("edited") && status.contains("changed by hand"), "{status}");
    let output = run(&home, "unwrap");
    let (shown, _) = text(&output);
    assert!(
        shown.contains("a: its command was changed by hand after `wrap`")
            && shown.contains("@@ line 1, server a @@"),
        "{shown}"
    );
    assert!(shown.contains(r#"+{"mcpServers":{"a":{"command":"npx","args":["-y","pkg@2"]}}}"#), "{shown}");
    assert_eq!(output.status.code(), Some(1), "the user cannot be asked");
    let report = json_lines(&printed(&home, "unwrap -y --json")).remove(0);
    assert_eq!(report["edited"], serde_json::json!(["a"]));
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        r#"{"mcpServers":{"a":{"command":"npx","args":["-y","pkg@2"]}}}"#
    );
}

#[test]
fn a_disabled_server_is_wrapped_and_shown_as_disabled() {
    let home = Home::new();
    put(&home, ".cursor/mcp.json", r#"{"mcpServers":{"a":{"command":"cat","disabled":true}}}"#);
    assert!(printed(&home, "wrap -y").contains("a (disabled)"));
    assert!(printed(&home, "status").contains("a (disabled)"));
    assert_eq!(json_lines(&printed(&home, "status --json"))[0]["disabled"], true);
}

#[test]
fn a_project_file_that_is_named_is_treated_as_shared() {
    let home = Home::new();
    let path = put(&home, "work/.cursor/mcp.json", r#"{"mcpServers":{"a":{"command":"cat"}}}"#);
    assert!(printed(&home, "wrap --file work/.cursor/mcp.json -y").contains("this file is shared"));
    assert!(fs::read_to_string(path).unwrap().contains(r#""command":"spantap""#));
    // An entry without spantap needs nothing of its users.
    assert!(!printed(&home, "unwrap --file work/.cursor/mcp.json -y").contains("this file is shared"));
    put(&home, ".cursor/mcp.json", r#"{"mcpServers":{"a":{"command":"cat"}}}"#);
    assert!(!printed(&home, "wrap --file .cursor/mcp.json -y").contains("this file is shared"));
}

#[test]
fn a_file_in_an_unusual_place_is_known_by_what_stands_in_it() {
    let home = Home::new();
    for (name, content, host) in [
        ("fastmcp.json", r#"{"mcpServers":{"a":{"command":"cat"}}}"#, "other"),
        ("servers.json", r#"{"servers":{"a":{"command":"cat"}}}"#, "vscode"),
        ("c.toml", "[mcp_servers.a]\ncommand = 'cat'\n", "codex"),
        ("g.yaml", "extensions:\n  a:\n    cmd: cat\n", "goose"),
        ("c.yaml", "mcpServers:\n  - name: a\n    command: cat\n", "continue"),
        ("crush-like.json", r#"{"mcp":{"a":{"type":"stdio","command":"cat"}}}"#, "crush"),
        ("list.json", r#"{"mcp":{"a":{"type":"local","command":["cat"]}}}"#, "opencode"),
        ("settings.json", r#"{"mcp":{"inputs":[],"servers":{"a":{"command":"cat"}}}}"#, "vscode"),
        ("work/.mcp.json", r#"{"servers":{"a":{"command":"cat"}}}"#, "visual-studio"),
        ("flat/.mcp.json", r#"{"a":{"command":"cat"}}"#, "claude-plugin"),
        ("work/.cursor/mcp.json", r#"{"servers":{"a":{"command":"cat"}}}"#, "vscode"),
    ] {
        let path = put(&home, name, content);
        let report = json_lines(&printed(&home, &format!("wrap --file {name} -y --json"))).remove(0);
        assert_eq!((&report["host"], &report["written"]), (&host.into(), &true.into()), "{name}");
        printed(&home, &format!("unwrap --file {name} -y"));
        assert_eq!(fs::read_to_string(path).unwrap(), content);
    }
    for (name, content) in
        [("none.json", "{}"), (".cursor/mcp.json", r#"{"other": 1}"#), ("x/.mcp.json", r#"{"a": {"b": 1}}"#)]
    {
        put(&home, name, content);
        let output = run(&home, &format!("wrap --file {name} -y"));
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output).1.contains("hint: name the host of the file: --host HOST"));
        assert_eq!(
            run(&home, &format!("status --file {name} --host cursor")).status.code(),
            Some(1),
            "{name}"
        );
    }
    let file = shown(&["~", ".cursor", "mcp.json"]);
    assert_eq!(printed(&home, "wrap -y"), format!("nothing to do: no server in these files:\n  {file}\n"));
}

#[test]
fn a_read_only_file_is_left_alone() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", CURSOR);
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    let output = run(&home, "wrap -y");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).0.contains("left alone: the file is read-only"), "{}", text(&output).0);
    assert_eq!(fs::read(&path).unwrap(), CURSOR);
    assert!(fs::metadata(&path).unwrap().permissions().readonly());
}

#[test]
fn an_entry_that_somebody_wrote_is_watched_and_stays_theirs() {
    let home = Home::new();
    let npx = put(&home, &format!("npx{}", std::env::consts::EXE_SUFFIX), "");
    #[cfg(unix)]
    fs::set_permissions(&npx, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let text = format!(
        r#"{{"mcpServers": {{"a": {{"command": {SPANTAP:?}, "args": ["--", "cat"]}},
        "b": {{"command": {SPANTAP:?}, "args": ["run", "--server", "b", "--", "cat"]}},
        "npx": {{"command": {npx:?}, "args": ["-y", "spantap", "--", "npx", "-y", "pkg"]}},
        "c": {{"command": {SPANTAP:?}, "args": ["demo", "--serve"]}}}}}}"#
    );
    let path = put(&home, ".cursor/mcp.json", &text);
    let watched = |home: &Home| -> Vec<String> {
        let rows = json_lines(&printed(home, "status --json"));
        rows.iter().map(|row| row["watched"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(watched(&home), ["yes", "yes", "yes", "no"]);
    let said = printed(&home, "wrap --yes");
    assert!(
        said.contains("a, b, npx: left alone: spantap is in front of it already, put there by hand"),
        "{said}"
    );
    assert_eq!(watched(&home), ["yes", "yes", "yes", "yes"]);
    let said = printed(&home, "unwrap --yes");
    assert!(
        said.contains("a, b, npx: left alone: spantap was put there by hand; remove it by hand"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_spantap_in_a_cache_says_so_before_it_changes_a_file() {
    let home = Home::new();
    let cached = put(&home, ".npm/_npx/6a51/spantap.exe", "");
    fs::remove_file(&cached).unwrap();
    fs::hard_link(SPANTAP, &cached).or_else(|_| fs::copy(SPANTAP, &cached).map(drop)).unwrap();
    let notes = |words: &str| {
        let mut command = home.command(cached.to_str().unwrap());
        let output = command.args(words.split(' ')).stdin(std::process::Stdio::null()).output().unwrap();
        text(&output).1
    };
    put(&home, ".mcp.json", r#"{"mcpServers": {"shared": {"command": "cat"}}}"#);
    let said = notes("wrap --project --dry-run");
    assert!(said.contains("entries of a project start the spantap on the PATH"), "{said}");
    put(&home, ".cursor/mcp.json", CURSOR);
    for words in ["wrap --dry-run", "wrap --dry-run --project", "wrap --project --yes"] {
        let said = notes(words);
        assert!(said.contains("note: spantap runs from the cache of npx, and entries would name"), "{said}");
        assert!(said.contains("npm install --global spantap"), "{said}");
    }
    assert_eq!(notes("wrap --project --yes"), "", "nothing changes");
}

#[test]
fn who_stops_reading_what_is_said_does_not_stop_what_is_written() {
    let home = Home::new();
    let files = [".cursor/mcp.json", ".codeium/windsurf/mcp_config.json", ".gemini/settings.json"];
    for file in files {
        put(&home, file, r#"{"mcpServers": {"a": {"command": "cat"}}}"#);
    }
    let mut child = home.spantap(["wrap", "--yes"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    let rows = json_lines(&printed(&home, "status --json"));
    assert_eq!(rows.len(), files.len());
    assert!(rows.iter().all(|row| row["watched"] == "yes"), "{rows:?}");
}
