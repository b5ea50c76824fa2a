//! Every order of events between a pump and an observer, within bounds, on a ring of a few entries. The
//! model checker also fails when one side touches bytes that the other has not handed over.

use std::num::NonZeroU64;

use loom::thread;

use crate::relay::chunk::{LineMark, Moment, Stream};
use crate::relay::ring::{Item, Producer, Room, pair};

/// Two segments, which is the minimum. Each holds one or two small entries, so that three or four of them
/// fill both and wrap around.
const SIZE: usize = 1;

/// How the pump fills the ring.
#[derive(Clone, Copy, Default, PartialEq)]
enum Fill {
    #[default]
    Read,
    MarkedCopy,
}

/// Reads an entry of at most `length` bytes. Returns its length, and the bytes that are known as lost.
fn read(producer: &mut Producer, length: usize, sent: u64) -> (u64, u64) {
    let room = producer.reserve();
    let buffer = producer.buffer(&room);
    let length = length.min(buffer.len());
    buffer[..length].fill(sent as u8 + 1);
    let lost = if matches!(room, Room::Full) { length as u64 } else { 0 };
    producer.publish(&room, length, Moment(sent));
    (length as u64, lost)
}

/// Copies an entry with a mark, as the editing pump does, and returns the same.
fn copy(producer: &mut Producer, length: usize, sent: u64) -> (u64, u64) {
    let bytes = [sent as u8 + 1; 128];
    let room = producer.reserve();
    let length = producer.publish_copy(room, &bytes[..length], Some(mark(sent)), Moment(sent)) as u64;
    (length, 0)
}

fn mark(offset: u64) -> LineMark {
    LineMark { span: NonZeroU64::MIN.saturating_add(offset), trace: offset }
}

fn check(fill: Fill, entries: &'static [usize], looks: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let (mut producer, mut consumer) = pair(Stream::Stdout, SIZE).unwrap();
        let pump = thread::spawn(move || {
            let (mut sent, mut lost) = (0, 0);
            for length in entries {
                let entry = match fill {
                    Fill::Read => read(&mut producer, *length, sent),
                    Fill::MarkedCopy => copy(&mut producer, *length, sent),
                };
                (sent, lost) = (sent + entry.0, lost + entry.1);
            }
            producer.end(Moment(sent));
            (sent, lost)
        });
        let mut seen = Seen { fill, ..Seen::default() };
        for _ in 0..looks {
            seen.look(&mut consumer);
            thread::yield_now();
        }
        let (sent, lost) = pump.join().unwrap();
        seen.look(&mut consumer);
        assert!(seen.ended);
        assert_eq!(seen.offset, sent);
        // An entry with a mark may be lost after its place was reserved.
        assert!(fill == Fill::MarkedCopy || seen.lost == lost);
    });
}

#[derive(Default)]
struct Seen {
    fill: Fill,
    offset: u64,
    lost: u64,
    ended: bool,
}

impl Seen {
    fn look(&mut self, consumer: &mut crate::relay::ring::Consumer) {
        let snapshot = consumer.snapshot();
        assert!(!consumer.is_before(snapshot) || consumer.peek().is_some());
        while consumer.peek().is_some() {
            consumer.take(|item| match item {
                Item::Chunk(chunk) => {
                    assert_eq!((chunk.offset, chunk.read_at), (self.offset, Moment(self.offset)));
                    let has_mark = self.fill == Fill::MarkedCopy && !chunk.bytes.is_empty();
                    assert_eq!(chunk.mark, has_mark.then(|| mark(self.offset)));
                    assert!(chunk.bytes.iter().all(|byte| *byte == self.offset as u8 + 1));
                    self.offset += chunk.bytes.len() as u64;
                }
                Item::Gap(gap) => {
                    assert_eq!(gap.offset, self.offset);
                    self.offset += gap.bytes;
                    self.lost += gap.bytes;
                }
                Item::End(at) => {
                    assert_eq!(at, Moment(self.offset));
                    self.ended = true;
                }
            });
        }
    }
}

#[test]
fn entries_that_fit_are_seen_whole() {
    check(Fill::Read, &[8, 8], 2);
}

#[test]
fn a_ring_that_turns_round_hands_nothing_over_too_early() {
    check(Fill::Read, &[24, 40, 24, 8], 2);
}

#[test]
fn what_a_full_ring_sheds_is_told_at_the_right_place() {
    check(Fill::Read, &[96, 96, 96, 8], 1);
}

#[test]
fn marked_lines_are_seen_with_their_marks() {
    check(Fill::MarkedCopy, &[24, 40, 24, 8], 2);
}

#[test]
fn a_mark_after_lost_bytes_is_that_of_its_own_line() {
    check(Fill::MarkedCopy, &[96, 96, 96, 8, 8], 1);
}
