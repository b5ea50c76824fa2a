//! The screen of `spantap top` as the user left it: what is selected, filtered, sorted and open, and what keys do.

use std::collections::VecDeque;
use std::rc::Rc;

use clap::ValueEnum;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::present::format;
use crate::query::errors::{self, ErrorRow};
use crate::query::filter::RowFilter;
use crate::query::find::SearchTarget;
use crate::query::row::{LogRow, OperationRow};
use crate::query::top::{TopOrder, TopServer, TopState};

/// The list that the arrows move in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Focus {
    #[default]
    Calls,
    Servers,
}

/// A wish of the user beyond the screen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TopRequest {
    Quit,
    Suspend,
    /// The page of one operation.
    Operation(SearchTarget),
    /// The page of one session.
    Session(String),
}

/// A page in front of the lists.
#[derive(Clone, Debug)]
pub(crate) enum Page {
    Keys,
    /// Failures by message, and the number of the selected one.
    Errors(usize),
    /// Text that was written for one width.
    Text {
        lines: Rc<Vec<String>>,
        /// The request that writes it for another width.
        request: Option<TopRequest>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct TopView {
    pub(crate) order: TopOrder,
    pub(crate) focus: Focus,
    /// Connection id of the selected server.
    pub(crate) server: String,
    /// Number of the selected row; `None` follows the newest.
    pub(crate) row: Option<u64>,
    pub(crate) is_paused: bool,
    pub(crate) errors_only: bool,
    pub(crate) filter_text: String,
    pub(crate) filter: RowFilter,
    /// The filter before the user began to change it.
    pub(crate) editing: Option<String>,
    pub(crate) page: Option<Page>,
    /// First line of the page that is shown.
    pub(crate) top: usize,
    /// One line about what just happened.
    pub(crate) notice: String,
    /// Numbers of the rows that match.
    pub(crate) shown: VecDeque<u64>,
    /// Number of the first row that was not matched yet.
    next: u64,
    /// Number of rows of the focused list or page, for a page up or down.
    pub(crate) height: usize,
}

impl TopView {
    pub(crate) fn new(order: TopOrder) -> TopView {
        TopView { order, ..TopView::default() }
    }

    /// Matches the rows that are new.
    pub(crate) fn update(&mut self, state: &TopState) {
        for number in self.next..state.next_number() {
            if state.row(number).is_some_and(|row| self.takes(row)) {
                self.shown.push_back(number);
            }
        }
        self.next = state.next_number();
        while self.shown.front().is_some_and(|number| state.row(*number).is_none()) {
            self.shown.pop_front();
        }
        self.row = self.row.filter(|row| self.shown.front().is_some_and(|first| row >= first));
    }

    fn takes(&self, row: &LogRow) -> bool {
        let is_error = match row {
            LogRow::Operation(row) => row.status.is_error(),
            LogRow::Event(row) => row.severity == crate::query::event::Severity::Failure,
            LogRow::Json(_) => false,
        };
        (is_error || !self.errors_only) && self.filter.matches(row)
    }

    fn filter_again(&mut self, state: &TopState) {
        self.filter = RowFilter::parse(&self.filter_text);
        self.shown.clear();
        self.next = 0;
        self.update(state);
        self.row = self.row.filter(|row| self.shown.contains(row));
    }

    /// Returns the failures by message, of the rows that match.
    pub(crate) fn error_rows(&self, state: &TopState) -> Vec<ErrorRow> {
        let rows = self.shown.iter().filter_map(|number| state.row(*number));
        errors::of_rows(rows.filter_map(operation))
    }

    /// Returns the selected row, which is the newest unless the user moved away from it.
    pub(crate) fn selected<'s>(&self, state: &'s TopState) -> Option<&'s LogRow> {
        state.row(self.row.or(self.shown.back().copied())?)
    }

    /// Changes the screen as `key` asks.
    pub(crate) fn key(
        &mut self,
        key: KeyEvent,
        state: &TopState,
        servers: &[TopServer],
    ) -> Option<TopRequest> {
        self.notice.clear();
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if key.modifiers.contains(KeyModifiers::ALT) {
            // Terminals send the same bytes for Esc and then the key.
            self.key(KeyCode::Esc.into(), state, servers);
        }
        match key.code {
            KeyCode::Char('c') if is_control => return Some(TopRequest::Quit),
            KeyCode::Char('z') if is_control => return Some(TopRequest::Suspend),
            _ if is_control => return None,
            code if self.editing.is_some() => self.edit(code, state),
            KeyCode::Char('q') => return Some(TopRequest::Quit),
            KeyCode::Esc => self.back(state),
            KeyCode::Enter => return self.open(state, servers),
            KeyCode::Char('w') => return self.session(state, servers),
            KeyCode::Char('?') => self.show(Page::Keys),
            KeyCode::Char('g') => self.show(Page::Errors(0)),
            KeyCode::Char('/') => {
                self.page = None;
                self.editing = Some(self.filter_text.clone());
            }
            KeyCode::Char('e') => {
                self.errors_only = !self.errors_only;
                self.filter_again(state);
            }
            KeyCode::Char('s') => self.sort(),
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Tab | KeyCode::BackTab => {
                self.focus = if self.focus == Focus::Calls { Focus::Servers } else { Focus::Calls };
            }
            code => self.go(code, state, servers),
        }
        None
    }

    fn show(&mut self, page: Page) {
        (self.page, self.top) = (Some(page), 0);
    }

