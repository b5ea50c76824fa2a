//! `spantap top`: what runs now, printed once, and the screen as a user drives it in tmux.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::run::Run;
use crate::support::screen::Screen;
use crate::support::*;

fn once(home: &Home) -> Value {
    let output = home.spantap(["top", "--once", "--json"]).output().unwrap();
    let (printed, said) = text(&output);
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}{said}"))
}

#[test]
fn once_shows_what_a_server_does_now_and_what_it_costs() {
    let home = Home::new();
    let first = hang(&home, "db", "query");
    let second = hang(&home, "db", "query");
    let mut state = json!(null);
    wait_until("both calls are open and their servers are known to the log", || {
        state = once(&home);
        let is_open = |server: &&Value| server["open"][0]["name"] == "query";
        state["servers"].as_array().unwrap().iter().filter(is_open).count() == 2
    });
    assert_eq!((&state["running"], &state["dead"]), (&json!(2), &json!(0)));
    assert_eq!(state["agents"], json!([]));
    let server = &state["servers"][0];
    assert_eq!((&server["server_name"], &server["copies"]), (&json!("db"), &json!(2)));
    assert_eq!(server["open"][0]["name"], "query");
    assert!(server["open"][0]["open_ms"].as_f64().unwrap() > 0.0);
    // A shell and the program that it waits for.
    assert!(server["memory_bytes"].as_u64().unwrap() > 1_000_000, "{server}");
    let printed = text(&home.spantap(["top", "--once"]).output().unwrap()).0;
    assert!(printed.contains("2 running") && printed.contains("◐ busy"), "{printed}");
    first.end();
    second.end();
    assert_eq!(once(&home)["servers"], json!([]));
}

#[test]
fn once_shows_a_server_that_died_with_its_last_words() {
    let home = Home::new();
    let script = "read line; echo 'connection refused' >&2; exit 3";
    let dies = Run::wrapping_script(script).home(&home).options(&["--server", "db"]);
    let mut session = dies.unhurried().start();
    session.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}));
    session.child.wait().unwrap();
    let state = once(&home);
    assert_eq!((&state["running"], &state["dead"]), (&json!(0), &json!(1)));
    let server = &state["servers"][0];
    assert_eq!(
        (&server["state"], &server["message"]),
        (&json!("dead"), &json!("exited with 3: connection refused"))
    );
}

#[test]
fn what_is_not_a_terminal_is_advised_in_one_line_to_print_once() {
    let home = Home::new();
    let piped = home.spantap(["top"]).output().unwrap();
    let dumb = can_run(&["script", "--version"], "a terminal").then(|| {
        let mut command: Command = home.command("script");
        command.args(["-q", "-e", "-c", &format!("TERM=dumb {SPANTAP} top"), "/dev/null"]);
        command.output().unwrap()
    });
    for (output, reason) in [(Some(piped), "standard input and output"), (dumb, "TERM=dumb")] {
        let Some(output) = output else { continue };
        let (printed, said) = text(&output);
        let said = format!("{printed}{said}");
        assert!(!output.status.success() && said.lines().count() == 1, "{said}");
        assert!(said.contains(reason) && said.contains("`spantap top --once`"), "{said}");
    }
}

impl Screen {
    /// Waits for the shell, and checks that the program before left the terminal as it was.
    #[track_caller]
    fn wait_for_shell(&self, expected: &str) {
        self.wait_for(expected);
        // The screen may still show the words of an earlier comparison.
        let _ = std::fs::remove_file(self.home.path().join("after"));
        self.keys(&["-l", "stty -g > after; echo com''pared"]);
        self.keys(&["Enter"]);
        let settings = |name: &str| std::fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        wait_until("the settings are written", || settings("after").ends_with('\n'));
        self.wait_for("compared");
        assert_eq!(settings("after"), settings("before"));
        let modes = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(text(&modes).0, "0 1\n", "the alternate screen is left, and the cursor is shown");
    }

    fn start_top(&self) {
        self.run("stty -g > before; echo sa''ved", "saved");
        let top = format!("sh -c 'echo $$ > pid; exec {SPANTAP} top 2> said'; echo sta''tus=$?");
        self.run(&top, "running");
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.home.path().join("pid")).unwrap();
        assert!(self.home.command("kill").args([signal, pid.trim()]).status().unwrap().success());
    }
}

/// Returns a session whose calls have ended, and one whose call is open.
fn some_sessions(home: &Home) -> [Session; 2] {
    let mut ended = home.session(&["--server", "files"]);
    ended.request("initialize", json!({}));
    ended.calls(4);
    ended.request("tools/call", json!({"name": "no_such_tool", "arguments": {}}));
    let open = hang(home, "db", "query");
    wait_until("a call is open and another one has failed", || {
        let state = once(home);
        let servers = state["servers"].as_array().unwrap();
        let failed = state["operations"].as_array().unwrap().iter().any(|row| row["name"] == "no_such_tool");
        failed && servers.iter().any(|server| server["state"] == "busy")
    });
    [ended, open]
}

