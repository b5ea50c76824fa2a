//! Config files of hosts: an edit changes no other byte, and undoing it restores every byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use spantap::hosts::edit::change;
use spantap::hosts::entry::{EntryState, entries};
use spantap::hosts::own_entry;
use spantap::hosts::splice::{EntryChange, ProxyCommand};
use spantap::hosts::store::FileSnapshot;
use spantap::hosts::table::{HOSTS, Host, host};
use spantap::hosts::tree::{FileFormat, Node};

const PROGRAM: &str = "/opt/bin/spantap \"x\"";

/// Changes every entry that can be changed, in one pass. Returns their number.
fn change_all(text: &str, format: FileFormat, host: &Host, step: EntryChange<'_>) -> (String, usize) {
    let root = Node::parse(text, format).unwrap_or_else(|reason| panic!("{reason}: {text}"));
    let applies = |state: &EntryState| match (state, step) {
        (EntryState::Plain, EntryChange::Wrap(_)) => true,
        (EntryState::Wrapped { edited, .. }, EntryChange::Unwrap | EntryChange::Renew { .. }) => {
            assert!(!edited, "an entry counts as edited: {text}");
            true
        }
        _ => false,
    };
    let found = entries(&root, host);
    let changes: Vec<_> =
        (0..found.len()).filter(|at| applies(&found[*at].state)).map(|at| (at, step)).collect();
    let (after, outcomes) = change(text, format, host, &root, &changes);
    for ((at, _), outcome) in changes.iter().zip(outcomes) {
        outcome.unwrap_or_else(|reason| panic!("{}: {reason}\n{text}", found[*at].name));
    }
    (after, changes.len())
}

/// Wraps, checks, unwraps. Returns the number of wrapped servers.
fn round_trip(text: &str, format: FileFormat, host: &Host) -> usize {
    let options = ["--log-dir".to_owned(), "C:\\Protokolle \"ü\"".to_owned()];
    let proxy = ProxyCommand { program: PROGRAM, options: &options };
    let (wrapped, count) = change_all(text, format, host, EntryChange::Wrap(&proxy));
    let (again, none) = change_all(&wrapped, format, host, EntryChange::Wrap(&proxy));
    assert_eq!((again.as_str(), none), (wrapped.as_str(), 0), "wrapping twice changes something");
    let root = Node::parse(&wrapped, format).unwrap();
    let watched =
        entries(&root, host).into_iter().filter(|entry| matches!(entry.state, EntryState::Wrapped { .. }));
    assert_eq!(watched.count(), count);
    // With its origin added, then with another one.
    let renewed = ["claude-code/user", "x/project"].iter().fold(wrapped.clone(), |text, origin| {
        let step = EntryChange::Renew { program: "/opt/other", origin };
        let (renewed, renewals) = change_all(&text, format, host, step);
        assert_eq!((renewals, renewed.matches(origin).count()), (count, count), "{}: {renewed}", host.id);
        renewed
    });
    for wrapped in [wrapped, renewed] {
        let (undone, back) = change_all(&wrapped, format, host, EntryChange::Unwrap);
        assert_eq!(back, count);
        assert_eq!(undone, text, "{}: {wrapped}", host.id);
    }
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

/// Returns the names of the servers that can be wrapped, and of the others with the reason.
fn outlook(text: &str, format: FileFormat, host: &Host) -> serde_json::Value {
    let (mut wrapped, mut left) = (Vec::new(), Vec::new());
    for entry in entries(&Node::parse(text, format).unwrap(), host) {
        match entry.state {
            EntryState::Plain => wrapped.push(entry.name),
            EntryState::Remote => left.push(format!("{}: remote", entry.name)),
            EntryState::Unsupported(reason) => left.push(format!("{}: {reason}", entry.name)),
            state => panic!("{}: {state:?}", entry.name),
        }
    }
    serde_json::json!({"wrapped": wrapped, "left alone": left})
}

#[test]
fn every_host_s_files_come_back_byte_for_byte() {
    let mut found = serde_json::Map::new();
    for (host, path) in corpus() {
        let text = FileSnapshot::read(&path).unwrap().text().to_owned();
        let format = FileFormat::of(&path);
        let expected = outlook(&text, format, host);
        let count = expected["wrapped"].as_array().unwrap().len();
        for text in [&text, &text.replace("\r\n", "\n").replace('\n', "\r\n"), text.trim_end()] {
            assert_eq!(round_trip(text, format, host), count, "{}", path.display());
        }
        found.insert(format!("{}/{}", host.id, path.file_name().unwrap().to_str().unwrap()), expected);
    }
    assert!(found.len() >= 60);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/expected.json");
    let found = serde_json::to_string_pretty(&found).unwrap() + "\n";
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&file, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(&file).unwrap(), "UPDATE_FIXTURES=1 writes {}", file.display());
}

