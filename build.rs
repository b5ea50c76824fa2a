//! Sets the version that the program reports, with the commit it is built from: `0.1.0 (abc1234 2026-11-22)`. Links the
//! program for Linux at a fixed address.
//!
//! A git checkout of this folder gives the commit and its day. A package that cargo made from a checkout gives
//! the commit only. Without both (a plain tarball, no git) the version has no addition. No case fails the
//! build. Debug builds report `debug`, because otherwise each commit would rebuild the whole crate.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let built_from = match env::var("PROFILE").as_deref() {
        Ok("release") => of_checkout(&folder).or_else(|| of_package(&folder)),
        _ => Some("debug".to_owned()),
    };
    let built_from = built_from.map(|text| format!(" ({text})")).unwrap_or_default();
    println!("cargo:rustc-env=SPANTAP_VERSION={version}{built_from}");
    link_at_fixed_address();
}

/// Spares each start the relocation of 29,000 pointers (docs/security.md says what that costs), in a debug build of
/// 193,000: tests start it thousands of times. A static program is left as the builder's flags say.
fn link_at_fixed_address() {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let is_static = env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|list| list.contains("crt-static"));
    let has_loader = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static;
    if has_loader {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}

/// Returns the short id and the day of the commit that is checked out in `folder`.
fn of_checkout(folder: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
    };
    // An unpacked tarball may be inside another repository.
    let top = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if top != fs::canonicalize(folder).ok()? {
        return None;
    }
    // A new commit on any branch writes to this file.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo:rerun-if-changed={}", folder.join(log).display());
    git(&["log", "-1", "--abbrev=7", "--format=%h %cs"])
}

/// Returns the short id of the commit that cargo wrote into the package.
fn of_package(folder: &Path) -> Option<String> {
    let note = folder.join(".cargo_vcs_info.json");
    let text = fs::read_to_string(&note).ok()?;
    println!("cargo:rerun-if-changed={}", note.display());
    let id = text.split("\"sha1\"").nth(1)?.split('"').nth(1)?;
    id.get(..7).filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())).map(str::to_owned)
}
