//! Joins the parts of one fact that came in different signals.
//!
//! A fact is held until it is whole, at most [`PATIENCE`]; then it becomes a record. A part that comes later becomes a record
//! that amends the first one. Memory is bounded: too many held facts are released early.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::collect::fact::{AgentFact, FactHash, LOG, SPAN};
use crate::record::agent::{AgentRecord, MOST_CALL_IDS};
use crate::record::timestamp::Timestamp;
use crate::record::words::{Status, ToolDecision};
use crate::text::hex;

/// How long a fact waits for its other parts.
const PATIENCE_MS: f64 = 30_000.0;
/// How long a whole fact waits for further parts of the same moment.
const SETTLE_MS: f64 = 1_000.0;
/// Most facts that are held.
const HELD: usize = 4096;
/// Most facts that are remembered after they were written.
const WRITTEN: usize = 16_384;
/// Most facts of one key that further parts may join.
const OF_KEY: usize = 64;
/// Longest time between two parts of a fact whose times tell it from others. They are by one clock.
const SLACK_MS: f64 = 1.0;

/// The facts that are held, and those that were written.
#[derive(Default)]
pub struct Merge {
    /// Facts of each key, by number.
    by_key: HashMap<FactHash, Vec<u64>>,
    facts: HashMap<u64, MergedFact>,
    /// Key and own id of the parts of all facts, by which a part that is sent again is known.
    known: HashSet<(FactHash, FactHash)>,
    /// Numbers of held facts in the order of their arrival, with their deadline.
    held: VecDeque<(u64, Timestamp)>,
    /// Numbers of written facts, oldest first.
    written: VecDeque<u64>,
    next: u64,
    /// Records that are ready.
    ready: Vec<AgentRecord<'static>>,
}

struct MergedFact {
    key: FactHash,
    id: FactHash,
    /// `None` after it was written. It is boxed, because far more facts are remembered than held.
    record: Option<Box<AgentRecord<'static>>>,
    within: Option<(Timestamp, Timestamp)>,
    ended: Timestamp,
    parts: u8,
    /// True if a record that was written has the input tokens, and the output tokens.
    has_tokens: [bool; 2],
    /// True if no part has come that is a fact by itself.
    is_addition: bool,
    /// Sets of parts that make the fact whole.
    wanted: Vec<u8>,
    own: Vec<FactHash>,
}

impl Merge {
    /// Adds a part that came at `now`.
    pub fn add(&mut self, part: AgentFact, now: Timestamp) {
        if self.known.contains(&(part.key, part.own)) {
            return;
        }
        let numbers = self.by_key.entry(part.key).or_default();
        let open = numbers.iter().filter(|number| self.facts[number].takes(&part));
        let found = open.min_by_key(|number| self.facts[number].distance(&part)).copied();
        let Some(number) = found else { return self.begin(part, now) };
        let Some(fact) = self.facts.get_mut(&number) else { return };
        if fact.note(&part) {
            self.known.insert((part.key, part.own));
        }
        match fact.record {
            Some(_) => {
                fact.join(part);
                if fact.is_whole() {
                    self.hold(number, now.plus_ms(SETTLE_MS));
                }
            }
            None => {
                let amended = fact.amend(part);
                self.ready.extend(amended);
            }
        }
    }

    fn begin(&mut self, part: AgentFact, now: Timestamp) {
        let number = self.next;
        self.next += 1;
        let numbers = self.by_key.entry(part.key).or_default();
        // The id of the only fact of a key is the same in another run.
        let id = if numbers.is_empty() && part.within.is_none() { part.key } else { part.id() };
        numbers.push(number);
        let oldest = (numbers.len() > OF_KEY).then(|| numbers.remove(0));
        self.known.insert((part.key, part.own));
        let fact = MergedFact {
            key: part.key,
            id,
            within: part.within,
            ended: part.record.timestamp,
            parts: part.part,
            is_addition: part.is_addition,
            has_tokens: [false; 2],
            wanted: vec![part.parts],
            own: vec![part.own],
            record: Some(Box::new(part.record)),
        };
        let is_alone = fact.is_whole() && part.parts == part.part;
        self.facts.insert(number, fact);
        self.hold(number, now.plus_ms(if is_alone { SETTLE_MS } else { PATIENCE_MS }));
        if let Some(oldest) = oldest {
            self.write(oldest);
        }
        while self.held.len() > HELD {
            if let Some((oldest, _)) = self.held.pop_front() {
                self.write(oldest);
            }
        }
    }

    /// Returns the number of facts whose record was not taken.
    pub(super) fn unwritten(&self) -> usize {
        self.facts.len() - self.written.len()
    }

