//! The file of a session log. Only its owner can read it. It continues in numbered parts beyond the size limit,
//! and it is opened again after a failure.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::export::log::LogSettings;
use crate::export::log::retention::limit_total_size;
use crate::record::file_name::SessionFileName;
use crate::record::timestamp::Timestamp;
use crate::record::words::LossPlace;
use crate::record::{EventName, Identity, Record};
use crate::system::access::{self, FileAccess, FileId, FileOwner};
use crate::system::files::{append_to_new, make_private_folder};

/// First pause after a failure; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The open file of one part; a trait, so that tests can let it fail.
pub(super) trait LogPart: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Returns true if `path` still is this file.
    fn is_at(&self, path: &Path) -> bool;
}

impl LogPart for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn is_at(&self, path: &Path) -> bool {
        FileId::at(path).is_ok_and(|there| FileId::of(self).is_ok_and(|ours| ours == there))
    }
}

pub(super) type PartOpener = Box<dyn FnMut(&Path) -> io::Result<Box<dyn LogPart>> + Send>;

/// The parts of one session's log, or of one day of the collector.
pub(crate) struct SessionFile {
    settings: LogSettings,
    identity: Identity,
    open: PartOpener,
    current: Option<OpenPart>,
    /// The name of the next part.
    next: SessionFileName,
    warn: Box<dyn Fn(&str) + Send>,
    pause: Duration,
    retry_at: Option<Instant>,
    /// Number of records lost since the last one that was written, and the reason.
    lost: Option<(u64, &'static str)>,
    /// True for a log of `spantap collect`, whose losses are in its state file and not in a record.
    is_of_collector: bool,
}

struct OpenPart {
    part: Box<dyn LogPart>,
    path: PathBuf,
    size: u64,
    /// True if the path was checked to be this file since the last lines came. Lines that come after the
    /// file was deleted or moved are therefore not lost with it.
    checked: bool,
    /// True if the last write stopped within a line.
    torn: bool,
}

impl SessionFile {
    pub(super) fn new(
        settings: LogSettings,
        identity: Identity,
        warn: Box<dyn Fn(&str) + Send>,
    ) -> SessionFile {
        SessionFile::with_opener(settings, identity, warn, Box::new(open_private))
    }

    pub(super) fn with_opener(
        settings: LogSettings,
        identity: Identity,
        warn: Box<dyn Fn(&str) + Send>,
        open: PartOpener,
    ) -> SessionFile {
        SessionFile {
            next: SessionFileName::first(&identity, Timestamp::now()),
            settings,
            identity,
            open,
            current: None,
            warn,
            pause: FIRST_PAUSE,
            retry_at: None,
            lost: None,
            is_of_collector: false,
        }
    }

    /// Returns the file of `spantap collect` that begins at `begin`.
    pub(crate) fn of_collector(
        settings: LogSettings,
        identity: Identity,
        begin: Timestamp,
        warn: Box<dyn Fn(&str) + Send>,
    ) -> SessionFile {
        let next = SessionFileName::first(&identity, begin);
        SessionFile { is_of_collector: true, next, ..SessionFile::new(settings, identity, warn) }
    }

    pub(super) fn open_now(&mut self) -> io::Result<PathBuf> {
        match &self.current {
            Some(open) => Ok(open.path.clone()),
            None => self.open_next().map(|open| open.path.clone()),
        }
    }

