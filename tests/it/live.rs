//! What runs now: the live file of each connection, and the commands that show it. Nothing that happens to the
//! file touches the traffic.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::*;

/// Waits until `found` returns something.
#[track_caller]
fn within<T>(limit: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < limit, "it did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const SOON: Duration = Duration::from_secs(20);

fn live_file(home: &Home) -> Option<PathBuf> {
    let folder = home.logs().parent().unwrap().join("live");
    std::fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).next()
}

/// Returns the rows that `sessions --json` prints.
fn sessions(home: &Home) -> Vec<Value> {
    let output = home.command(SPANTAP).args(["sessions", "--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the row of the session that waits for one call. Just before, it may still wait for `initialize`.
fn open_call(home: &Home) -> Option<Value> {
    let files = std::fs::read_dir(home.logs().parent().unwrap().join("live")).ok()?;
    let mut live =
        files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().unwrap() == "live");
    let has_call = |path: PathBuf| {
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).contains("tools/call")
    };
    live.any(has_call).then_some(())?;
    sessions(home).into_iter().find(|row| row["open"] == 1)
}

#[test]
fn a_call_that_hangs_is_seen_while_it_hangs_and_gone_at_the_end() {
    let home = Home::new();
    let session = hang(&home, "db", "query");
    let row = within(SOON, || open_call(&home));
    assert_eq!((&row["running"], &row["servers"]), (&json!(1), &json!(["db"])));
    assert_eq!(row.get("ended_at"), None, "a session that runs has no end");
    let shown = home.command(SPANTAP).args(["show", "last"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("\nrunning\n") && shown.contains(": query on db\n"), "{shown}");
    let file = live_file(&home).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    let folder = std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode, folder), (0o600, 0o700));
    session.end();
    assert_eq!(live_file(&home), None);
    let rows = sessions(&home);
    assert_eq!((&rows[0]["running"], &rows[0]["open"]), (&json!(0), &json!(0)));
    assert!(rows[0]["ended_at"].is_string());
}

