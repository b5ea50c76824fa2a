//! The chain of a session as a tree: turn, model call, tool, call on the wire, spans of the server.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::query::agents::RunFact;
use crate::query::agents::joins::{self, Join, JoinedBy, ModelIndex};
use crate::query::agents::time_index::TimeIndex;
use crate::query::agents::totals::AgentTotals;
use crate::query::agents::turn_times::{TurnPart, TurnTimes, turn_link};
use crate::query::find::OperationMatch;
use crate::query::row::OperationRow;
use crate::query::time_spent::{AgentTimes, starting_rows};
use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Status, ToolDecision};

/// One record of the tree, or a group of records that belong to no turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChainItem<'r> {
    /// A turn of the agent; `None` if its agent reported only the turn's id, or nothing of it.
    Turn(Option<&'r RunFact<'r>>),
    OutsideTurns,
    Model(&'r RunFact<'r>),
    Tool(&'r RunFact<'r>),
    Operation(&'r OperationMatch),
    Span(&'r RunFact<'r>),
}

#[derive(Clone, Debug)]
pub(crate) struct ChainNode<'r> {
    pub(crate) item: ChainItem<'r>,
    /// Why it belongs to the node above; `None` if it is only in it.
    pub(crate) join: Option<Join>,
    pub(crate) children: Vec<ChainNode<'r>>,
}

impl<'r> ChainNode<'r> {
    fn new(item: ChainItem<'r>, join: Option<Join>) -> ChainNode<'r> {
        ChainNode { item, join, children: Vec::new() }
    }

    /// Returns when it began.
    pub(crate) fn began(&self) -> Timestamp {
        let of_children = || self.children.iter().map(ChainNode::began).min().unwrap_or_default();
        match self.item {
            ChainItem::Turn(Some(fact)) => fact.began(),
            ChainItem::Turn(None) | ChainItem::OutsideTurns => of_children(),
            ChainItem::Model(fact) | ChainItem::Tool(fact) | ChainItem::Span(fact) => fact.began(),
            ChainItem::Operation(operation) => operation.row.started,
        }
    }

    /// Returns when it ended, or when the last node below it ended.
    pub(crate) fn ended(&self) -> Timestamp {
        let own = match self.item {
            ChainItem::Turn(fact) => fact.map(RunFact::ended),
            ChainItem::OutsideTurns => None,
            ChainItem::Model(fact) | ChainItem::Tool(fact) | ChainItem::Span(fact) => Some(fact.ended()),
            ChainItem::Operation(operation) => Some(operation.row.ended()),
        };
        self.children.iter().map(ChainNode::ended).chain(own).max().unwrap_or_default()
    }

    /// Returns the number of nodes below it that `is_counted` accepts.
    pub(crate) fn count(&self, is_counted: &dyn Fn(&ChainItem<'_>) -> bool) -> u64 {
        let count = |node: &ChainNode<'_>| u64::from(is_counted(&node.item)) + node.count(is_counted);
        self.children.iter().map(count).sum()
    }

    /// Returns true if the node or one below it is the one that is looked for, and adds the nodes from there up to this.
    fn find<'c>(
        &'c self,
        is_it: &dyn Fn(&ChainNode<'_>) -> bool,
        nodes: &mut Vec<&'c ChainNode<'r>>,
    ) -> bool {
        let is_found = is_it(self) || self.children.iter().any(|child| child.find(is_it, nodes));
        if is_found {
            nodes.push(self);
        }
        is_found
    }

    fn sort(&mut self) {
        self.children.iter_mut().for_each(ChainNode::sort);
        self.children.sort_by_key(ChainNode::began);
    }
}

/// The tree of one session, and what its model calls used.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionChain<'r> {
    /// Turns, in the order of their beginnings.
    pub(crate) turns: Vec<ChainNode<'r>>,
    /// Greetings and listings before the first use of a server.
    pub(crate) starts: Vec<&'r OperationRow>,
    pub(crate) totals: AgentTotals,
    pub(crate) times: AgentTimes,
}

/// One operation in the tree.
#[derive(Clone, Debug)]
pub struct ChainPath<'c, 'r> {
    /// Number of its turn in the session, from 1; `None` if it is in no turn.
    pub(crate) turn: Option<usize>,
    /// The nodes from its turn to the operation itself.
    pub(crate) nodes: Vec<&'c ChainNode<'r>>,
}

impl<'r> SessionChain<'r> {
    /// Finds an operation by its connection and number. Returns `None` if it is not in the tree.
    pub(crate) fn path_to(&self, connection_id: &str, seq: u64) -> Option<ChainPath<'_, 'r>> {
        let is_it = |node: &ChainNode<'_>| {
            matches!(node.item, ChainItem::Operation(found)
                if *found.row.connection_id == *connection_id && found.row.seq == seq)
        };
        let mut number = 0;
        for turn in &self.turns {
            let is_turn = matches!(turn.item, ChainItem::Turn(_));
            number += usize::from(is_turn);
            let mut nodes = Vec::new();
            if turn.find(&is_it, &mut nodes) {
                nodes.reverse();
                return Some(ChainPath { turn: is_turn.then_some(number), nodes });
            }
        }
        None
    }
}