    fn hold(&mut self, number: u64, until: Timestamp) {
        self.held.push_back((number, until));
    }

    /// Returns the records that are ready at `now`, in the order in which they became so; at the end all of them.
    pub fn take(&mut self, now: Option<Timestamp>) -> Vec<AgentRecord<'static>> {
        let mut waiting = VecDeque::with_capacity(self.held.len());
        for (number, until) in std::mem::take(&mut self.held) {
            // The clock can be set back.
            let is_due = |now: Timestamp| until <= now || until > now.plus_ms(PATIENCE_MS);
            match now.is_none_or(is_due) {
                true => self.write(number),
                false => waiting.push_back((number, until)),
            }
        }
        self.held = waiting;
        std::mem::take(&mut self.ready)
    }

    fn write(&mut self, number: u64) {
        let Some(fact) = self.facts.get_mut(&number) else { return };
        let Some(mut record) = fact.record.take() else { return };
        record.fact_id = Some(hex::text(&fact.id.0).into());
        record.amends = fact.is_addition.then_some(true);
        settle(&mut record);
        fact.note_tokens(&mut record);
        self.ready.push(*record);
        self.written.push_back(number);
        if self.written.len() > WRITTEN
            && let Some(oldest) = self.written.pop_front()
            && let Some(fact) = self.facts.remove(&oldest)
        {
            for own in fact.own {
                self.known.remove(&(fact.key, own));
            }
            let Some(numbers) = self.by_key.get_mut(&fact.key) else { return };
            numbers.retain(|number| *number != oldest);
            if numbers.is_empty() {
                self.by_key.remove(&fact.key);
            }
        }
    }
}

impl MergedFact {
    /// Returns true if the fact has no such part, and the times do not speak against it.
    fn takes(&self, part: &AgentFact) -> bool {
        let near = |(begin, end): (Timestamp, Timestamp),
                    (other_begin, other_end): (Timestamp, Timestamp)| {
            other_begin <= end.plus_ms(SLACK_MS) && begin <= other_end.plus_ms(SLACK_MS)
        };
        let is_near = self.within.zip(part.within).is_none_or(|(own, other)| near(own, other));
        // A fact may have many parts of a kind that is neither the span nor the end.
        (self.parts & part.part & (SPAN | LOG) == 0) && is_near
    }

    /// Returns the time between the ends of fact and part, in microseconds.
    fn distance(&self, part: &AgentFact) -> u64 {
        self.ended.0.abs_diff(part.record.timestamp.0)
    }

    fn is_whole(&self) -> bool {
        self.wanted.iter().any(|wanted| self.parts & wanted == *wanted)
    }

    /// Notes the kind and the own id of a part. Returns false if the fact has too many to remember this id.
    fn note(&mut self, part: &AgentFact) -> bool {
        self.parts |= part.part;
        if part.part == SPAN && part.within.is_some() && self.record.is_some() {
            // A span has ids, so that its fact has the same id in another run.
            self.id = part.id();
        }
        if !self.wanted.contains(&part.parts) {
            self.wanted.push(part.parts);
        }
        let has_room = self.own.len() < 2 * MOST_CALL_IDS;
        if has_room {
            self.own.push(part.own);
        }
        has_room
    }

    fn join(&mut self, part: AgentFact) {
        let Some(record) = &mut self.record else { return };
        self.is_addition &= part.is_addition;
        let mut call_ids = record.call_ids.take().unwrap_or_default();
        for id in part.record.call_ids.iter().flatten() {
            if call_ids.len() < MOST_CALL_IDS && !call_ids.contains(id) {
                call_ids.push(id.clone());
            }
        }
        // The span knows the times better than the event does.
        match part.part == SPAN {
            true => {
                let earlier = std::mem::replace(&mut **record, part.record);
                record.fill(earlier);
            }
            false => record.fill(part.record),
        }
        record.call_ids = (!call_ids.is_empty()).then_some(call_ids);
    }

    /// Returns the record of a part that came after the fact was written.
    fn amend(&mut self, part: AgentFact) -> Option<AgentRecord<'static>> {
        let mut record = part.record;
        record.fact_id = Some(hex::text(&self.id.0).into());
        // The first part that is a fact by itself is counted, though additions to it were written before.
        record.amends = (part.is_addition || !self.is_addition).then_some(true);
        self.is_addition &= part.is_addition;
        settle(&mut record);
        self.note_tokens(&mut record);
        Some(record)
    }

    /// Removes the tokens that an earlier record has, so that those of all records of the fact are its tokens.
    fn note_tokens(&mut self, record: &mut AgentRecord<'_>) {
        for (is_known, tokens) in
            self.has_tokens.iter_mut().zip([&mut record.input_tokens, &mut record.output_tokens])
        {
            let is_new = tokens.is_some() && !*is_known;
            *is_known |= is_new;
            *tokens = tokens.filter(|_| is_new);
        }
    }
}

