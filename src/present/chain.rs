//! The chain of a session: each turn with its model calls, their tools, the calls on the wire, the server's own spans.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::present::fact_list::FactList;
use crate::present::table::{Terminal, Tone};
use crate::present::waterfall::{DrawnPart, TimeScale, bar_and_note, draw_start};
use crate::present::{Printable, annotations, format};
use crate::query::agents::chain::{ChainItem, ChainNode, ChainPath, SessionChain};
use crate::query::agents::totals::{AgentTotals, ModelTotals};
use crate::query::agents::{RunFact, joins};
use crate::query::find::OperationMatch;
use crate::query::row::OperationRow;
use crate::record::agent::AgentRecord;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Decider, Status, ToolDecision};

/// Draws the tree of a session whose operations are `rows`, sorted by time.
pub(crate) fn draw(
    out: &mut dyn Write,
    terminal: &Terminal,
    chain: &SessionChain<'_>,
    rows: &[&OperationRow],
    part: DrawnPart,
) -> io::Result<()> {
    draw_start(out, terminal, &chain.starts)?;
    let until = rows.get(part.first).map(|row| row.order());
    let mut with_servers = BTreeSet::from(NAME_SERVERS);
    chain.turns.iter().for_each(|turn| add_with_servers(turn, &mut with_servers));
    let head = head_width(terminal, &chain.turns);
    let drawing = ChainDrawing { terminal, until, part, head, with_servers };
    let mut number = 0;
    let mut has_guess = false;
    for turn in &chain.turns {
        number += usize::from(matches!(turn.item, ChainItem::Turn(_)));
        if !drawing.is_shown(turn) {
            continue;
        }
        let scale = TimeScale::of_span(turn.began(), turn.ended(), drawing.bars(), terminal);
        drawing.heading(out, turn, number, &scale)?;
        for node in turn.children.iter().filter(|node| drawing.is_shown(node)) {
            has_guess |= drawing.node(out, node, &scale, 1)?;
        }
    }
    if has_guess {
        let legend = terminal.cut("~ joined by its time: no id says where it belongs", terminal.width);
        writeln!(out, "{}", Tone::Faint.paint(legend))?;
    }
    Ok(())
}

struct ChainDrawing<'a> {
    terminal: &'a Terminal,
    /// The first operation that is drawn only if it failed.
    until: Option<(Timestamp, &'a str, u64)>,
    part: DrawnPart,
    /// Columns before the duration.
    head: usize,
    /// Names of the agents that report the server of a tool.
    with_servers: BTreeSet<&'a str>,
}

/// Agents that report the server of every tool of a server, in spans and in events.
const NAME_SERVERS: [&str; 2] = ["claude-code", "codex"];

/// Adds the agents that reported the server of a tool.
fn add_with_servers<'a>(node: &'a ChainNode<'_>, found: &mut BTreeSet<&'a str>) {
    if let ChainItem::Tool(fact) = node.item
        && fact.record.tool_server.is_some()
    {
        found.insert(&fact.record.agent_name);
    }
    node.children.iter().for_each(|child| add_with_servers(child, found));
}