/// Joins the facts to the operations of a session. Returns `None` if no fact belongs to it.
pub(crate) fn chain<'r>(
    operations: &'r [OperationMatch],
    facts: &'r [RunFact<'r>],
    folds_start: bool,
) -> Option<SessionChain<'r>> {
    let of = |event: EventName| -> Vec<&'r RunFact<'r>> {
        facts.iter().filter(|fact| fact.record.event == event).collect()
    };
    let calls: Vec<&OperationMatch> = operations.iter().filter(|found| found.row.is_tool_call).collect();
    let parts = ChainParts {
        turns: of(EventName::AgentTurn),
        models: of(EventName::ModelCall),
        tools: of(EventName::AgentTool),
        spans: of(EventName::ServerSpan),
        calls,
    };
    if parts.is_empty() {
        return None;
    }
    let tools_of_calls = joins::tools_of(&parts.calls, &parts.tools);
    let rows: Vec<&OperationRow> = operations.iter().map(|found| &found.row).collect();
    let is_start = starting_rows(&rows);
    let folded = |at: usize| folds_start && is_start[at] && rows[at].status == Status::Ok;
    let others = (0..rows.len()).filter(|at| !rows[*at].is_tool_call && !folded(*at));
    let unreported = UnreportedTurns::of(facts, &parts.calls);
    let turns = parts.tree(&tools_of_calls, others.map(|at| &operations[at]).collect(), &unreported);
    let starts = (0..rows.len()).filter(|at| folded(*at)).map(|at| rows[at]).collect();
    let models = parts.models.iter().filter(|model| model.length_ms().is_some());
    let waited = |tool: &&RunFact<'_>| tool.waited().map(|(from, until)| (from.0, until.0));
    let times = AgentTimes {
        models: models.map(|model| (model.began().0, model.ended().0)).collect(),
        people: parts.tools.iter().filter_map(waited).collect(),
        turns: parts.turns.iter().map(|turn| (turn.began().0, turn.ended().0)).collect(),
    };
    let of_turns = turns.iter().filter(|node| matches!(node.item, ChainItem::Turn(_)));
    let mut totals = AgentTotals { turns: of_turns.count() as u64, ..AgentTotals::default() };
    parts.models.iter().for_each(|model| totals.add(&model.record, false));
    let sent: HashSet<usize> = tools_of_calls.iter().flatten().map(|(tool, _)| *tool).collect();
    for (at, tool) in parts.tools.iter().enumerate() {
        let is_refused = tool.record.decision == Some(ToolDecision::Refused);
        totals.add(&tool.record, is_refused && !sent.contains(&at));
    }
    Some(SessionChain { turns, starts, totals, times })
}

/// The turns of calls, by conversation and id, that are not turns of the agent: it reported nothing of them.
#[derive(Debug, Default)]
struct UnreportedTurns<'r>(HashSet<(&'r str, &'r str)>);

