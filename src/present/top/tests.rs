//! The screen at several sizes, compared with `fixtures/top`, and what keys do.

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

use super::screen::{TopScreen, wrapped};
use super::view::{Focus, Page, TopRequest, TopView};
use crate::present::table::{Terminal, Tone};
use crate::present::tail::RowPrinter;
use crate::query::agents::totals::{AgentTotals, ModelTotals};
use crate::query::entry::LogEntry;
use crate::query::find::SearchTarget;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::top::{OpenCall, ServerState, TopAgent, TopOrder, TopScan, TopServer, TopState};
use crate::record::timestamp::Timestamp;

fn now() -> Timestamp {
    "2026-11-28T12:40:24.000000Z".parse().unwrap()
}

fn line(seq: u64, server: &str, tool: &str, second: u64, rest: &str) -> String {
    let (server, tool) = (serde_json::json!(server), serde_json::json!(tool));
    format!(
        r#"{{"schema":"spantap/1","event":"mcp_tool_call","method":"tools/call","session_id":"s1","connection_id":"01a2141e-0000-7000-8000-3f21736c7d14","seq":{seq},"timestamp":"2026-11-28T12:40:{second:02}.{seq:03}000Z","server_name":{server},"tool_name":{tool},"duration_ms":{seq}.5,{rest}}}"#
    )
}

fn state(lines: &[String]) -> TopState {
    let select = Selection::default();
    let mut scan = TopScan::new(&select);
    for line in lines {
        scan.take(&LogEntry::parse(line.as_bytes()).unwrap(), line.as_bytes());
    }
    scan.finish(None)
}

