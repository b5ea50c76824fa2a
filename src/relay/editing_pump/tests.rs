use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Seek, Write};
use std::num::NonZeroU64;
#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::relay::chunk::Stream;
use crate::relay::pump::WhenFull;
use crate::relay::ring::{Consumer, Item, pair};
use crate::system::descriptor::OwnedDescriptor;

const INSERTED: &[u8] = b"<inserted>";

/// Inserts before the first `x` of a line, and marks such lines with their number.
#[derive(Default)]
struct BeforeX {
    inserted: Vec<u8>,
    lines: u64,
    unread: Arc<Mutex<Vec<UnreadLine>>>,
}

impl LineEditor for BeforeX {
    fn edit(&mut self, line: &[u8], _: Moment) -> LineEdit<'_> {
        assert!(!line.contains(&b'\n'));
        let Some(at) = line.iter().position(|byte| *byte == b'x') else { return LineEdit::default() };
        self.lines += 1;
        let mark = NonZeroU64::new(self.lines).map(|span| LineMark { span, trace: 0 });
        LineEdit { insertion: Some((at, &self.inserted)), mark }
    }

    fn passes(&mut self, why: UnreadLine) {
        self.unread.lock().unwrap().push(why);
    }
}

/// A pump with its other ends, and the reasons of unread lines.
struct Bench {
    pump: EditingPump,
    state: Arc<PumpState>,
    unread: Arc<Mutex<Vec<UnreadLine>>>,
}

fn bench(inserted: &[u8]) -> Bench {
    let editor = BeforeX { inserted: inserted.to_vec(), ..BeforeX::default() };
    let unread = Arc::clone(&editor.unread);
    let state = PumpState::new(WhenFull::Lose, || {}, || {});
    Bench { pump: EditingPump::new(Box::new(editor)).unwrap(), state, unread }
}

/// What the observer gets: the bytes, and the lines that have a mark.
type Observed = (Vec<u8>, Vec<Vec<u8>>);

fn observed(consumer: &mut Consumer) -> Observed {
    let (mut bytes, mut marked) = Observed::default();
    let mut last = 0;
    consumer.snapshot();
    while consumer.peek().is_some() {
        consumer.take(|item| {
            let Item::Chunk(chunk) = item else { return };
            bytes.extend_from_slice(chunk.bytes);
            match chunk.mark.map(|mark| mark.span.get()) {
                Some(number) if number == last => marked.last_mut().unwrap().extend_from_slice(chunk.bytes),
                Some(number) => {
                    last = number;
                    marked.push(chunk.bytes.to_vec());
                }
                None => {}
            }
        });
    }
    (bytes, marked)
}

/// Sends the pieces as reads of their own, and returns what was written and what was observed.
fn sent(pieces: &[&[u8]], inserted: &[u8]) -> (Vec<u8>, Observed) {
    let Bench { mut pump, state, .. } = bench(inserted);
    let (producer, mut consumer) = pair(Stream::Stdin, 16 << 20).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let to = Descriptor::Owned(OwnedDescriptor::from(file.try_clone().unwrap()));
    let mut sinks = Sinks { to, producer, state: &state };
    for piece in pieces.iter().flat_map(|piece| piece.chunks(MAX_READ)) {
        let end = pump.held + piece.len();
        pump.input.resize(end.max(pump.input.len()), 0);
        pump.input[pump.held..end].copy_from_slice(piece);
        pump.take(piece.len(), &mut sinks).unwrap();
    }
    pump.pass_held(&mut sinks).unwrap();
    let room = (pump.input.capacity(), pump.output.capacity());
    assert_eq!(room, (MAX_LINE + MAX_READ, MAX_LINE + MAX_READ + INSERTIONS), "nothing was allocated");
    let mut written = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut written).unwrap();
    (written, observed(&mut consumer))
}

/// The whole lines of `bytes`, edited.
fn edited(bytes: &[u8], inserted: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b'x').filter(|_| line.ends_with(b"\n"));
        match at {
            Some(at) if line.len() <= MAX_LINE + 1 => {
                out.extend_from_slice(&[&line[..at], inserted, &line[at..]].concat());
            }
            _ => out.extend_from_slice(line),
        }
    }
    out
}

fn is_right(bytes: &[u8], pieces: &[&[u8]], inserted: &[u8]) {
    let (written, (seen, marked)) = sent(pieces, inserted);
    assert!(written == edited(bytes, inserted), "{} bytes of {}", written.len(), bytes.len());
    assert!(seen == bytes, "the observer gets the bytes as they were read");
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let is_edited =
        |line: &&[u8]| line.contains(&b'x') && line.ends_with(b"\n") && line.len() <= MAX_LINE + 1;
    let expected: Vec<&[u8]> = lines.filter(is_edited).collect();
    assert!(marked == expected, "{} marked lines of {}", marked.len(), expected.len());
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_lines(
        bytes in prop::collection::vec(prop::sample::select(b"axx\n\n\r".to_vec()), 0..400),
        cuts in prop::collection::vec(0usize..400, 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).filter(|p| !p.is_empty()).collect();
        is_right(&bytes, &pieces, INSERTED);
    }
}

#[test]
fn lines_around_the_limits_of_the_buffers() {
    for length in [MAX_READ - 1, MAX_READ, MAX_READ + 1, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE] {
        let line = [&b"x".repeat(length)[..], b"\n"].concat();
        let bytes = [b"x\n", &line[..], b"x\nx\n", &line, &line, b"half x"].concat();
        is_right(&bytes, &[&bytes], INSERTED);
    }
}

