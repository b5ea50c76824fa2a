//! The command line answers as documented.

#[test]
fn help_names_every_command() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_spantap")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for command in ["run", "wrap", "unwrap", "status", "tail", "sessions", "show", "stats", "report"] {
        assert!(help.contains(command), "{command} in\n{help}");
    }
}