    /// Appends whole lines. Returns why and how many were lost. After a failure, lines are lost until the next
    /// attempt is due.
    pub(crate) fn write(&mut self, lines: &[u8]) -> Option<(&'static str, u64)> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Some(self.lose(lines));
        }
        if let Some(open) = &mut self.current {
            open.checked = false;
        }
        match self.try_write(lines) {
            Ok(()) => None,
            Err((rest, error)) => {
                let reason = reason(&error);
                let first = self.lost.is_none();
                self.lost.get_or_insert((0, reason));
                if first {
                    let path = self.settings.folder.display();
                    let room = if reason == "no_space" { "free some space there or " } else { "" };
                    let what =
                        if self.is_of_collector { "telemetry is still taken" } else { "the session goes on" };
                    (self.warn)(&format!(
                        "no log in `{path}`: {error}; {what}, records are dropped and counted; \
                         {room}name another folder with --log-dir"
                    ));
                }
                self.retry_at = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(MAX_PAUSE);
                // The next attempt opens a new part, for example if this one is at a size limit of the system. An
                // empty part is kept, since the next one would fail in the same way.
                if reason != "no_space" && reason != "io_error" {
                    self.current.take_if(|open| open.size > 0);
                }
                Some(self.lose(&lines[lines.len() - rest..]))
            }
        }
    }

    /// Counts `lines` as lost. A report of earlier losses is not a record: the next report contains its number.
    fn lose(&mut self, lines: &[u8]) -> (&'static str, u64) {
        let count = memchr::memchr_iter(b'\n', lines).count() as u64;
        let (mut reports, mut reported) = (0_u64, 0_u64);
        if memchr::memmem::find(lines, br#""event":"gap""#).is_some() {
            for told in lines.split(|byte| *byte == b'\n').filter_map(records_told_lost) {
                (reports, reported) = (reports + 1, reported + told);
            }
        }
        let lost = self.lost.get_or_insert((0, "unwritable"));
        lost.0 += count - reports + reported;
        (lost.1, count - reports)
    }

    /// Writes `lines` into as many parts as they need.
    ///
    /// # Errors
    /// Returns how many bytes at the end of `lines` were not written, with the line that was cut.
    fn try_write(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut rest = lines;
        while !rest.is_empty() {
            let max = self.settings.max_size;
            let fail = |error| (rest.len(), error);
            let open = self.ready().map_err(fail)?;
            let room = usize::try_from(max.saturating_sub(open.size)).unwrap_or(usize::MAX);
            let whole = match rest.len() <= room {
                true => rest.len(),
                false => memchr::memrchr(b'\n', &rest[..room]).map_or(0, |at| at + 1),
            };
            if whole == 0 && open.size > 0 {
                self.current = None;
                continue;
            }
            // A record longer than a part has a part to itself.
            let whole =
                if whole > 0 { whole } else { memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1) };
            let mut piece = Vec::new();
            if open.torn {
                piece.push(b'\n');
            }
            if let Some((count, reason)) = self.lost
                && !self.is_of_collector
            {
                piece.extend(crate::export::log::gap_line(&self.identity, count, reason, seq_of_first(rest)));
            }
            let open = self.ready().map_err(fail)?;
            append(open, &piece).map_err(|(_, error)| (rest.len(), error))?;
            // The gap that was written has counted these. The log can be written again when a record is in it.
            if let Some((count, _)) = &mut self.lost {
                *count = 0;
            }
            let open = self.ready().map_err(fail)?;
            if let Err((written, error)) = append(open, &rest[..whole]) {
                // A line that was written in part is lost as a whole.
                let kept = memchr::memrchr(b'\n', &rest[..written]).map_or(0, |at| at + 1);
                return Err((rest.len() - kept, error));
            }
            if self.lost.take().is_some() {
                (self.warn)("the log can be written again");
            }
            self.pause = FIRST_PAUSE;
            self.retry_at = None;
            rest = &rest[whole..];
        }
        Ok(())
    }

    /// Returns the open part. Opens a new part if no part is open, or if its path is another file by now.
    fn ready(&mut self) -> io::Result<&mut OpenPart> {
        let moved = match &mut self.current {
            Some(open) if !open.checked => {
                open.checked = true;
                !open.part.is_at(&open.path)
            }
            Some(_) => false,
            None => true,
        };
        if moved {
            self.current = None;
            return self.open_next();
        }
        self.current.as_mut().ok_or_else(|| io::Error::other("no part is open"))
    }

    /// Opens the next part that does not exist yet.
    fn open_next(&mut self) -> io::Result<&mut OpenPart> {
        make_own_folder(&self.settings.folder)?;
        loop {
            let path = self.settings.folder.join(self.next.to_string());
            self.next.part = self.next.part.saturating_add(1);
            match (self.open)(&path) {
                Ok(part) => {
                    let open = OpenPart { part, path, size: 0, checked: true, torn: false };
                    self.make_room();
                    return Ok(self.current.insert(open));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.next.part < u32::MAX => {}
                Err(error) => {
                    self.next.part -= 1;
                    return Err(error);
                }
            }
        }
    }

    /// Deletes old logs if `max_total_size` is set, at the first part only. A failure is ignored, because the new
    /// part is already open.
    fn make_room(&mut self) {
        if let Some(max_total) = self.settings.max_total_size.take() {
            let _ = limit_total_size(&self.settings.folder, max_total, SystemTime::now());
        }
    }

    /// Returns when the next attempt after a failure is due.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(super) fn try_again_now(&mut self) {
        self.retry_at = None;
    }

    pub(super) fn close(&mut self) {
        self.current = None;
    }
}