#[test]
fn every_key_does_what_it_says_at_both_sizes() {
    for (width, height) in [(80, 24), (200, 60)] {
        let home = Home::new();
        let Some(screen) = Screen::new(&home, width, height) else { return };
        let sessions = some_sessions(&home);
        // Commands that print a session print a note about such a file.
        std::fs::write(home.logs().with_file_name("live").join("newer.live"), "spantap-live/2 1 0\n1")
            .unwrap();
        screen.start_top();
        screen.wait_until("the servers, the open call and the calls", |text| {
            ["SERVER", "2 running", "◐ busy", " s query", "● idle", "no_such_tool"]
                .iter()
                .all(|it| text.contains(it))
        });
        screen.keys(&["-l", "/tool:search*"]);
        screen.keys(&["Enter"]);
        screen.wait_until("the calls that match", |text| {
            text.contains("filter tool:search*, 4 of") && !text.contains("no_such_tool")
        });
        screen.keys(&["Escape"]);
        screen.wait_for("no_such_tool");
        screen.keys(&["e"]);
        screen.wait_until("errors only", |text| {
            text.contains("errors only, ") && !text.contains("search_issues")
        });
        screen.keys(&["Enter"]);
        screen.wait_until("the chain of the newest error", |text| {
            text.contains("what happened") && text.contains("the chain") && text.contains("agent session")
        });
        screen.keys(&["Escape"]);
        screen.wait_for("errors only, ");
        screen.keys(&["g"]);
        screen.wait_for("COUNT");
        screen.keys(&["Enter"]);
        screen.wait_for("no_such_tool on files");
        screen.keys(&["Escape"]);
        screen.wait_for("errors only, ");
        screen.keys(&["w"]);
        screen.wait_until("the waterfall", |text| {
            text.contains("turn 1") && text.contains("-32602: unknown tool")
        });
        screen.keys(&["Escape"]);
        screen.wait_for("errors only, ");
        screen.keys(&["Escape"]);
        screen.wait_until("every call again", |text| !text.contains("errors only, "));
        screen.keys(&["?"]);
        screen.wait_for("errors by message; Enter shows");
        screen.keys(&["Escape"]);
        screen.wait_for("SERVER");
        screen.keys(&["s"]);
        screen.wait_for("servers sorted by calls");
        screen.keys(&["Space"]);
        screen.wait_for("PAUSED");
        screen.keys(&["Space"]);
        screen.wait_until("it goes on", |text| !text.contains("PAUSED"));
        screen.keys(&["Tab"]);
        screen.keys(&["Enter"]);
        screen.wait_for("filter server:\"");
        screen.keys(&["q"]);
        screen.wait_for_shell("status=0");
        assert_eq!(
            std::fs::read_to_string(home.path().join("said")).unwrap(),
            "",
            "nothing is below the screen"
        );
        sessions.into_iter().for_each(|session| drop(session.end()));
    }
}

#[test]
fn a_resize_and_a_server_that_dies_are_shown_at_once() {
    let home = Home::new();
    let Some(screen) = Screen::new(&home, 80, 24) else { return };
    let session = hang(&home, "db", "query");
    screen.start_top();
    screen.wait_for("◐ busy");
    for (width, height) in [("200", "60"), ("20", "10"), ("100", "30")] {
        screen.tmux(&["resize-window", "-x", width, "-y", height]);
        screen.wait_until("the screen has the new size", |text| {
            let [width, height]: [usize; 2] = [width, height].map(|text| text.parse().unwrap());
            let line = text.lines().find(|line| line.starts_with('─'));
            let is_wide = line.is_some_and(|line| line.chars().count() == width);
            is_wide && text.lines().count() <= height && text.contains("1 running") && text.contains("SERVER")
        });
    }
    let server = home.records().iter().find_map(|record| record["child_pid"].as_u64()).unwrap();
    assert!(home.command("kill").args(["-KILL", &server.to_string()]).status().unwrap().success());
    screen.wait_until("the server is dead", |text| {
        text.contains("✖ dead") && text.contains("died of SIGKILL (signal 9)")
    });
    screen.keys(&["C-c"]);
    screen.wait_for_shell("status=0");
    drop(session);
}

#[test]
fn signals_and_suspending_leave_the_terminal_as_it_was() {
    let home = Home::new();
    let Some(screen) = Screen::new(&home, 80, 24) else { return };
    // After SIGINT the shell does not run the rest of the line.
    for (signal, status) in [("-TERM", "status=143"), ("-HUP", "status=129"), ("-INT", "ready>")] {
        screen.run("clear", "ready>");
        screen.start_top();
        screen.wait_for("no server runs now");
        screen.signal(signal);
        screen.wait_for_shell(status);
    }
    screen.run("clear", "ready>");
    screen.start_top();
    screen.wait_for("no server runs now");
    screen.keys(&["C-z"]);
    screen.wait_for_shell("Stopped");
    screen.run("fg", "no server runs now");
    screen.keys(&["q"]);
    screen.wait_for_shell("ready>");
}
