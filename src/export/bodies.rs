//! The file of redacted bodies of one connection, for `spantap debug on --bodies`, beside its log.
//!
//! A thread of its own writes, so that a disk that hangs stops only that thread. A new part begins after an hour: a
//! file is deleted a day after its last write, and then nothing in it is much older. Before a file is made, its place
//! is written to a register in the state folder. Each start of spantap deletes the old files that the register names,
//! so none is left behind by a proxy that was killed.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crate::export::Output;
use crate::export::log::write_error;
use crate::observe::event::{Event, EventKind};
use crate::record::body::BodyRecord;
use crate::record::file_name::SessionFileName;
use crate::record::timestamp::Timestamp;
use crate::record::words::LossPlace;
use crate::record::{ClockAnchor, Dropped, Identity, Record};
use crate::relay::chunk::Moment;
use crate::system::access::{self, FileAccess, FileOwner};
use crate::system::files;
use crate::system::mutex::lock;
use crate::system::thread::{self, Duty};

/// Bytes of all bodies of one connection.
const MOST: u64 = 64 << 20;
/// Lines that may wait for the disk.
const MOST_WAITING: usize = 32;
/// Time after which a new part begins.
const PART: Duration = Duration::from_secs(3600);
/// Age at which a file is deleted.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// Largest size of an entry of the register: a path.
const LONGEST_PATH: u64 = 8 << 10;

/// The sink that keeps bodies.
pub(crate) struct BodiesFile {
    connection_id: String,
    anchor: ClockAnchor,
    /// Exists until the first body.
    writer: Option<Writer>,
    way: Option<SyncSender<(Vec<u8>, Moment)>>,
    is_done: Option<Receiver<()>>,
    /// Bytes of the bodies so far.
    size: u64,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    /// Lines that were neither written nor dropped yet.
    waiting: Mutex<u64>,
}

impl Counts {
    fn drop_some(&self, reason: &'static str, count: u64) {
        *lock(&self.dropped).entry(reason).or_default() += count;
    }
}

impl BodiesFile {
    /// Returns a sink whose file in `folder` is made by the first body. `register` is the folder that names the files.
    pub(crate) fn new(
        folder: PathBuf,
        register: PathBuf,
        identity: &Identity,
        anchor: ClockAnchor,
        warn: impl Fn(&str) + Send + 'static,
    ) -> BodiesFile {
        let next = SessionFileName::first(identity, Timestamp::now());
        let warn = Box::new(warn);
        BodiesFile {
            connection_id: identity.connection_id.clone(),
            anchor,
            writer: Some(Writer { folder, register, next, open: None, has_warned: false, warn }),
            way: None,
            is_done: None,
            size: 0,
            counts: Arc::default(),
        }
    }

    fn send(&mut self, line: Vec<u8>, at: Moment) {
        if self.size + line.len() as u64 > MOST {
            // Smaller bodies do not follow: what is kept has no holes.
            self.size = MOST;
            return self.counts.drop_some("session_full", 1);
        }
        let size = line.len() as u64;
        if let Some(writer) = self.writer.take() {
            self.start(writer);
        }
        *lock(&self.counts.waiting) += 1;
        let reason = match self.way.as_ref().map(|way| way.try_send((line, at))) {
            Some(Ok(())) => {
                self.size += size;
                return;
            }
            Some(Err(TrySendError::Full(_))) => "queue_full",
            Some(Err(TrySendError::Disconnected(_))) | None => "no_thread",
        };
        *lock(&self.counts.waiting) -= 1;
        self.counts.drop_some(reason, 1);
    }

    fn start(&mut self, mut writer: Writer) {
        let (way, lines) = sync_channel::<(Vec<u8>, Moment)>(MOST_WAITING);
        let (done, is_done) = channel();
        let counts = Arc::clone(&self.counts);
        let write = move || {
            thread::lower_priority();
            for (line, at) in lines {
                let written = writer.write(&line, at);
                let mut waiting = lock(&counts.waiting);
                // The end has counted it already.
                if *waiting == 0 {
                    break;
                }
                *waiting -= 1;
                drop(waiting);
                if let Err(reason) = written {
                    counts.drop_some(reason, 1);
                }
            }
            let _ = done.send(());
        };
        if thread::spawn(Duty::Bodies, "bodies", write).is_ok() {
            (self.way, self.is_done) = (Some(way), Some(is_done));
        }
    }
}

impl Output for BodiesFile {
    fn take(&mut self, event: &Event, _: Option<&Record<'_>>) {
        let EventKind::Body(body) = &event.kind else { return };
        let record = BodyRecord::new(body, &self.connection_id, self.anchor.wall(event.at));
        match serde_json::to_vec(&record) {
            Ok(mut line) => {
                line.push(b'\n');
                self.send(line, event.at);
            }
            Err(_) => self.counts.drop_some("not_serialised", 1),
        }
    }

