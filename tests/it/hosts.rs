//! Config files of hosts: edited so that every other byte stays, and undone to the byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use spantap::hosts::entry::{State, entries};
use spantap::hosts::splice::{Change, Proxy, apply, change};
use spantap::hosts::table::{HOSTS, Host, host};
use spantap::hosts::tree::{Format, Node};

const PROGRAM: &str = "/opt/bin/spantap \"x\"";

/// Changes every entry that can be; how many were.
fn change_all(text: &str, format: Format, host: &Host, step: Change<'_>) -> (String, usize) {
    let root = Node::parse(text, format).unwrap();
    let (mut text, mut count) = (text.to_owned(), 0);
    for entry in entries(&root, host) {
        let applies = match (&entry.state, step) {
            (State::Plain, Change::Wrap(_)) => true,
            (State::Wrapped { edited, .. }, Change::Unwrap) => {
                assert!(!edited, "{} counts as edited", entry.name);
                true
            }
            _ => false,
        };
        if applies {
            let edits = change(&text, format, host, &entry.path, step);
            text = apply(&text, &edits.unwrap_or_else(|reason| panic!("{}: {reason}\n{text}", entry.name)));
            count += 1;
        }
    }
    (text, count)
}

/// Wraps, looks, unwraps; how many servers were wrapped.
fn round_trip(text: &str, format: Format, host: &Host) -> usize {
    let options = ["--log-dir".to_owned(), "C:\\Protokolle \"ü\"".to_owned()];
    let proxy = Proxy { program: PROGRAM, options: &options };
    let (wrapped, count) = change_all(text, format, host, Change::Wrap(&proxy));
    let (again, none) = change_all(&wrapped, format, host, Change::Wrap(&proxy));
    assert_eq!((again.as_str(), none), (wrapped.as_str(), 0), "wrapping twice changes something");
    let root = Node::parse(&wrapped, format).unwrap();
    let watched =
        entries(&root, host).into_iter().filter(|entry| matches!(entry.state, State::Wrapped { .. }));
    assert_eq!(watched.count(), count);
    let (undone, back) = change_all(&wrapped, format, host, Change::Unwrap);
    assert_eq!(back, count);
    assert_eq!(undone, text, "{}: {wrapped}", host.id);
    count
}

fn corpus() -> Vec<(&'static Host, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
    let mut files = Vec::new();
    for host in HOSTS {
        let found =
            fs::read_dir(folder.join(host.id)).unwrap_or_else(|_| panic!("no fixture for {}", host.id));
        files.extend(found.map(|file| (host, file.unwrap().path())));
    }
    files.sort_by(|a, b| a.1.cmp(&b.1));
    files
}

#[test]
fn every_host_s_files_come_back_byte_for_byte() {
    let wrapped: Vec<(String, usize)> = corpus()
        .into_iter()
        .map(|(host, path)| {
            let text = fs::read_to_string(&path).unwrap();
            let format = Format::of(&path);
            let count = round_trip(&text, format, host);
            let crlf = text.replace("\r\n", "\n").replace('\n', "\r\n");
            assert_eq!(round_trip(&crlf, format, host), count, "with CRLF");
            assert_eq!(round_trip(text.trim_end(), format, host), count, "without the last line end");
            (format!("{}/{}", host.id, path.file_name().unwrap().to_str().unwrap()), count)
        })
        .collect();
    let counts: Vec<(&str, usize)> = wrapped.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(
        counts,
        [
            ("amazon-q/mcp.json", 1),
            ("claude-code/.claude.json", 3),
            ("claude-desktop/claude_desktop_config.json", 4),
            ("claude-desktop/compact.json", 2),
            ("cline/mcp.json", 1),
            ("codex/config.toml", 4),
            ("codex/inline.toml", 3),
            ("continue/config.yaml", 2),
            ("copilot-cli/mcp-config.json", 1),
            ("cursor/mcp.json", 1),
            ("gemini-cli/settings.json", 1),
            ("goose/config.yaml", 3),
            ("junie/mcp.json", 1),
            ("kiro/mcp.json", 1),
            ("lm-studio/mcp.json", 1),
            ("opencode/opencode.jsonc", 2),
            ("vscode/mcp.json", 2),
            ("warp/mcp.json", 1),
            ("windsurf/mcp_config.json", 1),
            ("zed/settings.json", 2),
        ]
    );
}