#[test]
fn spantap_s_own_entry_comes_and_goes_and_every_other_byte_stays() {
    let (mut added, mut refused) = (0, BTreeMap::<&str, usize>::new());
    for (host, path) in corpus() {
        let text = FileSnapshot::read(&path).unwrap().text().to_owned();
        let format = FileFormat::of(&path);
        let proxy = ProxyCommand { program: PROGRAM, options: &[] };
        for text in [&text, &text.replace("\r\n", "\n").replace('\n', "\r\n"), text.trim_end()] {
            let after = match own_entry::add(
                text,
                format,
                host,
                PROGRAM,
                &["--log-dir".to_owned(), "ü \"".to_owned()],
            ) {
                Ok(after) => after,
                Err(reason) => {
                    *refused.entry(reason).or_default() += 1;
                    continue;
                }
            };
            added += 1;
            let own = |text: &str| {
                let found = entries(&Node::parse(text, format).unwrap(), host);
                found.into_iter().filter(|entry| entry.state == EntryState::Own).count()
            };
            assert_eq!((own(text), own(&after)), (0, 1), "{}: {after}", path.display());
            assert!(own_entry::add(&after, format, host, PROGRAM, &[]).is_err(), "{after}");
            // The other servers are wrapped and unwrapped while it is there.
            let (wrapped, _) = change_all(&after, format, host, EntryChange::Wrap(&proxy));
            let (unwrapped, _) = change_all(&wrapped, format, host, EntryChange::Unwrap);
            let undone = own_entry::remove(&unwrapped, format, host);
            assert_eq!(undone, Ok(Some(text.to_owned())), "{}: {after}", path.display());
        }
    }
    let text = "{\"mcpServers\": {\"a\": {\"command\": \"cat\"}}}";
    let claude = host("claude-code").unwrap();
    let after = own_entry::add(text, FileFormat::Json, claude, "spantap", &[]).unwrap();
    let entry = "{\"command\": \"spantap\", \"args\": [\"mcp\", \"--wrapped\", \"self\"]}";
    assert_eq!(
        after,
        format!("{{\"mcpServers\": {{\"spantap\": {entry},\"a\": {{\"command\": \"cat\"}}}}}}")
    );
    // What a host may require besides the command is as the neighbour has it.
    let text = "extensions:\n  files:\n    name: Files\n    type: stdio\n    enabled: false\n    cmd: npx\n";
    let after = own_entry::add(text, FileFormat::Yaml, host("goose").unwrap(), "spantap", &[]).unwrap();
    let entry =
        "  spantap:\n    name: \"spantap\"\n    type: \"stdio\"\n    enabled: true\n    cmd: \"spantap\"\n";
    assert!(after.starts_with(&format!("extensions:\n{entry}    args: [")), "{after}");
    let text = "{\"mcpServers\": {\"a\": {\"command\": \"cat\"}}}";
    let entry = "{\"command\": \"spantap\", \"args\": [\"mcp\", \"--wrapped\", \"self\"]}";
    // A host has written the file anew, in another order.
    for moved in [
        format!("{{\"mcpServers\": {{\"a\": {{\"command\": \"cat\"}}, \"spantap\": {entry}}}}}"),
        format!(
            "{{\n  \"mcpServers\": {{\n    \"spantap\": {entry},\n    \"a\": {{\"command\": \"cat\"}}\n  }}\n}}"
        ),
    ] {
        let undone = own_entry::remove(&moved, FileFormat::Json, claude).unwrap().unwrap();
        assert!(
            Node::parse(&undone, FileFormat::Json)
                .unwrap()
                .same_value(&Node::parse(text, FileFormat::Json).unwrap())
        );
    }
    let unknown = [
        "its servers are a list without names",
        "its list of servers is empty",
        "its servers are written in an unknown way",
        "the file has no list of servers",
    ];
    assert!(refused.keys().all(|reason| unknown.contains(reason)), "{refused:?}");
    assert!(added >= 150, "{added} {refused:?}");
}

