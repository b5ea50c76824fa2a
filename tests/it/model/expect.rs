//! The expected records of a conversation: the rules of pairing once more, with lists and loops.

use std::time::Duration;

use spantap::relay::chunk::Moment;

use super::speak::target_text;
use super::{Act, Answer, Ask, End, Id, Line, Piece, VERSIONS};
use peers::KnownPeers;

#[path = "compare.rs"]
mod compare;
#[path = "peers.rs"]
mod peers;
#[path = "tasks.rs"]
mod tasks;

/// The end of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    client: bool,
    id: String,
    method: String,
    target: Option<String>,
    status: &'static str,
    error_type: Option<String>,
    error_code: Option<i64>,
    milliseconds: u64,
    progress: Option<u64>,
    user_wait: Option<u64>,
    cancelled: bool,
    repeat_count: Option<u64>,
    /// The operation that this one continues.
    continues: Option<usize>,
    /// The id that ended the request, if it is another spelling.
    answer_id: Option<String>,
    turn: Option<String>,
    /// Milliseconds to the handle of a task.
    handle: Option<u64>,
    result_seen: Option<bool>,
    /// The revision that the request is under.
    version: Option<&'static str>,
}

/// The end of a task that this connection did not begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    status: &'static str,
    error_type: Option<String>,
    result_seen: bool,
}

#[derive(Debug, Default, PartialEq)]
struct Totals {
    tool_calls: u64,
    other_requests: u64,
    errors: u64,
    denied: u64,
    notifications: u64,
    malformed: u64,
    unmatched: u64,
    stdin_frames: u64,
    stdout_frames: u64,
    frames_lost: u64,
    stdin_bytes: u64,
    stdout_bytes: u64,
    bytes_lost: u64,
}

/// The expected content of the records.
#[derive(Debug, Default)]
pub struct Expected {
    operations: Vec<Operation>,
    outcomes: Vec<Outcome>,
    peers: Vec<KnownPeers>,
    totals: Totals,
}

struct Open {
    number: usize,
    client: bool,
    ask: Ask,
    started: Moment,
    progress: u64,
    /// When the questions of this call that have ended were open.
    waits: Vec<(Moment, Moment)>,
    declined: bool,
    answer_id: Option<Id>,
    maybe_lost: bool,
    asked_for: Option<usize>,
    continues: Option<usize>,
    repeat_count: u64,
    turn: Option<String>,
    task: Option<OpenTask>,
    version: Option<&'static str>,
}

/// The task with which a call was answered.
#[derive(Clone, Copy)]
struct OpenTask {
    task: usize,
    handle_at: Moment,
    /// How it ended, if the result may still follow.
    ended: Option<(&'static str, &'static str, Moment)>,
}

/// The turns of a conversation that are counted by gaps.
struct Gaps {
    conversation: Option<usize>,
    turn: Option<u64>,
    quiet_since: Option<Moment>,
}

/// An operation that asked for input and was not continued yet.
struct Waiting {
    operation: usize,
    state: Option<usize>,
    inputs: usize,
    method: &'static str,
    target: Option<usize>,
}

pub struct Model {
    call_timeout: Option<Duration>,
    open: Vec<Open>,
    requests: usize,
    cancelled: Vec<(bool, Id)>,
    waiting: Vec<Waiting>,
    /// The last request with a token, by the side that sent it, while it is open.
    tokens: Vec<((bool, usize), usize)>,
    /// Conversation, tool and arguments of the client's calls.
    calls: Vec<(Option<usize>, usize, usize)>,
    gaps: Vec<Gaps>,
    /// Number of observed bytes in the current line of each stream. `None` means that a part of the line was
    /// lost. The client is 1.
    line: [Option<usize>; 2],
    /// A last line whose end is not known yet.
    unended: [Option<Line>; 2],
    now: Moment,
    /// Tasks of this connection, and outcomes of others, each with whether the result was seen.
    known_tasks: Vec<(usize, bool)>,
    known_peers: KnownPeers,
    expected: Expected,
}

impl Model {
    pub fn new(call_timeout: Option<Duration>) -> Model {
        Model {
            call_timeout,
            open: Vec::new(),
            requests: 0,
            cancelled: Vec::new(),
            waiting: Vec::new(),
            tokens: Vec::new(),
            calls: Vec::new(),
            gaps: Vec::new(),
            line: [Some(0), Some(0)],
            unended: [None, None],
            now: Moment(0),
            known_tasks: Vec::new(),
            known_peers: KnownPeers::default(),
            expected: Expected::default(),
        }
    }