impl<'r> UnreportedTurns<'r> {
    fn of(facts: &[RunFact<'_>], calls: &[&'r OperationMatch]) -> UnreportedTurns<'r> {
        let of_agent = facts.iter().filter(|fact| fact.record.event != EventName::ServerSpan);
        let part = |fact: &RunFact<'_>| {
            let turn_id = fact.record.turn_id.as_deref().unwrap_or_default();
            TurnPart::new(fact.record.event, turn_id, fact.began(), fact.ended())
        };
        let mut times = TurnTimes::new(&of_agent.map(part).collect::<Vec<_>>());
        calls.iter().for_each(|call| times.note(turn_link(&call.row.turn_id)));
        let is_covered = |row: &OperationRow| times.covers(turn_link(&row.turn_id), row.started);
        let (covered, others): (Vec<&OperationRow>, Vec<&OperationRow>) =
            calls.iter().map(|call| &call.row).partition(|row| is_covered(row));
        let mut turns: HashSet<(&str, &str)> = others.into_iter().filter_map(named_turn).collect();
        for turn in covered.into_iter().filter_map(named_turn) {
            turns.remove(&turn);
        }
        UnreportedTurns(turns)
    }

    /// Returns the turn of an operation if it is one of these.
    fn of_operation(&self, operation: &'r OperationMatch) -> Option<(&'r str, &'r str)> {
        named_turn(&operation.row).filter(|turn| self.0.contains(turn))
    }

    /// Returns the first such turn of the operations of a node.
    fn below(&self, node: &ChainNode<'r>) -> Option<(&'r str, &'r str)> {
        match node.item {
            ChainItem::Operation(operation) => self.of_operation(operation),
            _ => node.children.iter().find_map(|child| self.below(child)),
        }
    }
}

/// Returns conversation and id of the turn that an operation names.
fn named_turn(row: &OperationRow) -> Option<(&str, &str)> {
    (!row.turn_id.is_empty()).then_some((&*row.conversation_id, &*row.turn_id))
}

/// The records of a session by kind, each in the order of their beginnings.
struct ChainParts<'r> {
    turns: Vec<&'r RunFact<'r>>,
    models: Vec<&'r RunFact<'r>>,
    tools: Vec<&'r RunFact<'r>>,
    spans: Vec<&'r RunFact<'r>>,
    calls: Vec<&'r OperationMatch>,
}

impl<'r> ChainParts<'r> {
    fn is_empty(&self) -> bool {
        [&self.turns, &self.models, &self.tools, &self.spans].iter().all(|facts| facts.is_empty())
    }

