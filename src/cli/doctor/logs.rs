//! Checks the folder of session logs and the newest logs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cli::doctor::DoctorFindings;
use crate::present::format::{self, plural};
use crate::query::scan::{LineReader, LogLine};
use crate::record::Record;
use crate::record::file_name::SessionFileName;
use crate::system::access::{self, FileAccess};

/// Free bytes on the disk of the logs below which there is a warning.
const LITTLE_SPACE: u64 = 512 << 20;
/// Number of newest logs whose records are checked.
const MAX_CHECKED: usize = 20;

/// Checks that the folder can be written, is private, and has room.
pub(super) fn check_folder(folder: &Path, findings: &mut DoctorFindings) {
    let shown = folder.display();
    if !folder.exists() {
        let parent = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(folder);
        match tempfile::NamedTempFile::new_in(parent) {
            Ok(_) => findings.ok(format!("log folder {shown} will be made by the first session")),
            Err(error) => findings.fail(
                format!("log folder {shown} cannot be made: {error}"),
                "name another one with `log_dir` or --log-dir",
            ),
        }
        return;
    }
    match tempfile::NamedTempFile::new_in(folder) {
        Ok(_) => findings.ok(format!("log folder {shown} can be written")),
        Err(error) => findings.fail(
            format!("log folder {shown} cannot be written: {error}"),
            "name another one with `log_dir` or --log-dir",
        ),
    }
    if folder.is_dir() && FileAccess::at(folder).is_ok_and(|access| access.is_open) {
        findings.warn(format!("other users can read {shown}"), access::command_to_close(folder));
    }
    if let Some(free) = access::free_space(folder).filter(|free| *free < LITTLE_SPACE) {
        findings.warn(
            format!("{} MiB free for the logs", free >> 20),
            "`spantap prune --older-than 30d` makes room; `max_total_size` does so automatically",
        );
    }
}

/// Reports the age of the newest record, and records that cannot be read. `is_watched` is true if a host has a watched
/// server.
pub(super) fn check_files(folder: &Path, is_watched: bool, findings: &mut DoctorFindings) {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = format!("log folder {} cannot be read: {error}", folder.display());
            return findings.fail(what, "check its owner and mode, or name another one with `log_dir`");
        }
        entries => entries.into_iter().flatten().flatten(),
    };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| entry.file_name().to_str().and_then(SessionFileName::parse).is_some())
        .filter_map(|entry| Some((entry.metadata().ok().filter(fs::Metadata::is_file)?, entry.path())))
        .filter_map(|(metadata, path)| Some((metadata.modified().ok()?, path)))
        .collect();
    files.sort();
    let Some((newest, _)) = files.last() else {
        findings.warn(
            "no session has been recorded yet",
            match is_watched {
                true => "restart the host of a watched server, and let its agent use it",
                false => "`spantap wrap` puts spantap in front of your servers; then restart their host",
            },
        );
        return;
    };
    let age = format::duration(newest.elapsed().unwrap_or_default().as_secs_f64() * 1000.0);
    findings.ok(format!("{}, the newest record {age} ago", plural(files.len() as u64, "session file")));
    for (_, path) in files.iter().rev().take(MAX_CHECKED) {
        check_records(path, findings);
    }
}

/// Counts the lines of a log that are not records.
fn unreadable(path: &Path) -> io::Result<u64> {
    let mut buffer = Vec::new();
    let mut lines = LineReader::new(fs::File::open(path)?, &mut buffer, 0);
    let mut bad = 0;
    loop {
        bad += match lines.next()? {
            LogLine::Whole(line) => {
                u64::from(!line.is_empty() && serde_json::from_slice::<Record<'_>>(line).is_err())
            }
            LogLine::TooLong => 1,
            // A last line without its newline is being written, or was cut off by a kill.
            LogLine::Last(_) | LogLine::End => return Ok(bad),
        };
    }
}

fn check_records(path: &Path, findings: &mut DoctorFindings) {
    let Ok(bad) = unreadable(path) else {
        return findings.warn(format!("{} cannot be read", path.display()), "check its owner and mode");
    };
    if bad > 0 {
        findings.warn(
            format!("{} of {} cannot be read", plural(bad, "record"), path.display()),
            "readers pass over them; the cause is a full disk or another program that wrote the file",
        );
    }
}
