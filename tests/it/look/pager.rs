//! The pager of the commands that read logs.

use super::{root, spantap, text};

/// Runs `spantap ARGUMENTS` with `pager` on a terminal; returns what the terminal shows, and the exit status.
fn on_terminal(arguments: &str, pager: &str) -> (String, Option<i32>) {
    on_terminal_with(&[], arguments, pager)
}

pub(super) fn on_terminal_with(
    variables: &[(&str, &str)],
    arguments: &str,
    pager: &str,
) -> (String, Option<i32>) {
    let dir = tempfile::tempdir().unwrap();
    let screen = dir.path().join("screen");
    let run = format!("exec {} {arguments}", env!("CARGO_BIN_EXE_spantap"));
    let mut command = std::process::Command::new("script");
    command.args(["-q", "-e", "-c", &run]).arg(&screen).current_dir(root());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "xterm");
    command.env("LC_ALL", "C.UTF-8").env("SHELL", "/bin/sh").env("SPANTAP_PAGER", pager);
    command.envs(variables.iter().copied());
    let status = command.stdin(std::process::Stdio::null()).output().unwrap().status;
    let screen = std::fs::read(screen).unwrap();
    (String::from_utf8_lossy(&screen).into_owned(), status.code())
}

#[test]
fn on_a_terminal_long_output_goes_through_the_pager_and_without_it_the_output_is_the_same() {
    let mark = "sed s/^/paged:/";
    for arguments in ["show ed9219f5", "stats", "sessions", "tail", "stats --json"] {
        let arguments = format!("{arguments} --log-dir fixtures/logs --since 2026-01-01");
        let (paged, status) = on_terminal(&arguments, mark);
        assert!(paged.contains("paged:") && status == Some(0), "{arguments}: {status:?} {paged}");
        assert!(paged.contains('\u{1b}') || arguments.contains("json"), "colour stays: {paged}");
        let (plain, _) = on_terminal(&format!("{arguments} --no-pager"), mark);
        assert!(!plain.contains("paged:") && plain.lines().count() > 3, "{arguments}: {plain}");
        let body = |screen: &str| screen.lines().skip(1).filter(|line| !line.contains("Script done")).count();
        for pager in ["", "cat", "/nonexistent/pager"] {
            let (shown, status) = on_terminal(&arguments, pager);
            assert_eq!((body(&shown), status), (body(&plain), Some(0)), "{pager:?}: {shown}");
        }
        // A shell reads the quotes, and says in a line of its own that it found no such program.
        let (shown, status) = on_terminal(&arguments, "nonexistent-pager 'x'");
        assert_eq!((body(&shown), status), (body(&plain) + 1, Some(0)), "{shown}");
    }
    for help in ["show --help", "help tail"] {
        assert!(on_terminal(help, mark).0.contains("paged:"), "{help}");
    }
    for other in ["status", "schema", "report fixtures/logs -o /dev/null"] {
        assert!(!on_terminal(other, mark).0.contains("paged:"), "{other}");
    }
}

#[test]
fn a_pager_that_is_quit_early_is_not_an_error_and_a_failure_stays_one() {
    let all = "show ed9219f5 --all --log-dir fixtures/logs";
    let (shown, status) = on_terminal(all, "head -n 2");
    assert!(shown.contains("ed9219f5-3ab2") && !shown.contains("turn 1") && status == Some(0), "{shown}");
    assert_eq!(on_terminal(all, "true").1, Some(0));
    // What is written after the user has left does not reach the terminal.
    let (shown, _) = on_terminal(all, "sh -c 'exec <&-; sleep 0.2'");
    assert!(!shown.contains("ed9219f5-3ab2"), "{shown}");
    let (shown, status) = on_terminal("show nothing --log-dir fixtures/logs", "sed s/^/paged:/");
    assert!(shown.contains("no session or operation") && !shown.contains("paged:"), "{shown}");
    assert_eq!(status, Some(1));
}

#[test]
fn a_pipe_has_no_pager() {
    let output =
        spantap("show ed9219f5 fixtures/logs").env("SPANTAP_PAGER", "false").env("TERM", "xterm").output();
    assert!(text(&output.unwrap().stdout).contains("everything"));
}