    fn tree(
        &self,
        tools_of_calls: &[Option<(usize, Join)>],
        others: Vec<&'r OperationMatch>,
        unreported: &UnreportedTurns<'r>,
    ) -> Vec<ChainNode<'r>> {
        let index = ModelIndex::new(&self.models);
        let mut turns = TurnGroups::new(&self.turns, unreported);
        let mut tools: Vec<ChainNode<'r>> =
            self.tools.iter().map(|tool| ChainNode::new(ChainItem::Tool(tool), None)).collect();
        let mut models: Vec<ChainNode<'r>> =
            self.models.iter().map(|model| ChainNode::new(ChainItem::Model(model), None)).collect();
        for (at, mut node) in self.calls_with_spans().into_iter().enumerate() {
            let call = self.calls[at];
            if let Some((tool, join)) = tools_of_calls[at] {
                node.join = Some(join);
                tools[tool].children.push(node);
            } else if let Some((model, join)) = self.model_of_call(&index, call, unreported) {
                node.join = Some(join);
                models[model].children.push(node);
            } else {
                turns.add(&CallPlace::of(call), node);
            }
        }
        for (tool, mut node) in self.tools.iter().zip(tools) {
            match self.model_of_tool(&index, tool) {
                Some((model, join)) => {
                    node.join = Some(join);
                    models[model].children.push(node);
                }
                None => turns.add(&CallPlace::of_fact(tool), node),
            }
        }
        for (model, node) in self.models.iter().zip(models) {
            turns.add(&CallPlace::of_fact(model), node);
        }
        for operation in others {
            turns.add(&CallPlace::of(operation), ChainNode::new(ChainItem::Operation(operation), None));
        }
        turns.finish()
    }

    fn model_of_tool(&self, index: &ModelIndex<'_>, tool: &RunFact<'_>) -> Option<(usize, Join)> {
        let by_id = tool.record.call_id.as_deref().and_then(|id| index.of_call_id(id, tool.began()));
        by_id.or_else(|| index.before_tool(tool))
    }

    fn model_of_call(
        &self,
        index: &ModelIndex<'_>,
        call: &'r OperationMatch,
        unreported: &UnreportedTurns<'r>,
    ) -> Option<(usize, Join)> {
        // The model call of a turn of which the agent reported nothing is not known.
        let before = || unreported.of_operation(call).is_none().then(|| index.before_call(call)).flatten();
        index.of_call_id(&call.ids.call_id, call.row.started).or_else(before)
    }

    /// Returns a node for each call, with the spans of its server below it.
    fn calls_with_spans(&self) -> Vec<ChainNode<'r>> {
        let mut calls: Vec<ChainNode<'r>> =
            self.calls.iter().map(|call| ChainNode::new(ChainItem::Operation(call), None)).collect();
        if self.spans.is_empty() {
            return calls;
        }
        let ids = |span: &'r RunFact<'r>, id: &'r Option<std::borrow::Cow<'r, str>>| {
            Some((span.record.trace_id.as_deref()?, id.as_deref()?))
        };
        let by_id: HashMap<(&str, &str), usize> = self
            .spans
            .iter()
            .enumerate()
            .filter_map(|(at, span)| Some((ids(span, &span.record.span_id)?, at)))
            .collect();
        let parent = |span: &'r RunFact<'r>| by_id.get(&ids(span, &span.record.parent_span_id)?).copied();
        let mut below: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut roots = Vec::new();
        for (at, span) in self.spans.iter().enumerate() {
            match parent(span).filter(|parent| *parent != at) {
                Some(parent) => below.entry(parent).or_default().push(at),
                None => roots.push(at),
            }
        }
        let tops: Vec<&RunFact<'_>> = roots.iter().map(|at| self.spans[*at]).collect();
        for (root, joined) in roots.iter().zip(joins::calls_of_spans(&tops, &self.calls)) {
            if let Some((call, join)) = joined {
                let mut node = self.span_tree(*root, &below, 0);
                node.join = Some(join);
                calls[call].children.push(node);
            }
        }
        calls
    }

    /// Returns a span with those below it. Spans that are each other's parents have no root, so they are not here.
    fn span_tree(&self, at: usize, below: &BTreeMap<usize, Vec<usize>>, depth: usize) -> ChainNode<'r> {
        /// Deepest level of spans; deeper ones are left out.
        const DEEPEST: usize = 32;
        let mut node = ChainNode::new(ChainItem::Span(self.spans[at]), Some(Join::exact(JoinedBy::Trace)));
        let children = below.get(&at).into_iter().flatten().filter(|_| depth < DEEPEST);
        node.children = children.map(|child| self.span_tree(*child, below, depth + 1)).collect();
        node
    }
}

/// Ids and times that say in which turn a record is.
struct CallPlace<'r> {
    turn_id: &'r str,
    trace_id: &'r str,
    parent_span_id: &'r str,
    began: Timestamp,
    ended: Timestamp,
}

impl<'r> CallPlace<'r> {
    fn of(operation: &'r OperationMatch) -> CallPlace<'r> {
        CallPlace {
            turn_id: &operation.row.turn_id,
            trace_id: &operation.ids.trace_id,
            parent_span_id: &operation.ids.parent_span_id,
            began: operation.row.started,
            ended: operation.row.ended(),
        }
    }

    fn of_fact(fact: &'r RunFact<'r>) -> CallPlace<'r> {
        let text = |text: &'r Option<std::borrow::Cow<'r, str>>| text.as_deref().unwrap_or_default();
        CallPlace {
            turn_id: text(&fact.record.turn_id),
            trace_id: text(&fact.record.trace_id),
            parent_span_id: text(&fact.record.parent_span_id),
            began: fact.began(),
            ended: fact.ended(),
        }
    }
}

/// The turns of the agent, to which records are added.
struct TurnGroups<'r, 'u> {
    /// Those that the agent reported, then those of which only ids are known.
    nodes: Vec<ChainNode<'r>>,
    /// Turns of each id, in the order of their beginnings: a session that is continued can count its turns anew.
    by_id: HashMap<String, Vec<(Timestamp, usize)>>,
    by_span: HashMap<(&'r str, &'r str), usize>,
    by_time: TimeIndex,
    /// The turns without an id.
    nameless: TimeIndex,
    /// Turns of which the agent reported nothing, and those of them that have a node.
    unreported: &'u UnreportedTurns<'r>,
    by_call: HashMap<(&'r str, &'r str), usize>,
    outside: ChainNode<'r>,
}