/// Returns how many records were lost on the way to the log, if `line` reports that.
fn records_told_lost(line: &[u8]) -> Option<u64> {
    let record: Record<'_> = serde_json::from_slice(line).ok()?;
    let is_report =
        record.event == EventName::Gap && record.place.as_deref() == Some(LossPlace::Log.as_str());
    is_report.then_some(record.records_lost.unwrap_or(0))
}

fn seq_of_first(lines: &[u8]) -> u64 {
    let line = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Record<'_>>(line).map_or(0, |record| record.seq)
}

/// Appends all of `bytes`.
///
/// # Errors
/// Returns how many bytes were written before the failure.
fn append(open: &mut OpenPart, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match open.part.append(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                written += count;
                open.size += count as u64;
                open.torn = bytes.get(written - 1) != Some(&b'\n');
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Returns the reason of a loss for an error of a write.
pub(in crate::export) fn reason(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "no_space",
        io::ErrorKind::FileTooLarge => "file_too_large",
        io::ErrorKind::PermissionDenied => "permission_denied",
        io::ErrorKind::ReadOnlyFilesystem => "read_only",
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "no_folder",
        _ if access::is_device_error(error) => "io_error",
        _ => "unwritable",
    }
}

/// Makes a folder that only its owner can read. A folder that exists is used as it is, unless it belongs to
/// another user and is writable by its group or by all.
fn make_own_folder(folder: &Path) -> io::Result<()> {
    make_private_folder(folder)?;
    let there = FileAccess::at(folder)?;
    let is_foreign = !matches!(there.owner, FileOwner::Ours | FileOwner::Unknown);
    if is_foreign && there.is_open_for_writing {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the folder belongs to another user, and other users may write to it",
        ));
    }
    Ok(())
}