#[test]
fn many_long_insertions_into_one_read() {
    let bytes = b"x\n".repeat(MAX_READ);
    is_right(&bytes, &[&bytes], &[b'i'; 700]);
}

#[test]
fn a_line_that_is_too_long_is_counted_once() {
    let Bench { mut pump, state, unread } = bench(INSERTED);
    let (producer, _consumer) = pair(Stream::Stdin, 1 << 20).unwrap();
    let to = Descriptor::Owned(OwnedDescriptor::from(tempfile::tempfile().unwrap()));
    let mut sinks = Sinks { to, producer, state: &state };
    for _ in 0..40 {
        let end = pump.held + MAX_READ;
        pump.input.resize(end.max(pump.input.len()), b'x');
        pump.take(MAX_READ, &mut sinks).unwrap();
    }
    assert_eq!(*unread.lock().unwrap(), [UnreadLine::TooLong]);
}

/// Runs a pump between two pipes.
fn running(bench: Bench) -> (File, File, Consumer, std::thread::JoinHandle<()>) {
    running_between(bench, std::io::pipe().unwrap())
}

/// Runs a pump that writes to a given pipe.
fn running_between(
    bench: Bench,
    (theirs, to): (PipeReader, PipeWriter),
) -> (File, File, Consumer, std::thread::JoinHandle<()>) {
    let (from, ours) = std::io::pipe().unwrap();
    let (producer, consumer) = pair(Stream::Stdin, 1 << 20).unwrap();
    let Bench { pump, state, .. } = bench;
    let owned = |end: OwnedDescriptor| Descriptor::Owned(end);
    let thread = std::thread::spawn(move || pump.run(owned(from.into()), owned(to.into()), producer, &state));
    (File::from(OwnedDescriptor::from(ours)), File::from(OwnedDescriptor::from(theirs)), consumer, thread)
}

#[test]
fn half_a_line_is_passed_on_within_the_time_and_its_rest_at_once() {
    let bench = bench(INSERTED);
    let unread = Arc::clone(&bench.unread);
    let (mut ours, mut theirs, mut consumer, thread) = running(bench);
    let mut read = |expected: &[u8]| {
        let mut seen = vec![0; expected.len()];
        theirs.read_exact(&mut seen).unwrap();
        assert_eq!(seen, expected, "{}", String::from_utf8_lossy(&seen));
    };
    let mut fastest = Duration::MAX;
    let mut rounds = 0;
    // On a busy machine one of many rounds is on time.
    while fastest > HOLD + Duration::from_millis(1) {
        rounds += 1;
        assert!(rounds < 1000, "{fastest:?}");
        let before = Instant::now();
        ours.write_all(b"half x").unwrap();
        read(b"half x");
        fastest = fastest.min(before.elapsed());
        ours.write_all(b" more x").unwrap();
        read(b" more x");
        ours.write_all(b" end\n").unwrap();
        read(b" end\n");
    }
    #[cfg(unix)]
    assert!(descriptor::is_writable_within(ours.as_raw_fd(), Duration::ZERO));
    ours.write_all(b"x\nlast x").unwrap();
    drop(ours);
    read(b"<inserted>x\nlast x");
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "the end is passed on");
    thread.join().unwrap();
    let unread = unread.lock().unwrap();
    assert!(unread.iter().all(|why| *why == UnreadLine::Incomplete) && unread.len() == rounds + 1);
    let (seen, marked) = observed(&mut consumer);
    assert!(seen.ends_with(b"x\nlast x") && marked == [b"x\n"]);
}

// Windows does not say whether a pipe has room.
#[cfg(unix)]
#[test]
fn the_rest_of_a_line_that_came_while_a_write_was_blocked_is_used() {
    let bench = bench(INSERTED);
    let unread = Arc::clone(&bench.unread);
    let (theirs, mut to) = std::io::pipe().unwrap();
    let mut filled = 0;
    while descriptor::is_writable_within(to.as_raw_fd(), Duration::ZERO) {
        filled += to.write(&[b'-'; 4096]).unwrap();
    }
    let (mut ours, mut theirs, mut consumer, thread) = running_between(bench, (theirs, to));
    ours.write_all(b"x\nhalf x").unwrap();
    // The observer gets the first line immediately before the write that is blocked.
    let mut seen = Vec::new();
    while seen.is_empty() {
        std::thread::yield_now();
        (seen, _) = observed(&mut consumer);
    }
    std::thread::sleep(HOLD * 2);
    ours.write_all(b" end\n").unwrap();
    drop(ours);
    let mut written = Vec::new();
    theirs.read_to_end(&mut written).unwrap();
    thread.join().unwrap();
    let written = String::from_utf8_lossy(&written[filled..]);
    assert_eq!(written, "<inserted>x\nhalf <inserted>x end\n");
    assert!(unread.lock().unwrap().is_empty());
}

#[test]
fn a_pump_without_patience_still_takes_what_has_come() {
    let Bench { mut pump, .. } = bench(INSERTED);
    let (from, mut ours) = std::io::pipe().unwrap();
    let from = Descriptor::Owned(OwnedDescriptor::from(from));
    (pump.input, pump.held, pump.patience) = (b"h".to_vec(), 1, Duration::ZERO);
    ours.write_all(b"alf\n").unwrap();
    assert_eq!(pump.read(&from).unwrap().unwrap(), 4);
    assert!(pump.read(&from).is_none(), "nothing more has come, so the pump does not wait");
}