    /// Shows a text, or the same text for another width at the same place.
    pub(crate) fn show_text(&mut self, lines: Vec<String>, request: Option<TopRequest>) {
        let top = if self.written_for() == request.as_ref() { self.top } else { 0 };
        (self.page, self.top) = (Some(Page::Text { lines: Rc::new(lines), request }), top);
    }

    /// Returns the request of the page that is shown, whose text depends on the width.
    pub(crate) fn written_for(&self) -> Option<&TopRequest> {
        match &self.page {
            Some(Page::Text { request, .. }) => request.as_ref(),
            _ => None,
        }
    }

    fn edit(&mut self, code: KeyCode, state: &TopState) {
        match code {
            KeyCode::Enter => self.editing = None,
            KeyCode::Esc => self.filter_text = self.editing.take().unwrap_or_default(),
            KeyCode::Backspace => drop(self.filter_text.pop()),
            KeyCode::Char(c) => self.filter_text.push(c),
            _ => return,
        }
        self.filter_again(state);
    }

    /// Leaves the page, else the filter, else the selected row.
    fn back(&mut self, state: &TopState) {
        if self.page.take().is_some() {
        } else if self.errors_only || !self.filter_text.is_empty() {
            self.errors_only = false;
            self.filter_text.clear();
            self.filter_again(state);
        } else {
            (self.row, self.focus) = (None, Focus::Calls);
        }
    }

    fn sort(&mut self) {
        let orders = TopOrder::value_variants();
        let at = orders.iter().position(|order| *order == self.order).unwrap_or_default();
        self.order = orders[(at + 1) % orders.len()];
        let name = self.order.to_possible_value().map(|value| value.get_name().to_owned());
        self.notice = format!("servers sorted by {}", name.unwrap_or_default());
    }

    fn open(&mut self, state: &TopState, servers: &[TopServer]) -> Option<TopRequest> {
        if let Some(Page::Errors(selected)) = &self.page {
            let rows = self.error_rows(state);
            return rows
                .get(*selected)
                .map(|row| TopRequest::Operation(SearchTarget::parse(Some(&row.last))));
        }
        if self.page.is_some() {
            return None;
        }
        if self.focus == Focus::Servers {
            let server = servers.iter().find(|server| server.connection_id == self.server)?;
            self.filter_text = format!("server:\"{}\"", server.server_name.replace('"', "?"));
            self.focus = Focus::Calls;
            self.filter_again(state);
            if let Some(tokens) = server.definition_tokens_est {
                let tokens = format::count(tokens);
                self.notice = format!("its definitions: ~{tokens} tokens a turn if the client loads all");
            }
            return None;
        }
        match self.selected(state)? {
            LogRow::Operation(row) => {
                let session = row.connection_id.to_string();
                Some(TopRequest::Operation(SearchTarget::Operation { session, seq: row.seq }))
            }
            // An event has no page of its own: its session shows what was before and after it.
            row => session_of(row).map(TopRequest::Session),
        }
    }

    fn session(&mut self, state: &TopState, servers: &[TopServer]) -> Option<TopRequest> {
        let of_server = || servers.iter().find(|server| server.connection_id == self.server);
        let of_failure = |at: usize| {
            let handle = self.error_rows(state).into_iter().nth(at)?.last;
            state.rows.iter().rfind(|row| operation(row).is_some_and(|row| row.handle() == handle))
        };
        let session = match (&self.page, self.focus) {
            (Some(Page::Errors(at)), _) => of_failure(*at).and_then(session_of),
            (_, Focus::Servers) => of_server().map(|server| server.session_id.clone()),
            (_, Focus::Calls) => self.selected(state).and_then(session_of),
        };
        if session.is_none() {
            self.notice = "select a row or a server first: its session is shown".to_owned();
        }
        session.map(TopRequest::Session)
    }

    /// Moves in the page, or in the focused list.
    fn go(&mut self, code: KeyCode, state: &TopState, servers: &[TopServer]) {
        let page = self.height.saturating_sub(1).max(1) as isize;
        let step = match code {
            KeyCode::Up | KeyCode::Char('k') => -1,
            KeyCode::Down | KeyCode::Char('j') => 1,
            KeyCode::PageUp => -page,
            KeyCode::PageDown => page,
            KeyCode::Home => isize::MIN / 2,
            KeyCode::End => isize::MAX / 2,
            _ => return,
        };
        let moved = |at: usize, len: usize| at.saturating_add_signed(step).min(len.saturating_sub(1));
        match (&self.page, self.focus) {
            (Some(Page::Errors(selected)), _) => {
                let len = self.error_rows(state).len();
                self.page = Some(Page::Errors(moved(*selected, len)));
            }
            (Some(_), _) => self.top = self.top.saturating_add_signed(step),
            (None, Focus::Servers) => {
                let at = servers.iter().position(|server| server.connection_id == self.server);
                let server = servers.get(at.map_or(0, |at| moved(at, servers.len())));
                self.server = server.map(|server| server.connection_id.clone()).unwrap_or_default();
            }
            (None, Focus::Calls) => {
                let last = self.shown.len().saturating_sub(1);
                let at = self.row.map_or(last, |row| self.shown.partition_point(|number| *number < row));
                let at = moved(at, self.shown.len());
                // The newest row is followed.
                self.row = self.shown.get(at).copied().filter(|_| at < last);
            }
        }
    }
}

fn session_of(row: &LogRow) -> Option<String> {
    match row {
        LogRow::Operation(row) => Some(row.session_id.to_string()),
        LogRow::Event(event) => Some(event.session_id.to_string()),
        LogRow::Json(_) => None,
    }
}

fn operation(row: &LogRow) -> Option<&OperationRow> {
    match row {
        LogRow::Operation(row) => Some(row),
        _ => None,
    }
}
