//! The command of `notify`: when it runs, with what, and that it touches neither the traffic nor the end.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::support::*;

/// A server that answers one line and dies.
const DYING: &str = r#"read first; echo '{"jsonrpc":"2.0","id":1,"result":{}}'; kill -SEGV $$"#;
const GREETING: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n";

/// A home whose config file has `notify`, a script with this body. The script can write into the home folder.
fn home_with(body: &str) -> Home {
    let home = Home::new();
    let script = home.path().join("notifier");
    std::fs::write(&script, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    configure(&home, &format!("notify = [{:?}, \"with $(blank)\"]", script.to_str().unwrap()));
    home
}

fn configure(home: &Home, text: &str) -> PathBuf {
    let folder = home.path().join(".config/spantap");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), format!("{text}\n")).unwrap();
    folder.join("config.toml")
}

/// Runs a server through spantap with these options until both have ended.
fn session(home: &Home, options: &[&str], server: &str) -> Output {
    let mut command = home.command(SPANTAP);
    command.args(options).args(["--server", "my db$(id)", "--", "bash", "-c", server]);
    end(command)
}

/// Sends one line and keeps the input open: a server whose input has ended was asked to end.
fn end(mut command: Command) -> Output {
    command.env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // A server that did not start reads nothing.
    let _ = input.write_all(GREETING.as_bytes());
    let output = child.wait_with_output().unwrap();
    drop(input);
    output
}

/// Returns the names of the files that hold the time of a notification.
fn stamps(home: &Home) -> Vec<String> {
    let live = std::fs::read_dir(home.logs().parent().unwrap().join("live"));
    let names = live.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".notified")).collect()
}

/// Waits for a file that a notifier writes, and returns its text.
#[track_caller]
fn written(home: &Home, name: &str) -> String {
    let path = home.path().join(name);
    wait_until("the notifier writes", || path.exists());
    std::fs::read_to_string(path).unwrap()
}

/// Writes everything that a notifier knows to one file that appears as a whole.
const REPORT: &str = r#"{ /usr/bin/env; echo "argument=$1 $#"; pwd; echo "session=$(ps -o sid= -p $$)" "$$"; ls -l /proc/$$/fd; } > "$HOME/part"; mv "$HOME/part" "$HOME/report""#;

#[test]
fn the_command_runs_once_a_minute_with_a_fixed_environment_and_no_descriptor_of_spantap() {
    let home = home_with(&format!("echo x >> $HOME/runs; {REPORT}"));
    session(&home, &[], DYING);
    let report = written(&home, "report");
    for line in ["SPANTAP_EVENT=died", "SPANTAP_SERVER_NAME=my_db__id_", "argument=with $(blank) 1", "/"] {
        assert!(report.lines().any(|found| found == line), "{line} in\n{report}");
    }
    assert!(report.contains("SPANTAP_SUMMARY=my_db__id_ died\n"), "{report}");
    // The shell adds three variables.
    let names: Vec<&str> =
        report.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let known = ["PATH", "HOME", "PWD", "SHLVL", "_", "OLDPWD", "argument", "session"];
    assert!(names.iter().all(|name| name.starts_with("SPANTAP_") || known.contains(name)), "{report}");
    let session_line = report.lines().find_map(|line| line.strip_prefix("session=")).unwrap();
    let ids: Vec<&str> = session_line.split_whitespace().collect();
    assert_eq!(ids[0], ids[1], "it leads a session of its own: {report}");
    // 0 and 2; 1 is the report, and the shell has its script open.
    let open: Vec<&str> =
        report.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to).collect();
    let is_own = |to: &&str| to.starts_with("/dev/null") || to.contains("/notifier") || to.contains("/part");
    assert!(!open.is_empty() && open.iter().all(is_own), "{report}");

    session(&home, &[], DYING);
    session(&home, &[], DYING);
    assert_eq!(written(&home, "runs"), "x\n", "another death within the minute");
    let other = home.command(SPANTAP).args(["--server", "ghost", "--", "/nonexistent"]).output().unwrap();
    assert_eq!(other.status.code(), Some(127));
    wait_until("another server is notified about", || written(&home, "runs") == "x\nx\n");
    wait_until("it did not start", || written(&home, "report").contains("SPANTAP_EVENT=did_not_start\n"));
}