#[test]
fn a_host_that_writes_its_file_anew_does_not_prevent_undoing() {
    let host = host("claude-desktop").unwrap();
    let text = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","pkg"]},"b":{"env":{},"command":"b"}}}"#;
    let proxy = Proxy { program: PROGRAM, options: &[] };
    let (wrapped, _) = change_all(text, Format::Json, host, Change::Wrap(&proxy));
    let value: serde_json::Value = serde_json::from_str(&wrapped).unwrap();
    let anew = serde_json::to_string_pretty(&value).unwrap();
    let (undone, count) = change_all(&anew, Format::Json, host, Change::Unwrap);
    assert_eq!(count, 2);
    let undone: serde_json::Value = serde_json::from_str(&undone).unwrap();
    assert_eq!(undone, serde_json::from_str::<serde_json::Value>(text).unwrap());
}

#[test]
fn a_command_changed_by_hand_counts_as_edited_and_keeps_the_change() {
    let host = host("cursor").unwrap();
    let text = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","pkg"]}}}"#;
    let proxy = Proxy { program: PROGRAM, options: &[] };
    let (wrapped, _) = change_all(text, Format::Json, host, Change::Wrap(&proxy));
    let by_hand = wrapped.replace("pkg", "pkg@2");
    let entry = entries(&Node::parse(&by_hand, Format::Json).unwrap(), host).remove(0);
    assert!(matches!(entry.state, State::Wrapped { edited: true, .. }));
    let edits = change(&by_hand, Format::Json, host, &entry.path, Change::Unwrap).unwrap();
    assert_eq!(apply(&by_hand, &edits), text.replace("pkg", "pkg@2"));
}

mod any_file {
    use super::*;
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z@/._-]{1,8}", "\\PC{0,6}", Just("--".to_owned()), Just("run".to_owned())]
    }

    fn space() -> impl Strategy<Value = String> {
        prop_oneof!["[ \t\r\n]{0,3}", Just("/* , ] */".to_owned()), Just("// \"x\", [\n".to_owned())]
    }

    prop_compose! {
        fn server()(command in "[a-z/.-]{1,8}", args in prop::option::of(prop::collection::vec(word(), 0..4)),
                    gaps in prop::collection::vec(space(), 8), args_first: bool, comma: bool) -> String {
            let quote = |word: &String| serde_json::Value::from(word.as_str()).to_string();
            let command = format!("{}\"command\"{}:{}{}{}", gaps[0], gaps[1], gaps[2], quote(&command), gaps[3]);
            let Some(args) = args else { return format!("{{{command}}}") };
            let items: Vec<String> = args.iter().map(|word| format!("{}{}", gaps[4], quote(word))).collect();
            let last = if comma && !items.is_empty() { "," } else { "" };
            let args = format!("{}\"args\":{}[{}{last}{}]", gaps[5], gaps[6], items.join(","), gaps[7]);
            if args_first { format!("{{{args},{command}}}") } else { format!("{{{command},{args}}}") }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn comes_back_byte_for_byte(
            servers in prop::collection::btree_map("[a-zA-Z0-9é-]{1,6}", server(), 1..4), lead in space(),
        ) {
            let members: Vec<String> = servers.iter().map(|(key, server)| format!("\"{key}\":{server}")).collect();
            let text = format!("{lead}{{\"mcpServers\":{{{}}}}}", members.join(","));
            prop_assert_eq!(round_trip(&text, Format::Json, host("cursor").unwrap()), servers.len());
        }
    }
}

