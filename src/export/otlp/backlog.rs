//! Encoded items that wait to be sent, in the order in which they came. Beyond a limit they are compressed.
//!
//! A collector that does not answer leaves 16,384 items of each signal waiting, a kilobyte each. The items of a
//! session are alike, so compressed they take a small part of the memory. While a collector takes what it gets, less
//! than [`UNPACKED`] waits, and nothing is compressed.

use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, DeflateEncoder};

use crate::export::otlp::protobuf::ProtobufWriter;
use crate::export::otlp::request::{RequestOrigin, field};

/// A block that has this many bytes takes no more items. Compression looks for repetitions in 32 KiB.
const BLOCK: usize = 64 << 10;
/// A smaller block is not compressed. Blocks are small if items of several origins take turns.
const LEAST_PACKED: usize = 4 << 10;
/// Bytes that wait before more are compressed: more than a full batch.
const UNPACKED: usize = 2 << 20;

#[derive(Default)]
pub(super) struct Backlog {
    blocks: VecDeque<ItemBlock>,
    count: usize,
    /// Bytes of the blocks that are not compressed.
    unpacked: usize,
}

/// Items that are sent together.
#[derive(Default)]
pub(super) struct Batch {
    blocks: Vec<ItemBlock>,
    count: usize,
}

/// Items of one origin, as fields of the message that contains them.
struct ItemBlock {
    origin: Arc<RequestOrigin>,
    count: usize,
    fields: Fields,
}

enum Fields {
    Plain(ProtobufWriter),
    Packed { compressed: Box<[u8]>, length: usize },
}

impl Backlog {
    /// Returns the number of items.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn push(&mut self, origin: &Arc<RequestOrigin>, item: &[u8]) {
        let fits =
            |block: &ItemBlock| Arc::ptr_eq(&block.origin, origin) && (1..BLOCK).contains(&block.unpacked());
        if !self.blocks.back().is_some_and(fits) {
            if self.unpacked > UNPACKED
                && let Some(last) = self.blocks.back_mut().filter(|last| last.unpacked() >= LEAST_PACKED)
            {
                self.unpacked -= last.unpacked();
                last.pack();
                self.unpacked += last.unpacked();
            }
            let fields = Fields::Plain(ProtobufWriter::with_capacity(item.len() + 8));
            self.blocks.push_back(ItemBlock { origin: Arc::clone(origin), count: 0, fields });
        }
        if let Some(last) = self.blocks.back_mut() {
            self.unpacked -= last.unpacked();
            last.fields.plain().bytes(field::ITEMS, item);
            last.count += 1;
            self.unpacked += last.unpacked();
            self.count += 1;
        }
    }

    /// Takes the oldest `count` items, or all if there are fewer.
    pub(super) fn take(&mut self, count: usize) -> Batch {
        let mut batch = Batch::default();
        while batch.count < count
            && let Some(mut block) = self.blocks.pop_front()
        {
            self.count -= block.count;
            self.unpacked -= block.unpacked();
            if let Some(rest) = block.split_off(count - batch.count) {
                self.push_front(rest);
            }
            batch.count += block.count;
            batch.blocks.push(block);
        }
        batch
    }

    /// Puts items back before all others.
    pub(super) fn put_back(&mut self, batch: Batch) {
        batch.blocks.into_iter().rev().for_each(|block| self.push_front(block));
    }

    /// Removes the newest items until `count` are left. Returns how many it removed.
    pub(super) fn truncate(&mut self, count: usize) -> usize {
        let removed = self.count.saturating_sub(count);
        if removed > 0 {
            let kept = self.take(count);
            *self = Backlog::default();
            self.put_back(kept);
        }
        removed
    }

    fn push_front(&mut self, block: ItemBlock) {
        self.count += block.count;
        self.unpacked += block.unpacked();
        self.blocks.push_front(block);
    }
}

impl Batch {
    /// Returns the number of items.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns an encoded request. Blocks in a row of one origin share its resource.
    pub(super) fn request(&self) -> Vec<u8> {
        let size: usize = self.blocks.iter().map(|block| block.fields.length()).sum();
        let origin = self.blocks.first().map_or(0, |block| block.origin.length());
        let mut request = ProtobufWriter::with_capacity(size + origin + 100);
        for group in self.blocks.chunk_by(|a, b| Arc::ptr_eq(&a.origin, &b.origin)) {
            let items = |scopes: &mut ProtobufWriter| {
                group.iter().for_each(|block| block.fields.append_to(scopes));
            };
            group[0].origin.write(Some(items), &mut request);
        }
        request.into_bytes()
    }
}

impl ItemBlock {
    /// Returns the number of bytes if they are not compressed, or else 0.
    fn unpacked(&self) -> usize {
        match &self.fields {
            Fields::Plain(plain) => plain.as_bytes().len(),
            Fields::Packed { .. } => 0,
        }
    }

    fn pack(&mut self) {
        if let Fields::Plain(plain) = &self.fields {
            let length = plain.as_bytes().len();
            let mut compressed = Vec::with_capacity(length / 4);
            // A reader of a slice does not fail.
            if DeflateEncoder::new(plain.as_bytes(), Compression::fast()).read_to_end(&mut compressed).is_ok()
            {
                self.fields = Fields::Packed { compressed: compressed.into(), length };
            }
        }
    }