    /// These bytes were observed.
    pub fn seen(&mut self, client: bool, piece: &Piece, now: Moment) {
        self.now = now;
        self.count_bytes(client, piece);
        for (byte, ends) in piece.bytes.iter().zip(&piece.ends) {
            let intact = self.line[usize::from(client)].is_some();
            for end in ends.iter().filter(|_| intact) {
                match end {
                    End::Element(act) => self.act(client, act),
                    End::Line(line) => self.line(client, line),
                    End::Unended(line) => self.unended[usize::from(client)] = Some(line.clone()),
                }
            }
            if *byte == b'\n' {
                self.line_is_over(client, intact);
            } else if let Some(seen) = &mut self.line[usize::from(client)] {
                *seen += 1;
            }
        }
    }

    /// These bytes were relayed and not observed.
    pub fn lost(&mut self, client: bool, piece: &Piece, now: Moment) {
        self.now = now;
        self.count_bytes(client, piece);
        self.expected.totals.bytes_lost += piece.bytes.len() as u64;
        for byte in &piece.bytes {
            self.line[usize::from(client)] = None;
            if *byte == b'\n' {
                self.line_is_over(client, false);
            }
        }
        // The lost bytes may contain the answer to any request of the other side.
        for open in self.open.iter_mut().filter(|open| open.client != client) {
            open.maybe_lost = true;
        }
    }

    /// The observer failed: open requests are unknown, and a line that was read in part is skipped.
    pub fn recovered(&mut self, now: Moment) {
        self.now = now;
        self.line = self.line.map(|seen| seen.filter(|bytes| *bytes == 0));
        self.settle(|_| true);
        while !self.open.is_empty() {
            self.give_up(0, "unknown", "gap", now);
        }
    }

    fn count_bytes(&mut self, client: bool, piece: &Piece) {
        let totals = &mut self.expected.totals;
        let bytes = if client { &mut totals.stdin_bytes } else { &mut totals.stdout_bytes };
        *bytes += piece.bytes.len() as u64;
    }

    fn line_is_over(&mut self, client: bool, intact: bool) {
        let totals = &mut self.expected.totals;
        let frames = match (intact, client) {
            (false, _) => &mut totals.frames_lost,
            (true, true) => &mut totals.stdin_frames,
            (true, false) => &mut totals.stdout_frames,
        };
        *frames += 1;
        self.line[usize::from(client)] = Some(0);
    }

    fn line(&mut self, client: bool, line: &Line) {
        for (_, act) in line.acts.iter().filter(|(end, _)| end.is_none()) {
            self.act(client, act);
        }
        self.expected.totals.malformed += u64::from(line.malformed);
    }

    /// The streams have ended. `died` is true if the server ended without being asked.
    pub fn end(mut self, died: bool) -> Expected {
        for client in [true, false] {
            match self.line[usize::from(client)] {
                Some(0) => {}
                Some(_) => {
                    let last =
                        self.unended[usize::from(client)].take().expect("the stream was read to its end");
                    self.line(client, &last);
                    self.line_is_over(client, true);
                }
                None => self.line_is_over(client, false),
            }
        }
        let at = self.now.after(Duration::from_millis(1));
        self.settle(|_| true);
        while let Some(open) = self.open.first() {
            let (status, error_type) = match open {
                open if open.maybe_lost => ("unknown", "gap"),
                open if open.task.is_some() => ("unknown", "task_open"),
                open if open.client && died => ("error", "server_exited"),
                open if open.ask.method == "subscriptions/listen" => ("cancelled", "cancelled"),
                _ => ("error", "unanswered"),
            };
            self.give_up(0, status, error_type, at);
        }
        assert_eq!(self.expected.operations.len(), self.requests, "the model itself loses nothing");
        self.expected
    }