impl ChainDrawing<'_> {
    /// Returns the column at which bars begin: after head and duration.
    fn bars(&self) -> usize {
        self.head + 1 + 8 + 2
    }

    fn is_shown(&self, node: &ChainNode<'_>) -> bool {
        match node.item {
            ChainItem::Operation(OperationMatch { row, .. }) => {
                row.status.is_failure() || self.until.is_none_or(|until| row.order() < until)
            }
            ChainItem::Span(_) => true,
            _ => {
                let is_early = || self.until.is_none_or(|(until, ..)| node.began() < until);
                node.children.iter().any(|child| self.is_shown(child))
                    || !self.part.only_operations && is_early()
            }
        }
    }

    fn heading(
        &self,
        out: &mut dyn Write,
        turn: &ChainNode<'_>,
        number: usize,
        scale: &TimeScale,
    ) -> io::Result<()> {
        let title = match turn.item {
            ChainItem::Turn(_) => format!("turn {number}"),
            _ => "outside turns".to_owned(),
        };
        let at = turn.began().local(&self.terminal.zone, "%H:%M:%S");
        let took = format::duration(turn.began().ms_until(turn.ended()));
        let used = models_below(turn);
        let mut facts = vec![format!("{title}  {at}  {took}")];
        facts.extend(cost(&used));
        let of = |is_counted: &dyn Fn(&ChainItem<'_>) -> bool| turn.count(is_counted);
        let models = of(&|item| matches!(item, ChainItem::Model(_)));
        let tools = of(&|item| matches!(item, ChainItem::Tool(_)));
        let operations = of(&|item| matches!(item, ChainItem::Operation(_)));
        for (count, word) in [(models, "model call"), (tools, "tool"), (operations, "operation")] {
            facts.extend(
                (count > 0 && (word != "operation" || tools == 0)).then(|| format::plural(count, word)),
            );
        }
        facts.extend(tokens(&used));
        let heading = self.terminal.cut(facts.join(", "), self.terminal.width);
        let mut axis = scale.axis(self.bars().saturating_sub(heading.width()));
        if heading.width() + axis.len() > self.terminal.width || heading.width() + 2 > self.bars() {
            axis.clear();
        }
        writeln!(out, "{}{}", Tone::Strong.paint(heading), Tone::Faint.paint(axis))
    }

    /// Draws a node and those below it. Returns true if one of them was joined by its time only.
    fn node(
        &self,
        out: &mut dyn Write,
        node: &ChainNode<'_>,
        scale: &TimeScale,
        depth: usize,
    ) -> io::Result<bool> {
        let mut has_guess = is_guess(node);
        writeln!(out, "{}", self.line(node, scale, depth))?;
        for child in node.children.iter().filter(|child| self.is_shown(child)) {
            has_guess |= self.node(out, child, scale, depth + 1)?;
        }
        Ok(has_guess)
    }

    fn line(&self, node: &ChainNode<'_>, scale: &TimeScale, depth: usize) -> String {
        let terminal = self.terminal;
        let (before, name) = label(node);
        let indent = 2 * depth;
        let mut line = format!("{:indent$}{}", "", Tone::Faint.paint(&before));
        let name = terminal.cut(&name, self.head.saturating_sub(indent + before.width()).max(6));
        line.push_str(&name);
        let used = indent + before.width() + name.width();
        line.extend(std::iter::repeat_n(' ', (self.head + 1).saturating_sub(used)));
        let (ms, status) = match node.item {
            ChainItem::Operation(OperationMatch { row, .. }) => (row.duration_ms, row.status),
            ChainItem::Model(fact) | ChainItem::Tool(fact) | ChainItem::Span(fact) => {
                (fact.length_ms(), status(&fact.record))
            }
            ChainItem::Turn(_) | ChainItem::OutsideTurns => (None, Status::Ok),
        };
        line.push_str(&format!("{:>8}  ", ms.map(format::duration).unwrap_or_default()));
        let (note, tone) = self.note(node);
        let mut tone = tone;
        let bar = match node.item {
            // A bar of a fact that has one time only would be a guess.
            _ if ms.is_none() => (0, Printable::default()),
            ChainItem::Operation(OperationMatch { row, .. }) => {
                if status == Status::Ok && tone == Tone::Plain {
                    tone = Tone::Good;
                }
                scale.bar(terminal.unicode, row.started, row.ended(), status)
            }
            _ => scale.bar(terminal.unicode, node.began(), own_end(node), status),
        };
        bar_and_note(terminal, line, self.bars(), bar, (&note, tone), indent + 2)
    }

    fn note(&self, node: &ChainNode<'_>) -> (Printable, Tone) {
        match node.item {
            ChainItem::Model(fact) => self.with_handle(fact, model_note(&fact.record)),
            ChainItem::Tool(fact) => self.with_handle(fact, self.tool_note(fact, node)),
            ChainItem::Operation(found) => annotations::operation(&found.row, self.terminal.warn),
            ChainItem::Span(fact) => {
                let tone = if is_failed(&fact.record) { Tone::Bad } else { Tone::Faint };
                (joined([Some(fact.record.agent_name.to_string()), failure(&fact.record)]), tone)
            }
            ChainItem::Turn(_) | ChainItem::OutsideTurns => (Printable::default(), Tone::Plain),
        }
    }

    /// Adds the handle by which `show` prints the record, where a line has room for it.
    fn with_handle(&self, fact: &RunFact<'_>, (note, tone): (Printable, Tone)) -> (Printable, Tone) {
        /// Columns of a line that has room.
        const ROOMY: usize = 120;
        match (self.terminal.width >= ROOMY, note.is_empty()) {
            (false, _) => (note, tone),
            (true, true) => (fact.handle().into(), Tone::Faint),
            (true, false) => (format!("{note}, {}", fact.handle()).into(), tone),
        }
    }

    fn tool_note(&self, fact: &RunFact<'_>, node: &ChainNode<'_>) -> (Printable, Tone) {
        let record = &fact.record;
        let is_refused = record.decision == Some(ToolDecision::Refused);
        let was_sent = node.count(&|item| matches!(item, ChainItem::Operation(_))) > 0;
        let by = record.decided_by.map(|by| format!(" by {by}")).unwrap_or_default();
        let waited = record.person_wait_ms.as_ref().filter(|ms| ms.0 > 0.0);
        let waited = waited.map(|ms| format!("waited {} for a person", format::duration(ms.0)));
        let missing = match (is_refused, was_sent, &record.tool_server) {
            (true, false, _) => Some("no server was asked".to_owned()),
            (false, false, None) if self.with_servers.contains(&*record.agent_name) => {
                Some("built in".to_owned())
            }
            (false, false, _) if self.part.is_whole => Some("no call on the wire".to_owned()),
            _ => None,
        };
        // A call below says how it failed.
        let failure = failure(record).filter(|_| !was_sent && !is_refused);
        let tone = match () {
            () if is_refused => Tone::Warning,
            () if failure.is_some() => Tone::Bad,
            () => Tone::Plain,
        };
        // A decision by the settings of the agent is the usual one.
        let is_notable = is_refused || matches!(record.decided_by, Some(Decider::User | Decider::Hook));
        let decision = record.decision.filter(|_| is_notable).map(|decision| format!("{decision}{by}"));
        (joined([decision, waited, missing, failure]), tone)
    }
}

