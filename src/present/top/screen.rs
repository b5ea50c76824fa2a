//! Draws the screen of `spantap top` into a buffer of cells, in the terminal's own colours.

use std::rc::Rc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::present::table::{Terminal, Tone};
use crate::present::tail::RowPrinter;
use crate::present::top::view::{Focus, Page, TopView};
use crate::present::top::{agent_lines, header, server_lines};
use crate::present::{Printable, annotations, errors, format};
use crate::query::row::LogRow;
use crate::query::top::{TopServer, TopState};
use crate::record::timestamp::Timestamp;

/// Everything that is drawn, and how.
pub(crate) struct TopScreen<'a> {
    /// The terminal with the width of the screen.
    pub(crate) terminal: &'a Terminal,
    pub(crate) state: &'a TopState,
    pub(crate) servers: &'a [TopServer],
    pub(crate) now: Timestamp,
    pub(crate) has_colour: bool,
}

/// Most lines of reports of agents, and the height below which they are left out.
const AGENTS: usize = 3;
const LOW: usize = 12;

const KEYS: &[&str] = &[
    "up, down, k, j  move; PgUp, PgDn, Home and End, too; End follows the newest",
    "Tab             move between calls and servers",
    "Enter           call: its ids and hashes; event: its session; server: its calls",
    "w               the session of the call or server, as a waterfall",
    "/               filter: server:git* tool:\"a b\" status:error session:01a2 word",
    "e               errors only",
    "g               errors by message; Enter shows the latest of them",
    "s               sort servers: name, calls, errors, p95, memory, idle, up",
    "Space           pause, and go on",
    "Esc             back; then: no filter",
    "Ctrl-Z          suspend; `fg` continues",
    "?               these keys",
    "q, Ctrl-C       quit",
];