    fn act(&mut self, client: bool, act: &Act) {
        match act {
            Act::Ask(ask) => self.ask(client, ask),
            Act::Answer(id, answer) => self.answer(client, *id, *answer),
            Act::Cancel(id, reason) => self.cancel(client, *id, *reason),
            Act::Progress(token) => {
                self.expected.totals.notifications += 1;
                // The last token is a text with the digits of the first.
                let value = |token: usize| if token == 3 { 0 } else { token };
                let of_side: Vec<_> = self.tokens.iter().filter(|((side, _), _)| *side != client).collect();
                let exact = of_side.iter().find(|((_, named), _)| named == token);
                let same: Vec<_> =
                    of_side.iter().filter(|((_, named), _)| value(*named) == value(*token)).collect();
                let only = if same.len() == 1 { same.first().copied() } else { None };
                let number = exact.or(only).map(|(_, number)| *number);
                let open = self.open.iter_mut().find(|open| Some(open.number) == number);
                if let Some(open) = open {
                    open.progress += 1;
                }
            }
            Act::TaskNote(task, state) => {
                self.expected.totals.notifications += 1;
                if !client {
                    self.task_state(*task, *state);
                }
            }
            Act::Notify => self.expected.totals.notifications += 1,
            Act::Neither => self.expected.totals.malformed += 1,
        }
    }

    fn find(&self, client: bool, id: Id) -> Option<usize> {
        self.open.iter().position(|open| open.task.is_none() && open.client == client && open.ask.id == id)
    }

    /// Returns the only open request of a side whose id has the value of `id`.
    fn find_value(&self, client: bool, id: Id) -> Option<usize> {
        let is_same = |open: &Open| open.client == client && open.ask.id.value() == id.value();
        only(self.open.iter().map(|open| open.task.is_none() && is_same(open)))
    }

    fn ask(&mut self, client: bool, ask: &Ask) {
        if ask.id.is_null() {
            self.expected.totals.notifications += 1;
            return;
        }
        if let Some(before) = self.find(client, ask.id) {
            self.give_up(before, "error", "superseded", self.now);
        }
        let is_call = ask.method == "tools/call";
        let totals = &mut self.expected.totals;
        *if client && is_call { &mut totals.tool_calls } else { &mut totals.other_requests } += 1;
        let continues = self.continues(ask);
        let mut repeat_count = 0;
        if let (true, true, Some(target), None) = (client, is_call, ask.target, continues) {
            // Absent arguments equal empty arguments, and `1.0` equals `1`.
            let call = (ask.conversation, target, [0, 0, 1, 1, 2][ask.arguments]);
            self.calls.push(call);
            repeat_count = self.calls.iter().filter(|other| **other == call).count() as u64;
        }
        let asks_a_person = matches!(ask.method, "elicitation/create" | "sampling/createMessage");
        let calls: Vec<usize> = self.running_calls().map(|open| open.number).collect();
        let asked_for = calls.first().copied().filter(|_| asks_a_person && calls.len() == 1);
        if client {
            self.client_names(ask);
        }
        let version = ask.version.map(|version| VERSIONS[version]).or(self.known_peers.version);
        let number = self.requests;
        let turn = self.turn(client, ask);
        self.requests += 1;
        self.tokens.retain(|(key, _)| ask.token.is_none_or(|token| *key != (client, token)));
        self.tokens.extend(ask.token.map(|token| ((client, token), number)));
        self.open.push(Open {
            number,
            client,
            ask: ask.clone(),
            started: self.now,
            progress: 0,
            waits: Vec::new(),
            declined: false,
            answer_id: None,
            maybe_lost: false,
            asked_for,
            continues,
            repeat_count,
            turn,
            task: None,
            version,
        });
        if client && ask.method == "tools/call" {
            self.adopt_questions(number);
        }
    }

    /// Returns the turn that the request names, or the number that the quiet times of its conversation give.
    fn turn(&mut self, client: bool, ask: &Ask) -> Option<String> {
        if let Some(turn) = ask.turn {
            return Some(format!("t{turn}"));
        }
        let known = self.gaps.iter().position(|gaps| gaps.conversation == ask.conversation);
        let is_busy = self.open.iter().any(|open| {
            open.task.is_none()
                && open.ask.conversation == ask.conversation
                && open.ask.method != "subscriptions/listen"
        });
        let last = self.gaps.iter().filter_map(|gaps| gaps.turn).max().unwrap_or(0);
        let at = known.unwrap_or_else(|| {
            self.gaps.push(Gaps { conversation: ask.conversation, turn: None, quiet_since: None });
            self.gaps.len() - 1
        });
        if !client {
            return None;
        }
        let Gaps { turn, quiet_since, .. } = &mut self.gaps[at];
        let is_quiet = quiet_since.is_some_and(|since| self.now.since(since) >= Duration::from_secs(15));
        if turn.is_none() || (is_quiet && !is_busy) {
            *turn = Some(last + 1);
        }
        turn.map(|turn| turn.to_string())
    }

