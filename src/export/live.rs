//! The live file of this connection: the output that shows other commands what is going on now.
//!
//! The observer thread makes a state at most every 100 ms, and only after a change. A thread of its own writes the
//! latest state, so that a disk that hangs stops only that thread. No process maps the file. A disk that is full,
//! or a file that was cut or deleted, costs this output its file and nothing else.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::export::Output;
use crate::observe::Observer;
use crate::observe::event::{Event, EventKind};
use crate::record::live::{self, LiveEnd, LiveError, LiveProcess, LiveRepeats, LiveRequest, LiveState};
use crate::record::words::{EndReason, Status};
use crate::record::{ClockAnchor, Dropped, EventName, Identity, Record};
use crate::relay::chunk::Moment;
use crate::system::mutex::lock;
use crate::system::thread::{self, Duty};
use crate::system::{access, files, processes};

/// Shortest time between two writes.
const INTERVAL: Duration = Duration::from_millis(100);
/// Most files that one start removes.
const MOST_REMOVED: usize = 100;
/// Most files of proxies that were killed that one start keeps, the newest.
const MOST_KILLED: usize = 50;
/// Age from which a file is removed if its proxy does not run, or if nothing is known of its proxy.
const OLD: Duration = Duration::from_secs(7 * 86_400);
/// A write that takes longer than this part of the time left hangs: the end does not wait for it.
const HANG_PART: u32 = 7;
/// Reason of the end of a connection whose proxy was killed.
const KILLED: &str = "spantap_killed";
/// Longest time for which the end waits for the removal of a file to which a write hangs.
const REMOVAL: Duration = Duration::from_millis(20);
/// Stack of the writer thread, in bytes.
const WRITER_STACK: usize = 256 << 10;

/// The sink that keeps the live file.
pub(crate) struct LiveFile {
    path: PathBuf,
    /// Exists once the writer thread was started, which the first refresh does.
    mailbox: Option<Arc<Mailbox>>,
    state: LiveState,
    anchor: ClockAnchor,
    /// Number of requests that had arrived when the file was last written.
    arrived: u64,
    has_changed: bool,
    next_write: Moment,
}

/// The way from the observer thread to the writer thread.
#[derive(Default)]
struct Mailbox {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Default)]
struct Slot {
    /// The latest state that is not written yet.
    next: Option<Vec<u8>>,
    /// The state to leave if the server died or did not start.
    last: Option<Vec<u8>>,
    writing_since: Option<Instant>,
    is_closing: bool,
    is_closed: bool,
}

