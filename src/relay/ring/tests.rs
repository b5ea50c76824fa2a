use super::*;
use proptest::prelude::*;

/// Sends `chunks` through a ring of `size`, looking after every `look` of them.
fn through(size: usize, chunks: &[Vec<u8>], look: usize) -> (Vec<u8>, u64, u64) {
    let (mut producer, mut consumer) = pair(Stream::Stdout, size).unwrap();
    let (mut seen, mut lost, mut offset) = (Vec::new(), 0, 0);
    let mut drain = |consumer: &mut Consumer, seen: &mut Vec<u8>, lost: &mut u64| {
        consumer.snapshot();
        while consumer.peek().is_some() {
            consumer.take(|item| match item {
                Item::Chunk(chunk) => {
                    assert_eq!(chunk.offset, offset);
                    offset += chunk.bytes.len() as u64;
                    seen.extend_from_slice(chunk.bytes);
                }
                Item::Gap(gap) => {
                    assert_eq!(gap.offset, offset);
                    offset += gap.bytes;
                    *lost += gap.bytes;
                }
                Item::End(_) => {}
            });
        }
    };
    for (number, chunk) in chunks.iter().enumerate() {
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let room = producer.reserve();
            let buffer = producer.buffer(&room);
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            let moment = Moment(number as u64);
            assert_eq!(producer.publish(&room, len, moment), &rest[..len]);
            producer.written(moment, moment);
            rest = &rest[len..];
        }
        if number % look == 0 {
            drain(&mut consumer, &mut seen, &mut lost);
        }
    }
    producer.end(Moment(0));
    drain(&mut consumer, &mut seen, &mut lost);
    (seen, lost, producer.ring.bytes())
}

proptest! {
    #[test]
    fn what_is_seen_and_what_is_lost_are_what_was_sent(
        lengths in prop::collection::vec(1usize..90_000, 1..60),
        look in 1usize..40,
        size in prop::sample::select(vec![96usize << 10, 160 << 10, 512 << 10, 1 << 20]),
    ) {
        let chunks: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(n, len)| vec![n as u8; *len]).collect();
        let total: usize = lengths.iter().sum();
        let (seen, lost, bytes) = through(size, &chunks, look);
        prop_assert_eq!(bytes, total as u64);
        prop_assert_eq!(seen.len() as u64 + lost, total as u64);
        if look == 1 && size >= 512 << 10 {
            prop_assert_eq!(lost, 0);
            prop_assert_eq!(seen, chunks.concat());
        }
    }
}

/// Bytes whose value says where in the stream they stand.
fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(31) >> 3) as u8
}

#[test]
fn what_one_thread_sends_another_sees_in_order_or_knows_as_lost() {
    /// Small, so that it is full and turns round all the time.
    const SIZE: usize = 96 << 10;
    const TOTAL: u64 = if cfg!(debug_assertions) { 8 << 20 } else { 256 << 20 };
    let (mut producer, mut consumer) = pair(Stream::Stdout, SIZE).unwrap();
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        let mut length = 1;
        while sent < TOTAL {
            let room = producer.reserve();
            let buffer = producer.buffer(&room);
            length = (length * 7 + 13) % 40_009;
            let len = buffer.len().min(1 + length);
            buffer[..len].iter_mut().zip(sent..).for_each(|(byte, offset)| *byte = pattern(offset));
            let written = producer.publish(&room, len, Moment(sent)).iter().copied();
            assert!(written.zip(sent..).all(|(byte, offset)| byte == pattern(offset)));
            producer.written(Moment(sent), Moment(sent));
            sent += len as u64;
        }
        producer.end(Moment(sent));
        sent
    });
    let (mut offset, mut seen, mut ended) = (0, 0, false);
    while !ended {
        let mark = consumer.snapshot();
        assert!(!consumer.is_before(mark) || consumer.peek().is_some());
        if consumer.peek().is_none() {
            std::thread::yield_now();
        }
        while consumer.peek().is_some() {
            consumer.take(|item| match item {
                Item::Chunk(chunk) => {
                    assert_eq!(chunk.offset, offset);
                    assert_eq!(chunk.read_at, Moment(offset));
                    assert!(chunk.bytes.iter().zip(offset..).all(|(byte, at)| *byte == pattern(at)));
                    offset += chunk.bytes.len() as u64;
                    seen += chunk.bytes.len() as u64;
                }
                Item::Gap(gap) => {
                    assert_eq!(gap.offset, offset);
                    offset += gap.bytes;
                }
                Item::End(at) => {
                    assert_eq!(at, Moment(offset));
                    ended = true;
                }
            });
        }
    }
    assert_eq!(offset, sender.join().unwrap());
    assert!(seen > 0);
}