fn some_lines() -> Vec<String> {
    let mut lines: Vec<String> =
        (1..12).map(|seq| line(seq, "files", "list_directory", 9, r#""status":"ok""#)).collect();
    let failed = r#""status":"error","error_type":"tool_error","error_message":"ENOENT: no such file or directory, open '/home/robin/nope1.txt'""#;
    lines.extend([
        line(12, "files", "list_directory", 20, r#""status":"ok","repeat_count":12"#),
        line(13, "files", "read_text_file", 21, failed),
        line(14, "everything", "trigger-long-running-operation", 22, r#""status":"timeout""#),
        line(15, "git", "git_status", 23, r#""status":"ok""#),
    ]);
    lines
}

fn server(name: &str, state: ServerState) -> TopServer {
    TopServer {
        server_name: name.to_owned(),
        host_name: "claude-code".to_owned(),
        cwd: "~/work".to_owned(),
        session_id: "s1".to_owned(),
        connection_id: format!("c-{name}"),
        state,
        since: "2026-11-28T12:38:01.000000Z".parse().unwrap(),
        calls: 11,
        errors: 0,
        p95_ms: Some(51.0),
        open: Vec::new(),
        idle_ms: Some(12_000.0),
        memory_bytes: Some(84_000_000),
        copies: Some(1),
        definition_tokens_est: Some(1_954),
        message: String::new(),
    }
}

fn some_servers() -> Vec<TopServer> {
    let call = |name: &str, ms: f64| OpenCall {
        name: name.to_owned(),
        is_from_server: false,
        started_at: now().plus_ms(-ms),
        open_ms: ms,
    };
    let open = vec![call("trigger-long-running-operation", 4_100.0), call("echo", 100.0)];
    let busy = TopServer { open, errors: 4, copies: Some(3), ..server("everything", ServerState::Busy) };
    let message = "exited with 1: Connection refused".to_owned();
    let dead = TopServer { message, p95_ms: None, memory_bytes: None, ..server("db", ServerState::Dead) };
    vec![busy, server("files", ServerState::Idle), server("git", ServerState::Idle), dead]
}

struct Drawing {
    view: TopView,
    state: TopState,
    servers: Vec<TopServer>,
    has_colour: bool,
    unicode: bool,
}

impl Drawing {
    fn of(lines: &[String], servers: Vec<TopServer>) -> Drawing {
        let mut drawing = Drawing {
            view: TopView::default(),
            state: state(lines),
            servers,
            has_colour: true,
            unicode: true,
        };
        drawing.view.update(&drawing.state);
        drawing
    }

    fn usual() -> Drawing {
        Drawing::of(&some_lines(), some_servers())
    }

    fn key(&mut self, code: KeyCode) -> Option<TopRequest> {
        self.view.key(KeyEvent::new(code, KeyModifiers::NONE), &self.state, &self.servers)
    }

    fn keys(&mut self, text: &str) {
        text.chars().for_each(|c| drop(self.key(KeyCode::Char(c))));
    }

    fn buffer(&mut self, width: u16, height: u16) -> Buffer {
        let zone = jiff::tz::TimeZone::UTC;
        let terminal =
            Terminal { width: width.into(), unicode: self.unicode, zone, warn: 3, trace_link: None };
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        let (state, servers) = (&self.state, &self.servers);
        let screen =
            TopScreen { terminal: &terminal, state, servers, now: now(), has_colour: self.has_colour };
        screen.draw(&mut self.view, &mut RowPrinter::of_single_lines(terminal.clone()), &mut buffer);
        buffer
    }

    fn screen(&mut self, width: u16, height: u16) -> String {
        let buffer = self.buffer(width, height);
        let row = |y: u16| {
            let cells: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            format!("{}\n", cells.trim_end())
        };
        (0..height).map(row).collect()
    }

    /// Compares the screen with `fixtures/top/NAME.txt`. With `UPDATE_FIXTURES` it is written there.
    #[track_caller]
    fn hold(&mut self, name: &str, width: u16, height: u16) {
        let found = self.screen(width, height);
        let path = format!("{}/fixtures/top/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, expected, "{name}; UPDATE_FIXTURES=1 writes it");
    }
}

#[test]
fn the_documented_screen_is_drawn() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/looking.md");
    let page = std::fs::read_to_string(path).unwrap();
    let block = page.split("made-up figures:\n\n```text\n").nth(1).unwrap().split("```").next().unwrap();
    let drawn = Drawing::usual().screen(80, 14);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        return std::fs::write(path, page.replace(block, &drawn)).unwrap();
    }
    assert!(drawn == block, "UPDATE_FIXTURES=1 cargo test --lib documented_screen");
}

#[test]
fn the_screen_is_the_expected_one_at_every_size() {
    for (width, height) in [(80, 24), (200, 60), (250, 24), (40, 12), (20, 10), (20, 2)] {
        Drawing::usual().hold(&format!("screen-{width}x{height}"), width, height);
    }
    let mut ascii = Drawing::usual();
    ascii.unicode = false;
    ascii.hold("ascii-80x24", 80, 24);
    assert!(ascii.screen(80, 24).is_ascii());
    Drawing::of(&[], Vec::new()).hold("empty-80x24", 80, 24);
    let mut errors = Drawing::usual();
    errors.keys("g");
    errors.hold("errors-80x24", 80, 24);
    errors.hold("errors-200x60", 200, 60);
    let mut keys = Drawing::usual();
    keys.keys("?");
    keys.hold("keys-80x24", 80, 24);
}

/// A session whose agent reported `calls` model calls.
fn agent(session: &str, calls: u64) -> TopAgent {
    let models = ModelTotals {
        calls,
        told: calls,
        told_input: calls,
        told_output: calls,
        input_tokens: 6_000,
        cached_tokens: 3_000,
        output_tokens: 60,
        cost_usd: 0.0428,
        priced: 1,
        ..ModelTotals::default()
    };
    let totals = AgentTotals {
        models,
        by_model: [("claude-opus-5".to_owned(), models)].into(),
        refused: [(("rm".to_owned(), "user".to_owned()), 1)].into(),
        ..AgentTotals::default()
    };
    TopAgent { session_id: session.to_owned(), hosts: ["claude\u{202e}code".to_owned()].into(), totals }
}

#[test]
fn what_agents_reported_is_below_the_servers_and_leaves_room_for_calls() {
    let mut drawing = Drawing::usual();
    drawing.state.agents = vec![agent("7d1f6c1e-52a0", 1)];
    drawing.hold("agents-80x24", 80, 24);
    drawing.hold("agents-200x60", 200, 60);
    drawing.state.agents = (1..=5).map(|number| agent(&format!("s{number}"), number)).collect();
    drawing.hold("agents-40x24", 40, 24);
    let screen = drawing.screen(80, 24);
    assert!(screen.contains("3 more sessions with reports of their agents"), "{screen}");
    assert!(!drawing.screen(80, 8).contains("reports of their agents"), "a low screen has no room");
}

#[test]
fn in_a_pipe_the_column_that_may_be_long_is_the_last() {
    let zone = jiff::tz::TimeZone::UTC;
    let terminal = Terminal { width: Terminal::UNLIMITED, unicode: true, zone, warn: 3, trace_link: None };
    let lines = super::server_lines(&terminal, &some_servers(), now());
    assert!(lines[0].contains("HOST") && lines[0].contains("NOW\u{1b}"), "{}", lines[0]);
    assert!(lines[0].find("HOST") < lines[0].find("NOW"), "{}", lines[0]);
    assert!(lines[4].contains("exited with 1: Connection refused"), "{}", lines[4]);
}

#[test]
fn every_size_of_the_terminal_is_drawn() {
    for width in 0..30 {
        for height in 0..12 {
            for page in ["", "g", "?", "/x"] {
                let mut drawing = Drawing::usual();
                drawing.keys(page);
                drawing.buffer(width, height);
            }
        }
    }
}

#[test]
fn colours_are_those_of_the_terminal_and_never_the_only_sign() {
    let mut drawing = Drawing::usual();
    drawing.key(KeyCode::Up);
    let coloured = drawing.buffer(80, 24);
    drawing.has_colour = false;
    let plain = drawing.buffer(80, 24);
    for (with, without) in coloured.content.iter().zip(&plain.content) {
        assert_eq!((with.symbol(), with.modifier), (without.symbol(), without.modifier));
        assert_eq!((with.bg, without.fg, without.bg), (Color::Reset, Color::Reset, Color::Reset));
        assert!([Color::Reset, Color::Red, Color::Green, Color::Yellow].contains(&with.fg));
    }
    assert!(coloured.content.iter().any(|cell| cell.fg == Color::Red));
    assert!(plain.content.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
}

#[test]
fn hostile_names_neither_steer_the_terminal_nor_break_the_table() {
    let hostile = ["\u{1b}[31m\u{1b}]0;x\u{7}\u{9b}2J", "a\u{202e}b\u{200b}c\nd\re\tf", "<b>&amp;\u{1b}[7m"];
    let long = "x".repeat(10_000);
    for name in hostile.into_iter().chain([&*long, "東京都庁東京都庁東京都庁", ""]) {
        let message = serde_json::json!(name);
        let rest = format!(r#""status":"error","error_type":{message},"error_message":{message}"#);
        let open =
            OpenCall { name: name.to_owned(), is_from_server: true, started_at: now(), open_ms: 100.0 };
        let busy =
            TopServer { open: vec![open], host_name: name.to_owned(), ..server(name, ServerState::Busy) };
        let dead = TopServer { message: name.to_owned(), ..server(name, ServerState::Dead) };
        let mut drawing = Drawing::of(&[line(1, name, name, 1, &rest)], vec![busy, dead]);
        drawing.keys("/");
        drawing.keys(name);
        for key in [KeyCode::Enter, KeyCode::Esc, KeyCode::Char('g'), KeyCode::Esc, KeyCode::Up] {
            drawing.key(key);
            for (width, height) in [(80, 24), (20, 10)] {
                let buffer = drawing.buffer(width, height);
                for cell in &buffer.content {
                    assert!(!cell.symbol().contains(crate::text::unprintable::is_unprintable), "{cell:?}");
                }
                let second = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
                assert!(drawing.view.page.is_some() || second(1).contains("NOW"), "{}", second(1));
            }
        }
    }
}

#[test]
fn the_filter_is_that_of_the_page_and_is_applied_while_it_is_typed() {
    let mut drawing = Drawing::usual();
    drawing.keys("/status:error");
    assert_eq!(drawing.view.shown.len(), 2);
    assert!(drawing.screen(80, 24).ends_with("/status:error_\n"));
    drawing.key(KeyCode::Enter);
    assert!(drawing.screen(80, 24).contains("── filter status:error, 2 of 15 ──"));
    drawing.keys("/ q");
    assert_eq!(drawing.view.shown.len(), 0, "q is a letter of a filter");
    drawing.key(KeyCode::Esc);
    assert_eq!((&*drawing.view.filter_text, drawing.view.shown.len()), ("status:error", 2));
    drawing.key(KeyCode::Esc);
    assert_eq!(drawing.view.shown.len(), 15);
    drawing.keys("/status:eror");
    drawing.key(KeyCode::Enter);
    assert!(drawing.screen(80, 24).contains("status:eror is not known"));
    assert_eq!(drawing.view.shown.len(), 15, "it is left out");
    drawing.key(KeyCode::Esc);
    drawing.keys("e");
    assert_eq!(drawing.view.shown.len(), 2);
}

#[test]
fn arrows_leave_the_newest_call_and_end_returns_to_it() {
    let mut drawing = Drawing::usual();
    assert_eq!(drawing.view.row, None);
    drawing.key(KeyCode::Up);
    assert_eq!(drawing.view.row, Some(13));
    let selected = |seq| {
        let session = "01a2141e-0000-7000-8000-3f21736c7d14".to_owned();
        Some(TopRequest::Operation(SearchTarget::Operation { session, seq }))
    };
    assert_eq!(drawing.key(KeyCode::Enter), selected(14));
    drawing.key(KeyCode::Char('k'));
    assert!(drawing.screen(80, 24).contains("open '/home/robin/nope1.txt'"), "the footer has the message");
    assert_eq!(drawing.key(KeyCode::Enter), selected(13));
    drawing.key(KeyCode::Home);
    assert_eq!(drawing.key(KeyCode::Enter), selected(1));
    drawing.screen(80, 14);
    drawing.key(KeyCode::PageDown);
    assert!(drawing.view.row.is_some());
    drawing.key(KeyCode::End);
    assert_eq!(drawing.view.row, None);
    assert_eq!(drawing.key(KeyCode::Enter), selected(15));
    assert_eq!(drawing.key(KeyCode::Char('w')), Some(TopRequest::Session("s1".to_owned())));
}

#[test]
fn a_server_is_selected_by_its_connection_and_enter_shows_its_calls() {
    let mut drawing = Drawing::usual();
    drawing.key(KeyCode::Tab);
    drawing.screen(80, 24);
    assert_eq!((drawing.view.focus, &*drawing.view.server), (Focus::Servers, "c-everything"));
    drawing.key(KeyCode::Down);
    drawing.servers.reverse();
    assert_eq!(drawing.view.server, "c-files");
    assert_eq!(drawing.key(KeyCode::Char('w')), Some(TopRequest::Session("s1".to_owned())));
    drawing.key(KeyCode::Enter);
    assert_eq!((drawing.view.focus, &*drawing.view.filter_text), (Focus::Calls, "server:\"files\""));
    assert_eq!(drawing.view.shown.len(), 13);
    let screen = drawing.screen(80, 24);
    assert!(screen.contains("its definitions: ~2.0k tokens a turn if the client loads all"), "{screen}");
    drawing.key(KeyCode::Down);
    assert!(!drawing.screen(80, 24).contains("definitions"));
}

#[test]
fn an_event_opens_its_session() {
    let ended = r#"{"schema":"spantap/1","event":"session_ended","session_id":"s2","connection_id":"c2","seq":3,"timestamp":"2026-11-28T12:40:24.000000Z","server_name":"db","reason":"server_died","exit_code":3}"#;
    let mut lines = some_lines();
    lines.push(ended.to_owned());
    let mut drawing = Drawing::of(&lines, some_servers());
    for key in [KeyCode::Enter, KeyCode::Char('w')] {
        assert_eq!(drawing.key(key), Some(TopRequest::Session("s2".to_owned())), "{key:?}");
        assert_eq!(drawing.view.notice, "");
    }
}

#[test]
fn errors_are_grouped_and_enter_opens_the_latest_of_a_group() {
    let mut drawing = Drawing::usual();
    drawing.keys("gj");
    assert!(matches!(drawing.view.page, Some(Page::Errors(1))));
    assert_eq!(drawing.key(KeyCode::Char('w')), Some(TopRequest::Session("s1".to_owned())));
    let session = "6c7d14".to_owned();
    let expected = TopRequest::Operation(SearchTarget::Operation { session, seq: 13 });
    assert_eq!(drawing.key(KeyCode::Enter), Some(expected));
    drawing.key(KeyCode::Esc);
    assert!(drawing.view.page.is_none());
}

#[test]
fn a_text_is_written_again_for_another_width_at_the_same_place() {
    let mut view = TopView::new(TopOrder::Server);
    let request = TopRequest::Session("s1".to_owned());
    view.show_text(vec!["line".to_owned(); 90], Some(request.clone()));
    view.top = 40;
    assert_eq!(view.written_for(), Some(&request));
    view.show_text(vec!["longer line".to_owned(); 80], Some(request));
    assert_eq!(view.top, 40);
    view.show_text(vec!["other".to_owned(); 80], Some(TopRequest::Session("s2".to_owned())));
    assert_eq!(view.top, 0);
}

#[test]
fn a_long_line_is_wrapped_in_its_tone_and_loses_nothing() {
    let line = format!("  arguments  {} end", Tone::Bad.paint("0123456789"));
    let lines = wrapped(&line, 8);
    let plain: Vec<String> =
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
    assert_eq!(plain, ["  argume", "nts  012", "3456789 ", "end"]);
    assert!(lines[2].starts_with("\u{1b}[31m3") && !lines[3].contains('\u{1b}'), "{lines:?}");
    assert_eq!(wrapped("東京都", 3), ["東", "京", "都"]);
    assert_eq!(wrapped("", 8), [""]);
}
