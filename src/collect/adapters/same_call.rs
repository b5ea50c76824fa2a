//! Spans of one call within each other: a framework's span of a model call contains that of the library which sends it.
//!
//! Both report the tokens, so the outer span becomes a part of the fact of the inner one. The inner span ends first and is
//! usually sent first: its fact is looked for when one of the spans around it comes. If the outer span came first, the
//! first inner span becomes a part of its fact, and the tokens of all inner ones count as far as the outer one does not
//! report them.

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
/// Input and output tokens.
type Tokens = [Option<u64>; 2];

/// The kind of a span, with what spans of the same call have in common.
#[derive(Clone, Copy)]
pub(super) enum SpanCall {
    Model(Tokens),
    /// Hash of the tool's name.
    Tool(Option<FactHash>),
    Turn,
}

impl SpanCall {
    /// Returns what the span of a row is that became `record`.
    pub(super) fn of(row: &Row, record: &AgentRecord<'_>) -> SpanCall {
        match row.event {
            EventName::ModelCall => SpanCall::Model([record.input_tokens, record.output_tokens]),
            EventName::AgentTool => {
                SpanCall::Tool(record.tool_name.as_deref().map(|name| FactHash::of([name.as_bytes()])))
            }
            _ => SpanCall::Turn,
        }
    }

    /// Returns true if a span within this one, without another call or turn between them, is of the same call.
    fn is_same(self, inner: SpanCall) -> bool {
        match (self, inner) {
            // Frameworks and libraries have different words for the operation.
            (SpanCall::Model(_), SpanCall::Model(_)) => true,
            (SpanCall::Tool(Some(name)), SpanCall::Tool(Some(inner))) => name == inner,
            _ => false,
        }
    }

    fn tokens(self) -> Tokens {
        match self {
            SpanCall::Model(tokens) => tokens,
            _ => [None; 2],
        }
    }
}

/// The tokens and the fact of a span, after those of other spans of the same call.
pub(super) struct SameCall {
    /// The key of the fact of the other span whose part this span is.
    pub(super) key: Option<FactHash>,
    /// Those of its tokens that no other span has reported.
    pub(super) tokens: Tokens,
}

impl SameCall {
    /// Takes from `record` the tokens that another span has reported.
    pub(super) fn limit(&self, record: &mut AgentRecord<'_>) {
        [record.input_tokens, record.output_tokens] = self.tokens;
        if let Some(input) = self.tokens[0] {
            record.cached_tokens = record.cached_tokens.map(|cached| cached.min(input));
            let rest = input - record.cached_tokens.unwrap_or(0);
            record.cache_write_tokens = record.cache_write_tokens.map(|written| written.min(rest));
        }
    }
}

/// Tokens of the spans of one call.
#[derive(Clone, Copy, Default)]
struct TokenCount {
    /// Those of the spans within the outer one.
    inner: u64,
    /// Those that records have.
    counted: u64,
}

impl TokenCount {
    /// Returns the count of an outer span that reports `own` after the spans within it reported `inner`, of which the
    /// one that it joins `has_tokens`.
    fn after(inner: u64, has_tokens: bool, own: Option<u64>) -> TokenCount {
        let counted = if has_tokens { inner } else { own.unwrap_or(0).max(inner) };
        TokenCount { inner, counted }
    }

    /// Adds the tokens of an inner span that comes after the outer one. Returns those that no record has.
    fn add_inner(&mut self, tokens: u64) -> u64 {
        self.inner = self.inner.saturating_add(tokens);
        let new = self.inner.saturating_sub(self.counted).min(tokens);
        self.counted = self.counted.saturating_add(new);
        new
    }
}

/// The calls within a span that has not come.
#[derive(Clone, Copy, Default)]
struct CallsWithin {
    /// The last model call and the last tool.
    last: [Option<(SpanCall, FactHash)>; 2],
    /// The tokens of the model calls.
    tokens: [u64; 2],
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
    tokens: [TokenCount; 2],
    /// Those of the tokens of the span that no other span had reported.
    new_tokens: Tokens,
}

/// The spans of agents without a table of their own, by their ids.
pub(super) struct SameCalls {
    known: BoundedMap<SpanId, KnownSpan>,
    within: BoundedMap<SpanId, CallsWithin>,
    joined: u64,
}

impl Default for SameCalls {
    fn default() -> SameCalls {
        SameCalls { known: BoundedMap::new(SPANS), within: BoundedMap::new(SPANS), joined: 0 }
    }
}