    /// Returns the operation that a request continues. It never chooses between two.
    fn continues(&mut self, ask: &Ask) -> Option<usize> {
        if !matches!(ask.method, "tools/call" | "prompts/get" | "resources/read") {
            return None;
        }
        let fits = |waiting: &Waiting| match (ask.state, waiting.state) {
            (Some(told), Some(asked)) => told == asked,
            _ => {
                ask.responses == Some(waiting.inputs)
                    && ask.method == waiting.method
                    && ask.target == waiting.target
            }
        };
        let fitting: Vec<usize> = (0..self.waiting.len()).filter(|at| fits(&self.waiting[*at])).collect();
        match fitting.as_slice() {
            [only] => Some(self.waiting.remove(*only).operation),
            _ => None,
        }
    }

    fn answer(&mut self, client: bool, id: Id, answer: Answer) {
        let asker = !client;
        let cancelled = self.cancelled.iter().position(|gone| *gone == (asker, id));
        let of_value = || self.find_value(asker, id).filter(|_| cancelled.is_none());
        let Some(at) = self.find(asker, id).or_else(of_value).filter(|_| !id.is_null()) else {
            let same_value = |(side, gone): &(bool, Id)| *side == asker && gone.value() == id.value();
            let late = cancelled.or_else(|| only(self.cancelled.iter().map(same_value)));
            match late.filter(|_| !id.is_null()) {
                Some(at) => drop(self.cancelled.remove(at)),
                None => self.expected.totals.unmatched += 1,
            }
            return;
        };
        self.open[at].answer_id = Some(id);
        if asker {
            self.server_names(self.open[at].ask.method, answer);
        }
        if let (Answer::Task(task, state), true, "tools/call") = (answer, asker, self.open[at].ask.method) {
            self.handle(at, task, state);
            return;
        }
        let open = self.open.remove(at);
        let method = open.ask.method;
        let has_content = matches!(method, "tools/call" | "tasks/result");
        let no_code = "invalid_response".to_owned();
        let (status, error_type, code) = match answer {
            Answer::Error(-1) if method == "sampling/createMessage" => {
                ("denied", Some("declined".to_owned()), Some(-1))
            }
            Answer::Error(code @ 403) => ("denied", Some(code.to_string()), Some(code)),
            Answer::Error(code) => ("error", Some(code.to_string()), Some(code)),
            Answer::ErrorDenied => ("denied", Some("-32001".to_owned()), Some(-32001)),
            Answer::ErrorOnly | Answer::Both | Answer::Scalar => ("error", Some(no_code), None),
            Answer::ToolDenied if has_content => ("denied", Some("tool_error".to_owned()), None),
            Answer::ToolError | Answer::ToolDenied | Answer::ToolReport => {
                ("error", Some("tool_error".to_owned()), None)
            }
            Answer::Decline if method == "elicitation/create" => {
                ("denied", Some("declined".to_owned()), None)
            }
            Answer::Dismiss if method == "elicitation/create" => {
                ("cancelled", Some("dismissed".to_owned()), None)
            }
            _ => ("ok", None, None),
        };
        if let (true, Some(task)) = (asker, open.ask.task) {
            match (method, answer) {
                ("tasks/get", Answer::TaskState(state) | Answer::Task(_, Some(state))) => {
                    self.task_state(task, state);
                }
                ("tasks/result", _) => self.end_task(task, status, error_type.clone(), code, true),
                _ => {}
            }
        }
        let (method, target) = (open.ask.method, open.ask.target);
        self.complete(open, status, error_type, code, false, self.now);
        if let Answer::Asks { state, inputs } = answer {
            let operation = self.expected.operations.len() - 1;
            self.waiting.push(Waiting { operation, state, inputs, method, target });
        }
    }

    fn is_quiet(&mut self, conversation: Option<usize>, at: Moment) {
        match self.gaps.iter_mut().find(|gaps| gaps.conversation == conversation) {
            Some(gaps) => gaps.quiet_since = Some(at),
            None => self.gaps.push(Gaps { conversation, turn: None, quiet_since: Some(at) }),
        }
    }

