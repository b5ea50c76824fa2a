//! Spans of one call within each other: a framework's span of a model call contains that of the library which sends it.
//!
//! Both report the tokens, so the outer span becomes a part of the fact of the inner one. The inner span ends first and is
//! usually sent first: its fact is looked for when one of the spans around it comes.

use super::SentItem;
use super::bounded::BoundedMap;
use super::table::Row;
use crate::collect::fact::FactHash;
use crate::record::EventName;
use crate::record::agent::AgentRecord;

/// Bit of the part of a fact that another span of the same call is.
pub(super) const SAME_CALL: u8 = 4;
/// Most spans that are remembered, and most that are looked for.
const SPANS: usize = 4096;
/// Most spans between two of the same call.
const DEEPEST: usize = 16;

type SpanId = [u8; 8];

/// The kind of a span, with what spans of the same call have in common.
#[derive(Clone, Copy)]
pub(super) enum SpanCall {
    Model {
        operation: &'static str,
        /// Input and output.
        tokens: [Option<u64>; 2],
    },
    /// Hash of the tool's name.
    Tool(Option<FactHash>),
    Turn,
}

impl SpanCall {
    /// Returns what the span of a row is that became `record`.
    pub(super) fn of(row: &Row, record: &AgentRecord<'_>) -> SpanCall {
        match row.event {
            EventName::ModelCall => SpanCall::Model {
                operation: row.only.map_or("", |(_, operation)| operation),
                tokens: [record.input_tokens, record.output_tokens],
            },
            EventName::AgentTool => {
                SpanCall::Tool(record.tool_name.as_deref().map(|name| FactHash::of([name.as_bytes()])))
            }
            _ => SpanCall::Turn,
        }
    }

    /// Returns true if a span within this one, without another call or turn between them, is of the same call.
    fn is_same(self, inner: SpanCall) -> bool {
        match (self, inner) {
            (
                SpanCall::Model { operation, tokens },
                SpanCall::Model { operation: inner, tokens: inner_tokens },
            ) => operation == inner || tokens[0].is_some() && tokens == inner_tokens,
            (SpanCall::Tool(Some(name)), SpanCall::Tool(Some(inner))) => name == inner,
            _ => false,
        }
    }
}

/// A span that came.
struct KnownSpan {
    parent: SpanId,
    /// `None` if the span is not a fact.
    call: Option<SpanCall>,
    /// The fact of the span.
    key: FactHash,
    /// True if that is the fact of another span.
    is_joined: bool,
    /// True if the fact has the call of a span within this one.
    has_inner: bool,
}

/// The spans of agents without a table of their own, by their ids.
pub(super) struct SameCalls {
    known: BoundedMap<SpanId, KnownSpan>,
    /// The last model call and the last tool within each span that has not come.
    within: BoundedMap<SpanId, [Option<(SpanCall, FactHash)>; 2]>,
    joined: u64,
}

impl Default for SameCalls {
    fn default() -> SameCalls {
        SameCalls { known: BoundedMap::new(SPANS), within: BoundedMap::new(SPANS), joined: 0 }
    }
}

impl SameCalls {
    /// Remembers a span, which is a call with a fact of this key, or `None`. Returns the key of the fact of another span
    /// of the same call.
    pub(super) fn take(
        &mut self,
        item: &SentItem<'_>,
        own: Option<(SpanCall, FactHash)>,
    ) -> Option<FactHash> {
        let id = SpanId::try_from(item.span).ok()?;
        if let Some(known) = self.known.get(&id) {
            return known.is_joined.then_some(known.key);
        }
        let parent = SpanId::try_from(item.parent).unwrap_or_default();
        let mut within = self.within.remove(&id).unwrap_or_default().into_iter().flatten();
        let (mut inner, mut outer) = (None, None);
        match own {
            Some((call, key)) => {
                inner = within.find(|(inner, _)| call.is_same(*inner)).map(|(_, key)| key);
                outer = self.join_outer(parent, call, inner.unwrap_or(key), inner.is_none());
            }
            None => {
                for (call, key) in within {
                    self.join_outer(parent, call, key, false);
                }
            }
        }
        let joined = inner.or(outer);
        self.joined += u64::from(joined.is_some());
        let known = KnownSpan {
            parent,
            call: own.map(|(call, _)| call),
            key: joined.or(own.map(|(_, key)| key)).unwrap_or_default(),
            is_joined: joined.is_some(),
            has_inner: inner.is_some(),
        };
        self.known.insert(id, known);
        joined
    }

    /// Returns the number of spans since the last call that are parts of the facts of others.
    pub(super) fn take_joined(&mut self) -> u64 {
        std::mem::take(&mut self.joined)
    }

    /// Looks through the spans around a call, from the innermost one. Returns the key of the first call among them if it
    /// is the same one, no other span within it has joined it, and this one `can_join`. If a span has not come yet, the
    /// call is remembered for it.
    fn join_outer(
        &mut self,
        parent: SpanId,
        call: SpanCall,
        key: FactHash,
        can_join: bool,
    ) -> Option<FactHash> {
        let place = match call {
            SpanCall::Model { .. } => 0,
            SpanCall::Tool(_) => 1,
            SpanCall::Turn => return None,
        };
        let mut at = parent;
        for _ in 0..DEEPEST {
            let Some(outer) = self.known.get_mut(&at) else {
                if let Some(within) = self.within.get_mut(&at) {
                    within[place] = Some((call, key));
                } else if at != SpanId::default() {
                    let mut within = [None; 2];
                    within[place] = Some((call, key));
                    self.within.insert(at, within);
                }
                return None;
            };
            let Some(outer_call) = outer.call else {
                at = outer.parent;
                continue;
            };
            let joins = can_join && outer_call.is_same(call) && !outer.has_inner;
            outer.has_inner |= joins;
            return joins.then_some(outer.key);
        }
        None
    }
}
