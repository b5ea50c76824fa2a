//! Every order of events between a pump and an observer, within bounds, on a ring of a few entries. The
//! model checker also fails when one side touches bytes that the other has not handed over.

use loom::thread;

use crate::relay::ring::{Item, Room, pair};
use crate::relay::chunk::{Moment, Stream};

/// Two segments, which is the minimum. Each holds one or two small entries, so that three or four of them
/// fill both and wrap around.
const SIZE: usize = 1;

fn check(entries: &'static [usize], looks: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let (mut producer, mut consumer) = pair(Stream::Stdout, SIZE).unwrap();
        let pump = thread::spawn(move || {
            let mut sent = 0;
            let mut lost = 0;
            for length in entries {
                let room = producer.reserve();
                let buffer = producer.buffer(&room);
                let length = (*length).min(buffer.len());
                buffer[..length].fill(sent as u8 + 1);
                lost += if matches!(room, Room::Full) { length as u64 } else { 0 };
                producer.publish(&room, length, Moment(sent));
                sent += length as u64;
            }
            producer.end(Moment(sent));
            (sent, lost)
        });
        let mut seen = Seen::default();
        for _ in 0..looks {
            seen.look(&mut consumer);
            thread::yield_now();
        }
        let (sent, lost) = pump.join().unwrap();
        seen.look(&mut consumer);
        assert!(seen.ended);
        assert_eq!((seen.offset, seen.lost), (sent, lost));
    });
}

#[derive(Default)]
struct Seen {
    offset: u64,
    lost: u64,
    ended: bool,
}

impl Seen {
    fn look(&mut self, consumer: &mut crate::relay::ring::Consumer) {
        let mark = consumer.snapshot();
        assert!(!consumer.is_before(mark) || consumer.peek().is_some());
        while consumer.peek().is_some() {
            consumer.take(|item| match item {
                Item::Chunk(chunk) => {
                    assert_eq!((chunk.offset, chunk.read_at), (self.offset, Moment(self.offset)));
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
    check(&[8, 8], 2);
}

#[test]
fn a_ring_that_turns_round_hands_nothing_over_too_early() {
    check(&[24, 40, 24, 8], 2);
}

#[test]
fn what_a_full_ring_sheds_is_told_at_the_right_place() {
    check(&[96, 96, 96, 8], 1);
}
