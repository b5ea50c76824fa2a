//! An installation: the version names its commit, and a package holds every file that a build reads.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Compiles the build script.
fn build_script() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("build-script");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
        assert!(rustc.args(["--edition=2024", source, "-o"]).arg(&program).status().unwrap().success());
        (folder, program)
    });
    program
}

/// Returns the version of a build in `folder`.
fn version(folder: &Path, profile: &str, path: &str) -> String {
    let output = Command::new(build_script())
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("CARGO_MANIFEST_DIR", folder)
        .env("CARGO_PKG_VERSION", "1.2.3")
        .env("PROFILE", profile)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let line = printed.lines().find_map(|line| line.strip_prefix("cargo:rustc-env=SPANTAP_VERSION="));
    line.unwrap().to_owned()
}

fn git(folder: &Path, arguments: &str) {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_COMMITTER_DATE", "2026-11-22T12:00:00Z");
    git.args(["-c", "user.name=A", "-c", "user.email=a@example.com", "-C"]).arg(folder);
    assert!(git.args(arguments.split_whitespace()).output().unwrap().status.success(), "git {arguments}");
}

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[test]
fn a_checkout_names_its_commit_and_a_tarball_does_without() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(version(folder, "release", PATH), "1.2.3");
    std::fs::write(
        folder.join(".cargo_vcs_info.json"),
        r#"{"git": {"sha1": "0123456789abcdef"}, "path_in_vcs": ""}"#,
    )
    .unwrap();
    assert_eq!(version(folder, "release", PATH), "1.2.3 (0123456)", "a package made by cargo");

    git(folder, "init -q");
    git(folder, "commit -q --allow-empty -m first");
    let named = version(folder, "release", PATH);
    let (id, day) =
        named.strip_prefix("1.2.3 (").unwrap().strip_suffix(')').unwrap().split_once(' ').unwrap();
    assert!(id.len() >= 7 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{named}");
    assert_eq!(day, "2026-11-22");
    assert_eq!(version(folder, "debug", PATH), "1.2.3 (debug)");
    assert_eq!(version(folder, "release", "/nowhere"), "1.2.3 (0123456)", "no git on the machine");

    let tarball = folder.join("spantap-1.2.3");
    std::fs::create_dir(&tarball).unwrap();
    assert_eq!(version(&tarball, "release", PATH), "1.2.3", "inside another repository");
}

#[test]
fn the_program_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_spantap")).arg("-V").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("spantap {}\n", spantap::VERSION));
    assert!(said.starts_with(concat!("spantap ", env!("CARGO_PKG_VERSION"), " (")), "{said}");
}

#[test]
fn a_package_holds_what_a_build_reads_and_no_tests() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["package", "--list", "--offline", "--allow-dirty"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    let files: Vec<&str> = listed.lines().collect();
    for wanted in [
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "build.rs",
        "src/main.rs",
        "src/present/report/page.html",
        "docs/hosts.md",
        "docs/dashboards/prometheus/rules.yml",
    ] {
        assert!(files.contains(&wanted), "{wanted}");
    }
    for unwanted in ["tests/", "fixtures/", ".ci/", ".github/", "target/"] {
        assert!(!files.iter().any(|file| file.starts_with(unwanted)), "{unwanted}");
    }
}

/// Runs `.ci/package/build` and returns the first line of its error.
fn refusal(folder: &Path, programs: &[String]) -> String {
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/package/build");
    let output = Command::new(build).arg("--out").arg(folder).args(programs).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap().lines().next().unwrap().to_owned()
}

#[test]
fn packages_are_made_only_of_programs_that_fit_and_delete_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ours = |target: &str| format!("{target}={}", env!("CARGO_BIN_EXE_spantap"));
    let (musl, glibc) = ("x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu");

    std::fs::write(folder.join("precious"), "").unwrap();
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        assert!(refusal(folder, &[ours(glibc)]).contains("has `precious`, which this does not make"));
        assert!(refusal(folder, &[ours(musl)]).contains("is not static"));
        assert!(refusal(folder, &[ours(glibc), ours(glibc)]).contains("have the same packages"));
    }
    let windows = "x86_64-pc-windows-msvc";
    assert!(refusal(folder, &[ours(windows)]).ends_with("is not a program for x86_64-pc-windows-msvc"));
    assert!(refusal(folder, &[format!("{glibc}=/nowhere")]).contains("No such file"));
    assert!(refusal(folder, &[glibc.to_owned()]).contains("is not TARGET=PROGRAM"));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}