impl SameCalls {
    /// Remembers a span, which is a call with a fact of this key, or `None`. Returns what it has in common with another
    /// span of the same call.
    pub(super) fn take(&mut self, item: &SentItem<'_>, own: Option<(SpanCall, FactHash)>) -> SameCall {
        let own_tokens = own.map_or([None; 2], |(call, _)| call.tokens());
        let Ok(id) = SpanId::try_from(item.span) else { return SameCall { key: None, tokens: own_tokens } };
        if let Some(known) = self.known.get(&id) {
            return SameCall { key: known.is_joined.then_some(known.key), tokens: known.new_tokens };
        }
        let parent = SpanId::try_from(item.parent).unwrap_or_default();
        let within = self.within.remove(&id).unwrap_or_default();
        let mut known = KnownSpan {
            parent,
            call: own.map(|(call, _)| call),
            key: FactHash::default(),
            is_joined: false,
            has_inner: false,
            tokens: own_tokens.map(|own| TokenCount::after(0, false, own)),
            new_tokens: own_tokens,
        };
        match own {
            Some((call, key)) => {
                let inner = within.last.into_iter().flatten().find(|(inner, _)| call.is_same(*inner));
                if let Some((inner, _)) = inner {
                    let of = |place: usize| {
                        let (inner, has) = (within.tokens[place], inner.tokens()[place].is_some());
                        TokenCount::after(inner, has, own_tokens[place])
                    };
                    known.tokens = [of(0), of(1)];
                    known.new_tokens = [0, 1].map(|place| {
                        let TokenCount { inner, counted } = known.tokens[place];
                        Some(counted - inner).filter(|new| *new > 0)
                    });
                }
                let inner = inner.map(|(_, key)| key);
                let all = known.tokens.map(|tokens| tokens.counted);
                let outer = self.join_outer(&mut known, call, inner.unwrap_or(key), all, inner.is_none());
                let joined = inner.or(outer);
                (known.key, known.is_joined) = (joined.unwrap_or(key), joined.is_some());
                known.has_inner = inner.is_some();
            }
            None => {
                for (call, key) in within.last.into_iter().flatten() {
                    self.join_outer(&mut known, call, key, within.tokens, false);
                }
            }
        }
        self.joined += u64::from(known.is_joined);
        let same = SameCall { key: known.is_joined.then_some(known.key), tokens: known.new_tokens };
        self.known.insert(id, known);
        same
    }

    /// Returns the number of spans since the last call that are parts of the facts of others.
    pub(super) fn take_joined(&mut self) -> u64 {
        std::mem::take(&mut self.joined)
    }

    /// Looks through the spans around `span`, from the innermost one, for the first call. If it is the same one as `call`
    /// and `call` is that of a `new` record, the tokens that the outer span reported are taken from those of `span`.
    /// Returns the key of its fact then, if no other span within it has joined it. If a span has not come yet, the call
    /// is remembered for it, with the `tokens` of all calls within it.
    fn join_outer(
        &mut self,
        span: &mut KnownSpan,
        call: SpanCall,
        key: FactHash,
        tokens: [u64; 2],
        is_new: bool,
    ) -> Option<FactHash> {
        let place = match call {
            SpanCall::Model(_) => 0,
            SpanCall::Tool(_) => 1,
            SpanCall::Turn => return None,
        };
        let mut at = span.parent;
        for _ in 0..DEEPEST {
            let Some(outer) = self.known.get_mut(&at) else {
                if at != SpanId::default() {
                    let mut within = self.within.get_mut(&at).copied().unwrap_or_default();
                    within.last[place] = Some((call, key));
                    if place == 0 {
                        let sum = |at: usize| within.tokens[at].saturating_add(tokens[at]);
                        within.tokens = [sum(0), sum(1)];
                    }
                    self.within.insert(at, within);
                }
                return None;
            };
            let Some(outer_call) = outer.call else {
                at = outer.parent;
                continue;
            };
            if !is_new || !outer_call.is_same(call) {
                return None;
            }
            let joins = !outer.has_inner;
            outer.has_inner = true;
            for (at, own) in call.tokens().into_iter().enumerate() {
                // A number of the fact that the span joins stays as it is.
                let is_kept = joins && outer_call.tokens()[at].is_some();
                let count = &mut outer.tokens[at];
                let before = *count;
                let covered = before.counted.saturating_sub(before.inner);
                let new = count.add_inner(own.unwrap_or(0));
                if is_kept {
                    count.counted = before.counted;
                }
                span.new_tokens[at] = own.map(|_| new);
                span.tokens[at].counted = covered.max(own.unwrap_or(0));
            }
            return joins.then_some(outer.key);
        }
        None
    }
}