/// Writes what the agent reported of the turn, the model call and the tool above an operation, and the spans of its
/// server, each with its handle.
pub(super) fn write_path(facts: &mut FactList<'_>, path: &ChainPath<'_, '_>) -> io::Result<()> {
    /// Most spans that are named.
    const SPANS: usize = 10;
    let Some((operation, above)) = path.nodes.split_last() else { return Ok(()) };
    let spans = &operation.children[..];
    let is_of_agent = |node: &&&ChainNode<'_>| !matches!(node.item, ChainItem::OutsideTurns);
    if !above.iter().any(|node| is_of_agent(&node)) && spans.is_empty() {
        return Ok(());
    }
    facts.section("what agent and server reported")?;
    for node in above.iter().filter(is_of_agent) {
        let mark = above_mark(node, path);
        match node.item {
            ChainItem::Turn(fact) => {
                let number = path.turn.map(|number| number.to_string()).unwrap_or_default();
                let id = fact.and_then(|fact| fact.record.turn_id.as_deref());
                let parts = [Some(number), id.map(|id| format!("id {id}")), fact.map(RunFact::handle)];
                facts.add("turn", &format!("{mark}{}", joined(parts)), Tone::Plain)?;
            }
            ChainItem::Model(fact) => {
                let (note, tone) = model_note(&fact.record);
                let parts = [Some(text(&fact.record.model)), Some(note.to_string()), Some(fact.handle())];
                facts.add("model call", &format!("{mark}{}", joined(parts)), tone)?;
            }
            ChainItem::Tool(fact) => {
                let by = fact.record.decided_by.map(|by| format!(" by {by}")).unwrap_or_default();
                let decision = fact.record.decision.map(|decision| format!("{decision}{by}"));
                let waited = fact.record.person_wait_ms.as_ref().filter(|ms| ms.0 > 0.0);
                let waited = waited.map(|ms| format!("waited {} for a person", format::duration(ms.0)));
                let parts = [Some(label(node).1.to_string()), decision, waited, Some(fact.handle())];
                facts.add("tool", &format!("{mark}{}", joined(parts)), Tone::Plain)?;
            }
            ChainItem::OutsideTurns | ChainItem::Operation(_) | ChainItem::Span(_) => {}
        }
    }
    for node in spans.iter().take(SPANS) {
        let ChainItem::Span(fact) = node.item else { continue };
        let took = fact.length_ms().map(format::duration);
        let service = Some(fact.record.agent_name.to_string());
        let parts =
            [Some(text(&fact.record.span_name)), service, took, failure(&fact.record), Some(fact.handle())];
        let mark = if is_guess(node) { "~ " } else { "" };
        facts.add("span", &format!("{mark}{}", joined(parts)), Tone::Plain)?;
    }
    let more = spans.len().saturating_sub(SPANS);
    facts.add("", &if more > 0 { format!("and {more} more") } else { String::new() }, Tone::Plain)
}