#[test]
fn a_marked_line_keeps_its_mark_also_after_lost_bytes() {
    let (mut producer, mut consumer) = pair(Stream::Stdin, 96 << 10).unwrap();
    let mark = |number| LineMark { span: NonZeroU64::new(number).unwrap(), trace: number * 7 };
    let line = |number: u64| format!("{number:>100}\n").into_bytes();
    let (mut marked, mut lost, mut offset) = (0, 0, 0);
    let mut drain = |consumer: &mut Consumer| {
        consumer.snapshot();
        while consumer.peek().is_some() {
            consumer.take(|item| match item {
                Item::Chunk(chunk) => {
                    assert_eq!(chunk.offset, offset);
                    let number = offset / 101 + 1;
                    assert!(chunk.bytes.is_empty() || chunk.bytes == line(number));
                    if !chunk.bytes.is_empty() {
                        // Every third line has no mark.
                        assert_eq!(chunk.mark, (number % 3 != 0).then(|| mark(number)));
                        marked += u64::from(chunk.mark.is_some());
                    }
                    offset += chunk.bytes.len() as u64;
                }
                Item::Gap(gap) => {
                    assert_eq!(gap.offset, offset);
                    lost += gap.bytes;
                    offset += gap.bytes;
                }
                Item::End(_) => {}
            });
        }
    };
    let lines = 20_000;
    for number in 1..=lines {
        let line = line(number);
        let room = producer.reserve();
        let sent = producer.publish_copy(room, &line, (number % 3 != 0).then(|| mark(number)), Moment(0));
        assert_eq!(sent, line.len());
        producer.written(Moment(0), Moment(0));
        // The ring is full twice before it is emptied.
        if number % 7_000 == 0 {
            drain(&mut consumer);
        }
    }
    producer.end(Moment(0));
    drain(&mut consumer);
    assert_eq!(offset, lines * 101);
    assert!(lost > 0 && marked > 1_000, "{lost} bytes lost, {marked} marks");
}

#[test]
fn a_quiet_ring_touches_its_first_pages_only() {
    let (mut producer, mut consumer) = pair(Stream::Stdout, 8 << 20).unwrap();
    for _ in 0..100_000 {
        let room = producer.reserve();
        producer.buffer(&room)[0] = b'x';
        producer.publish(&room, 1000, Moment(0));
        consumer.snapshot();
        consumer.take(|_| {});
    }
    assert_eq!(producer.untouched, 2, "two segments do all the work");
}

#[test]
fn a_burst_finds_the_whole_ring_whatever_went_before() {
    const SIZE: usize = 4 << 20;
    for quiet in [0, 1, 70, 131, 400, 5000] {
        let (mut producer, mut consumer) = pair(Stream::Stdout, SIZE).unwrap();
        let mut send = |length: usize| {
            let room = producer.reserve();
            let length = producer.buffer(&room).len().min(length);
            producer.publish(&room, length, Moment(0));
            matches!(room, Room::Ring)
        };
        for _ in 0..quiet {
            assert!(send(1000));
            consumer.snapshot();
            consumer.take(|_| {});
        }
        // The segment that is begun holds little more, and each entry has its header.
        let burst = (0..SIZE / 4096 * 9 / 10).take_while(|_| send(4000)).count();
        assert_eq!(burst, SIZE / 4096 * 9 / 10, "after {quiet} quiet entries");
    }
}

/// Returns the number of bytes of a ring that use memory.
#[cfg(unix)]
fn in_use(ring: &Ring) -> usize {
    let mut pages = vec![0_u8; ring.size() / 4096];
    // SAFETY: one byte for each page of the mapping.
    let known = unsafe { libc::mincore(ring.memory.start().cast(), ring.size(), pages.as_mut_ptr().cast()) };
    assert_eq!(known, 0);
    pages.iter().filter(|page| **page & 1 == 1).count() * 4096
}

#[cfg(windows)]
fn in_use(ring: &Ring) -> usize {
    ring.memory.in_use()
}

#[test]
fn memory_of_a_burst_is_given_back_as_it_is_looked_at() {
    const SIZE: usize = 16 << 20;
    let (mut producer, mut consumer) = pair(Stream::Stdout, SIZE).unwrap();
    while let room @ Room::Ring = producer.reserve() {
        producer.buffer(&room).fill(b'x');
        producer.publish(&room, MAX_READ / 2, Moment(0));
    }
    assert!(in_use(producer.ring()) > SIZE / 2);
    consumer.snapshot();
    while consumer.peek().is_some() {
        consumer.take(|_| {});
    }
    let left = in_use(producer.ring());
    assert!(left <= KEPT_AFTER_BURST + 2 * SEGMENT, "{left} bytes are still resident");
}
