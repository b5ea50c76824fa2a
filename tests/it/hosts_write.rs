//! Hosts that write their files while `wrap` and `unwrap` do: no edit is lost, and no file is broken.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

fn put(home: &Home, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = home.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn run(home: &Home, arguments: &str) -> Output {
    home.spantap(arguments.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

/// Pseudo-random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn wait(&mut self) {
        std::thread::sleep(Duration::from_micros(self.roll(6) * self.roll(4_000)));
    }
}

/// Content of the host's file: its own number, and two servers.
fn content(number: u64, pretty: bool) -> String {
    let value = json!({"number": number, "mcpServers": {
        "a": {"command": "npx", "args": ["-y", "pkg"]}, "b": {"command": "cat"}}});
    if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() }
}

/// Writes the file once, in one of the ways in which hosts write.
fn write_once(path: &Path, number: u64, dice: &mut Dice) {
    dice.wait();
    let mut text = content(number, dice.roll(2) == 0);
    if dice.roll(3) == 0 {
        // The host formats what it reads, and changes its number.
        let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        value["number"] = number.into();
        text = value.to_string();
    }
    match dice.roll(4) {
        0 => fs::write(path, &text).unwrap(),
        1 => {
            // Empties the file, waits, writes half, waits, writes the rest.
            let mut file = fs::File::create(path).unwrap();
            for part in [&text[..text.len() / 2], &text[text.len() / 2..]] {
                dice.wait();
                file.write_all(part.as_bytes()).unwrap();
            }
        }
        2 => {
            let new = path.with_extension("tmp");
            fs::write(&new, &text).unwrap();
            dice.wait();
            fs::rename(new, path).unwrap();
        }
        _ => {
            // Overwrites, and cuts what is left of the old text.
            let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            dice.wait();
            file.set_len(text.len() as u64).unwrap();
        }
    }
}

#[test]
fn whatever_a_host_writes_meanwhile_stays() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", content(0, true));
    let mut dice = Dice(20_261_128);
    for number in 1..=60 {
        let command = if dice.roll(3) == 0 { "unwrap -y --json" } else { "wrap -y --json" };
        let writes = 1 + dice.roll(3);
        let output = std::thread::scope(|scope| {
            let host = scope.spawn(|| {
                (0..writes).for_each(|write| write_once(&path, number * 10 + write, &mut dice));
            });
            let output = run(&home, command);
            host.join().unwrap();
            output
        });
        let (printed, said) = text(&output);
        let now: Value = serde_json::from_slice(&fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{error} after {command}: {printed}{said}"));
        assert_eq!(now["number"], number * 10 + writes - 1, "{command}: {printed}{said}");
        let report: Value = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
        assert_eq!(output.status.success(), report.get("error").is_none(), "{printed}");
        // The servers are those of the host, wrapped or not.
        run(&home, "unwrap -y");
        let now: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let servers: Value = serde_json::from_str(&content(0, false)).unwrap();
        assert_eq!(now["mcpServers"], servers["mcpServers"], "{command}");
    }
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_file_that_a_program_keeps_open_for_writing_is_left_alone_with_the_reason() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", content(0, true));
    let _writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let output = run(&home, "wrap -y");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).0.contains("keeps it open for writing"), "{}", text(&output).0);
    assert_eq!(fs::read_to_string(&path).unwrap(), content(0, true));
}

#[test]
fn a_file_with_a_second_name_is_left_alone_with_the_reason() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", content(0, true));
    let other = home.path().join("dotfiles.json");
    fs::hard_link(&path, &other).unwrap();
    let output = run(&home, "wrap -y");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).0.contains("2 names (hard links)"), "{}", text(&output).0);
    assert_eq!(fs::metadata(&path).unwrap().ino(), fs::metadata(&other).unwrap().ino());
}

