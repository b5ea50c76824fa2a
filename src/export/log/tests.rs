use std::io;
use std::path::Path;

use super::file::LogPart;
use super::*;
use crate::observe::event::EventKind;
use crate::relay::chunk::Moment;

/// Behaviour of the disk at each write.
#[derive(Clone, Copy, PartialEq)]
enum DiskMode {
    Well,
    /// Every write takes this long.
    Slow(Duration),
    Hangs,
    Full,
    Panics,
}

struct DiskState {
    mode: DiskMode,
    content: Vec<u8>,
    /// True while a write hangs.
    is_hanging: bool,
}

/// A disk in memory whose behaviour can be changed.
#[derive(Clone)]
struct ModelDisk(Arc<(Mutex<DiskState>, Condvar)>);

impl ModelDisk {
    fn new(mode: DiskMode) -> ModelDisk {
        let state = DiskState { mode, content: Vec::new(), is_hanging: false };
        ModelDisk(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn log(&self) -> Log {
        let identity = identity();
        let settings = LogSettings { folder: std::env::temp_dir(), max_size: u64::MAX, max_total_size: None };
        let disk = self.clone();
        let open = Box::new(move |_: &Path| Ok(Box::new(disk.clone()) as Box<dyn LogPart>));
        Log::on(SessionFile::with_opener(settings, identity.clone(), Box::new(|_| {}), open), &identity)
    }

    fn set(&self, mode: DiskMode) {
        lock(&self.0.0).mode = mode;
        self.0.1.notify_all();
    }

    fn wait_until(&self, condition: impl Fn(&DiskState) -> bool) {
        let waited = self.0.1.wait_timeout_while(lock(&self.0.0), LONG, |state| !condition(state)).unwrap();
        assert!(!waited.1.timed_out());
    }

    fn records(&self) -> Vec<Record<'static>> {
        let content = lock(&self.0.0).content.clone().leak();
        let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

impl LogPart for ModelDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        match state.mode {
            DiskMode::Well => {}
            DiskMode::Slow(time) => {
                drop(state);
                std::thread::sleep(time);
                state = lock(&self.0.0);
            }
            DiskMode::Hangs => {
                state.is_hanging = true;
                changed.notify_all();
                state = changed.wait_while(state, |state| state.mode == DiskMode::Hangs).unwrap();
                state.is_hanging = false;
            }
            DiskMode::Full => return Err(io::ErrorKind::StorageFull.into()),
            DiskMode::Panics => {
                drop(state);
                panic!("injected");
            }
        }
        state.content.extend_from_slice(bytes);
        changed.notify_all();
        Ok(bytes.len())
    }

    fn is_at(&self, _: &Path) -> bool {
        true
    }
}

/// A deadline that only a failing test reaches.
const LONG: Duration = Duration::from_secs(30);

fn identity() -> Identity {
    Identity {
        connection_id: "01a2027b-0000-7000-8000-0123456789ab".to_owned(),
        session_id: "s".to_owned(),
        server_name: "fs".to_owned(),
        user_id: None,
    }
}

/// Gives `log` records with the numbers `seqs`, each about 1 KiB long.
fn take(log: &mut Log, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        let kind = EventKind::DebugEnded;
        let event = Event { seq, at: Moment(0), conversation_id: None, turn_id: None, kind };
        let message = "x".repeat(1000).into();
        let record = Record { schema: SCHEMA.into(), message, seq, ..Record::default() };
        log.take(&event, Some(&record));
    }
}

fn close(log: &mut Log, patience: Duration) {
    log.begin_close();
    log.finish_close(Instant::now() + patience);
}

fn dropped(log: &Log) -> u64 {
    log.dropped().iter().map(|dropped| dropped.count).sum()
}

fn wait_for_losses(log: &Log, count: u64) {
    let until = Instant::now() + LONG;
    while dropped(log) < count && Instant::now() < until {
        std::thread::yield_now();
    }
}

/// Returns how many records of the observer were written; the log itself makes gaps.
fn written(disk: &ModelDisk) -> u64 {
    disk.records().iter().filter(|record| record.event != EventName::Gap).count() as u64
}

const MORE_THAN_THE_QUEUE: u64 = MAX_QUEUE as u64 / 1000 + 1000;

#[test]
fn a_record_is_written_without_waiting_for_the_next_or_the_end() {
    let disk = ModelDisk::new(DiskMode::Well);
    let mut log = disk.log();
    take(&mut log, 0..1);
    disk.wait_until(|state| state.content.ends_with(b"\n"));
}

#[test]
fn a_burst_on_a_slow_disk_loses_nothing_and_keeps_its_order() {
    let disk = ModelDisk::new(DiskMode::Slow(Duration::from_millis(2)));
    let mut log = disk.log();
    log.patience = LONG;
    take(&mut log, 0..3 * MORE_THAN_THE_QUEUE);
    close(&mut log, LONG);
    assert_eq!(dropped(&log), 0);
    let seqs: Vec<u64> = disk.records().iter().map(|record| record.seq).collect();
    assert!(seqs.into_iter().eq(0..3 * MORE_THAN_THE_QUEUE));
}