/// What a user wrote beside spantap's entry, which is `E`, stays when the entry goes.
#[test]
fn a_user_s_text_beside_spantap_s_own_entry_stays() {
    let words = r#"["mcp", "--wrapped", "self"]"#;
    let toml = format!("[mcp_servers.spantap]\ncommand = \"spantap\"\nargs = {words}\n");
    let yaml = format!("  spantap:\n    type: stdio\n    cmd: spantap\n    args: {words}\n");
    let json = format!(r#""spantap": {{"command": "spantap", "args": {words}}}"#);
    let table = "[tui]\ntheme = \"x\"\n# my note\n";
    let sub = "[mcp_servers.spantap.tools.why]\napproval = \"auto\"\n";
    let (a, b) = ("[mcp_servers.a]\ncommand = \"a\"\n", "  b:\n    type: stdio\n    cmd: b\n");
    let c = r#""c": {"command": "c"}"#;
    let (codex, goose, claude) = ("codex", "goose", "claude-code");
    let cases = [
        (codex, format!("E\n{table}{a}"), Some(format!("{table}{a}"))),
        (codex, format!("E{table}{a}"), Some(format!("{table}{a}"))),
        (codex, format!("# top\nE\n# about a\n{a}"), Some(format!("# top\n# about a\n{a}"))),
        (codex, format!("E{sub}\n{table}{a}"), Some(format!("{table}{a}"))),
        (codex, format!("{a}\nE\n{table}"), Some(format!("{a}\n{table}"))),
        (codex, format!("E{table}{sub}{a}"), None),
        (codex, format!("E{table}{sub}\n"), None),
        (goose, format!("extensions:\nE  # about b\n{b}"), Some(format!("extensions:\n  # about b\n{b}"))),
        (goose, format!("extensions:\nE\n# b\n\n{b}"), Some(format!("extensions:\n\n# b\n\n{b}"))),
        (goose, format!("extensions:\n{b}E# end\nx: 1\n"), Some(format!("extensions:\n{b}# end\nx: 1\n"))),
        (
            claude,
            format!("{{\"mcpServers\": {{E, // c\n{c}}}}}"),
            Some(format!("{{\"mcpServers\": {{ // c\n{c}}}}}")),
        ),
        (
            claude,
            format!("{{\"mcpServers\": {{{c}, // c\nE}}}}"),
            Some(format!("{{\"mcpServers\": {{{c} // c\n}}}}")),
        ),
        (claude, format!("{{\"mcpServers\": {{E /* a, b */, {c}}}}}"), None),
        (claude, format!("{{\"mcpServers\": {{{c} /* a, b */, E}}}}"), None),
    ];
    for (id, text, expected) in cases {
        let (format, entry) = match id {
            "codex" => (FileFormat::Toml, &toml),
            "goose" => (FileFormat::Yaml, &yaml),
            _ => (FileFormat::Json, &json),
        };
        for newline in ["\n", "\r\n"] {
            let text = text.replace('E', entry).replace('\n', newline);
            let undone = own_entry::remove(&text, format, host(id).unwrap());
            let Some(expected) = &expected else {
                assert!(
                    undone.as_ref().is_err_and(|reason| reason.ends_with("by hand")),
                    "{text}\n{undone:?}"
                );
                continue;
            };
            assert_eq!(undone, Ok(Some(expected.replace('\n', newline))), "{text}");
        }
    }
}

/// Returns the constructs of a file that a realistic corpus must contain.
fn features(host: &Host, path: &Path) -> Vec<&'static str> {
    let bytes = fs::read(path).unwrap();
    let text = FileSnapshot::read(path).unwrap().text().to_owned();
    let format = FileFormat::of(path);
    let found = entries(&Node::parse(&text, format).unwrap(), host);
    let is_comment = |line: &str| {
        let line = line.trim_start();
        if format == FileFormat::Json {
            line.starts_with("//") || line.starts_with("/*")
        } else {
            line.starts_with('#')
        }
    };
    let squeezed: String = text.split_whitespace().collect();
    let has = [
        ("comments", text.lines().any(is_comment)),
        ("trailing comma", [",]", ",}"].iter().any(|comma| squeezed.contains(comma))),
        ("CRLF", text.contains("\r\n")),
        ("BOM", bytes.starts_with(b"\xef\xbb\xbf")),
        (
            "escapes",
            text.contains("\\\\") && text.contains("\\u")
                || format == FileFormat::Yaml && text.contains("\\\\"),
        ),
        ("not ASCII", !text.is_ascii()),
        ("placeholders", text.contains("${")),
        ("disabled", found.iter().any(|entry| entry.disabled)),
        ("remote", found.iter().any(|entry| entry.state == EntryState::Remote)),
    ];
    has.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[test]
fn the_corpus_has_in_each_format_what_real_files_have() {
    let mut seen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (host, path) in corpus() {
        seen.entry(format!("{:?}", FileFormat::of(&path))).or_default().extend(features(host, &path));
    }
    for (format, seen) in &mut seen {
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 9, "{format} has {seen:?} only");
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn every_host_has_its_line_in_the_documentation() {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/hosts.md")).unwrap();
    for host in HOSTS {
        let line = docs.lines().find(|line| line.starts_with(&format!("| `{}` |", host.id)));
        let line = line.unwrap_or_else(|| panic!("no line for {}", host.id));
        for place in host.project_files {
            let folder = place.split_once('/').map_or(*place, |(folder, _)| folder).trim_end_matches("json");
            assert!(line.contains(folder.trim_end_matches("jsonc")), "{}: {place}", host.id);
        }
    }
}

#[test]
fn a_host_that_writes_its_file_anew_does_not_prevent_undoing() {
    let host = host("claude-desktop").unwrap();
    let text = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","pkg"]},"b":{"env":{},"command":"b"}}}"#;
    let proxy = ProxyCommand { program: PROGRAM, options: &[] };
    let (wrapped, _) = change_all(text, FileFormat::Json, host, EntryChange::Wrap(&proxy));
    let value: serde_json::Value = serde_json::from_str(&wrapped).unwrap();
    let anew = serde_json::to_string_pretty(&value).unwrap();
    let (undone, count) = change_all(&anew, FileFormat::Json, host, EntryChange::Unwrap);
    assert_eq!(count, 2);
    let undone: serde_json::Value = serde_json::from_str(&undone).unwrap();
    assert_eq!(undone, serde_json::from_str::<serde_json::Value>(text).unwrap());
}

#[test]
fn a_command_that_only_a_shell_can_start_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("my server");
    fs::write(&program, "").unwrap();
    let wraps = |command: &str, args: Option<&[&str]>| {
        let mut entry = serde_json::json!({ "command": command });
        if let Some(args) = args {
            entry["args"] = serde_json::json!(args);
        }
        let text = serde_json::json!({"mcpServers": {"a": entry}}).to_string();
        let host = host("cursor").unwrap();
        matches!(entries(&Node::parse(&text, FileFormat::Json).unwrap(), host)[0].state, EntryState::Plain)
    };
    let whole_lines = [
        "npx -y pkg",
        "npx -y @scope/pkg",
        "uvx --from git+https://example.com/x server",
        "/bin/sh /x/server.sh",
        "./server --stdio",
        "node\t/srv/index.js",
        "KEY=value npx pkg",
        "~/bin/server",
        "~ann/server",
        "$HOME/bin/server",
        " npx",
    ];
    for line in whole_lines {
        assert!(!wraps(line, None) && !wraps(line, Some(&[])) && !wraps(line, Some(&["x"])), "{line}");
    }
    let missing = folder.path().join("not here/server");
    for program in [
        program.to_str().unwrap(),
        missing.to_str().unwrap(),
        "npx",
        "C:\\Program Files\\x\\y.exe",
        "${HOME}/x",
    ] {
        assert!(wraps(program, None) && wraps(program, Some(&["x"])), "{program}");
    }
}

#[test]
fn half_a_character_in_an_escape_is_read_as_hosts_read_it() {
    let host = host("claude-code").unwrap();
    let surrogates = [
        r"\ud83d",
        r"\uDE00",
        r"\ud83d\ud83d",
        r"\\\ud83d",
        r"\\ud83d",
        r"\ud83dü\ude00",
        r"\ud83d\ude00\udfff",
        r"ü\\ü",
    ];
    for text in surrogates {
        let text =
            format!(r#"{{"n": "{text}", "mcpServers": {{"a": {{"command": "x", "args": ["{text}"]}}}}}}"#);
        assert_eq!(round_trip(&text, FileFormat::Json, host), 1, "{text}");
    }
}

#[test]
fn what_goose_makes_of_a_wrapped_entry_can_be_undone() {
    let host = host("goose").unwrap();
    let proxy = ProxyCommand { program: PROGRAM, options: &[] };
    for args in [r#"args: []"#, r#"args: ["x"]"#, ""] {
        let text = format!("extensions:\n  a:\n    cmd: \"srv\"\n    {args}\n    timeout: 3\nlast: 1\n");
        let (wrapped, _) = change_all(&text, FileFormat::Yaml, host, EntryChange::Wrap(&proxy));
        // goose writes lists as blocks.
        let (before, list) = wrapped.split_once("args: [").unwrap();
        let (list, after) = list.split_once(']').unwrap();
        let items: Vec<String> = serde_json::from_str(&format!("[{list}]")).unwrap();
        for lead in ["    - ", "      - "] {
            let items: String = items.iter().map(|item| format!("\n{lead}\"{item}\"")).collect();
            let rewritten = format!("{before}args:{items}{after}");
            let (undone, count) = change_all(&rewritten, FileFormat::Yaml, host, EntryChange::Unwrap);
            assert_eq!(count, 1);
            let values = |text: &str| Node::parse(text, FileFormat::Yaml).unwrap();
            assert!(values(&undone).same_value(&values(&text)), "{rewritten}{undone}");
        }
    }
}

#[test]
fn block_texts_among_the_arguments_are_wrapped() {
    let host = host("goose").unwrap();
    for block in [
        "|\n        set -e\n        exec srv\n",
        ">-\n        a\n        b\n",
        "|2\n          x\n",
        "|+\n        x\n\n",
    ] {
        let text = format!(
            "extensions:\n  a:\n    cmd: bash\n    args:\n      - -c\n      - {block}      - last\n  b:\n    cmd: x\n"
        );
        assert_eq!(round_trip(&text, FileFormat::Yaml, host), 2, "{text}");
        let first = format!("extensions:\n  a:\n    cmd: bash\n    args:\n      - {block}");
        assert_eq!(round_trip(&first, FileFormat::Yaml, host), 1, "{first}");
    }
}

/// The time is not measured: a pass parses the file once more, whatever the number of servers is.
#[test]
fn an_entry_that_cannot_be_edited_does_not_keep_the_others_from_being_wrapped() {
    let host = host("goose").unwrap();
    let mut text = String::from("extensions:\n");
    for number in 0..200 {
        let command = if number == 77 { "|\n      srv" } else { "srv" };
        text.push_str(&format!("  s{number}:\n    cmd: {command}\n    args: [a]\n"));
    }
    let root = Node::parse(&text, FileFormat::Yaml).unwrap();
    let proxy = ProxyCommand { program: PROGRAM, options: &[] };
    let changes: Vec<_> = (0..200).map(|at| (at, EntryChange::Wrap(&proxy))).collect();
    let (wrapped, outcomes) = change(&text, FileFormat::Yaml, host, &root, &changes);
    let refused: Vec<usize> = (0..200).filter(|at| outcomes[*at].is_err()).collect();
    assert_eq!(refused, [77]);
    assert_eq!(wrapped.matches("--wrapped").count(), 199);
}

#[test]
fn a_command_changed_by_hand_counts_as_edited_and_keeps_the_change() {
    let host = host("cursor").unwrap();
    let text = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","pkg"]}}}"#;
    let proxy = ProxyCommand { program: PROGRAM, options: &[] };
    let (wrapped, _) = change_all(text, FileFormat::Json, host, EntryChange::Wrap(&proxy));
    let by_hand = wrapped.replace("pkg", "pkg@2");
    let entry = entries(&Node::parse(&by_hand, FileFormat::Json).unwrap(), host).remove(0);
    assert!(matches!(entry.state, EntryState::Wrapped { edited: true, .. }));
    let root = Node::parse(&by_hand, FileFormat::Json).unwrap();
    let (undone, _) = change(&by_hand, FileFormat::Json, host, &root, &[(0, EntryChange::Unwrap)]);
    assert_eq!(undone, text.replace("pkg", "pkg@2"));
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

    prop_compose! {
        /// A TOML table, with texts in either kind of quotes and lists on one or several lines.
        fn table()(name in "[a-z0-9_-]{1,6}", command in "[a-z/.-]{1,8}",
                   args in prop::option::of(prop::collection::vec(word(), 0..4)), literal: bool,
                   lines: bool, comment: bool, args_first: bool, extra: bool) -> (String, String) {
            let quote = |word: &str| match literal && !word.contains('\'') && !word.contains(char::is_control) {
                true => format!("'{word}'"),
                false => toml::Value::from(word).to_string(),
            };
            let note = if comment { " # a note, [with] \"these\"" } else { "" };
            let command = format!("command = {}{note}\n", quote(&command));
            let args = args.map(|args| {
                let (open, between, close) = if lines { ("[\n  ", ", # why\n  ", ",\n]") } else { ("[", ",", " ]") };
                let items: Vec<String> = args.iter().map(|word| quote(word)).collect();
                match items.is_empty() {
                    true => "args = [ ]\n".to_owned(),
                    false => format!("args = {open}{}{close}{note}\n", items.join(between)),
                }
            }).unwrap_or_default();
            let body = if args_first { args + &command } else { command + &args };
            let extra = if extra { "startup_timeout_sec = 20\nenv = { KEY = \"x\" }\n" } else { "" };
            (name.clone(), format!("[mcp_servers.\"{name}\"]\n{body}{extra}\n"))
        }
    }

    prop_compose! {
        /// An extension in goose's YAML, with plain or quoted texts and lists in either style.
        fn extension()(name in "[a-z][a-z0-9_-]{0,6}", command in "[a-z][a-z/.-]{0,8}",
                       args in prop::option::of(prop::collection::vec("[a-z@/._ -]{0,8}", 0..4)), single: bool,
                       block: bool, comment: bool, args_first: bool) -> (String, String) {
            let quote = |word: &str| if single { format!("'{word}'") } else { format!("\"{word}\"") };
            let note = if comment { " # a note, [with] 'these'" } else { "" };
            let command = format!("    cmd: {command}{note}\n");
            let args = args.map(|args| {
                let items: Vec<String> = args.iter().map(|word| quote(word)).collect();
                match block && !items.is_empty() {
                    true => format!("    args:\n{}", items.iter().map(|item| format!("      - {item}{note}\n")).collect::<String>()),
                    false => format!("    args: [{}]{note}\n", items.join(", ")),
                }
            }).unwrap_or_default();
            let body = if args_first { args + &command } else { command + &args };
            (name.clone(), format!("  {name}:\n    type: stdio\n{body}"))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn of_toml_comes_back_byte_for_byte(tables in prop::collection::vec(table(), 1..4), crlf: bool) {
            let tables: std::collections::BTreeMap<_, _> = tables.into_iter().collect();
            let text = format!("model = 'x'\n\n{}[profiles.y]\n", tables.values().cloned().collect::<String>());
            let text = if crlf { text.replace('\n', "\r\n") } else { text };
            prop_assert_eq!(round_trip(&text, FileFormat::Toml, host("codex").unwrap()), tables.len());
        }

        #[test]
        fn of_yaml_comes_back_byte_for_byte(servers in prop::collection::vec(extension(), 1..4), crlf: bool) {
            let servers: std::collections::BTreeMap<_, _> = servers.into_iter().collect();
            let text = format!("# goose\nextensions:\n{}other: 1\n", servers.values().cloned().collect::<String>());
            let text = if crlf { text.replace('\n', "\r\n") } else { text };
            prop_assert_eq!(round_trip(&text, FileFormat::Yaml, host("goose").unwrap()), servers.len());
        }

        #[test]
        fn comes_back_byte_for_byte(
            servers in prop::collection::btree_map("[a-zA-Z0-9é-]{1,6}", server(), 1..4), lead in space(),
        ) {
            let members: Vec<String> = servers.iter().map(|(key, server)| format!("\"{key}\":{server}")).collect();
            let text = format!("{lead}{{\"mcpServers\":{{{}}}}}", members.join(","));
            prop_assert_eq!(round_trip(&text, FileFormat::Json, host("cursor").unwrap()), servers.len());
        }
    }
}