impl<'r, 'u> TurnGroups<'r, 'u> {
    fn new(turns: &[&'r RunFact<'r>], unreported: &'u UnreportedTurns<'r>) -> TurnGroups<'r, 'u> {
        let time = |(at, turn): (usize, &&RunFact<'_>)| (turn.began().0, turn.ended().0, at);
        let nameless = turns.iter().enumerate().filter(|(_, turn)| turn.record.turn_id.is_none());
        let mut groups = TurnGroups {
            nodes: Vec::with_capacity(turns.len()),
            by_id: HashMap::new(),
            by_span: HashMap::new(),
            by_time: TimeIndex::new(turns.iter().enumerate().map(time)),
            nameless: TimeIndex::new(nameless.map(time)),
            unreported,
            by_call: HashMap::new(),
            outside: ChainNode::new(ChainItem::OutsideTurns, None),
        };
        for (at, turn) in turns.iter().enumerate() {
            groups.nodes.push(ChainNode::new(ChainItem::Turn(Some(turn)), None));
            if let Some(id) = turn.record.turn_id.as_deref() {
                groups.by_id.entry(id.to_owned()).or_default().push((turn.began(), at));
            }
            if let (Some(trace), Some(span)) = (&turn.record.trace_id, &turn.record.span_id) {
                groups.by_span.insert((trace, span), at);
            }
        }
        groups
    }

    fn add(&mut self, place: &CallPlace<'_>, mut node: ChainNode<'r>) {
        let by_span: &HashMap<(&str, &str), usize> = &self.by_span;
        let exact =
            self.of_id(place).or_else(|| by_span.get(&(place.trace_id, place.parent_span_id)).copied());
        let is_of_agent = matches!(node.item, ChainItem::Model(_) | ChainItem::Tool(_));
        let (at, join) = match exact {
            Some(at) => (Some(at), Join::exact(JoinedBy::Turn)),
            None if is_of_agent && !place.turn_id.is_empty() => {
                match self.nameless.last_around(place.began, place.began) {
                    Some(at) => (Some(at), Join::by_time(JoinedBy::Turn)),
                    None => (Some(self.turn_of_id(place.turn_id)), Join::exact(JoinedBy::Turn)),
                }
            }
            None => match self.around(place) {
                Some(at) => (Some(at), Join::by_time(JoinedBy::Turn)),
                None => (self.turn_of_calls(&node), Join::exact(JoinedBy::Turn)),
            },
        };
        match at {
            Some(at) => {
                node.join = Some(join);
                self.nodes[at].children.push(node);
            }
            None => self.outside.children.push(node),
        }
    }

    /// Returns the turn with the id of the record; the last one that began before it if several have the id.
    fn of_id(&self, place: &CallPlace<'_>) -> Option<usize> {
        let turns = self.by_id.get(place.turn_id)?;
        let before = turns.partition_point(|(began, _)| *began <= place.began);
        turns.get(before.saturating_sub(1)).map(|(_, at)| *at)
    }

    /// Returns the last turn that began before the record and ended after it.
    fn around(&self, place: &CallPlace<'_>) -> Option<usize> {
        self.by_time.last_around(place.began, place.ended)
    }

    /// Returns the turn of the node's calls if the agent reported nothing of it.
    fn turn_of_calls(&mut self, node: &ChainNode<'r>) -> Option<usize> {
        let nodes = &mut self.nodes;
        let make = || {
            nodes.push(ChainNode::new(ChainItem::Turn(None), None));
            nodes.len() - 1
        };
        Some(*self.by_call.entry(self.unreported.below(node)?).or_insert_with(make))
    }

    /// Makes a turn of which only the id is known.
    fn turn_of_id(&mut self, id: &str) -> usize {
        self.nodes.push(ChainNode::new(ChainItem::Turn(None), None));
        self.by_id.insert(id.to_owned(), vec![(Timestamp::default(), self.nodes.len() - 1)]);
        self.nodes.len() - 1
    }

    fn finish(mut self) -> Vec<ChainNode<'r>> {
        if !self.outside.children.is_empty() {
            self.nodes.push(self.outside);
        }
        self.nodes.iter_mut().for_each(ChainNode::sort);
        self.nodes.sort_by_key(ChainNode::began);
        self.nodes
    }
}