#[test]
fn the_room_of_a_burst_is_given_back_when_no_more_lines_come() {
    let mut log = ModelDisk::new(DiskMode::Well).log();
    log.patience = LONG;
    let all = 3 * MORE_THAN_THE_QUEUE;
    take(&mut log, 0..all);
    let until = Instant::now() + LONG;
    loop {
        let queue = lock(&log.shared.queue);
        if queue.is_empty() && queue.spare.len() <= 1 {
            break;
        }
        drop(queue);
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    take(&mut log, all..all + 1);
    close(&mut log, LONG);
    assert_eq!(dropped(&log), 0);
}

#[test]
fn a_hanging_disk_is_waited_for_once_and_every_loss_is_counted() {
    let disk = ModelDisk::new(DiskMode::Hangs);
    let mut log = disk.log();
    take(&mut log, 0..1);
    disk.wait_until(|state| state.is_hanging);
    let all = 10 * MORE_THAN_THE_QUEUE;
    let before = Instant::now();
    take(&mut log, 1..all);
    // A wait for each of the lost records would have taken hours.
    assert!(before.elapsed() < LONG);
    let full = log.dropped();
    assert_eq!(full.iter().map(|dropped| dropped.reason).collect::<Vec<_>>(), ["queue_full"]);
    close(&mut log, Duration::from_millis(20));
    assert_eq!(dropped(&log), all, "the record that the disk has not written yet counts too");
    disk.set(DiskMode::Well);
}

#[test]
fn lines_that_wait_for_a_full_disk_take_a_part_of_their_bytes_and_come_out_as_they_went_in() {
    let disk = ModelDisk::new(DiskMode::Full);
    let mut log = disk.log();
    take(&mut log, 0..1);
    wait_for_losses(&log, 1);
    let some = MORE_THAN_THE_QUEUE / 2;
    take(&mut log, 1..some);
    let queue = lock(&log.shared.queue);
    assert!(queue.memory() < MAX_QUEUE / 4, "{} bytes for {}", queue.memory(), queue.size);
    drop(queue);
    disk.set(DiskMode::Well);
    close(&mut log, LONG);
    assert!(disk.records().iter().map(|record| record.seq).is_sorted(), "the lines keep their order");
    assert_eq!(written(&disk) + dropped(&log), some);
    assert!(!lock(&log.shared.queue).has_packer());
}

#[test]
fn an_attempt_that_fails_again_costs_what_it_tried_and_not_what_waits() {
    let disk = ModelDisk::new(DiskMode::Full);
    let mut log = disk.log();
    take(&mut log, 0..1);
    wait_for_losses(&log, 1);
    let some = MORE_THAN_THE_QUEUE / 2;
    take(&mut log, 1..some);
    wait_for_losses(&log, 2);
    disk.set(DiskMode::Well);
    close(&mut log, LONG);
    assert_eq!(written(&disk) + dropped(&log), some);
    assert!(dropped(&log) < some / 4, "{} of {some} were lost", dropped(&log));
}

#[test]
fn a_disk_that_moves_again_gets_a_record_of_the_gap() {
    let disk = ModelDisk::new(DiskMode::Hangs);
    let mut log = disk.log();
    take(&mut log, 0..1);
    disk.wait_until(|state| state.is_hanging);
    let all = 2 * MORE_THAN_THE_QUEUE;
    take(&mut log, 1..all);
    let lost = dropped(&log);
    assert!(lost > 0);
    disk.set(DiskMode::Well);
    disk.wait_until(|state| state.content.len() > MAX_QUEUE / 2);
    take(&mut log, all..all + 1);
    close(&mut log, LONG);
    assert_eq!(dropped(&log), lost);
    assert_eq!(written(&disk) + lost, all + 1);
    let records = disk.records();
    let [gap, last] = &records[records.len() - 2..] else { panic!() };
    assert_eq!((gap.event, gap.seq, gap.records_lost), (EventName::Gap, all - 1, Some(lost)));
    assert_eq!(gap.reason.as_deref(), Some("queue_full"));
    assert_eq!(last.seq, all);
}

#[test]
fn a_lost_report_of_a_loss_is_not_a_lost_record() {
    let disk = ModelDisk::new(DiskMode::Full);
    let mut log = disk.log();
    take(&mut log, 0..1);
    wait_for_losses(&log, 1);
    let all = 2 * MORE_THAN_THE_QUEUE;
    take(&mut log, 1..all);
    let before = dropped(&log);
    assert!(before > 1000, "the queue is full");
    // The next attempt makes room for a report of what found the queue full.
    wait_for_losses(&log, before + 1);
    take(&mut log, all..all + 1);
    close(&mut log, LONG);
    assert_eq!(dropped(&log), all + 1);
}

#[test]
fn a_panic_of_the_writer_costs_its_piece_and_no_more() {
    let disk = ModelDisk::new(DiskMode::Panics);
    let mut log = disk.log();
    take(&mut log, 0..1);
    wait_for_losses(&log, 1);
    assert_eq!(log.dropped(), [Dropped { place: LossPlace::Log, reason: "writer_panic", count: 1 }]);
    disk.set(DiskMode::Well);
    take(&mut log, 1..3);
    close(&mut log, LONG);
    assert_eq!(written(&disk), 2);
}

#[test]
fn the_end_tries_a_disk_once_more_that_was_full_a_moment_ago() {
    let disk = ModelDisk::new(DiskMode::Full);
    let mut log = disk.log();
    take(&mut log, 0..1);
    wait_for_losses(&log, 1);
    disk.set(DiskMode::Well);
    take(&mut log, 1..2);
    close(&mut log, LONG);
    let all: u64 = 2;
    assert_eq!(written(&disk) + dropped(&log), all);
    assert_eq!(dropped(&log), 1);
    assert_eq!(disk.records()[0].event, EventName::Gap);
}

#[test]
fn a_log_without_records_ends_at_once_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let settings = LogSettings { folder: folder.path().join("logs"), max_size: 1, max_total_size: None };
    let mut log = Log::new(settings, &identity(), |_| {});
    close(&mut log, LONG);
    assert!(!folder.path().join("logs").exists());
}
