//! The live file of this connection: the sink that tells other commands what is going on now.
//!
//! It is written at most every 100 ms, and only after a change. No other process maps the file. A disk that is
//! full, or a file that was cut or deleted, costs this sink its file and nothing else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::export::Output;
use crate::observe::Observer;
use crate::observe::event::{Event, EventKind};
use crate::record::live::{self, LiveError, LiveProcess, LiveRequest, LiveState};
use crate::record::words::Status;
use crate::record::{ClockAnchor, Dropped, EventName, Identity, Record};
use crate::relay::chunk::Moment;
use crate::system::{files, procfs};

/// Shortest time between two writes.
const INTERVAL: Duration = Duration::from_millis(100);
/// Most files of processes that are gone that one start removes.
const MOST_REMOVED: usize = 100;

/// The sink that keeps the live file.
pub(crate) struct LiveFile {
    path: PathBuf,
    file: Option<File>,
    state: LiveState,
    anchor: ClockAnchor,
    /// Number of requests that had arrived when the file was last written.
    arrived: u64,
    has_changed: bool,
    next_write: Moment,
    failed_writes: u64,
}

impl LiveFile {
    /// Returns a sink whose file in `folder` is made by the first refresh.
    pub(crate) fn new(folder: &Path, identity: &Identity, anchor: ClockAnchor) -> LiveFile {
        let state = LiveState {
            connection_id: identity.connection_id.clone(),
            session_id: identity.session_id.clone(),
            server_name: identity.server_name.clone(),
            started_at: anchor.wall,
            ..LiveState::default()
        };
        LiveFile {
            path: folder.join(&identity.connection_id).with_extension(live::EXTENSION),
            file: None,
            state,
            anchor,
            arrived: 0,
            has_changed: false,
            next_write: Moment(0),
            failed_writes: 0,
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
        let is_failure = record.status.is_some_and(Status::is_failure);
        self.state.calls += u64::from(is_call);
        self.state.errors += u64::from(is_call && is_failure);
        if is_failure {
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

    fn write(&mut self, observer: &Observer, now: Moment) -> io::Result<()> {
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
        let bytes = self.state.encode();
        let file = match &self.file {
            Some(file) => file,
            None => {
                let folder = self.path.parent().unwrap_or(Path::new("/"));
                remove_gone(folder);
                self.file.insert(files::create_private(&self.path)?)
            }
        };
        file.write_all_at(&bytes, 0)
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
        if self.write(observer, now).is_err() {
            self.failed_writes += 1;
        }
        (self.arrived, self.has_changed, self.next_write) = (arrived, false, now.after(INTERVAL));
        None
    }

    /// A state that was not written is not a lost record: the next write repeats it.
    fn dropped(&self) -> Vec<Dropped> {
        Vec::new()
    }

    fn begin_close(&mut self) {
        if self.failed_writes > 0 {
            tracing::info!("the live file could not be written {} times", self.failed_writes);
        }
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn finish_close(&mut self, _: Instant) {}
}

/// Returns what identifies process `pid` of this boot and namespace.
fn process(pid: u32) -> LiveProcess {
    LiveProcess {
        boot_id: procfs::boot_id(),
        namespace: procfs::pid_namespace(),
        pid,
        start_ticks: procfs::ProcessStat::read(pid as i32).map_or(0, |stat| stat.start_ticks),
    }
}

/// Removes the files of proxies that are gone: a proxy that was killed leaves its file.
fn remove_gone(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let paths = entries.flatten().map(|entry| entry.path());
    let live = paths.filter(|path| path.extension().is_some_and(|extension| extension == live::EXTENSION));
    for path in live.take(MOST_REMOVED) {
        let bytes = files::read_limited(&path, live::LIMIT as u64).unwrap_or_default();
        let proxy = LiveState::decode(&bytes).map(|state| state.proxy);
        let is_gone = |proxy: LiveProcess| {
            procfs::is_running(&proxy.boot_id, &proxy.namespace, proxy.pid, proxy.start_ticks) == Some(false)
        };
        if proxy.is_ok_and(is_gone) {
            let _ = std::fs::remove_file(&path);
        }
    }
}