/// Returns an access list, posix_acl_xattr(5): one more user may read, and the owning group may not.
fn access_list(user: u32) -> Vec<u8> {
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries =
        [entry(1, 6, none), entry(2, 4, user), entry(4, 0, none), entry(16, 4, none), entry(32, 0, none)];
    [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[cfg(target_os = "linux")]
#[test]
fn who_may_read_a_file_stays_the_same() {
    const LIST: &str = "system.posix_acl_access";
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", content(0, true));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    set(&path, LIST, &access_list(1234));
    set(&path, "user.note", b"kept");
    // A project's folder gives its default list to new files; the old file is not readable by that user.
    let project = put(&home, "work/.mcp.json", content(0, true));
    fs::set_permissions(&project, fs::Permissions::from_mode(0o640)).unwrap();
    set(project.parent().unwrap(), "system.posix_acl_default", &access_list(4321));
    let before = attribute(&path, LIST);
    for command in ["wrap", "unwrap"] {
        assert!(run(&home, &format!("{command} -y")).status.success());
        let mut here = home.spantap([command, "-y", "--project"]);
        assert!(here.current_dir(project.parent().unwrap()).output().unwrap().status.success());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(attribute(&path, LIST), before, "{command}");
        assert_eq!(attribute(&path, "user.note").unwrap(), b"kept");
        assert_eq!(attribute(&project, LIST), None, "{command}");
        assert_eq!(fs::metadata(&project).unwrap().mode() & 0o777, 0o640);
    }
}

#[test]
fn a_dry_run_of_a_file_that_is_one_line_shows_each_server_and_little_else() {
    let home = Home::new();
    let history = vec!["h".repeat(100); 40];
    let project =
        |name: &str| json!({"history": history, "mcpServers": {name: {"command": "npx", "args": [name]}}});
    let text = json!({"mcpServers": {"top": {"command": "t"}}, "projects": {"/p": project("p"), "/q": project("q")}});
    put(&home, ".claude.json", format!("\n{text}"));
    let output = run(&home, "wrap -n");
    let (shown, _) = crate::support::text(&output);
    for name in ["top", "p", "q"] {
        assert!(shown.contains(&format!("@@ line 2, server {name} @@\n")), "{shown}");
        assert!(shown.contains(&format!(r#""--server", "{name}""#)), "{shown}");
    }
    assert!(shown.lines().all(|line| line.len() < 600) && !shown.contains('\0'), "{shown}");
}

#[test]
fn a_link_to_a_file_that_does_not_exist_is_reported() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().join(".cursor")).unwrap();
    std::os::unix::fs::symlink("/mnt/dotfiles/mcp.json", home.path().join(".cursor/mcp.json")).unwrap();
    for command in ["wrap --yes", "status"] {
        let output = crate::wrap::run(&home, command);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.contains(".cursor/mcp.json") && said.contains("a link to a file that does not exist"),
            "{command}: {said}"
        );
    }
}

#[test]
fn a_list_that_the_host_does_not_read_is_reported() {
    let home = Home::new();
    let two = r#"{"mcp": {"servers": {"a": {"command": "npx", "args": ["a"]}}}, "mcpServers": {"b": {"command": "npx", "args": ["b"]}}}"#;
    let one = r#"{"mcpServers": {"c": {"command": "npx", "args": ["c"]}}}"#;
    crate::wrap::put(&home, ".vscode/settings.json", two);
    crate::wrap::put(&home, ".vscode/mcp.json", one);
    let said = crate::wrap::printed(&home, "wrap --project --yes");
    for name in ["b", "c"] {
        assert!(
            said.lines().any(|line| line.contains(name) && line.contains("not read")),
            "{name} of mcpServers, which VS Code does not read: {said}"
        );
    }
    assert!(said.contains("`mcpServers`, which VS Code does not read"), "{said}");
    let text = |path: &str| fs::read_to_string(home.path().join(path)).unwrap();
    assert_eq!(
        (text(".vscode/settings.json").matches("--wrapped").count(), text(".vscode/mcp.json").as_str()),
        (1, one)
    );
    crate::wrap::put(&home, "settings.json", two);
    let said = crate::wrap::printed(&home, "wrap --yes --file settings.json");
    assert!(said.contains("it is in `mcp.servers`, which"), "{said}");
}

#[test]
fn an_entry_of_a_shared_file_starts_wherever_spantap_and_its_command_are_on_the_path() {
    let home = Home::new();
    let path =
        put(&home, ".mcp.json", r#"{"mcpServers":{"a":{"command":"npx","args":["-y","some-server"]}}}"#);
    assert!(run(&home, "wrap --project -y").status.success());
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let entry = &file["mcpServers"]["a"];
    let words: Vec<&str> =
        entry["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let mark = words[4];
    let own = ["run", "--server", "a", "--wrapped", mark, "--origin", "claude-code/project", "--"];
    assert_eq!((entry["command"].as_str(), &words[..8]), (Some("spantap"), &own[..]));
    assert_eq!(words[8..], ["npx", "-y", "some-server"]);
    // Another machine, with its own programs of these names.
    let elsewhere = Home::new();
    let npx = put(&elsewhere, "bin/npx", "#!/bin/sh\necho \"$@\"\n");
    fs::set_permissions(&npx, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(SPANTAP, elsewhere.path().join("bin/spantap")).unwrap();
    let mut command = elsewhere.command("sh");
    command.args(["-c", "exec \"$@\"", "sh", "spantap"]).args(&words);
    command.env("PATH", format!("{}:/usr/bin:/bin", elsewhere.path().join("bin").display()));
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!((output.status.code(), text(&output).0), (Some(0), "-y some-server\n".into()));
}