    /// Returns the items after the first `count`, if there are any, and leaves the others here.
    fn split_off(&mut self, count: usize) -> Option<ItemBlock> {
        if self.count <= count {
            return None;
        }
        let after = self.fields.plain().split_off_fields(count);
        let rest = ItemBlock {
            origin: Arc::clone(&self.origin),
            count: self.count - count,
            fields: Fields::Plain(after),
        };
        self.count = count;
        Some(rest)
    }
}

impl Fields {
    /// Returns the number of bytes without compression.
    fn length(&self) -> usize {
        match self {
            Fields::Plain(plain) => plain.as_bytes().len(),
            Fields::Packed { length, .. } => *length,
        }
    }

    fn append_to(&self, to: &mut ProtobufWriter) {
        match self {
            Fields::Plain(plain) => to.fields(plain.as_bytes()),
            Fields::Packed { compressed, .. } => {
                let read = to.fields_from(DeflateDecoder::new(&**compressed));
                read.expect("what `pack` compressed is complete");
            }
        }
    }

    /// Returns the fields without compression.
    fn plain(&mut self) -> &mut ProtobufWriter {
        if let Fields::Packed { length, .. } = self {
            let mut plain = ProtobufWriter::with_capacity(*length);
            self.append_to(&mut plain);
            *self = Fields::Plain(plain);
        }
        match self {
            Fields::Plain(plain) => plain,
            Fields::Packed { .. } => unreachable!("unpacked above"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use prost::Message as _;

    use super::*;

    pub(crate) fn origin(name: &str) -> Arc<RequestOrigin> {
        Arc::new(RequestOrigin::new(&BTreeMap::from([("service.name".to_owned(), name.to_owned())])))
    }

    /// Returns a span of about a kilobyte that a number tells from others.
    pub(crate) fn span(number: usize) -> Vec<u8> {
        Span { name: format!("{number:0>1000}"), ..Span::default() }.encode_to_vec()
    }

    /// Returns for each resource of a request the value of its attribute and the numbers of its spans.
    fn content(batch: &Batch) -> Vec<(String, Vec<usize>)> {
        let request = ExportTraceServiceRequest::decode(&*batch.request()).unwrap();
        let resources = request.resource_spans.into_iter().map(|resource| {
            let attributes = resource.resource.unwrap().attributes;
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let name = format!("{:?}", attributes[0].value);
            (name, spans.map(|span| span.name.parse().unwrap()).collect())
        });
        resources.collect()
    }

    /// Returns the numbers of the spans of a batch.
    pub(crate) fn numbers(batch: &Batch) -> Vec<usize> {
        content(batch).into_iter().flat_map(|(_, numbers)| numbers).collect()
    }

    #[test]
    fn a_long_backlog_takes_a_small_part_of_its_bytes_and_comes_out_as_it_went_in() {
        let (mut backlog, from) = (Backlog::default(), origin("a"));
        (0..16_384).for_each(|number| backlog.push(&from, &span(number)));
        let sizes = backlog.blocks.iter().map(|block| match &block.fields {
            Fields::Plain(plain) => plain.as_bytes().len(),
            Fields::Packed { compressed, .. } => compressed.len(),
        });
        let held: usize = sizes.sum();
        assert!(held < 4 << 20, "{held} bytes for 16 MiB");
        let mut next = 0;
        while !backlog.is_empty() {
            let batch = backlog.take(2_048);
            assert_eq!(numbers(&batch), (next..next + batch.len()).collect::<Vec<_>>());
            next += batch.len();
        }
        assert_eq!((next, backlog.unpacked), (16_384, 0));
    }

    #[test]
    fn a_batch_that_fits_a_collector_is_not_compressed() {
        let (mut backlog, from) = (Backlog::default(), origin("a"));
        (0..2_048).for_each(|number| backlog.push(&from, &span(number)));
        assert!(backlog.blocks.iter().all(|block| block.unpacked() > 0));
    }

    #[test]
    fn batches_of_any_size_keep_order_also_when_they_come_back() {
        let (mut backlog, from) = (Backlog::default(), origin("a"));
        (0..5_000).for_each(|number| backlog.push(&from, &span(number)));
        for size in [1, 7, 100, 2_048, 3_000, 4_999] {
            let (first, second) = (backlog.take(size), backlog.take(size));
            assert_eq!((first.len(), second.len()), (size, size.min(5_000 - size)));
            backlog.put_back(second);
            backlog.put_back(first);
            assert_eq!(backlog.len(), 5_000);
        }
        assert_eq!(backlog.truncate(4_000), 1_000);
        assert_eq!((backlog.len(), backlog.truncate(4_000)), (4_000, 0));
        backlog.push(&from, &span(4_000));
        assert_eq!(numbers(&backlog.take(9_999)), (0..=4_000).collect::<Vec<_>>());
    }

    #[test]
    fn items_in_a_row_of_one_origin_share_its_resource() {
        let (mut backlog, a, b) = (Backlog::default(), origin("a"), origin("b"));
        for (number, from) in [&a, &a, &b, &a].into_iter().enumerate() {
            backlog.push(from, &span(number));
        }
        let shared: Vec<Vec<usize>> =
            content(&backlog.take(9)).into_iter().map(|(_, numbers)| numbers).collect();
        assert_eq!(shared, [vec![0, 1], vec![2], vec![3]]);
    }
}
