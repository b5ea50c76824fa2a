//! Random conversations, legal and illegal, of every MCP revision, and the records that they must give.
//!
//! A conversation is drawn from a string of bytes, so that a property test, a loop and a coverage-guided
//! fuzzer cover the same space. Its lines are put on two streams. These are cut into pieces, mixed, delayed
//! and in part lost. [`expect`] follows the same pieces with lists and loops and decides what each request
//! became. The records must agree, operation by operation, in that order.

use std::time::Duration;

use crate::replay::{CLIENT, Player, SERVER, check_books, settings};
use serde_json::Value;
use spantap::observe::Debug;
use spantap::observe::event::EndReason;
use spantap::relay::chunk::Stream;

#[path = "model/expect.rs"]
pub mod expect;
#[path = "model/speak.rs"]
mod speak;

use expect::Model;

/// Decisions, read from a string of bytes. At the end of the bytes each decision is the first, which is the
/// plainest.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                usize::from(*byte) % limit.max(1)
            }
            None => 0,
        }
    }

    /// Returns true once in `of` times, and never at the end of the bytes.
    pub fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == of - 1
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// An id as a record shows it, with the spellings in which a peer may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    Known(usize),
    /// A well-behaved peer counts it up.
    Fresh(usize),
    /// An answer to `Fresh` by a peer that keeps ids as texts or as floating-point numbers.
    Respelled(usize, usize),
}

const IDS: [(&str, &[&str]); 17] = [
    ("1", &["1"]),
    ("\"1\"", &["\"1\"", "\"\\u0031\""]),
    ("1.0", &["1.0"]),
    ("\"é\"", &["\"é\"", "\"\\u00e9\"", "\"\\u00E9\""]),
    ("\"a/b\"", &["\"a/b\"", "\"a\\/b\""]),
    ("-7", &["-7"]),
    ("null", &["null"]),
    ("[1,[]]", &["[1,[]]"]),
    ("true", &["true"]),
    ("18446744073709551617", &["18446744073709551617"]),
    ("{}", &["{}"]),
    ("\"\"", &["\"\""]),
    ("1e0", &["1e0"]),
    ("\"-7\"", &["\"-7\"", "\"\\u002d7\""]),
    ("-70E-1", &["-70E-1"]),
    ("0", &["0"]),
    ("\"0x1\"", &["\"0x1\"", "\"0\\u00781\""]),
];

impl Id {
    pub fn shown(self) -> String {
        match self {
            Id::Known(index) => IDS[index].0.to_owned(),
            Id::Fresh(number) => (1000 + number).to_string(),
            Id::Respelled(number, 0) => format!("\"{}\"", 1000 + number),
            Id::Respelled(number, 1) => format!("{}.0", 1000 + number),
            Id::Respelled(number, _) => format!("{}e-1", 10_000 + 10 * number),
        }
    }

    /// Returns the number that the id is or contains, or else the id: some peers compare this.
    pub fn value(self) -> String {
        let shown = self.shown();
        let text = shown.trim_matches('"');
        let number = match text {
            "" => Ok(0.0),
            // As JavaScript reads it.
            "0x1" => Ok(1.0),
            _ => text.parse::<f64>(),
        };
        number.map_or(shown, |number| number.to_string())
    }

    fn written(self, choices: &mut Choices<'_>) -> String {
        match self {
            Id::Known(index) => {
                let spellings = IDS[index].1;
                spellings[choices.below(spellings.len())].to_owned()
            }
            Id::Fresh(_) | Id::Respelled(..) => self.shown(),
        }
    }

    /// Counts as absent: a request with it is a notification, and no answer with it belongs to a request.
    pub fn is_null(self) -> bool {
        self == Id::Known(6)
    }
}