    fn cancel(&mut self, client: bool, id: Id, reason: Option<&str>) {
        self.expected.totals.notifications += 1;
        let listens = |at: &usize| self.open[*at].ask.method == "subscriptions/listen";
        let found = [
            self.find(client, id),
            self.find(!client, id).filter(listens),
            self.find_value(client, id),
            self.find_value(!client, id).filter(listens),
        ];
        let Some(at) = found.into_iter().flatten().next() else {
            self.expected.totals.unmatched += 1;
            return;
        };
        let mut open = self.open.remove(at);
        let is_late =
            reason.is_some_and(|reason| reason.contains("timed out") || reason.contains("deadline"));
        let status = match open.client == client {
            true if is_late => "timeout",
            true => "cancelled",
            false => "ok",
        };
        self.cancelled.retain(|gone| *gone != (open.client, open.ask.id));
        self.cancelled.push((open.client, open.ask.id));
        open.answer_id = Some(id);
        let error_type = (status != "ok").then(|| status.to_owned());
        self.complete(open, status, error_type, None, true, self.now);
    }

    fn give_up(&mut self, at: usize, status: &'static str, error_type: &str, now: Moment) {
        let open = self.open.remove(at);
        self.complete(open, status, Some(error_type.to_owned()), None, false, now);
    }

    fn complete(
        &mut self,
        open: Open,
        mut status: &'static str,
        mut error_type: Option<String>,
        error_code: Option<i64>,
        cancelled: bool,
        at: Moment,
    ) {
        self.tokens.retain(|(_, number)| *number != open.number);
        // A question to a person ends, and with a call the time of its questions.
        if let Some(call) = self.open.iter_mut().find(|call| Some(call.number) == open.asked_for) {
            call.waits.push((open.started.max(call.started), at));
            match status {
                "denied" => call.declined = true,
                "ok" => call.declined = false,
                _ => {}
            }
        }
        let asked = self.open.iter().filter(|question| question.asked_for == Some(open.number));
        let waits: Vec<_> = open
            .waits
            .iter()
            .copied()
            .chain(asked.map(|question| (question.started.max(open.started), at)))
            .collect();
        let user_wait = tasks::union(waits);
        let Open { client, ask, .. } = open;
        if ask.method != "subscriptions/listen" && open.task.is_none() {
            self.is_quiet(ask.conversation, at);
        }
        if open.declined && status == "error" {
            status = "denied";
        }
        let waits = ["subscriptions/listen", "tasks/result", "elicitation/create", "sampling/createMessage"];
        let took = at.since(open.started);
        if !matches!(status, "cancelled" | "unknown")
            && !waits.contains(&ask.method)
            && open.task.is_none()
            && self.call_timeout.is_some_and(|limit| took > limit)
        {
            (status, error_type) = ("timeout", Some("timeout".to_owned()));
        }
        // The failure of a task counts at its call.
        let is_of_task = match error_type.as_deref() {
            Some("tool_error" | "invalid_response") => true,
            Some(code) => error_code.is_some() && !["-32601", "-32602"].contains(&code),
            None => false,
        };
        let counts = client && !(ask.method == "tasks/result" && ask.task.is_some() && is_of_task);
        self.expected.totals.errors += u64::from(counts && matches!(status, "error" | "timeout"));
        self.expected.totals.denied += u64::from(counts && status == "denied");
        self.expected.operations.push(Operation {
            client,
            id: ask.id.shown(),
            method: ask.method.to_owned(),
            target: ask.target.map(|target| target_text(target).to_owned()),
            status,
            error_type,
            error_code,
            milliseconds: took.as_millis() as u64,
            progress: (open.progress > 0).then_some(open.progress),
            user_wait: (!user_wait.is_zero()).then_some(user_wait.as_millis() as u64),
            cancelled,
            repeat_count: (open.repeat_count > 1).then_some(open.repeat_count),
            continues: open.continues,
            turn: open.turn,
            handle: open.task.map(|task| task.handle_at.since(open.started).as_millis() as u64),
            result_seen: open.task.map(|_| false),
            version: open.version,
            answer_id: open.answer_id.filter(|id| *id != ask.id).map(Id::shown),
        });
    }
}

/// Returns the place of the only true element.
fn only(elements: impl Iterator<Item = bool>) -> Option<usize> {
    let mut places = elements.enumerate().filter(|(_, is)| *is).map(|(place, _)| place);
    places.next().filter(|_| places.next().is_none())
}