impl Mailbox {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        lock(&self.slot)
    }

    fn update(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.slot());
        self.changed.notify_all();
    }

    /// Writes the latest state again and again, until the end. Counts the writes that fail.
    fn write_all(&self, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> u64 {
        let mut failed = 0;
        loop {
            let is_idle = |slot: &mut Slot| slot.next.is_none() && !slot.is_closing;
            let waited = self.changed.wait_while(self.slot(), is_idle);
            let mut slot = waited.unwrap_or_else(PoisonError::into_inner);
            let Some(state) = slot.next.take().filter(|_| !slot.is_closing) else { return failed };
            slot.writing_since = Some(Instant::now());
            drop(slot);
            failed += u64::from(write(&state).is_err());
            self.slot().writing_since = None;
        }
    }

    /// Waits until the writer thread is done, but not for a write that hangs. Returns false if it hangs.
    fn wait_until_closed(&self, deadline: Instant) -> bool {
        let hangs_after = deadline.saturating_duration_since(Instant::now()) / HANG_PART;
        let mut slot = self.slot();
        while !slot.is_closed {
            let hangs_at = slot.writing_since.map(|since| since + hangs_after);
            let until = hangs_at.map_or(deadline, |hangs_at| hangs_at.min(deadline));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(slot, left);
            slot = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Removes the live file while a write to it hangs, so that this connection does not look as if its proxy was killed.
/// The call of a thread that ends with spantap still takes effect when the disk goes on. Waits for it until `deadline`
/// at the latest.
fn remove_beside_write(path: &Path, deadline: Instant) {
    let (path, (removed, is_removed)) = (path.to_owned(), std::sync::mpsc::channel());
    let remove = move || {
        let _ = std::fs::remove_file(path);
        let _ = removed.send(());
    };
    if thread::spawn_with_stack(Duty::LiveFile, "live-end", WRITER_STACK, remove).is_ok() {
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = is_removed.recv_timeout(left.min(REMOVAL));
    }
}

/// Runs the writer thread: writes the states of `mailbox` to the file `path`, and removes it at the end. If the server
/// died or did not start, the thread then writes the file `ended`. The next start of a server of that name removes it.
fn write_file(mailbox: &Mailbox, path: &Path, ended: &Path) {
    thread::lower_priority();
    let mut file: Option<File> = None;
    let failed = mailbox.write_all(|state| {
        let file = match &file {
            Some(file) => file,
            None => {
                clean(path.parent().unwrap_or(Path::new("/")));
                let _ = std::fs::remove_file(ended);
                file.insert(files::create_private(path)?)
            }
        };
        access::write_all_at(file, state, 0)
    });
    if failed > 0 {
        tracing::info!("the live file could not be written {failed} times");
    }
    let last = mailbox.slot().last.take();
    mailbox.update(|slot| slot.writing_since = Some(Instant::now()));
    match last {
        Some(last) => {
            let _ = files::create_private(ended).and_then(|ended| access::write_all_at(&ended, &last, 0));
        }
        // The connection was too short for a state.
        None if file.is_none() => drop(std::fs::remove_file(ended)),
        None => {}
    }
    if file.is_some() {
        let _ = std::fs::remove_file(path);
    }
    mailbox.update(|slot| slot.is_closed = true);
}

impl LiveFile {
    /// Returns a sink whose file in `folder` is made by the first refresh.
    /// `log_folder` is that of the log of the connection.
    pub(crate) fn new(
        folder: &Path,
        log_folder: Option<&Path>,
        identity: &Identity,
        anchor: ClockAnchor,
    ) -> LiveFile {
        let log_folder = log_folder.and_then(|folder| std::path::absolute(folder).ok()).unwrap_or_default();
        let state = LiveState {
            connection_id: identity.connection_id.clone(),
            session_id: identity.session_id.clone(),
            server_name: identity.server_name.clone(),
            log_folder: log_folder.to_string_lossy().into_owned(),
            started_at: anchor.wall,
            ..LiveState::default()
        };
        LiveFile {
            path: folder.join(&identity.connection_id).with_extension(live::EXTENSION),
            mailbox: None,
            state,
            anchor,
            arrived: 0,
            has_changed: false,
            next_write: Moment(0),
        }
    }

    fn started(&mut self, record: &Record<'_>) {
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        self.state.cwd = text(&record.cwd);
        self.state.origin = text(&record.origin);
        self.state.proxy = process(std::process::id());
        self.state.server = record.child_pid.map(process);
    }

    fn operation(&mut self, record: &Record<'_>) {
        let is_call = record.event == EventName::McpToolCall;
        let is_error = record.status.is_some_and(Status::is_error);
        self.state.calls += u64::from(is_call);
        if is_call && is_error {
            self.state.errors += 1;
            self.state.failed_at = Some(record.timestamp);
        }
        if let (Some(repeats), Some(count)) = (&mut self.state.repeats, record.repeat_count)
            && record.thrashing == Some(true)
            && record.tool_name.as_deref() == Some(&repeats.tool_name)
        {
            (repeats.count, repeats.at) = (repeats.count.max(count.into()), record.timestamp);
        }
        if is_error {
            let names = [&record.tool_name, &record.prompt_name, &record.resource_uri, &record.method];
            let texts = [&record.error_message, &record.error_type];
            let first = |texts: &[&Option<std::borrow::Cow<'_, str>>]| {
                texts.iter().find_map(|text| text.as_deref()).unwrap_or_default().to_owned()
            };
            self.state.last_error = Some(LiveError {
                seq: record.seq,
                name: first(&names),
                message: first(&texts),
                at: record.timestamp,
            });
        }
    }

    fn repeated(&mut self, record: &Record<'_>) {
        self.state.repeats = Some(LiveRepeats {
            tool_name: record.tool_name.as_deref().unwrap_or_default().to_owned(),
            count: record.count.unwrap_or(0),
            at: record.timestamp,
        });
    }

    fn ended(&mut self, record: &Record<'_>) {
        let reason = record.reason.as_deref().unwrap_or_default();
        if EndReason::from_word(reason) != Some(EndReason::ServerExited) {
            self.state.ended = Some(LiveEnd { reason: reason.to_owned(), at: record.timestamp });
        }
    }

    /// Returns the way to the writer thread. If the system refuses the thread, no file is made.
    fn mailbox(&mut self) -> &Mailbox {
        self.mailbox.get_or_insert_with(|| {
            let mailbox = Arc::new(Mailbox::default());
            let (of_writer, path) = (Arc::clone(&mailbox), self.path.clone());
            let ended = self.path.with_file_name(LiveState::ended_name(&self.state.server_name));
            let write = move || write_file(&of_writer, &path, &ended);
            if thread::spawn_with_stack(Duty::LiveFile, "live", WRITER_STACK, write).is_err() {
                mailbox.update(|slot| slot.is_closed = true);
            }
            mailbox
        })
    }

    /// Gives the writer thread the present state.
    fn post(&mut self, observer: &Observer, now: Moment) {
        let requests = observer.open_requests();
        let open = requests.take(live::MOST_OPEN).map(|(facts, started)| LiveRequest {
            request_id: facts.request_id.as_str().to_owned(),
            method: facts.method_name.as_str().to_owned(),
            target: facts
                .target
                .as_ref()
                .map_or_else(String::new, |target| target.text().as_str().to_owned()),
            is_from_server: facts.direction == crate::observe::event::Direction::ServerToClient,
            started_at: self.anchor.wall(started),
        });
        self.state.open = open.collect();
        self.state.more_open = (observer.open_requests().count() - self.state.open.len()) as u64;
        self.state.updated_at = self.anchor.wall(now);
        let state = self.state.encode();
        self.mailbox().update(|slot| slot.next = Some(state));
    }
}

impl Output for LiveFile {
    fn take(&mut self, event: &Event, record: Option<&Record<'_>>) {
        let Some(record) = record else { return };
        match &event.kind {
            EventKind::SessionStarted(_) => self.started(record),
            EventKind::PeerIdentified(_) => {
                self.state.host_name = record.host_name.as_deref().unwrap_or_default().to_owned();
            }
            EventKind::Operation(_) => self.operation(record),
            EventKind::AgentThrashing(alarm) if alarm.is_alarm => self.repeated(record),
            EventKind::SessionEnded(_) => self.ended(record),
            // The state has the time at which a proxy was last seen, and no record of it is later.
            EventKind::CallPending(_) | EventKind::ServerUnresponsive(_) => {}
            _ => return,
        }
        self.has_changed = true;
    }

    fn refresh(&mut self, observer: &Observer, now: Moment) -> Option<Moment> {
        let arrived = observer.arrived();
        if !self.has_changed && arrived == self.arrived {
            return None;
        }
        if now < self.next_write {
            return Some(self.next_write);
        }
        self.post(observer, now);
        (self.arrived, self.has_changed, self.next_write) = (arrived, false, now.after(INTERVAL));
        None
    }

    /// A state that was not written is not a lost record: the next write repeats it.
    fn dropped(&self) -> Vec<Dropped> {
        Vec::new()
    }

    fn begin_close(&mut self) {
        let last = self.state.ended.is_some().then(|| self.state.encode());
        self.mailbox().update(|slot| (slot.last, slot.is_closing) = (last, true));
    }

    fn finish_close(&mut self, deadline: Instant) {
        if self.mailbox.as_ref().is_some_and(|mailbox| !mailbox.wait_until_closed(deadline)) {
            remove_beside_write(&self.path, deadline);
        }
    }
}

/// Returns what identifies process `pid` of this boot and namespace.
fn process(pid: u32) -> LiveProcess {
    LiveProcess {
        boot_id: processes::boot_id(),
        namespace: processes::pid_namespace(),
        pid,
        start_ticks: processes::ProcessStat::read(pid as i32).map_or(0, |stat| stat.start_ticks),
    }
}

/// Gives the files of proxies that were killed another extension, so that the folder keeps the request that was open.
/// `status --line` does not read them: for each of their servers this leaves a file that `status --line` reads. Removes
/// files that are old, and the oldest of too many.
fn clean(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let with =
        |extension| paths.iter().filter(move |path| path.extension().is_some_and(|own| own == extension));
    let left = [live::ENDED_EXTENSION, live::NOTIFIED_EXTENSION].into_iter().flat_map(with);
    let mut old: Vec<&PathBuf> = left.filter(|path| is_old(path)).collect();
    let mut killed: Vec<PathBuf> = with(live::KILLED_EXTENSION).cloned().collect();
    for path in with(live::EXTENSION) {
        match is_running(path) {
            Some(true) => {}
            Some(false) => {
                note_killed(path);
                let kept = path.with_extension(live::KILLED_EXTENSION);
                killed.extend(std::fs::rename(path, &kept).is_ok().then_some(kept));
            }
            None => old.extend(is_old(path).then_some(path)),
        }
    }
    killed.sort_by_cached_key(|path| std::cmp::Reverse(written(path)));
    let excess = killed.iter().enumerate().filter(|(rank, path)| *rank >= MOST_KILLED || is_old(path));
    for path in old.into_iter().chain(excess.map(|(_, path)| path)).take(MOST_REMOVED) {
        let _ = std::fs::remove_file(path);
    }
}

/// Leaves a file for the server of a proxy that was killed, as for a server that died.
fn note_killed(path: &Path) {
    let state = files::read_limited(path, live::LIMIT as u64).map(|bytes| LiveState::decode(&bytes));
    let Ok(Ok(mut state)) = state else { return };
    let ended = path.with_file_name(LiveState::ended_name(&state.server_name));
    if written(&ended) < written(path) {
        state.ended = Some(LiveEnd { reason: KILLED.to_owned(), at: state.updated_at });
        let _ =
            files::create_private(&ended).and_then(|file| access::write_all_at(&file, &state.encode(), 0));
    }
}

/// Returns whether the proxy of a live file runs; `None` if that cannot be known.
fn is_running(path: &Path) -> Option<bool> {
    let bytes = files::read_limited(path, live::LIMIT as u64).ok()?;
    let LiveState { proxy, .. } = LiveState::decode(&bytes).ok()?;
    processes::is_running(&proxy.boot_id, &proxy.namespace, proxy.pid, proxy.start_ticks)
}

fn written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn is_old(path: &Path) -> bool {
    written(path).and_then(|time| time.elapsed().ok()).is_some_and(|age| age > OLD)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::record::timestamp::Timestamp;

    #[test]
    fn a_connection_that_ends_in_order_leaves_no_live_file_although_a_write_to_it_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity { connection_id: "c".to_owned(), ..Identity::default() };
        let mut live = LiveFile::new(
            folder.path(),
            None,
            &identity,
            ClockAnchor { moment: Moment(0), wall: Timestamp(0) },
        );
        std::fs::write(&live.path, "an earlier state").unwrap();
        let mailbox = live.mailbox.insert(Arc::default());
        mailbox.update(|slot| slot.writing_since = Some(Instant::now()));
        let (path, deadline) = (live.path.clone(), Instant::now() + Duration::from_secs(1));
        live.begin_close();
        live.finish_close(deadline);
        while path.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_server_that_started_again_is_not_shown_as_dead_however_short_its_connection_was() {
        let folder = tempfile::tempdir().unwrap();
        let (connection_id, server_name) = ("c".to_owned(), "q".to_owned());
        let identity = Identity { connection_id, server_name, ..Identity::default() };
        let anchor = ClockAnchor { moment: Moment(0), wall: Timestamp(0) };
        let ended = folder.path().join(LiveState::ended_name("q"));
        std::fs::write(&ended, "it died").unwrap();
        let mut live = LiveFile::new(folder.path(), None, &identity, anchor);
        live.begin_close();
        live.finish_close(Instant::now() + Duration::from_secs(60));
        assert!(!ended.exists());
    }

    #[test]
    fn a_disk_that_hangs_stops_the_writer_thread_only() {
        let mailbox = Arc::new(Mailbox::default());
        let (entered, has_entered) = channel();
        let (release, is_released) = channel::<()>();
        let of_writer = Arc::clone(&mailbox);
        let writer = std::thread::spawn(move || {
            let mut written = Vec::new();
            let failed = of_writer.write_all(|state| {
                written.push(state.to_vec());
                entered.send(()).unwrap();
                is_released.recv().unwrap();
                Err(io::ErrorKind::StorageFull.into())
            });
            (written, failed)
        });
        mailbox.update(|slot| slot.next = Some(b"1".to_vec()));
        has_entered.recv().unwrap();
        // The write hangs: states replace each other, and the end does not wait for its deadline.
        for state in [b"2", b"3"] {
            mailbox.update(|slot| slot.next = Some(state.to_vec()));
        }
        let deadline = Instant::now() + Duration::from_secs(7);
        assert!(!mailbox.wait_until_closed(deadline), "it hangs");
        assert!(Instant::now() < deadline);
        release.send(()).unwrap();
        has_entered.recv().unwrap();
        mailbox.update(|slot| slot.is_closing = true);
        release.send(()).unwrap();
        assert_eq!(writer.join().unwrap(), (vec![b"1".to_vec(), b"3".to_vec()], 2));
    }
}
