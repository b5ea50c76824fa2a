//! A log that cannot be written, for whatever reason: the session goes on, one line reports it, and
//! observed = written + dropped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::run::Run;
use crate::support::*;

/// Returns `(written, lost)`: the number of records of the observer, and the number of records that the gaps
/// in the log count.
fn sums(records: &[Value]) -> (u64, u64) {
    let is_gap = |record: &&Value| record["event"] == "gap" && record["place"] == "log";
    let lost = records.iter().filter(is_gap).map(|gap| gap["records_lost"].as_u64().unwrap()).sum();
    (records.iter().filter(|record| !is_gap(record)).count() as u64, lost)
}

/// Returns the number in `records lost: N at log (reason)`, summed over reasons, or 0 without such a line.
fn said_lost(said: &str) -> u64 {
    let Some((_, rest)) = said.split_once("records lost: ") else { return 0 };
    let (list, _) = rest.split_once(';').unwrap();
    list.split(", ").map(|part| part.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn a_folder_that_cannot_be_used_costs_the_log_and_one_line_with_a_way_out() {
    let home = Home::new();
    fs::write(home.path().join("file"), "in the way").unwrap();
    std::os::unix::fs::symlink("nowhere", home.path().join("dangling")).unwrap();
    let too_long = "x".repeat(300);
    for folder in ["file", "file/below", "dangling/below", "/proc/spantap", too_long.as_str()] {
        let mut session = home.session(&["--log-dir", folder]);
        session.calls(3);
        let (status, said) = session.end();
        assert!(status.success(), "{folder}: {said}");
        let lines: Vec<&str> = said.lines().collect();
        let [warning, sum] = lines[..] else { panic!("{folder}: {said}") };
        assert!(warning.starts_with("spantap: warning: no log in `"), "{warning}");
        assert!(warning.contains("--log-dir"), "{warning}");
        assert!(folder != "file" || warning.contains("file is not a folder"), "{warning}");
        // The start, three calls, the end.
        assert_eq!(said_lost(sum), 5, "{folder}: {sum}");
    }
    assert_eq!(fs::read_to_string(home.path().join("file")).unwrap(), "in the way");
}

#[test]
fn a_strict_session_does_not_start_without_its_log() {
    let home = Home::new();
    fs::write(home.path().join("file"), "in the way").unwrap();
    let output = home.spantap(["--strict", "--log-dir", "file", "--", "touch", "started"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let (_, said) = text(&output);
    assert!(said.contains("error: the session log cannot be written") && said.contains("hint: "), "{said}");
    assert!(!home.path().join("started").exists());
}

#[test]
fn a_file_size_limit_loses_and_counts_and_spares_the_traffic() {
    let home = Home::new();
    let run = Run::wrapping_sample().home(&home).options(&["--log-dir", "logs"]).unhurried();
    let mut session = run.launched_by(&["bash", "-c", "ulimit -f 4; exec \"$@\"", "bash"]).start();
    session.calls(50);
    let (status, said) = session.end();
    assert!(status.success(), "{said}");
    let logs = logs_in(&home.path().join("logs"));
    let records: Vec<Value> = logs.iter().flat_map(|log| validate_torn_log(log)).collect();
    let (written, told) = sums(&records);
    assert!(written > 2 && said_lost(&said) > 0, "{said}");
    // The start, the calls, the end. Standard error reports the losses that the log could not.
    assert_eq!(written + said_lost(&said), 52, "{said}");
    assert!(told <= said_lost(&said), "{told} of {said}");
}

#[test]
fn a_full_disk_that_is_freed_gets_the_end_of_the_session_and_a_record_of_the_gap() {
    let home = Home::new();
    // Tests of export::log::file inject the same errors on machines that do not allow a mount.
    let Some(disk) = Disk::mount(&home, "size=64k") else { return };
    // Without the ballast there is room for everything, however little was written before.
    fs::write(disk.0.join("ballast"), vec![0; 56 << 10]).unwrap();
    let mut session = home.session(&["--log-dir", disk.0.to_str().unwrap()]);
    session.calls(30);
    let log = || logs_in(&disk.0).into_iter().find(|path| path.extension().is_some());
    wait_until("the disk is full", || log().is_some_and(|log| log.metadata().unwrap().len() == 8 << 10));
    session.calls(3);
    fs::remove_file(disk.0.join("ballast")).unwrap();
    let (status, said) = session.end();
    assert!(status.success());
    // A record that was cut when the disk was full stays torn in the middle of the file.
    let log = log().unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let records: Vec<Value> = text
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_ok())
        .map(|line| validate_line(&log, line))
        .collect();
    // Each attempt that was made too early leaves a torn line, too.
    assert!(text.lines().count() <= records.len() + 4, "{text}");
    let (written, told) = sums(&records);
    assert_eq!(written + told, 35, "{said}");
    assert_eq!(told, said_lost(&said), "{said}");
    assert_eq!(events(&records).last(), Some(&"session_ended"));
    assert_eq!(said.matches("no log in").count(), 1, "{said}");
}

/// A file system of its own below a home folder.
struct Disk(PathBuf);

impl Disk {
    /// Mounts a file system with `options`. `None` means skipped.
    fn mount(home: &Home, options: &str) -> Option<Disk> {
        let disk = home.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let options = format!("{options},mode=700");
        let mount = ["mount", "-t", "tmpfs", "-o", &options, "tmpfs", disk.to_str().unwrap()];
        can_run(&mount, "a log on a file system of its own").then_some(Disk(disk))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Runs a session with `before` calls, then does `blow` to its log folder, then makes `after` more calls.
fn struck(before: usize, after: usize, blow: impl Fn(&Path)) -> (Home, String) {
    let home = Home::new();
    let mut session = home.session(&["--log-dir", "logs"]);
    session.calls(before);
    let folder = home.path().join("logs");
    wait_until("all calls in the log", || {
        logs_in(&folder).iter().flat_map(|log| validate_torn_log(log)).count() > before
    });
    blow(&folder);
    session.calls(after);
    let (status, said) = session.end();
    assert!(status.success());
    (home, said)
}

#[test]
fn a_deleted_folder_is_made_again_for_what_follows() {
    let (home, said) = struck(3, 2, |folder| fs::remove_dir_all(folder).unwrap());
    assert_eq!(said, "");
    // No record after the deletion went into the deleted file.
    let [log] = &logs_in(&home.path().join("logs"))[..] else { panic!() };
    let records = validate_log(log);
    assert_eq!(events(&records), ["mcp_tool_call", "mcp_tool_call", "session_ended"]);
    assert_eq!(records[0]["seq"], 4);
}

#[test]
fn a_log_that_is_moved_away_loses_nothing() {
    let (home, said) = struck(3, 2, |folder| {
        let log = logs_in(folder).remove(0);
        fs::rename(&log, folder.parent().unwrap().join("rotated.jsonl")).unwrap();
    });
    assert_eq!(said, "");
    let mut records = validate_log(&home.path().join("rotated.jsonl"));
    for log in logs_in(&home.path().join("logs")) {
        records.extend(validate_log(&log));
    }
    let seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..7).collect::<Vec<u64>>());
}

#[test]
fn a_log_that_is_emptied_is_filled_from_its_beginning() {
    let (home, said) = struck(3, 2, |folder| {
        fs::OpenOptions::new().write(true).truncate(true).open(logs_in(folder).remove(0)).unwrap();
    });
    assert_eq!(said, "");
    let [log] = &logs_in(&home.path().join("logs"))[..] else { panic!() };
    let records = validate_log(log);
    assert_eq!(events(&records), ["mcp_tool_call", "mcp_tool_call", "session_ended"]);
}

#[test]
fn a_log_that_is_rotated_and_emptied_again_and_again_under_traffic_loses_nothing_that_follows() {
    let home = Home::new();
    let mut session = home.session(&["--log-dir", "logs"]);
    let folder = home.path().join("logs");
    let mut moved = Vec::new();
    for round in 0..10 {
        session.calls(20);
        wait_until("a log", || !logs_in(&folder).is_empty());
        for log in logs_in(&folder) {
            let to = home.path().join(format!("rotated-{round}-{}.jsonl", moved.len()));
            fs::rename(&log, &to).unwrap();
            moved.push(to);
        }
    }
    let (status, said) = session.end();
    assert!(status.success() && said.is_empty(), "{said}");
    moved.extend(logs_in(&folder));
    let records: Vec<Value> = moved.iter().flat_map(|log| validate_log(log)).collect();
    assert_eq!(events(&records).iter().filter(|event| **event == "mcp_tool_call").count(), 200);
    let mut seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert!(seqs.into_iter().eq(0..records.len() as u64));
}

#[test]
fn a_read_only_file_system_costs_the_log_and_nothing_else() {
    let home = Home::new();
    let Some(disk) = Disk::mount(&home, "ro") else { return };
    for folder in [disk.0.clone(), disk.0.join("below")] {
        let mut session = home.session(&["--log-dir", folder.to_str().unwrap()]);
        session.calls(3);
        let (status, said) = session.end();
        assert!(status.success(), "{said}");
        assert!(said.contains("Read-only file system") && said_lost(&said) == 5, "{said}");
        assert!(said.contains("(read_only)"), "{said}");
    }
}

#[test]
fn a_folder_without_permission_costs_what_comes_then_and_it_is_counted() {
    let home = Home::new();
    let folder = home.path().join("logs");
    fs::create_dir(&folder).unwrap();
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    let mut run = Run::wrapping_sample().home(&home).options(&["--log-dir", "logs"]).unhurried();
    // Permissions do not limit root, so spantap runs as another user.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        let setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        if !can_run(&[&setpriv[..], &[SPANTAP, "--version"]].concat(), "a log without permission") {
            return;
        }
        std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        run = run.launched_by(&setpriv);
    }
    let mut session = run.start();
    session.calls(3);
    wait_until("all calls in the log", || {
        logs_in(&folder).iter().flat_map(|log| validate_torn_log(log)).count() > 3
    });
    // The log is moved, and a new one cannot be made.
    let moved = home.path().join("moved.jsonl");
    fs::rename(logs_in(&folder).remove(0), &moved).unwrap();
    mode(0o555);
    session.calls(4);
    let (status, said) = session.end();
    mode(0o755);
    assert!(status.success(), "{said}");
    let (written, _) = sums(&validate_log(&moved));
    assert_eq!(written, 4);
    assert!(logs_in(&folder).is_empty());
    assert_eq!(said_lost(&said), 5, "four calls and the end: {said}");
    assert!(said.contains("(permission_denied)"), "{said}");
}

#[test]
fn a_flood_into_a_full_disk_keeps_the_books_and_the_memory() {
    let home = Home::new();
    let Some(disk) = Disk::mount(&home, "size=256k") else { return };
    let mut session = home.session(&["--log-dir", disk.0.to_str().unwrap()]);
    session.calls(3_000);
    let peak = fs::read_to_string(format!("/proc/{}/status", session.pid())).unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    let (status, said) = session.end();
    assert!(status.success(), "{said}");
    let mut records = Vec::new();
    for log in logs_in(&disk.0) {
        let text = fs::read_to_string(&log).unwrap();
        // A record that was cut when the disk was full stays torn.
        let whole = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok());
        records.extend(whole.map(|line| validate_line(&log, line)));
    }
    let (written, told) = sums(&records);
    // The start, the calls, the end.
    assert_eq!(written + said_lost(&said), 3_002, "{said}");
    assert!(told <= said_lost(&said));
    assert!(peak < 48 << 10, "{peak} KiB");
}