/// One message.
#[derive(Clone, Debug)]
pub enum Act {
    Ask(Ask),
    Answer(Id, Answer),
    Cancel(Id, Option<&'static str>),
    /// Progress of a request that named this token.
    Progress(usize),
    /// `notifications/tasks`.
    TaskNote(usize, TaskState),
    Notify,
    /// JSON, but neither request, notification nor answer.
    Neither,
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub id: Id,
    pub method: &'static str,
    pub target: Option<usize>,
    /// Index of the arguments; several ways to write the same are one class.
    pub arguments: usize,
    pub token: Option<usize>,
    pub conversation: Option<usize>,
    pub turn: Option<usize>,
    pub state: Option<usize>,
    pub responses: Option<usize>,
    /// `taskId`.
    pub task: Option<usize>,
    /// The client that the request names: several clients can use one connection.
    pub client: Option<usize>,
    /// The revision that the request names.
    pub version: Option<usize>,
}

/// What the peers call themselves.
pub const CLIENTS: [&str; 2] = ["host-a", "host-b"];
pub const SERVERS: [&str; 2] = ["files", "search"];
pub const VERSIONS: [&str; 2] = ["2025-06-18", "2026-07-28"];

/// The status of a task, and what came with it.
#[derive(Clone, Copy, Debug)]
pub struct TaskState {
    pub status: &'static str,
    pub inside: Inside,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Inside {
    Nothing,
    Result,
    ToolError,
    ToolDenied,
    Error,
}

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Plain,
    /// `isError`.
    ToolError,
    /// `isError`, and the text reports a refusal.
    ToolDenied,
    /// `isError`, and the text contains a word of refusals that is not its point.
    ToolReport,
    /// A person refused.
    Decline,
    /// A person closed the question.
    Dismiss,
    Accept,
    /// A result of another type than object.
    Scalar,
    /// The handle of a task, in the form of 2025-11-25, or with a state in that of 2026-07-28.
    Task(usize, Option<TaskState>),
    /// The answer to `tasks/get`.
    TaskState(TaskState),
    /// 2026-07-28: the request ends here and goes on with a new one.
    Asks {
        state: Option<usize>,
        inputs: usize,
    },
    Error(i64),
    /// The text means a refusal, the code does not.
    ErrorDenied,
    /// An error without a code.
    ErrorOnly,
    /// `result` and `error` in one answer.
    Both,
    /// A result beside `"method":null`.
    NullMethod,
    /// The answer to `initialize`.
    Welcome {
        server: Option<usize>,
        version: Option<usize>,
    },
    /// A result whose `_meta` names the server.
    Signed(usize),
}

pub const METHODS: [&str; 16] = [
    "tools/call",
    "tools/call",
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "prompts/get",
    "resources/read",
    "subscriptions/listen",
    "tasks/get",
    "tasks/result",
    "elicitation/create",
    "sampling/createMessage",
    "roots/list",
    "completion/complete",
    "x/unknown",
];

/// One line of a stream.
#[derive(Clone, Debug)]
pub struct Line {
    /// With its newline.
    pub bytes: Vec<u8>,
    /// The messages on the line. `usize` is the end of a message that is complete before the line is (in a
    /// batch).
    pub acts: Vec<(Option<usize>, Act)>,
    /// The line does not count as a message, whatever part of it was one.
    pub malformed: bool,
}

/// The treatment of the next piece of a stream.
enum Fate {
    Seen,
    Lost,
}

/// Draws a conversation, plays it and compares.
///
/// # Panics
/// If a record differs from the model.
pub fn check(bytes: &[u8]) -> Vec<Value> {
    let mut choices = Choices::new(bytes);
    let mut settings = settings();
    let legal = choices.once_in(2);
    let lossy = choices.once_in(2);
    if choices.once_in(3) {
        settings.call_timeout = Some(Duration::from_secs(1));
    }
    if choices.once_in(4) {
        settings.debug = Debug::On;
    }
    let died = choices.once_in(2);
    let unfinished = choices.below(4);
    let mut model = Model::new(settings.call_timeout);
    let mut player = Player::with(settings);

    // Most of the bytes decide the messages, the rest decides how they travel.
    let (said, travel) = choices.0.split_at(choices.0.len() * 3 / 4);
    let lines = speak::conversation(&mut Choices::new(said), legal);
    let mut choices = Choices::new(travel);
    let mut streams = [Source::new(&lines, false), Source::new(&lines, true)];
    // The last line may be cut short or lack its newline.
    for source in &mut streams {
        source.shorten(unfinished);
    }
    loop {
        let [server, client] = &streams;
        let from_client = match (client.next_line(), server.next_line()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(client), Some(server)) => (client < server) != choices.once_in(8),
        };
        let length = match choices.below(5) {
            0 => streams[usize::from(from_client)].rest_of_line(),
            1 => 1,
            2 => 1 + choices.below(40),
            3 => 1 + 4 * choices.below(256),
            _ => usize::MAX,
        };
        let piece = streams[usize::from(from_client)].take(length);
        let fate = if lossy && choices.once_in(6) { Fate::Lost } else { Fate::Seen };
        let stream = if from_client { CLIENT } else { SERVER };
        pass(&mut player, &mut model, stream, &piece, fate, &mut choices);
    }
    let reason = if died { EndReason::ServerDied } else { EndReason::ServerExited };
    let expected = model.end(died);
    let records = player.end_with(reason, Some(0), None);
    check_books(&records);
    expected.compare(&records);
    records
}