#[test]
fn a_call_that_hangs_and_one_that_is_repeated_run_the_command() {
    let home = home_with(REPORT);
    let mut hanging = home.command(SPANTAP);
    hanging.args(["--slow", "20ms", "--", "bash", "-c", "cat > /dev/null"]);
    let mut hanging = Session::start(hanging);
    hanging.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "query"}}));
    assert!(written(&home, "report").contains("SPANTAP_EVENT=hung\n"));
    hanging.end();

    // A server that asks the user a question does not hang.
    let home = home_with(REPORT);
    let asking =
        r#"echo '{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{}}'; cat > /dev/null"#;
    let mut command = home.command(SPANTAP);
    command.args(["--slow", "20ms", "--", "bash", "-c", asking]);
    let mut session = Session::start(command);
    session.receive();
    session.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "query"}}));
    wait_until("the call is pending", || {
        logs_in(&home.logs()).iter().any(|log| std::fs::read_to_string(log).unwrap().contains("call_pending"))
    });
    session.end();
    assert!(stamps(&home).is_empty());

    let home = home_with(REPORT);
    configure(
        &home,
        &format!("notify = {:?}\nthrash.threshold = 2", home.path().join("notifier").to_str().unwrap()),
    );
    let mut looping = home.session(&[]);
    for _ in 0..12 {
        looping.request("tools/call", json!({"name": "echo", "arguments": {"text": "same"}}));
    }
    assert!(written(&home, "report").contains("SPANTAP_EVENT=looped\n"));
    looping.end();
}

#[test]
fn an_ordinary_end_runs_nothing() {
    let home = home_with("echo x > $HOME/runs");
    let mut session = home.session(&[]);
    session.calls(2);
    session.end();
    assert!(stamps(&home).is_empty());
    assert!(!home.path().join("runs").exists());
}

#[test]
fn a_command_that_sleeps_an_hour_delays_neither_end_nor_exit_and_is_ended_with_its_children() {
    let home = home_with("sleep 3600 & echo $! > $HOME/part; mv $HOME/part $HOME/child; sleep 3600");
    let plain = session(&Home::new(), &[], DYING);
    let output = session(&home, &[], DYING);
    assert_eq!((output.status, &output.stdout), (plain.status, &plain.stdout));
    let child = written(&home, "child");
    let process = Path::new("/proc").join(child.trim());
    assert!(process.exists(), "it runs while spantap has ended");
    wait_until("its child is ended", || !process.exists());
}

#[test]
fn a_command_that_cannot_run_changes_no_byte_and_no_status_and_is_reported_with_verbose() {
    let plain = session(&Home::new(), &[], DYING);
    let home = Home::new();
    std::fs::write(home.path().join("plain"), "").unwrap();
    std::fs::write(home.path().join("no-interpreter"), "#!/nonexistent\n").unwrap();
    std::fs::set_permissions(home.path().join("no-interpreter"), PermissionsExt::from_mode(0o700)).unwrap();
    for (notify, is_reported) in [
        ("\"/nonexistent/program\"", true),
        ("\"no-such-program\"", true),
        ("\"/\"", true),
        (&*format!("[{:?}, \"x\"]", home.path().join("plain").to_str().unwrap()), true),
        (&*format!("{:?}", home.path().join("no-interpreter").to_str().unwrap()), false),
        ("\"desktop\"", true),
    ] {
        let home = Home::new();
        configure(&home, &format!("notify = {notify}"));
        let output = session(&home, &[], DYING);
        assert_eq!(
            (output.status, &output.stdout, &output.stderr),
            (plain.status, &plain.stdout, &plain.stderr),
            "{notify}"
        );
        std::fs::remove_dir_all(home.logs().parent().unwrap()).unwrap();
        session(&home, &["-v"], DYING);
        let folder = home.logs().parent().unwrap().join("diagnostics");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let said: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
        let has_desktop = notify.contains("desktop") && Path::new("/usr/bin/notify-send").exists();
        let expected = is_reported && !has_desktop;
        assert_eq!(
            said.contains("the command of `notify` could not be started"),
            expected,
            "{notify}: {said}"
        );
    }
}

#[test]
fn only_the_users_own_config_file_names_a_command() {
    let home = home_with("echo x > $HOME/runs");
    let named = home.path().join("repository.toml");
    std::fs::copy(home.path().join(".config/spantap/config.toml"), &named).unwrap();
    std::fs::remove_file(home.path().join(".config/spantap/config.toml")).unwrap();
    let by_flag = session(&home, &["--config", named.to_str().unwrap()], DYING);
    let mut by_variable = home.command(SPANTAP);
    by_variable.env("SPANTAP_CONFIG", &named).env("SPANTAP_NOTIFY", home.path().join("notifier"));
    by_variable.args(["--server", "b", "--", "bash", "-c", DYING]);
    let by_variable = end(by_variable);
    for (output, expected) in [
        (&by_flag, "`notify` counts only in your own config file"),
        (&by_variable, "`notify` counts only in your own config file"),
        (&by_variable, "only the config file sets `notify`"),
    ] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{said}");
    }
    let by_flag = session(&home, &["--notify", "x"], DYING);
    assert_eq!(by_flag.status.code(), Some(2));
    assert!(stamps(&home).is_empty());
    assert!(!home.path().join("runs").exists());
}
