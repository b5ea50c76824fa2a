//! One session, drawn: turns, and in each the operations as bars on a common scale.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::present::annotations;
use crate::present::format;
use crate::present::table::{Terminal, Tone};
use crate::query::durations::Durations;
use crate::query::entry::Entry;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// One operation, with what its bar needs.
#[derive(Clone, Debug)]
pub struct Bar {
    pub seq: u64,
    pub server: String,
    /// Tool, prompt or resource, else the method.
    pub name: String,
    pub turn: String,
    pub conversation: String,
    connection: String,
    is_call: bool,
    pub started: Timestamp,
    pub duration_ms: f64,
    pub status: Status,
    pub note: String,
    pub tone: Tone,
}

impl Bar {
    pub fn new(entry: &Entry<'_>, warn: u32) -> Bar {
        let (note, tone) = annotations::operation(entry, warn);
        Bar {
            seq: entry.seq,
            server: format::clean(&entry.server_name).into_owned(),
            name: format::clean(entry.name()).into_owned(),
            turn: entry.turn_id.to_string(),
            conversation: entry.conversation_id.to_string(),
            connection: entry.connection_id.to_string(),
            is_call: entry.event == EventName::McpToolCall,
            started: entry.started(),
            duration_ms: entry.duration_ms.unwrap_or(0.0).max(0.0),
            status: entry.status,
            note,
            tone,
        }
    }

    fn ends_us(&self) -> i64 {
        self.started.plus_ms(self.duration_ms).0
    }
}

/// Samples of one tool, below which its p95 says nothing.
const ENOUGH: usize = 20;

/// Marks what took much longer than usual for its tool: beyond its 95th percentile and beyond twice
/// its median.
pub fn mark_slow(bars: &mut [Bar]) {
    let mut by_tool: HashMap<(String, String), Durations> = HashMap::new();
    for bar in bars.iter().filter(|bar| bar.status != Status::Unknown) {
        by_tool.entry((bar.server.clone(), bar.name.clone())).or_default().push(bar.duration_ms);
    }
    let usual: HashMap<_, _> = by_tool
        .into_iter()
        .filter(|(_, durations)| durations.len() >= ENOUGH)
        .filter_map(|(tool, mut durations)| Some((tool, durations.quantiles([0.5, 0.95])?)))
        .collect();
    for bar in bars {
        let Some([p50, p95]) = usual.get(&(bar.server.clone(), bar.name.clone())) else { continue };
        if bar.duration_ms > *p95 && bar.duration_ms > 2.0 * p50 {
            let separator = if bar.note.is_empty() { "" } else { ", " };
            bar.note = format!("{}{separator}slow (p95 {})", bar.note, format::duration(*p95));
            if bar.tone == Tone::Plain {
                bar.tone = Tone::Warning;
            }
        }
    }
}

/// Turns in order of their first operation; what has no turn is a turn of its own.
pub fn turns(mut bars: Vec<Bar>) -> Vec<Vec<Bar>> {
    // What a server asks while it works on a call has no turn of its own: it is part of the call's.
    let calls: Vec<Bar> = bars.iter().filter(|bar| bar.is_call && !bar.turn.is_empty()).cloned().collect();
    for bar in bars.iter_mut().filter(|bar| bar.turn.is_empty()) {
        let during = |call: &&Bar| {
            call.connection == bar.connection && (call.started.0..=call.ends_us()).contains(&bar.started.0)
        };
        if let Some(call) = calls.iter().find(during) {
            (bar.conversation, bar.turn) = (call.conversation.clone(), call.turn.clone());
        }
    }
    bars.sort_by(|a, b| (a.started, &a.server, a.seq).cmp(&(b.started, &b.server, b.seq)));
    let mut turns: Vec<Vec<Bar>> = Vec::new();
    let mut index: HashMap<(String, String), usize> = HashMap::new();
    for bar in bars {
        let at = *index.entry((bar.conversation.clone(), bar.turn.clone())).or_insert_with(|| {
            turns.push(Vec::new());
            turns.len() - 1
        });
        turns[at].push(bar);
    }
    turns
}

/// Draws the turns.
///
/// # Errors
/// Those of `out`.
pub fn draw(out: &mut dyn Write, terminal: &Terminal, turns: &[Vec<Bar>]) -> io::Result<()> {
    let all = || turns.iter().flatten();
    let servers = all().map(|bar| &bar.server).collect::<std::collections::BTreeSet<_>>().len();
    let widest = |text: fn(&Bar) -> usize, share: usize| {
        all().map(text).max().unwrap_or(0).min(terminal.width / share)
    };
    let layout = Layout {
        seq: all().map(|bar| bar.seq.to_string().len() + 1).max().unwrap_or(2),
        server: if servers > 1 { widest(|bar| format::width(&bar.server), 8) } else { 0 },
        name: widest(|bar| format::width(&bar.name), if terminal.width < 60 { 5 } else { 4 }),
    };
    let mut number = 0;
    for turn in turns {
        // Greetings and listings happen without anybody having asked for something.
        let named = turn.iter().any(|bar| bar.is_call && !bar.turn.is_empty());
        number += usize::from(named);
        let title = if named { format!("turn {number}") } else { "outside turns".to_owned() };
        draw_turn(out, terminal, &layout, &title, turn)?;
    }
    Ok(())
}

struct Layout {
    seq: usize,
    server: usize,
    name: usize,
}

impl Layout {
    /// Columns before the bars: indent, number, server, name, duration.
    fn left(&self) -> usize {
        let server = if self.server > 0 { self.server + 1 } else { 0 };
        2 + self.seq + 1 + server + self.name + 1 + 8 + 2
    }
}