/// Derives what follows from all parts together.
fn settle(record: &mut AgentRecord<'static>) {
    if record.decision == Some(ToolDecision::Refused) {
        record.status = Some(Status::Denied);
    } else if record.error_type.is_some() && record.status.is_none() {
        record.status = Some(Status::Error);
    }
    if record.status == Some(Status::Ok) {
        record.error_type = None;
    }
    if let (Some(server), Some(tool)) = (&record.tool_server, &record.tool_name) {
        // Names of tools as Claude Code, Gemini CLI and Codex write them.
        let prefixes = [format!("mcp__{server}__"), format!("mcp_{server}_"), format!("mcp__{server}")];
        if let Some(own) = prefixes.iter().find_map(|prefix| tool.strip_prefix(prefix.as_str())) {
            record.tool_name = Some(own.to_owned().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EventName;

    #[test]
    fn facts_of_one_key_are_bounded_and_each_part_counts_once() {
        let mut merge = Merge::default();
        let part = |number: u32| AgentFact {
            record: AgentRecord::default(),
            key: FactHash::default(),
            own: FactHash::of([&number.to_le_bytes()[..]]),
            within: None,
            part: SPAN,
            parts: SPAN,
            is_addition: false,
        };
        let now = Timestamp(0);
        for _ in 0..2 {
            (0..10_000).for_each(|number| merge.add(part(number), now));
            assert_eq!(merge.by_key[&FactHash::default()].len(), OF_KEY);
        }
        assert_eq!((merge.known.len(), merge.take(None).len()), (10_000, 10_000));
        // A forgotten fact leaves nothing behind.
        (10_000..40_000).for_each(|number| merge.add(part(number), now));
        merge.take(None);
        assert_eq!((merge.facts.len(), merge.known.len(), merge.written.len()), (WRITTEN, WRITTEN, WRITTEN));
        // Each of them is remembered without its record.
        assert!(size_of::<MergedFact>() <= 192, "{}", size_of::<MergedFact>());
    }

    #[test]
    fn the_tokens_of_a_fact_are_in_one_of_its_records_also_if_they_come_late() {
        let part = |part: u8, input: Option<u64>, output: Option<u64>| AgentFact {
            record: AgentRecord { input_tokens: input, output_tokens: output, ..AgentRecord::default() },
            key: FactHash::default(),
            own: FactHash::of([&[part][..]]),
            within: None,
            part,
            parts: SPAN | LOG,
            is_addition: false,
        };
        let tokens = |first: AgentFact, second: AgentFact| {
            let mut merge = Merge::default();
            merge.add(first, Timestamp(0));
            let mut records = merge.take(None);
            merge.add(second, Timestamp(0));
            records.extend(merge.take(None));
            let of = |record: &AgentRecord<'_>| (record.amends, record.input_tokens, record.output_tokens);
            records.iter().map(of).collect::<Vec<_>>()
        };
        let late = tokens(part(SPAN, None, None), part(LOG, Some(7), Some(1)));
        assert_eq!(late, [(None, None, None), (Some(true), Some(7), Some(1))]);
        let twice = tokens(part(SPAN, Some(7), None), part(LOG, Some(7), Some(1)));
        assert_eq!(twice, [(None, Some(7), None), (Some(true), None, Some(1))]);
    }

    #[test]
    fn parts_that_only_add_to_a_fact_are_not_counted_until_the_fact_itself_comes() {
        let part = |part: u8, is_addition: bool| AgentFact {
            record: AgentRecord { event: EventName::ModelCall, ..AgentRecord::default() },
            key: FactHash::default(),
            own: FactHash::of([&[part][..]]),
            within: None,
            part,
            parts: SPAN,
            is_addition,
        };
        let (first, second, whole) = (part(4, true), part(8, true), part(SPAN, false));
        for (before, after, expected) in [
            (vec![&first, &second], vec![], vec![Some(true)]),
            (vec![&first, &whole], vec![&second], vec![None, Some(true)]),
            (vec![&first], vec![&second, &whole], vec![Some(true), Some(true), None]),
        ] {
            let mut merge = Merge::default();
            let mut records = Vec::new();
            for parts in [before, after] {
                parts.into_iter().for_each(|part| merge.add(part.clone(), Timestamp(0)));
                records.extend(merge.take(None));
            }
            assert_eq!(records.iter().map(|record| record.amends).collect::<Vec<_>>(), expected);
        }
    }
}