impl TopScreen<'_> {
    pub(crate) fn draw(&self, view: &mut TopView, printer: &mut RowPrinter, buffer: &mut Buffer) {
        let area = buffer.area;
        let (width, height) = (area.width, usize::from(area.height));
        if width == 0 || height == 0 {
            return;
        }
        let mark = if view.is_paused { "PAUSED" } else { "" };
        self.put(buffer, 0, &header(self.terminal, self.state, self.servers, self.now, mark));
        if height < 3 {
            return;
        }
        let body = Rect { y: 1, height: area.height - 2, ..area };
        match &view.page {
            None => self.draw_lists(view, printer, buffer, body),
            Some(Page::Errors(selected)) => self.draw_errors(*selected, view, buffer, body),
            Some(Page::Keys) => {
                let lines: Vec<String> = KEYS.iter().map(|line| (*line).to_owned()).collect();
                self.draw_text(&lines, view, buffer, body);
            }
            Some(Page::Text { lines, .. }) => self.draw_text(&Rc::clone(lines), view, buffer, body),
        }
        self.put(buffer, area.height - 1, &self.footer(view));
    }

    /// Draws the servers, what their agents reported, a line between, and the calls, of which the newest is the last.
    fn draw_lists(&self, view: &mut TopView, printer: &mut RowPrinter, buffer: &mut Buffer, body: Rect) {
        let lines = server_lines(self.terminal, self.servers, self.now);
        let height = usize::from(body.height);
        let wanted = match view.focus {
            Focus::Servers => height * 2 / 3,
            Focus::Calls => height / 2,
        };
        let table = lines.len().min(wanted.max(1));
        let most = if height < LOW { 0 } else { AGENTS };
        let agents = agent_lines(self.terminal, self.state, most);
        let selected = self.servers.iter().position(|server| server.connection_id == view.server);
        if selected.is_none() {
            view.server = self.servers.first().map(|server| server.connection_id.clone()).unwrap_or_default();
        }
        let first = first_shown(selected.unwrap_or(0), table.saturating_sub(1), self.servers.len());
        self.put(buffer, body.y, &lines[0]);
        for (place, line) in lines.iter().skip(1 + first).take(table - 1).enumerate() {
            let y = body.y + 1 + place as u16;
            self.put(buffer, y, line);
            if view.focus == Focus::Servers && first + place == selected.unwrap_or(0) {
                self.select(buffer, y);
            }
        }
        let above = table + agents.len();
        if above >= height {
            return;
        }
        for (place, line) in agents.iter().enumerate() {
            self.put(buffer, body.y + (table + place) as u16, line);
        }
        let hidden = self.servers.len().saturating_sub(table - 1);
        self.put(buffer, body.y + above as u16, &self.separator(view, hidden));
        let room = height - above - 1;
        view.height = if view.focus == Focus::Servers { table - 1 } else { room };
        let last = view.shown.len().saturating_sub(1);
        let at = view.row.map_or(last, |row| view.shown.partition_point(|number| *number < row));
        let first = first_shown(at, room, view.shown.len());
        let rows: Vec<(u64, &LogRow)> = view
            .shown
            .iter()
            .skip(first)
            .take(room)
            .filter_map(|number| Some((*number, self.state.row(*number)?)))
            .collect();
        rows.iter().for_each(|(_, row)| printer.prepare(row));
        for (place, (number, row)) in rows.into_iter().enumerate() {
            let y = body.y + (above + 1 + place) as u16;
            self.put(buffer, y, &printer.line(row));
            if view.focus == Focus::Calls && view.row == Some(number) {
                self.select(buffer, y);
            }
        }
    }

    /// Returns the line between servers and calls: which calls are shown.
    fn separator(&self, view: &TopView, hidden: usize) -> String {
        let mut facts = Vec::new();
        if hidden > 0 {
            facts.push(format::plural(hidden as u64, "more server"));
        }
        if !view.filter_text.is_empty() && view.editing.is_none() {
            facts.push(format!("filter {}", view.filter_text));
        }
        for unknown in &view.filter.unknown {
            facts.push(format!("{unknown} is not known"));
        }
        if view.errors_only {
            facts.push("errors only".to_owned());
        }
        if view.errors_only || !view.filter.is_empty() {
            facts.push(format!("{} of {}", view.shown.len(), self.state.rows.len()));
        }
        let bar = if self.terminal.unicode { "─" } else { "-" };
        let text = if facts.is_empty() { String::new() } else { format!(" {} ", facts.join(", ")) };
        let text = self.terminal.cut(text, self.terminal.width.saturating_sub(2));
        let rest = self.terminal.width.saturating_sub(2 + text.width());
        let tone = if view.filter.unknown.is_empty() { Tone::Faint } else { Tone::Bad };
        let ends = [bar.repeat(2.min(self.terminal.width)), bar.repeat(rest)];
        format!("{}{}{}", Tone::Faint.paint(&*ends[0]), tone.paint(text), Tone::Faint.paint(&*ends[1]))
    }

    fn draw_errors(&self, selected: usize, view: &mut TopView, buffer: &mut Buffer, body: Rect) {
        let rows = view.error_rows(self.state);
        view.height = usize::from(body.height).saturating_sub(2);
        if rows.is_empty() {
            let text = self.terminal.cut("no errors among the calls that are shown", self.terminal.width);
            self.put(buffer, body.y, &Tone::Faint.paint(text));
            return;
        }
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = errors::write(&mut text, self.terminal, &rows, usize::MAX);
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        // A narrow line has its message on the next one.
        let each = (lines.len() - 2) / rows.len();
        let selected = selected.min(rows.len() - 1);
        let first = first_shown(selected, view.height / each, rows.len()) * each;
        self.put(buffer, body.y, lines[0]);
        for (place, line) in lines.iter().skip(1 + first).take(usize::from(body.height) - 1).enumerate() {
            let y = body.y + 1 + place as u16;
            self.put(buffer, y, line);
            if (first + place) / each == selected {
                self.select(buffer, y);
            }
        }
    }

    fn draw_text(&self, lines: &[String], view: &mut TopView, buffer: &mut Buffer, body: Rect) {
        view.height = usize::from(body.height);
        view.top = view.top.min(lines.len().saturating_sub(view.height));
        for (place, line) in lines.iter().skip(view.top).take(view.height).enumerate() {
            self.put(buffer, body.y + place as u16, line);
        }
    }

    /// Returns the last line: the filter that is being typed, a notice, the message of the selected call, or keys.
    fn footer(&self, view: &TopView) -> String {
        let keys = "? keys  / filter  Enter open  w waterfall  e errors  g groups  s sort  q quit";
        let cut = |text: &str| self.terminal.cut(text, self.terminal.width);
        if view.editing.is_some() {
            // The end is what the user types.
            let text = Printable::new(&view.filter_text);
            let room = self.terminal.width.saturating_sub(3);
            let skipped = text.chars().count().saturating_sub(room);
            let end: String = text.chars().skip(skipped).collect();
            return format!("{}{}", Tone::Strong.paint("/"), Tone::Plain.paint(cut(&format!("{end}_"))));
        }
        if !view.notice.is_empty() {
            return Tone::Warning.paint(cut(&view.notice));
        }
        match (&view.page, view.row.and_then(|row| self.state.row(row))) {
            (None, Some(LogRow::Operation(row))) if view.focus == Focus::Calls => {
                let (note, tone) = annotations::operation(row, self.terminal.warn);
                tone.paint(cut(format!("{note}  {}", row.name()).trim_start()))
            }
            (None, _) => Tone::Faint.paint(cut(keys)),
            (Some(Page::Text { lines, .. }), _) if lines.len() > view.height => {
                let end = lines.len().min(view.top + view.height);
                Tone::Faint.paint(cut(&format!(
                    "Esc back  q quit  lines {} to {end} of {}",
                    view.top + 1,
                    lines.len()
                )))
            }
            (Some(_), _) => Tone::Faint.paint(cut("Esc back  up, down move  q quit")),
        }
    }

    fn select(&self, buffer: &mut Buffer, y: u16) {
        let line = Rect { y, height: 1, ..buffer.area };
        buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
    }

    /// Writes one line of text in its tones. Its only escape sequences are those of [`Tone::paint`], because texts
    /// from outside are `Printable`.
    fn put(&self, buffer: &mut Buffer, y: u16, line: &str) {
        let mut style = Style::new();
        let mut x = buffer.area.x;
        for (number, part) in line.split("\u{1b}[").enumerate() {
            let text = match part.split_once('m').filter(|_| number > 0) {
                Some((code, text)) => {
                    style = self.styled(style, code);
                    text
                }
                None => part,
            };
            let room = usize::from(buffer.area.right().saturating_sub(x));
            x = buffer.set_stringn(x, y, text, room, style).0;
        }
    }

    fn styled(&self, style: Style, code: &str) -> Style {
        let colour = |colour| if self.has_colour { style.fg(colour) } else { style };
        match code {
            "1" => style.add_modifier(Modifier::BOLD),
            "2" => style.add_modifier(Modifier::DIM),
            "31" => colour(Color::Red),
            "32" => colour(Color::Green),
            "33" => colour(Color::Yellow),
            _ => Style::new(),
        }
    }
}

/// Cuts a line of text in its tones into lines that fit, so that ids can be copied from the screen.
pub(crate) fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut used, mut code) = (0, "");
    for (number, part) in line.split("\u{1b}[").enumerate() {
        let text = match part.split_once('m').filter(|_| number > 0) {
            Some((found, text)) => {
                code = if found == "0" { "" } else { found };
                lines
                    .iter_mut()
                    .last()
                    .into_iter()
                    .for_each(|line| line.push_str(&format!("\u{1b}[{found}m")));
                text
            }
            None => part,
        };
        for c in text.chars() {
            let columns = Printable::new(c.encode_utf8(&mut [0; 4])).width();
            if used + columns > width && used > 0 {
                lines.push(if code.is_empty() { String::new() } else { format!("\u{1b}[{code}m") });
                used = 0;
            }
            used += columns;
            lines.iter_mut().last().into_iter().for_each(|line| line.push(c));
        }
    }
    lines
}

/// Returns the first of `len` items that is shown, so that item `at` is among the `room` items that are shown.
fn first_shown(at: usize, room: usize, len: usize) -> usize {
    let middle = at.saturating_sub(room / 2);
    middle.min(len.saturating_sub(room))
}