    fn dropped(&self) -> Vec<Dropped> {
        let dropped = lock(&self.counts.dropped);
        let loss = |(reason, count): (&&'static str, &u64)| Dropped {
            place: LossPlace::Bodies,
            reason,
            count: *count,
        };
        dropped.iter().map(loss).collect()
    }

    fn begin_close(&mut self) {
        self.way = None;
    }

    fn finish_close(&mut self, deadline: Instant) {
        let Some(is_done) = self.is_done.take() else { return };
        let left = deadline.saturating_duration_since(Instant::now());
        if is_done.recv_timeout(left).is_err() {
            let waiting = std::mem::take(&mut *lock(&self.counts.waiting));
            self.counts.drop_some("timeout", waiting);
        }
    }
}

/// Writes lines into the parts of the file.
struct Writer {
    folder: PathBuf,
    register: PathBuf,
    /// The name of the next part.
    next: SessionFileName,
    open: Option<Part>,
    has_warned: bool,
    warn: Box<dyn Fn(&str) + Send>,
}

struct Part {
    file: File,
    begun: Moment,
    size: u64,
}

impl Writer {
    /// Appends a whole line, or nothing and returns the reason.
    fn write(&mut self, line: &[u8], now: Moment) -> Result<(), &'static str> {
        self.try_write(line, now).map_err(|error| {
            if !std::mem::replace(&mut self.has_warned, true) {
                let folder = self.folder.display();
                (self.warn)(&format!(
                    "bodies cannot be kept in `{folder}`: {error}; the session goes on, bodies are dropped and counted"
                ));
            }
            write_error(&error)
        })
    }

    fn try_write(&mut self, line: &[u8], now: Moment) -> io::Result<()> {
        self.open.take_if(|part| now.since(part.begun) >= PART);
        let part = match &mut self.open {
            Some(part) => part,
            None => {
                let file = self.open_next()?;
                self.open.insert(Part { file, begun: now, size: 0 })
            }
        };
        if let Err(error) = part.file.write_all(line) {
            // A line that was written in part is removed.
            let size = part.size;
            if part.file.set_len(size).is_err() {
                self.open = None;
            }
            return Err(error);
        }
        part.size += line.len() as u64;
        Ok(())
    }

    /// Makes the next part that does not exist yet, after its entry in the register.
    fn open_next(&mut self) -> io::Result<File> {
        files::make_private_folder(&self.folder)?;
        let folder = std::path::absolute(&self.folder)?;
        loop {
            let name = self.next.of_bodies();
            self.next.part = self.next.part.saturating_add(1);
            let entry = self.register.join(&name);
            files::write_private(&entry, access::bytes_of(&folder))?;
            match files::append_to_new(&folder.join(&name)) {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.next.part < u32::MAX => {}
                Err(error) => {
                    self.next.part -= 1;
                    let _ = std::fs::remove_file(&entry);
                    return Err(error);
                }
            }
        }
    }
}

/// Deletes the files of bodies that `register` names and that are older than a day.
pub(crate) fn clean(register: &Path, now: SystemTime) {
    for name in names_of_bodies(register) {
        let entry = register.join(&name);
        let Ok(folder) = files::read_own(&entry, LONGEST_PATH) else { continue };
        let path = access::path_of(&folder).join(&name);
        // A proxy that begins a part has written the entry, and makes the file only then.
        let is_unused = || std::fs::symlink_metadata(&entry).is_ok_and(|metadata| is_old(&metadata, now));
        let is_gone = || match delete_old(&path, now) {
            Err(error) => error.kind() == io::ErrorKind::NotFound && is_unused(),
            Ok(is_gone) => is_gone,
        };
        if path.is_absolute() && is_gone() {
            let _ = std::fs::remove_file(&entry);
        }
    }
}

/// Deletes the files of bodies in a folder of logs that are older than a day.
pub(crate) fn clean_folder(folder: &Path, now: SystemTime) {
    for name in names_of_bodies(folder) {
        let _ = delete_old(&folder.join(name), now);
    }
}

fn names_of_bodies(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| SessionFileName::parse_bodies(name).is_some()).collect()
}

/// Deletes a file of ours that is older than a day. Returns true if what is there is not a file of ours any more.
fn delete_old(path: &Path, now: SystemTime) -> io::Result<bool> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_file() || FileAccess::of_entry(path)?.owner != FileOwner::Ours {
        return Ok(true);
    }
    Ok(is_old(&metadata, now) && std::fs::remove_file(path).is_ok())
}

/// Returns true if the last write was more than a day ago. A time in the far future is that of a clock which was wrong.
fn is_old(metadata: &Metadata, now: SystemTime) -> bool {
    let age = |written| now.duration_since(written).unwrap_or_else(|ahead| ahead.duration());
    metadata.modified().is_ok_and(|written| age(written) > OLD)
}

#[cfg(test)]
mod tests;