/// A home of its own for the real program.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn spantap(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spantap"));
        command.args(args).env_clear().env("HOME", self.0.path()).env("PATH", "/usr/bin:/bin");
        command.current_dir(self.0.path()).stdin(std::process::Stdio::null()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const CURSOR: &[u8] =
    b"\xef\xbb\xbf{\r\n  \"mcpServers\": {\r\n    \"a\": {\"command\": \"cat\"}\r\n  }\r\n}\r\n";

#[test]
fn wrap_then_unwrap_leaves_the_file_as_it_was() {
    let home = Home::new();
    let path = home.put(".cursor/mcp.json", CURSOR);
    let wrapped = home.spantap(&["wrap", "--yes"]);
    assert!(wrapped.status.success(), "{}", text(&wrapped.stderr));
    assert!(text(&wrapped.stdout).contains("1 server changed"), "{}", text(&wrapped.stdout));
    let now = fs::read(&path).unwrap();
    assert!(now.starts_with(b"\xef\xbb\xbf{\r\n"));
    assert!(text(&now).contains(env!("CARGO_BIN_EXE_spantap")));
    assert!(text(&home.spantap(&["status"]).stdout).contains("yes"));
    assert!(text(&home.spantap(&["wrap", "--yes"]).stdout).contains("nothing to do"));
    assert!(home.spantap(&["unwrap", "--yes"]).status.success());
    assert_eq!(fs::read(&path).unwrap(), CURSOR);
    let backups = home.0.path().join(".local/state/spantap/backups");
    assert_eq!(fs::read_dir(backups).unwrap().count(), 2);
}

#[test]
fn the_wrapped_entry_starts_the_server_behind_the_proxy() {
    let home = Home::new();
    let path =
        home.put(".cursor/mcp.json", br#"{"mcpServers":{"echo":{"command":"echo","args":["hello"]}}}"#);
    assert!(home.spantap(&["wrap", "--yes", "--", "--log-dir", "logs"]).status.success());
    let config: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let entry = &config["mcpServers"]["echo"];
    let args: Vec<&str> = entry["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    let output = Command::new(entry["command"].as_str().unwrap())
        .args(args)
        .env("HOME", home.0.path())
        .current_dir(home.0.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "hello\n");
    let log = fs::read_dir(home.0.path().join("logs")).unwrap().next().unwrap().unwrap();
    assert!(log.file_name().to_str().unwrap().starts_with("echo-"));
}

#[test]
fn a_dry_run_shows_the_lines_and_writes_nothing() {
    let home = Home::new();
    let path = home.put(".cursor/mcp.json", CURSOR);
    let output = home.spantap(&["wrap", "-n"]);
    assert!(output.status.success());
    let shown = text(&output.stdout);
    assert!(shown.contains("-    \"a\": {\"command\": \"cat\"}"), "{shown}");
    assert!(shown.contains("+    \"a\": {\"command\": \"/"), "{shown}");
    assert_eq!(fs::read(&path).unwrap(), CURSOR);
    assert!(!home.0.path().join(".local").exists());
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_its_target_is_written() {
    let home = Home::new();
    let target = home.put("dotfiles/mcp.json", CURSOR);
    let link = home.0.path().join(".cursor/mcp.json");
    fs::create_dir(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(home.spantap(&["wrap", "-y"]).status.success());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_ne!(fs::read(&target).unwrap(), CURSOR);
}

#[test]
fn a_shared_file_names_the_proxy_by_its_bare_name() {
    let home = Home::new();
    let path = home.put(".mcp.json", br#"{"mcpServers":{"a":{"command":"cat"}}}"#);
    let output = home.spantap(&["wrap", "--project", "-y"]);
    assert!(text(&output.stdout).contains("this file is shared"));
    assert!(text(&fs::read(path).unwrap()).contains(r#""command":"spantap""#));
    // Not on that PATH: the entry cannot start.
    let status = home.spantap(&["status", "--project"]);
    assert!(text(&status.stdout).contains("stale binary"), "{}", text(&status.stdout));
    assert_eq!(status.status.code(), Some(1));
}

#[test]
fn what_cannot_be_wrapped_is_named_with_the_reason_and_left_alone() {
    let home = Home::new();
    let path = home.put(".cursor/mcp.json", br#"{"mcpServers":{"far":{"url":"https://mcp.example.com"}}}"#);
    let broken = home.put(".codex/config.toml", b"[mcp_servers.a\ncommand = 1");
    let (before, broken_before) = (fs::read(&path).unwrap(), fs::read(&broken).unwrap());
    let output = home.spantap(&["wrap", "-y"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("far: left alone: remote"), "{shown}");
    assert!(shown.contains("line 1: not valid TOML"), "{shown}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((fs::read(&path).unwrap(), fs::read(&broken).unwrap()), (before, broken_before));
}

#[test]
fn an_empty_home_is_told_where_was_looked_and_what_to_do() {
    let output = Home::new().spantap(&["wrap", "-y"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains(".cursor/mcp.json") && said.contains("hint: ") && said.contains("--file"),
        "{said}"
    );
}

#[test]
fn an_option_that_run_would_refuse_is_refused_before_anything_is_written() {
    let home = Home::new();
    let path = home.put(".cursor/mcp.json", CURSOR);
    let output = home.spantap(&["wrap", "-y", "--", "--no-such-option"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("--no-such-option"));
    assert_eq!(fs::read(path).unwrap(), CURSOR);
}