/// Creates a file that only its owner can read, without following a link, and locks it while it is open.
fn open_private(path: &Path) -> io::Result<Box<dyn LogPart>> {
    let file = append_to_new(path)?;
    // `spantap prune` does not delete a locked file. Without a working lock it decides by age.
    let _ = file.try_lock_shared();
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SCHEMA;
    use std::sync::{Arc, Mutex};

    fn identity() -> Identity {
        Identity {
            connection_id: "01a2027b-0000-7000-8000-0123456789ab".to_owned(),
            session_id: "s".to_owned(),
            server_name: "git hub/ü".to_owned(),
            user_id: None,
        }
    }

    /// A disk whose writes follow a script: take some bytes, or fail. After the script all writes succeed.
    #[derive(Clone, Default)]
    struct ScriptedDisk {
        script: Arc<Mutex<Vec<io::Result<usize>>>>,
        content: Arc<Mutex<Vec<u8>>>,
    }

    impl LogPart for ScriptedDisk {
        fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut script = self.script.lock().unwrap();
            let step = if script.is_empty() { Ok(bytes.len()) } else { script.remove(0) };
            let count = step?.min(bytes.len());
            self.content.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn is_at(&self, _: &Path) -> bool {
            true
        }
    }

    /// The error of a disk that fails: EIO, or ERROR_CRC.
    fn device_error() -> io::Error {
        io::Error::from_raw_os_error(if cfg!(unix) { 5 } else { 23 })
    }

    fn on(disk: &ScriptedDisk, max_size: u64) -> SessionFile {
        on_warning(disk, max_size, Box::new(|_| {}))
    }

    fn on_warning(disk: &ScriptedDisk, max_size: u64, warn: Box<dyn Fn(&str) + Send>) -> SessionFile {
        let settings = LogSettings { folder: std::env::temp_dir(), max_size, max_total_size: None };
        let disk = disk.clone();
        let open: PartOpener = Box::new(move |_| Ok(Box::new(disk.clone())));
        SessionFile::with_opener(settings, identity(), warn, open)
    }

    fn path_of_part(file: &SessionFile, part: u32) -> PathBuf {
        file.settings.folder.join(SessionFileName { part, ..file.next.clone() }.to_string())
    }

    fn line(seq: u64) -> Vec<u8> {
        let record = Record { schema: SCHEMA.into(), seq, ..Record::default() };
        let mut line = serde_json::to_vec(&record).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn a_full_disk_is_counted_and_reported_before_the_first_record_after_it() {
        for (error, word) in [
            (io::ErrorKind::StorageFull.into(), "no_space"),
            (device_error(), "io_error"),
            (io::ErrorKind::QuotaExceeded.into(), "no_space"),
        ] {
            let disk = ScriptedDisk::default();
            let mut file = on(&disk, u64::MAX);
            assert_eq!(file.write(&line(0)), None);
            // The second record is cut in the middle, the third is not tried.
            disk.script.lock().unwrap().extend([Ok(10), Err(error)]);
            assert_eq!(file.write(&[line(1), line(2)].concat()), Some((word, 2)));
            assert_eq!(file.write(&line(3)), Some((word, 1)));
            file.retry_at = None;
            assert_eq!(file.write(&line(4)), None);
            let content = disk.content.lock().unwrap().clone();
            let records: Vec<Option<Record<'_>>> = content
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice(line).ok())
                .collect();
            let seqs: Vec<Option<u64>> =
                records.iter().map(|record| record.as_ref().map(|record| record.seq)).collect();
            assert_eq!(seqs, [Some(0), None, Some(3), Some(4)], "{}", String::from_utf8_lossy(&content));
            assert_eq!(records[2].as_ref().unwrap().records_lost, Some(3));
        }
    }

    #[test]
    fn short_writes_lose_nothing() {
        let disk = ScriptedDisk::default();
        let mut file = on(&disk, u64::MAX);
        disk.script.lock().unwrap().extend([Ok(1), Ok(7), Err(io::ErrorKind::Interrupted.into()), Ok(3)]);
        assert_eq!(file.write(&[line(0), line(1)].concat()), None);
        assert_eq!(*disk.content.lock().unwrap(), [line(0), line(1)].concat());
    }

    #[test]
    fn parts_end_at_whole_records() {
        let folder = tempfile::tempdir().unwrap();
        let size = line(0).len() as u64;
        let settings =
            LogSettings { folder: folder.path().to_owned(), max_size: size * 2 + 5, max_total_size: None };
        let mut file = SessionFile::new(settings, identity(), Box::new(|_| {}));
        let lines: Vec<u8> = (0..5).flat_map(line).collect();
        assert_eq!(file.write(&lines), None);
        let part = |number| std::fs::read(path_of_part(&file, number)).unwrap();
        assert_eq!([part(0), part(1), part(2)].concat(), lines);
        assert_eq!(part(0).len() as u64, size * 2);
        assert!(cfg!(windows) || !access::FileAccess::at(&path_of_part(&file, 0)).unwrap().is_open);
    }

    #[test]
    fn a_log_that_was_moved_or_deleted_goes_on_in_a_new_part() {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            LogSettings { folder: folder.path().join("logs"), max_size: u64::MAX, max_total_size: None };
        let mut file = SessionFile::new(settings, identity(), Box::new(|_| {}));
        file.write(&line(0));
        std::fs::remove_dir_all(folder.path().join("logs")).unwrap();
        assert_eq!(file.write(&line(1)), None);
        assert_eq!(std::fs::read(path_of_part(&file, 1)).unwrap(), line(1));
    }

    // Links need a right that users of Windows do not have.
    #[cfg(unix)]
    #[test]
    fn what_was_planted_under_our_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            LogSettings { folder: folder.path().to_owned(), max_size: u64::MAX, max_total_size: None };
        let mut file = SessionFile::new(settings, identity(), Box::new(|_| {}));
        let [link, dangling, directory, other, ours] = [0, 1, 2, 3, 4].map(|part| path_of_part(&file, part));
        std::fs::write(folder.path().join("precious"), "mine").unwrap();
        std::os::unix::fs::symlink("precious", &link).unwrap();
        std::os::unix::fs::symlink("made-for-another", &dangling).unwrap();
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&other, "another's").unwrap();
        assert_eq!(file.write(&line(0)), None);
        assert_eq!(std::fs::read(ours).unwrap(), line(0));
        assert_eq!(std::fs::read(folder.path().join("precious")).unwrap(), b"mine");
        assert!(!folder.path().join("made-for-another").exists());
        assert_eq!(std::fs::read(other).unwrap(), b"another's");
    }

    #[test]
    fn a_pause_doubles_up_to_its_limit_and_ends_with_success() {
        let disk = ScriptedDisk::default();
        let mut file = on(&disk, u64::MAX);
        let mut pauses = Vec::new();
        for seq in 0..7 {
            disk.script.lock().unwrap().push(Err(device_error()));
            file.retry_at = None;
            let before = Instant::now();
            assert_eq!(file.write(&line(seq)), Some(("io_error", 1)));
            pauses.push((file.retry_at.unwrap() - before).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(file.write(&line(7)), Some(("io_error", 1)), "within the pause nothing is tried");
        file.retry_at = None;
        assert_eq!(file.write(&line(8)), None);
        assert_eq!((file.retry_at, file.pause), (None, FIRST_PAUSE));
    }

    #[test]
    fn a_log_that_takes_no_record_is_not_said_to_be_writable_again() {
        for is_of_collector in [false, true] {
            let disk = ScriptedDisk::default();
            let said = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&said);
            let warn = Box::new(move |text: &str| noted.lock().unwrap().push(text.to_owned()));
            let mut file = SessionFile { is_of_collector, ..on_warning(&disk, u64::MAX, warn) };
            let mut pauses = Vec::new();
            for seq in 0..4 {
                // The line about the loss has room, and the record has not.
                if !is_of_collector && seq > 0 {
                    disk.script.lock().unwrap().push(Ok(usize::MAX));
                }
                disk.script.lock().unwrap().push(Err(io::ErrorKind::StorageFull.into()));
                file.retry_at = None;
                let before = Instant::now();
                assert_eq!(file.write(&line(seq)), Some(("no_space", 1)));
                pauses.push((file.retry_at.unwrap() - before).as_secs());
            }
            assert_eq!(pauses, [1, 2, 4, 8]);
            assert_eq!(said.lock().unwrap().len(), 1);
            file.retry_at = None;
            assert_eq!(file.write(&line(4)), None);
            assert_eq!(said.lock().unwrap()[1], "the log can be written again");
            let content = disk.content.lock().unwrap().clone();
            let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let records = lines.map(|line| serde_json::from_slice::<Record<'_>>(line).unwrap());
            let lost: u64 = records.filter_map(|record| record.records_lost).sum();
            assert_eq!(lost, if is_of_collector { 0 } else { 4 });
        }
    }
}