/// Returns `~ ` if only a time says that what is below the node belongs to it.
fn above_mark(node: &ChainNode<'_>, path: &ChainPath<'_, '_>) -> &'static str {
    let at = path.nodes.iter().position(|other| std::ptr::eq(*other, node));
    let below = at.and_then(|at| path.nodes.get(at + 1));
    if below.is_some_and(|below| is_guess(below)) { "~ " } else { "" }
}

/// Returns when the record of the node ended, without those below it.
fn own_end(node: &ChainNode<'_>) -> Timestamp {
    match node.item {
        ChainItem::Model(fact) | ChainItem::Tool(fact) | ChainItem::Span(fact) => fact.ended(),
        _ => node.ended(),
    }
}

fn is_guess(node: &ChainNode<'_>) -> bool {
    node.join.is_some_and(|join: joins::Join| join.is_by_time)
}

/// Returns what a node is, and its name.
fn label(node: &ChainNode<'_>) -> (Printable, Printable) {
    let mark = if is_guess(node) { "~ " } else { "" };
    let (what, name) = match node.item {
        ChainItem::Model(fact) => ("model ".to_owned(), text(&fact.record.model)),
        ChainItem::Tool(fact) => {
            let server = fact.record.tool_server.as_deref().map(|server| format!("{server}/"));
            ("tool ".to_owned(), server.unwrap_or_default() + &text(&fact.record.tool_name))
        }
        ChainItem::Span(fact) => ("span ".to_owned(), text(&fact.record.span_name)),
        ChainItem::Operation(OperationMatch { row, .. }) => (
            format!("{}  ", row.handle()),
            // The server of a call is that of the tool above it, unless an id says so only.
            if row.is_tool_call && node.join.is_some() {
                row.name().to_owned()
            } else {
                format!("{}/{}", row.server_name, row.name())
            },
        ),
        ChainItem::Turn(_) | ChainItem::OutsideTurns => (String::new(), String::new()),
    };
    (format!("{mark}{what}").into(), name.into())
}

fn text(text: &Option<std::borrow::Cow<'_, str>>) -> String {
    text.as_deref().unwrap_or("?").to_owned()
}

/// Returns the columns of the widest label with its indent, but not more than half of a line.
fn head_width(terminal: &Terminal, turns: &[ChainNode<'_>]) -> usize {
    fn widest(node: &ChainNode<'_>, depth: usize) -> usize {
        let (before, name) = label(node);
        let below = node.children.iter().map(|child| widest(child, depth + 1)).max();
        (2 * depth + before.width() + name.width()).max(below.unwrap_or(0))
    }
    turns.iter().map(|turn| widest(turn, 0)).max().unwrap_or(0).min(terminal.share(2))
}

fn joined(parts: impl IntoIterator<Item = Option<String>>) -> Printable {
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ").into()
}

fn status(record: &AgentRecord<'_>) -> Status {
    record.status.unwrap_or_default()
}

fn is_failed(record: &AgentRecord<'_>) -> bool {
    record.status.is_some_and(Status::is_failure)
}

/// Returns how a fact failed, in the agent's word.
fn failure(record: &AgentRecord<'_>) -> Option<String> {
    let status = record.status.filter(|status| status.is_failure())?;
    Some(record.error_type.as_deref().map_or_else(|| status.to_string(), str::to_owned))
}

fn model_note(record: &AgentRecord<'_>) -> (Printable, Tone) {
    let mut totals = ModelTotals::default();
    totals.add(record);
    let first = record.first_token_ms.as_ref();
    let mut notes = figures(&totals);
    notes.extend(first.map(|ms| format!("first token {}", format::duration(ms.0))));
    notes.extend(record.attempt.filter(|attempt| *attempt > 1).map(|attempt| format!("attempt {attempt}")));
    notes.extend(failure(record));
    let tone = if is_failed(record) { Tone::Bad } else { Tone::Plain };
    (notes.join(", ").into(), tone)
}

/// Returns tokens and cost of model calls, in words.
pub(crate) fn figures(totals: &ModelTotals) -> Vec<String> {
    tokens(totals).into_iter().chain(cost(totals)).collect()
}

pub(crate) fn tokens(totals: &ModelTotals) -> Vec<String> {
    let cached = match totals.cached_tokens {
        0 => String::new(),
        cached => format!(" ({} cached)", format::count(cached)),
    };
    let input = totals.input().map(|input| format!("{} in{cached}", format::count(input)));
    let output = totals.output().map(|output| format!("{} out", format::count(output)));
    let mut figures: Vec<String> = input.into_iter().chain(output).collect();
    if let Some(last) = figures.last_mut() {
        last.push_str(&of_calls(totals.told, totals));
    }
    figures
}

pub(crate) fn cost(totals: &ModelTotals) -> Option<String> {
    let calculated = match totals.calculated {
        0 => String::new(),
        _ if totals.calls == 1 => String::new(),
        count => format!(" ({count} of {} calculated)", totals.priced),
    };
    let mark = if totals.calculated > 0 { "~" } else { "" };
    let cost = totals.cost()?;
    Some(format!("{mark}{}{calculated}{}", format::usd(cost), of_calls(totals.priced, totals)))
}

/// Returns of how many calls a figure is known, unless it is known of all.
fn of_calls(count: u64, totals: &ModelTotals) -> String {
    if count < totals.calls { format!(" of {count} of {} calls", totals.calls) } else { String::new() }
}

fn models_below(node: &ChainNode<'_>) -> ModelTotals {
    let mut totals = ModelTotals::default();
    for child in &node.children {
        if let ChainItem::Model(fact) = child.item {
            totals.add(&fact.record);
        }
        totals.merge(&models_below(child));
    }
    totals
}

/// Returns what the agent reported of the whole session, one line for its model calls and one for its refusals.
pub(crate) fn summary(totals: &AgentTotals) -> Vec<Vec<Printable>> {
    let mut lines = Vec::new();
    if totals.models.calls > 0 {
        let names: Vec<&str> =
            totals.by_model.keys().map(String::as_str).filter(|name| !name.is_empty()).collect();
        let names = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
        let mut facts = vec![format!("agent: {}{names}", format::plural(totals.models.calls, "model call"))];
        facts.extend(figures(&totals.models));
        facts.extend((totals.models.errors > 0).then(|| format!("{} failed", totals.models.errors)));
        lines.push(facts.into_iter().map(Printable::from).collect());
    }
    if totals.refusals() > 0 {
        let refused = totals.refused.iter().map(|((tool, by), count)| {
            let times = if *count > 1 { format!(" {count}x") } else { String::new() };
            let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
            Printable::from(format!("{tool}{by}{times}"))
        });
        let mut facts: Vec<Printable> = refused.collect();
        if let Some(first) = facts.first_mut() {
            *first = Printable::from(format!("refused before a server was asked: {first}"));
        }
        lines.push(facts);
    }
    lines
}
