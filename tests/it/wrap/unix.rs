//! Modes, links, limits and processes of Unix, and programs that only Unix has.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

#[test]
fn a_file_keeps_its_mode_and_the_copies_are_private() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", CURSOR);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    printed(&home, "wrap --yes");
    printed(&home, "unwrap --yes");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    let backups: Vec<_> = fs::read_dir(home.path().join(".local/state/spantap/backups")).unwrap().collect();
    assert_eq!(backups.len(), 2);
    for backup in backups {
        assert_eq!(backup.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn the_wrapped_entry_starts_the_server_behind_the_proxy() {
    let home = Home::new();
    let path =
        put(&home, ".cursor/mcp.json", r#"{"mcpServers":{"größe":{"command":"echo","args":["hello"]}}}"#);
    printed(&home, "wrap --yes -- --log-dir logs");
    let config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let entry = &config["mcpServers"]["größe"];
    let args: Vec<&str> = entry["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    let output = home.command(entry["command"].as_str().unwrap()).args(args).output().unwrap();
    assert_eq!(text(&output).0, "hello\n");
    assert_eq!(logs_in(&home.path().join("logs")).len(), 1);
    let status = json_lines(&printed(&home, "status --json")).remove(0);
    assert!(status["last_seen"].is_string(), "the entry's own folder is looked at: {status}");
}

#[test]
fn a_link_stays_a_link_and_its_target_is_written() {
    let home = Home::new();
    let target = put(&home, "dotfiles/mcp.json", CURSOR);
    let link = home.path().join(".cursor/mcp.json");
    fs::create_dir(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    printed(&home, "wrap -y");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_ne!(fs::read(&target).unwrap(), CURSOR);
    assert_eq!(fs::read_dir(home.path().join("dotfiles")).unwrap().count(), 1);
}

#[test]
fn what_a_host_will_not_pass_on_is_written_into_the_entries() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", r#"{"mcpServers":{"a":{"command":"cat"}}}"#);
    put(&home, "xdg/spantap/config.toml", "slow = '9s'\n");
    let options = |environment: &[(&str, &str)]| {
        let mut command = home.spantap(["wrap", "-y"]);
        let environment = environment.iter().map(|(name, folder)| (name, home.path().join(folder)));
        assert!(command.envs(environment).output().unwrap().status.success());
        let config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        printed(&home, "unwrap -y");
        let args = config["mcpServers"]["a"]["args"].as_array().unwrap().clone();
        // After `run`, `--server NAME`, `--wrapped MARK`, `--origin ORIGIN`, and before the two dashes.
        let end = args.iter().position(|word| word == "--").unwrap();
        args[7..end].iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let here = |path: &str| home.path().join(path).to_str().unwrap().to_owned();
    assert!(options(&[]).is_empty());
    assert_eq!(options(&[("SPANTAP_LOG_DIR", "logs")]), ["--log-dir", &here("logs")]);
    assert_eq!(options(&[("XDG_CONFIG_HOME", "xdg")]), ["--config", &here("xdg/spantap/config.toml")]);
    assert_eq!(options(&[("XDG_STATE_HOME", "state")]), ["--log-dir", &here("state/spantap/sessions")]);
}

#[test]
fn a_spantap_that_is_gone_is_named_and_replaced_by_this_one() {
    let home = Home::new();
    let text_before = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","pkg"]}}}"#;
    let path = put(&home, ".cursor/mcp.json", text_before);
    printed(&home, "wrap -y");
    let wrapped = fs::read_to_string(&path).unwrap();
    fs::write(&path, wrapped.replace(SPANTAP, "/gone/spantap")).unwrap();
    let output = run(&home, "status");
    let (status, _) = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(status.contains("stale binary") && status.contains("`/gone/spantap` does not exist"), "{status}");
    let report = json_lines(&printed(&home, "wrap -y --json")).remove(0);
    assert_eq!(report["renewed"], serde_json::json!(["a"]));
    assert_eq!(fs::read_to_string(&path).unwrap(), wrapped);
    printed(&home, "unwrap -y");
    assert_eq!(fs::read_to_string(&path).unwrap(), text_before);
}

#[test]
fn a_disk_without_room_leaves_the_original_and_no_litter() {
    let home = Home::new();
    // The file is larger than the limit below, so the new file cannot be written whole.
    let padding = " ".repeat(4096);
    let before = format!("{{\"mcpServers\":{{\"a\":{{\"command\":\"cat\"}}}}}}{padding}");
    let path = put(&home, ".cursor/mcp.json", &before);
    let mut command = home.command("bash");
    command.args(["-c", &format!("trap '' XFSZ; ulimit -f 2; exec {SPANTAP} wrap -y")]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).0.contains("left alone: File too large"), "{}", text(&output).0);
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

/// Held by a test that starts a process called `claude-desktop`, which would change the result of another one.
#[cfg(target_os = "linux")]
static CLAUDE_DESKTOP: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(target_os = "linux")]
#[test]
fn a_host_of_another_user_does_not_matter() {
    use std::os::unix::process::CommandExt;
    let _alone = CLAUDE_DESKTOP.lock();
    let home = Home::new();
    put(&home, ".config/Claude/claude_desktop_config.json", r#"{"mcpServers":{"a":{"command":"cat"}}}"#);
    let host = put(&home, "claude-desktop", fs::read("/bin/sleep").unwrap());
    fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Only an administrator can start one.
    let Ok(mut running) = home.command(host.to_str().unwrap()).arg("600").uid(65_534).gid(65_534).spawn()
    else {
        return;
    };
    let output = run(&home, "wrap -y");
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(output.status.success(), "{}", text(&output).0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_that_would_write_its_file_back_is_to_be_quit_first() {
    let _alone = CLAUDE_DESKTOP.lock();
    let home = Home::new();
    let path =
        put(&home, ".config/Claude/claude_desktop_config.json", r#"{"mcpServers":{"a":{"command":"cat"}}}"#);
    let host = home.path().join("claude-desktop");
    fs::copy("/bin/sleep", &host).unwrap();
    let mut running = home.command(host.to_str().unwrap()).arg("600").spawn().unwrap();
    wait_until("a process of that name", || {
        fs::read_to_string(format!("/proc/{}/comm", running.id()))
            .is_ok_and(|comm| comm == "claude-desktop\n")
    });
    let refused = run(&home, "wrap -y");
    let untouched = fs::read_to_string(&path).unwrap();
    let forced = run(&home, "wrap -y --force");
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).0.contains("claude-desktop is running"), "{}", text(&refused).0);
    assert!(!untouched.contains("spantap"));
    assert!(forced.status.success());
    assert!(text(&forced).0.contains("closing the window is not enough"));
}

/// A name that colours the terminal, and forges a row of a table and a line of a plan.
const HOSTILE: &str = "x\u{1b}[31m\u{9b}32m\u{202e}\nclaude-code  project  forged  stdio";

#[test]
fn texts_of_a_host_file_cannot_steer_the_terminal_or_forge_a_line() {
    let home = Home::new();
    let project = home.path().join(HOSTILE);
    fs::create_dir(&project).unwrap();
    let wrapped = ["run", "--wrapped", "1:0", HOSTILE, "--", "cat"];
    let servers = json!({
        HOSTILE: {"command": "cat", "args": [HOSTILE]},
        "gone": {"command": format!("/gone/{HOSTILE}"), "args": wrapped},
        "by-hand": {"command": format!("/{HOSTILE}/spantap"), "args": ["--log-dir", HOSTILE, "--", "cat"]},
    });
    fs::write(project.join(".mcp.json"), json!({ "mcpServers": servers }).to_string()).unwrap();
    for arguments in [
        "status --project",
        "status --project --json",
        "wrap --project -n",
        "wrap --project -n --json",
        "doctor",
        "doctor --json",
        "wrap --project --yes",
        "status --project",
        "unwrap --project -n",
        "unwrap --project --yes",
    ] {
        let mut command = home.spantap(arguments.split_whitespace());
        let output = command.current_dir(&project).stdin(std::process::Stdio::null()).output().unwrap();
        let shown = text(&output);
        let shown = shown.0 + &shown.1;
        assert!(shown.contains("x\\"), "{arguments}: {shown:?}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{arguments}: {shown:?}");
        assert!(
            !shown.lines().any(|line| line.starts_with("claude-code  project  forged")),
            "{arguments}: {shown}"
        );
    }
}

/// A cloned repository can contain a link to any file of the user.
#[test]
fn a_link_that_leads_out_of_a_project_is_not_written_through() {
    use std::os::unix::fs::symlink;
    let entry = r#"{"mcpServers": {"a": {"command": "cat"}}, "servers": {"a": {"command": "cat"}}}"#;
    for (link, target, file) in [
        (".mcp.json", "../../outside/mcp.json", ".mcp.json"),
        (".cursor/mcp.json", "../../../outside/mcp.json", ".cursor/mcp.json"),
        (".cursor", "../../outside", ".cursor/mcp.json"),
        (".vscode", "../../outside", ".vscode/mcp.json"),
        (".continue", "../../outside", ".continue/mcpServers/x.json"),
    ] {
        let home = Home::new();
        let outside = ["outside/mcp.json", "outside/mcpServers/x.json"].map(|path| put(&home, path, entry));
        let project = home.path().join("src/project");
        let link = project.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, &link).unwrap();
        // A file of this host has any name, so a name does not make it a project's.
        let by_name = match link.ends_with(".continue") {
            true => "unwrap --project -y".to_owned(),
            false => format!("wrap --file {} -y", project.join(file).display()),
        };
        for arguments in ["wrap --project -y", "wrap --project -n --json", &by_name] {
            let mut command = home.spantap(arguments.split_whitespace());
            let output = command.current_dir(&project).stdin(std::process::Stdio::null()).output().unwrap();
            let (shown, said) = text(&output);
            assert_eq!(output.status.code(), Some(1), "{arguments}: {shown}{said}");
            assert!(shown.contains("a link leads out of the project, to "), "{arguments}: {shown}{said}");
            for file in &outside {
                assert_eq!(fs::read_to_string(file).unwrap(), entry, "{arguments} {}", link.display());
            }
        }
    }
    // A link within the project, and a link to the whole project.
    let home = Home::new();
    let shared = put(&home, "project/config/mcp.json", entry);
    symlink("config/mcp.json", home.path().join("project/.mcp.json")).unwrap();
    symlink("project", home.path().join("checkout")).unwrap();
    let mut command = home.spantap(["wrap", "--project", "-y"]);
    let output = command.current_dir(home.path().join("checkout")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read_to_string(shared).unwrap().contains("spantap"));
}

#[test]
fn what_cannot_be_read_in_the_place_of_a_file_is_named_in_one_line_each() {
    let home = Home::new();
    let deep = format!("{{\"mcpServers\": {}{}}}", "[".repeat(2_000), "]".repeat(2_000));
    let directive = "%YAML 1.2\n---\nextensions:\n  a: {cmd: cat, type: stdio}\n";
    put(&home, ".claude.json", deep);
    put(&home, ".config/goose/config.yaml", directive);
    fs::create_dir_all(home.path().join(".cursor/mcp.json")).unwrap();
    let pipe = home.path().join(".codeium/windsurf/mcp_config.json");
    fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    assert!(home.command("mkfifo").arg(&pipe).status().unwrap().success());
    let too_deep = "line 1: lists and objects inside each other, too deep to be read";
    let directive = "line 1: begins with a YAML directive (%), which spantap does not read";
    let expected = [
        ("Claude Code: ~/.claude.json", too_deep),
        ("Cursor: ~/.cursor/mcp.json", "a folder, and not a file"),
        ("Windsurf: ~/.codeium/windsurf/mcp_config.json", "a pipe or a device, and not a file"),
        ("goose: ~/.config/goose/config.yaml", directive),
    ];
    let expected: Vec<String> =
        expected.iter().map(|(file, reason)| format!("{file}: left alone: {reason}")).collect();
    let output = run(&home, "wrap --dry-run");
    let (shown, said) = text(&output);
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "{said}");
    assert_eq!(output.status.code(), Some(1));
    // A pipe that is named is not waited for.
    let output = run(&home, &format!("wrap --dry-run --host windsurf --file {}", pipe.display()));
    assert!(text(&output).1.contains("mcp_config.json` is a pipe or a device, and not a file"), "{output:?}");
}
