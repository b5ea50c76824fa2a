//! The command line answers as documented.

#[test]
fn help_names_every_command() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_spantap")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for command in ["run", "wrap", "unwrap", "status", "tail", "sessions", "show", "stats", "report"] {
        assert!(help.contains(command), "{command} in\n{help}");
    }
}

#[test]
fn a_mistyped_command_starts_no_program_and_says_how_one_would_be_started() {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_spantap")).args(["touch", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("hint: to watch a program put it behind two dashes: spantap -- touch"),
        "{stderr}"
    );
}