fn draw_turn(
    out: &mut dyn Write,
    terminal: &Terminal,
    layout: &Layout,
    title: &str,
    turn: &[Bar],
) -> io::Result<()> {
    let Some(start) = turn.iter().map(|bar| bar.started.0).min() else { return Ok(()) };
    let end = turn.iter().map(Bar::ends_us).max().unwrap_or(start);
    let span = (end - start).max(1) as f64;
    let left = layout.left();
    // Notes stand behind the bars, and take what is left of the line.
    let field = (terminal.width.saturating_sub(left + 2) / 2).clamp(4, 72);
    let calls = format::plural(turn.len() as u64, "operation");
    let at = format::local(Timestamp(start), &terminal.zone, "%H:%M:%S");
    let heading = format!("{title}  {at}  {calls}");
    let mut axis = axis(span / 1000.0, field, left.saturating_sub(format::width(&heading)));
    if format::width(&heading) + axis.len() > terminal.width {
        axis.clear();
    }
    writeln!(out, "{}{}", Tone::Strong.paint(&heading), Tone::Faint.paint(&axis))?;
    for bar in turn {
        let scale = |us: i64| (((us - start) as f64 / span) * field as f64) as usize;
        let from = scale(bar.started.0).min(field - 1);
        let to = scale(bar.ends_us()).clamp(from + 1, field);
        let body = match (terminal.unicode, bar.status) {
            (true, Status::Unknown) => "░",
            (true, _) => "█",
            (false, Status::Unknown) => ".",
            (false, _) => "=",
        };
        let tone = match (bar.status, bar.tone) {
            (Status::Ok, Tone::Plain) => Tone::Good,
            (_, tone) => tone,
        };
        let end_mark = if bar.status.is_failure() { "x" } else { "" };
        let mut text = format!("  {:<width$} ", format!("#{}", bar.seq), width = layout.seq);
        if layout.server > 0 {
            pad(&mut text, &format::cut(&bar.server, layout.server, terminal.ellipsis()), layout.server + 1);
        }
        pad(&mut text, &format::cut(&bar.name, layout.name, terminal.ellipsis()), layout.name + 1);
        let duration = format::duration(bar.duration_ms);
        text.extend(std::iter::repeat_n(' ', 8usize.saturating_sub(format::width(&duration))));
        text.push_str(&duration);
        text.push_str("  ");
        text.extend(std::iter::repeat_n(' ', from));
        let drawn = format!("{}{end_mark}", body.repeat(to - from));
        text.push_str(&tone.paint(&drawn));
        let used = left + from + format::width(&drawn);
        let room = terminal.width.saturating_sub(used + 1);
        let note = format::cut(&bar.note, room, terminal.ellipsis());
        if !note.is_empty() {
            text.push(' ');
            text.push_str(&tone.paint(&note));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn pad(line: &mut String, text: &str, width: usize) {
    line.push_str(text);
    line.extend(std::iter::repeat_n(' ', width.saturating_sub(format::width(text))));
}

/// `0      500 ms      1.00 s` over a field of `field` columns, after `before` blanks.
fn axis(span_ms: f64, field: usize, before: usize) -> String {
    let half = format::duration(span_ms / 2.0);
    let full = format::duration(span_ms);
    let mut axis = " ".repeat(before.max(2));
    axis.push('0');
    let middle = (field / 2).saturating_sub(1 + half.len() / 2);
    if middle + half.len() + full.len() + 4 <= field {
        axis.push_str(&" ".repeat(middle));
        axis.push_str(&half);
        axis.push_str(&" ".repeat(field.saturating_sub(1 + middle + half.len() + full.len())));
    } else {
        axis.push_str(&" ".repeat(field.saturating_sub(1 + full.len())));
    }
    axis.push_str(&full);
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_asks_during_a_call_stands_in_its_turn_and_greetings_stand_outside() {
        let line = |event: &str, method: &str, second: u32, ms: u32, turn: &str| {
            format!(
                r#"{{"schema":"spantap/1","event":"{event}","method":"{method}","connection_id":"c","started_at":"2026-11-25T18:00:{second:02}.000000Z","duration_ms":{ms},"status":"ok","turn_id":"{turn}"}}"#
            )
        };
        let lines = [
            line("mcp_request", "initialize", 0, 300, "1"),
            line("mcp_request", "elicitation/create", 11, 1_000, ""),
            line("mcp_tool_call", "tools/call", 10, 5_000, "t1"),
            line("mcp_request", "ping", 30, 1, ""),
        ];
        let bars = lines.iter().map(|line| Bar::new(&Entry::parse(line.as_bytes()).unwrap(), 3)).collect();
        let turns = turns(bars);
        let names: Vec<Vec<&str>> =
            turns.iter().map(|turn| turn.iter().map(|bar| bar.name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["initialize"], vec!["tools/call", "elicitation/create"], vec!["ping"]]);

        let terminal = Terminal { width: 80, unicode: true, zone: jiff::tz::TimeZone::UTC };
        let mut out = Vec::new();
        draw(&mut out, &terminal, &turns).unwrap();
        let drawn = anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string();
        let titles: Vec<&str> = drawn.lines().filter(|line| !line.starts_with(' ')).collect();
        let starts = |index: usize, title: &str| titles[index].starts_with(title);
        assert!(starts(0, "outside turns") && starts(1, "turn 1") && starts(2, "outside turns"), "{drawn}");
    }
}