fn pass(
    player: &mut Player,
    model: &mut Model,
    stream: Stream,
    piece: &Piece,
    fate: Fate,
    choices: &mut Choices<'_>,
) {
    match choices.below(16) {
        13 => {
            player.wait(Duration::from_millis(1_200));
            model.waited(player.now());
        }
        14 => {
            player.wait(Duration::from_secs(40));
            model.waited(player.now());
        }
        // The observer fails and starts again at any place.
        15 if choices.once_in(8) => {
            player.recover();
            model.recovered(player.now());
        }
        _ => {}
    }
    match fate {
        Fate::Lost => {
            player.lose(stream, &piece.bytes);
            model.lost(stream == CLIENT, piece, player.now());
        }
        Fate::Seen => {
            if choices.once_in(2) {
                player.send_now(stream, &piece.bytes);
            } else {
                player.send(stream, &piece.bytes);
            }
            model.seen(stream == CLIENT, piece, player.now());
        }
    }
}

/// The lines of one side as a stream.
pub struct Source {
    /// Each line with its place in the whole conversation.
    lines: Vec<(usize, Line)>,
    line: usize,
    at: usize,
}

/// Consecutive bytes of a stream, and the lines that end in them.
pub struct Piece {
    pub bytes: Vec<u8>,
    /// The messages that are complete after each byte.
    pub ends: Vec<Vec<End>>,
}

#[derive(Clone, Debug)]
pub enum End {
    /// An element of a batch.
    Element(Act),
    /// A line with its newline.
    Line(Line),
    /// All of a last line but its newline.
    Unended(Line),
}

impl Source {
    fn new(lines: &[(bool, Line)], client: bool) -> Source {
        let own = lines.iter().enumerate().filter(|(_, (from_client, _))| *from_client == client);
        Source { lines: own.map(|(place, (_, line))| (place, line.clone())).collect(), line: 0, at: 0 }
    }

    /// 0: all lines are whole; 1: the last has no newline; else it is cut in the middle.
    fn shorten(&mut self, how: usize) {
        let Some((_, line)) = self.lines.last_mut() else { return };
        let length = line.bytes.len();
        match how {
            0 => {}
            1 => line.bytes.truncate(length - 1),
            _ => {
                line.bytes.truncate((length - 1) / 2);
                let rest = line.bytes.len();
                line.acts.retain(|(end, _)| end.is_some_and(|end| end <= rest));
                line.malformed = !line.bytes.iter().all(|byte| b" \t\r\xef\xbb\xbf".contains(byte));
            }
        }
        if line.bytes.is_empty() {
            self.lines.pop();
        }
    }

    fn next_line(&self) -> Option<usize> {
        self.lines.get(self.line).map(|(place, _)| *place)
    }

    fn rest_of_line(&self) -> usize {
        self.lines.get(self.line).map_or(0, |(_, line)| line.bytes.len() - self.at)
    }

    fn take(&mut self, length: usize) -> Piece {
        let mut piece = Piece { bytes: Vec::new(), ends: Vec::new() };
        while piece.bytes.len() < length.min(16 << 10) {
            let Some((_, line)) = self.lines.get(self.line) else { break };
            piece.bytes.push(line.bytes[self.at]);
            self.at += 1;
            let elements = line.acts.iter().filter(|(end, _)| *end == Some(self.at));
            let mut ends: Vec<End> = elements.map(|(_, act)| End::Element(act.clone())).collect();
            if self.at == line.bytes.len() {
                let whole = line.clone();
                ends.push(match line.bytes.ends_with(b"\n") {
                    true => End::Line(whole),
                    false => End::Unended(whole),
                });
                self.at = 0;
                self.line += 1;
            }
            piece.ends.push(ends);
        }
        piece
    }
}