#[test]
fn a_call_that_hangs_is_said_once_by_each_command() {
    let home = Home::new();
    let session = hang_with(&home, "db", "query", &["--slow", "100ms"]);
    let said = |command: &[&str]| {
        let output = home.command(SPANTAP).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    within(SOON, || said(&["tail"]).contains("nothing from the server since query").then_some(()));
    for command in [&["tail"][..], &["show", "last"], &["why"], &["sessions"]] {
        assert_eq!(said(command).matches("query").count(), 1, "{command:?}: {}", said(command));
    }
    let shown = said(&["show", "last"]);
    assert!(shown.contains(": query on db, nothing from the server in the first "), "{shown}");
    assert!(!said(&["top", "--once"]).contains("query has been open"), "{}", said(&["top", "--once"]));
    session.end();
}

#[test]
fn a_session_that_runs_lasts_until_now_and_not_until_its_last_record() {
    let home = Home::new();
    let session = hang(&home, "db", "query");
    let duration = |options: &[&str]| {
        let output = home.command(SPANTAP).args(["sessions", "--json"]).args(options).output().unwrap();
        let row: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        row["duration_ms"].as_f64().map(|ms| (ms, row["ended_at"].is_string()))
    };
    let open = || open_call(&home);
    let first = within(SOON, open)["duration_ms"].as_f64().unwrap();
    // Nothing is recorded while the call is open.
    let (later, _) = within(SOON, || duration(&[]).filter(|(later, _)| *later > first + 100.0));
    let shown = home.command(SPANTAP).args(["show", "last"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().nth(1).unwrap().contains("– now  "), "{shown}");
    // Records until a time that is over.
    let (of_past, has_end) = duration(&["--until", "0s"]).unwrap();
    assert!(has_end && of_past < later, "{of_past}");
    session.end();
}

#[test]
fn the_page_says_which_servers_run_and_which_only_did() {
    let home = Home::new();
    let state = || {
        let output = home.command(SPANTAP).args(["report", "-o", "-"]).output().unwrap();
        let page = String::from_utf8(output.stdout).unwrap();
        let data = page.split("type=\"application/json\">").nth(1)?.split("</script>").next()?;
        let server = &serde_json::from_str::<Value>(data).unwrap()["servers"][0];
        Some(format!("{}: {}", server["name"].as_str()?, server["state"].as_str()?))
    };
    let session = hang(&home, "db", "query");
    within(SOON, || state().filter(|state| state == "db: running"));
    session.end();
    assert_eq!(state().unwrap(), "db: ended in order");
}

#[test]
fn the_session_that_waits_now_is_the_last_one_although_another_ended_later() {
    let home = Home::new();
    let mut first = home.session(&["--session-id", "two"]);
    first.request("initialize", json!({}));
    let hangs = hang(&home, "db", "query");
    within(SOON, || open_call(&home));
    first.end();
    for command in [&["why"][..], &["why", "last"], &["show"]] {
        let output = home.command(SPANTAP).args(command).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains("query"), "{command:?}: {shown}");
    }
    hangs.end();
}

#[test]
fn a_proxy_that_was_killed_is_still_known_when_another_one_has_started() {
    let home = Home::new();
    let mut session = hang(&home, "db", "query");
    within(SOON, || open_call(&home));
    session.child.kill().unwrap();
    session.child.wait().unwrap();
    let shown = |command: &[&str]| {
        let output = home.command(SPANTAP).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let check = || {
        let killed = "spantap was killed while query was open";
        assert!(shown(&["sessions"]).contains(&format!("db: {killed}")), "{}", shown(&["sessions"]));
        let why = shown(&["why"]);
        assert!(why.contains(&format!("db lost its proxy: {killed}")), "{why}");
        assert!(!why.contains("Nothing stood out"), "{why}");
        let dead = format!("FAIL  no-deaths  1, limit 0 - db lost its proxy: {killed}\n");
        assert!(shown(&["gate", "--no-deaths"]).contains(&dead), "{}", shown(&["gate", "--no-deaths"]));
        let days = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/days/ordinary");
        let differs = shown(&["diff", days, "one"]);
        assert!(differs.contains(&format!("server ended  db lost its proxy: {killed}\n")), "{differs}");
        let session = shown(&["show", "one"]);
        assert!(session.lines().any(|line| line.ends_with(&format!("; {killed}"))), "{session}");
        let top = shown(&["top", "--once"]);
        assert_eq!(
            top.lines()
                .filter(|line| line.contains("  db  ") && line.ends_with(&format!("; {killed}")))
                .count(),
            1,
            "{top}"
        );
        for other in
            [&["gate", "--no-deaths", "--until", "1d"][..], &["gate", "--no-deaths", "--server", "x"]]
        {
            assert!(!shown(other).contains("killed"), "{}", shown(other));
        }
    };
    check();
    assert_eq!(line(&home), "mcp ✖db\n");
    let killed = live_file(&home).unwrap();
    // A server of another name starts: its start gives the file another name.
    let other = hang(&home, "git", "log");
    within(SOON, || killed.with_extension("killed").exists().then_some(()));
    within(SOON, || (line(&home) == "mcp ✖db\n").then_some(()));
    other.end();
    assert_eq!(line(&home), "mcp ✖db\n");
    let next = hang(&home, "db", "query");
    within(SOON, || open_call(&home).filter(|row| row["running"] == 1));
    check();
    assert!(!shown(&["top", "--once"]).contains("✖ killed"), "its host has started the server again");
    assert_eq!(line(&home), "mcp ✓\n");
    next.end();
    check();
    assert_eq!(line(&home), "", "its host has started the server again");
    // The files of killed proxies are bounded, and none is kept for longer than a week.
    let kept = killed.with_extension("killed");
    for number in 0..60 {
        std::fs::copy(&kept, kept.with_file_name(format!("{number}.killed"))).unwrap();
    }
    let old = std::fs::File::options().write(true).open(&kept).unwrap();
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(8 * 86_400)).unwrap();
    let mut last = home.session(&[]);
    last.calls(1);
    within(SOON, || {
        let names = std::fs::read_dir(kept.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        (names.filter(|path| path.extension().unwrap() == "killed").count() == 50).then_some(())
    });
    assert!(!kept.exists());
    last.end();
}

#[test]
fn nothing_that_happens_to_the_file_touches_the_traffic() {
    type Damage = fn(&PathBuf);
    let damages: [Damage; 4] = [
        |file| std::fs::remove_file(file).unwrap(),
        |file| std::fs::File::options().write(true).open(file).unwrap().set_len(3).unwrap(),
        |file| std::fs::set_permissions(file, PermissionsExt::from_mode(0o000)).unwrap(),
        |file| std::fs::remove_dir_all(file.parent().unwrap()).unwrap(),
    ];
    for damage in damages {
        let home = Home::new();
        let mut session = home.session(&[]);
        session.calls(1);
        damage(&within(SOON, || live_file(&home)));
        session.calls(3);
        let (status, said) = session.end();
        assert!(status.success());
        assert_eq!(said, "");
    }
}

#[test]
fn a_live_file_that_cannot_be_read_is_one_line_and_the_rest_goes_on() {
    let home = Home::new();
    let session = hang(&home, "db", "query");
    within(SOON, || open_call(&home));
    let folder = live_file(&home).unwrap().parent().unwrap().to_owned();
    std::fs::write(folder.join("torn.live"), "spantap-live/1 900 0000\n{").unwrap();
    std::fs::write(folder.join("newer.live"), "spantap-live/2 1 0\n1").unwrap();
    std::fs::write(folder.join("foreign.live"), b"\xff\x1b[2J").unwrap();
    let output = home.command(SPANTAP).args(["sessions", "--json"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.lines().count() == 3, "{said}");
    for problem in
        ["torn.live: incomplete", "newer.live: written by a newer spantap", "foreign.live: not a live file"]
    {
        assert!(said.contains(problem), "{problem} is in {said}");
    }
    assert!(!said.contains('\u{1b}'));
    assert!(String::from_utf8(output.stdout).unwrap().contains(r#""open":1"#));
    session.end();
}

#[test]
fn without_a_log_nothing_is_written_about_what_runs() {
    let home = Home::new();
    let mut session = home.session(&["--no-log"]);
    session.calls(2);
    session.end();
    assert!(!home.logs().parent().unwrap().join("live").exists());
}

#[test]
fn tail_shows_an_open_call_as_a_growing_line_on_a_terminal() {
    let home = Home::new();
    let session = hang(&home, "db", "query");
    within(SOON, || open_call(&home));
    let typescript = home.path().join("screen");
    let mut command = home.command("script");
    let tail = format!("echo $$ > pid; exec timeout -s KILL 60 {SPANTAP} tail -f --since 1h");
    command.args(["-q", "-f", "-c", &tail]).arg(&typescript).stdin(Stdio::null()).stdout(Stdio::null());
    let mut tail = command.spawn().unwrap();
    within(SOON, || {
        let screen = std::fs::read(&typescript).unwrap_or_default();
        let screen = String::from_utf8_lossy(&screen).into_owned();
        // The line is written over itself.
        (screen.matches("\r⠙ db  query  ").count() > 0 && screen.matches("db  query  ").count() >= 3)
            .then_some(())
    });
    let pid = std::fs::read_to_string(home.path().join("pid")).unwrap();
    home.command("kill").arg(pid.trim()).status().unwrap();
    within(SOON, || tail.try_wait().unwrap());
    session.end();
}

#[test]
fn tail_says_that_a_proxy_was_killed_and_which_request_was_open() {
    let home = Home::new();
    let mut session = hang(&home, "db", "query");
    within(SOON, || open_call(&home));
    let file = home.path().join("followed");
    let mut tail = home.command("bash");
    tail.args(["-c", &format!("exec {SPANTAP} tail -f > followed")]).current_dir(home.path());
    let tail = Session::start(tail);
    let shown = || std::fs::read_to_string(&file).unwrap_or_default();
    let ended = || shown().matches("  ended\n").count();
    // A connection that ends in order, after `tail` has begun to look.
    within(SOON, || {
        home.session(&[]).end();
        (ended() > 0).then_some(())
    });
    session.child.kill().unwrap();
    session.child.wait().unwrap();
    let killed = "spantap was killed while query was open";
    within(SOON, || {
        shown().lines().any(|line| line.contains("  db  ") && line.ends_with(killed)).then_some(())
    });
    // Another start gives the file of the killed proxy another name.
    let next = hang(&home, "next", "query");
    within(SOON, || shown().contains("  next  ").then_some(()));
    let before = ended();
    next.end();
    within(SOON, || (ended() > before).then_some(()));
    drop(tail);
    assert_eq!(shown().matches("spantap was killed").count(), 1, "{}", shown());
    let printed = |options: &[&str]| {
        let output = home.command(SPANTAP).arg("tail").args(options).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // Its log is in another folder.
    let other = home.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(&logs_in(&home.logs())[0], other.join("one.jsonl")).unwrap();
    assert!(!printed(&["--log-dir", other.to_str().unwrap()]).contains("was killed"));
    assert_eq!(
        printed(&[]).matches("spantap was killed while query was open\n").count(),
        1,
        "{}",
        printed(&[])
    );
    for other in [&["--json"][..], &["--server", "next"], &["--tool", "query"], &["--until", "1d"]] {
        assert!(!printed(other).contains("was killed"), "{other:?}");
    }
}

/// Returns what `status --line` prints.
fn line(home: &Home) -> String {
    let output = home.command(SPANTAP).args(["status", "--line"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_line_for_prompts_says_what_runs_died_or_did_not_start_until_it_starts_again() {
    let home = Home::new();
    assert_eq!(line(&home), "");
    let session = hang(&home, "db", "query");
    wait_until("a server runs", || line(&home) == "mcp ✓\n");
    session.end();
    assert_eq!(line(&home), "", "an ordinary end needs no attention");
    let start = |command: &[&str]| {
        let mut spantap = home.command(SPANTAP);
        spantap.args(["--server", "db", "--"]).args(command).env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
        spantap.stdin(Stdio::null()).output().unwrap()
    };
    start(&["/nonexistent/server"]);
    assert_eq!(line(&home), "mcp ✖db\n");
    let ascii = home.command(SPANTAP).args(["status", "--line"]).env("LC_ALL", "C").output().unwrap();
    assert_eq!(ascii.stdout, b"mcp dead:db\n");
    let again = hang(&home, "db", "query");
    wait_until("it runs again", || line(&home) == "mcp ✓\n");
    again.end();
    assert_eq!(line(&home), "");
    // A server that dies; its host still has the connection open.
    let mut dying = home.command(SPANTAP);
    dying.args(["--server", "db", "--", "bash", "-c", "read first; kill -SEGV $$"]);
    dying.env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
    let mut dying = Session::start(dying);
    dying.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize"}));
    dying.child.wait().unwrap();
    assert_eq!(line(&home), "mcp ✖db\n");
    let folder = home.logs().parent().unwrap().join("live");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(sessions(&home)[0]["running"], 0, "the other commands do not take it for a connection");
}

#[test]
fn the_line_for_prompts_reads_no_log_and_a_bounded_number_of_live_files() {
    let home = Home::new();
    let session = hang(&home, "db", "query");
    wait_until("a server runs", || line(&home) == "mcp ✓\n");
    let live = live_file(&home).unwrap();
    for number in 0..300 {
        std::fs::copy(&live, live.with_file_name(format!("{number}.live"))).unwrap();
    }
    if can_run(&["strace", "-V"], "counting the files that `status --line` opens") {
        let trace = home.path().join("trace");
        let mut command = home.command("strace");
        command.args(["-f", "-e", "trace=openat,open", "-o"]).arg(&trace).args([SPANTAP, "status", "--line"]);
        assert_eq!(command.output().unwrap().stdout, "mcp ✓ ?\n".as_bytes());
        let trace = std::fs::read_to_string(trace).unwrap();
        assert!(!trace.contains("/sessions"), "{trace}");
        assert!(trace.matches(".live\"").count() <= 100);
    }
    session.end();
}
