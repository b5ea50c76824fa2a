//! The messages of a conversation, and their bytes.

use super::{
    Act, Answer, Ask, CLIENTS, Choices, IDS, Id, Inside, Line, METHODS, SERVERS, TaskState, VERSIONS,
};

const TARGETS: [&str; 3] = ["read_file", "search", "send"];
/// Two spellings of the same arguments are the same call.
const ARGUMENTS: [&str; 5] = ["", "{}", r#"{"a":1,"b":2}"#, r#"{ "b" : 2, "a" : 1.0 }"#, r#"{"a":2}"#];
/// Two spellings of the same token.
const TOKENS: [&[&str]; 4] = [&["7"], &["\"é\"", "\"\\u00e9\""], &["\"t\""], &["\"7\""]];
const STATES: [&str; 2] = ["\"s0\"", "\"s1\""];
const INPUTS: [&str; 3] = ["{}", r#"{"one":{}}"#, r#"{"one":{},"two":{}}"#];

/// Lines, each with true if the client sends it.
pub(super) fn conversation(choices: &mut Choices<'_>, legal: bool) -> Vec<(bool, Line)> {
    let mut speaker =
        Speaker { choices, legal, asked: [Vec::new(), Vec::new()], rounds: Vec::new(), next: [0, 0] };
    let mut lines = Vec::new();
    while !speaker.choices.is_over() && lines.len() < 60 {
        let client = !speaker.choices.once_in(3);
        let line = speaker.line(client);
        lines.push((client, line));
    }
    lines
}

struct Speaker<'c, 'b> {
    choices: &'c mut Choices<'b>,
    /// Ids are new, answers belong to requests, lines are messages.
    legal: bool,
    /// The open requests of each side. The client is 1.
    asked: [Vec<Ask>; 2],
    /// Requests that an answer wants again, with input.
    rounds: Vec<Ask>,
    next: [usize; 2],
}

impl Speaker<'_, '_> {
    fn line(&mut self, client: bool) -> Line {
        match self.choices.below(16) {
            13 => self.batch(client),
            14 if !self.legal => self.junk(),
            15 => {
                let blank: &[u8] = [&b"\n"[..], b"\r\n", b"  \t\n"][self.choices.below(3)];
                Line { bytes: blank.to_vec(), acts: Vec::new(), malformed: false }
            }
            _ => {
                let (act, text) = self.message(client);
                let mut bytes = match self.choices.below(8) {
                    6 => format!("\u{feff}{text}").into_bytes(),
                    7 => format!(" {text} ").into_bytes(),
                    _ => text.into_bytes(),
                };
                bytes.extend_from_slice(if self.choices.once_in(8) { b"\r\n" } else { b"\n" });
                Line { bytes, acts: vec![(None, act)], malformed: false }
            }
        }
    }

    /// 2025-03-26, and peers that send batches in other revisions.
    fn batch(&mut self, client: bool) -> Line {
        let mut text = "[".to_owned();
        let mut acts = Vec::new();
        for number in 0..self.choices.below(4) {
            if number > 0 {
                text.push_str([",", " , "][self.choices.below(2)]);
            }
            let (act, element) = self.message(client);
            text.push_str(&element);
            acts.push((Some(text.len()), act));
        }
        // An element that is not an object invalidates the elements after it, not those before it.
        let malformed = !self.legal && !acts.is_empty() && self.choices.once_in(4);
        text.push_str(if malformed { ",3]\n" } else { "]\n" });
        Line { bytes: text.into_bytes(), acts, malformed }
    }

    fn junk(&mut self) -> Line {
        const JUNK: [&[u8]; 7] = [
            b"Listening on stdio\n",
            b"\xff\xfe\x00\n",
            b"{\"id\":1,\"method\":\"ping\"\n",
            b"{\"id\":1,\"method\":\"ping\"}}\n",
            b"[1,2]\n",
            b"\"id\"\n",
            b"{} {}\n",
        ];
        let bytes = JUNK[self.choices.below(JUNK.len())].to_vec();
        Line { bytes, acts: Vec::new(), malformed: true }
    }

    fn message(&mut self, client: bool) -> (Act, String) {
        match self.choices.below(16) {
            0..6 => self.ask(client),
            6..11 => self.answer(client),
            11 => self.cancel(client),
            12 if self.choices.once_in(2) => {
                let (task, state) = (self.choices.below(2), self.task_state());
                let params = format!("{{\"taskId\":\"task-{task}\",{}}}", members_of(state));
                let name = ["notifications/tasks", "notifications/tasks/status"][self.choices.below(2)];
                (Act::TaskNote(task, state), self.object(&[method(name), member("params", &params)]))
            }
            12 => {
                let token = self.choices.below(TOKENS.len());
                let text = TOKENS[token][self.choices.below(TOKENS[token].len())];
                let params = format!("{{\"progressToken\":{text},\"progress\":0.5}}");
                (
                    Act::Progress(token),
                    self.object(&[method("notifications/progress"), member("params", &params)]),
                )
            }
            13 if !self.legal => {
                let text = ["{}", "{\"id\":1}", "{\"jsonrpc\":\"2.0\",\"params\":{}}"][self.choices.below(3)];
                (Act::Neither, text.to_owned())
            }
            _ => {
                let name = ["notifications/initialized", "notifications/message", "x"][self.choices.below(3)];
                (Act::Notify, self.object(&[method(name)]))
            }
        }
    }

    fn id(&mut self) -> Id {
        Id::Known(self.choices.below(IDS.len()))
    }

    fn ask(&mut self, client: bool) -> (Act, String) {
        let id = if self.legal {
            self.next[usize::from(client)] += 1;
            Id::Fresh(self.next[usize::from(client)])
        } else {
            self.id()
        };
        // A server mostly requests sampling, elicitation or roots.
        let name = match client || self.choices.once_in(3) {
            true => METHODS[self.choices.below(METHODS.len())],
            false => METHODS[11 + self.choices.below(3)],
        };
        let mut ask = Ask {
            id,
            method: name,
            target: None,
            arguments: self.choices.below(ARGUMENTS.len()),
            token: self.choices.once_in(3).then(|| self.choices.below(TOKENS.len())),
            conversation: self.choices.once_in(4).then(|| self.choices.below(2)),
            turn: self.choices.once_in(4).then(|| self.choices.below(3)),
            state: self.choices.once_in(4).then(|| self.choices.below(STATES.len())),
            responses: self.choices.once_in(4).then(|| self.choices.below(INPUTS.len())),
            task: (name.starts_with("tasks/") && !self.choices.once_in(8)).then(|| self.choices.below(2)),
            client: None,
            version: None,
        };
        if client && (name == "initialize" || self.choices.once_in(4)) {
            ask.client = (!self.choices.once_in(4)).then(|| self.choices.below(CLIENTS.len()));
            ask.version = (!self.choices.once_in(4)).then(|| self.choices.below(VERSIONS.len()));
        }
        let mut params = Vec::new();
        if place_of_target(name).is_some() && !self.choices.once_in(8) {
            ask.target = Some(self.choices.below(TARGETS.len()));
        }
        if client && !self.rounds.is_empty() && self.choices.once_in(2) {
            let round = self.rounds[self.choices.below(self.rounds.len())].clone();
            ask = Ask {
                id,
                method: round.method,
                target: round.target,
                arguments: round.arguments,
                state: round.state,
                responses: round.responses,
                task: round.task,
                ..ask
            };
        }
        self.asked[usize::from(client)].push(ask.clone());
        if let (Some(place), Some(target)) = (place_of_target(ask.method), ask.target) {
            params.push(member(place, &format!("\"{}\"", target_text(target))));
        }
        if let Some(task) = ask.task {
            params.push(member("taskId", &format!("\"task-{task}\"")));
        }
        if !ARGUMENTS[ask.arguments].is_empty() {
            params.push(member("arguments", ARGUMENTS[ask.arguments]));
        }
        let mut meta = Vec::new();
        if let Some(token) = ask.token {
            let text = TOKENS[token][self.choices.below(TOKENS[token].len())];
            meta.push(member("progressToken", text));
        }
        if let Some(conversation) = ask.conversation {
            meta.push(member("threadId", &format!("\"c{conversation}\"")));
        }
        if let Some(turn) = ask.turn {
            meta.push(member("turnId", &format!("\"t{turn}\"")));
        }
        let client = ask.client.map(|client| peer(CLIENTS[client]));
        let version = ask.version.map(|version| format!("\"{}\"", VERSIONS[version]));
        let [place, version_place] = match ask.method {
            "initialize" => ["clientInfo", "protocolVersion"],
            _ => ["io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/protocolVersion"],
        };
        let named = if ask.method == "initialize" { &mut params } else { &mut meta };
        named.extend(client.map(|client| member(place, &client)));
        named.extend(version.map(|version| member(version_place, &version)));
        if !meta.is_empty() {
            let meta = self.object(&meta);
            params.push(member("_meta", &meta));
        }
        if let Some(state) = ask.state {
            params.push(member("requestState", STATES[state]));
        }
        if let Some(responses) = ask.responses {
            params.push(member("inputResponses", INPUTS[responses]));
        }
        let id = member("id", &id.written(self.choices));
        let mut members = vec![id, method(ask.method)];
        if !params.is_empty() {
            let params = self.object(&params);
            members.push(member("params", &params));
        }
        let text = self.object(&members);
        (Act::Ask(ask), text)
    }

    fn answer(&mut self, client: bool) -> (Act, String) {
        let asked = &mut self.asked[usize::from(!client)];
        // Mostly answers to open requests, in any order. Without manners also answers to no request.
        let question = match asked.len() {
            0 if self.legal => return (Act::Notify, self.object(&[method("notifications/initialized")])),
            open if open > 0 && (self.legal || !self.choices.once_in(4)) => {
                Some(asked.remove(self.choices.below(open)))
            }
            _ => None,
        };
        let mut id = question.as_ref().map_or_else(|| self.id(), |question| question.id);
        if let Id::Fresh(number) = id
            && self.choices.once_in(6)
        {
            id = Id::Respelled(number, self.choices.below(3));
        }
        let is_greeting = question.as_ref().is_some_and(|question| question.method == "initialize");
        let answer = match self.choices.below(16) {
            0..2 if !client && is_greeting => Answer::Welcome {
                server: (!self.choices.once_in(4)).then(|| self.choices.below(SERVERS.len())),
                version: (!self.choices.once_in(4)).then(|| self.choices.below(VERSIONS.len())),
            },
            0..2 if self.choices.once_in(4) => Answer::Signed(self.choices.below(SERVERS.len())),
            0..2 => Answer::Plain,
            2 => Answer::NullMethod,
            3 => [Answer::ToolError, Answer::ToolReport][self.choices.below(2)],
            4 => Answer::ToolDenied,
            5 => [Answer::Decline, Answer::Dismiss][self.choices.below(2)],
            6 => Answer::Accept,
            7 => Answer::Scalar,
            8 if self.choices.once_in(2) => Answer::Task(self.choices.below(2), None),
            8 => {
                let task = self.choices.below(2);
                let state = self.task_state();
                [Answer::Task(task, Some(state)), Answer::TaskState(state)][self.choices.below(2)]
            }
            9..12 => Answer::Asks {
                state: self.choices.once_in(2).then(|| self.choices.below(STATES.len())),
                inputs: self.choices.below(INPUTS.len()),
            },
            12 => Answer::Error([-32603, -1, 403, -32000][self.choices.below(4)]),
            13 => Answer::ErrorDenied,
            14 if !self.legal => Answer::ErrorOnly,
            _ if !self.legal => Answer::Both,
            _ => Answer::Plain,
        };
        if let (Answer::Asks { state, inputs }, Some(question)) = (answer, question) {
            // The next round sends the state, or only the input, or both.
            let responses = (state.is_none() || self.choices.once_in(2)).then_some(inputs);
            self.rounds.push(Ask { state, responses, ..question });
        }
        let result = match answer {
            Answer::Plain | Answer::Both | Answer::NullMethod => Some(r#"{"content":[{"type":"text","text":"done"}]}"#.to_owned()),
            Answer::ToolError => {
                Some(r#"{"content":[{"type":"text","text":"no such file"}],"isError":true}"#.to_owned())
            }
            Answer::ToolDenied => {
                Some(r#"{"isError":true,"content":[{"type":"text","text":"Permission denied"}]}"#.to_owned())
            }
            Answer::ToolReport => Some(
                r#"{"content":[{"type":"text","text":"1 failed\ntest_forbidden\nPermission denied"}],"isError":true}"#.to_owned(),
            ),
            Answer::Welcome { server, version } => {
                let server = server.map(|server| member("serverInfo", &peer(SERVERS[server])));
                let version = version.map(|version| member("protocolVersion", &format!("\"{}\"", VERSIONS[version])));
                let members: Vec<String> = server.into_iter().chain(version).collect();
                Some(self.object(&members))
            }
            Answer::Signed(server) => {
                let server = peer(SERVERS[server]);
                Some(format!("{{\"_meta\":{{\"io.modelcontextprotocol/serverInfo\":{server}}}}}"))
            }
            Answer::Decline => Some(r#"{"action":"decline"}"#.to_owned()),
            Answer::Dismiss => Some(r#"{"action":"cancel"}"#.to_owned()),
            Answer::Accept => Some(r#"{"action":"accept","content":{}}"#.to_owned()),
            Answer::Scalar => Some(["null", "[]", "3", "\"x\""][self.choices.below(4)].to_owned()),
            Answer::Task(task, None) => {
                Some(format!(r#"{{"task":{{"taskId":"task-{task}","status":"working"}}}}"#))
            }
            Answer::Task(task, Some(state)) => {
                Some(format!(r#"{{"resultType":"task","taskId":"task-{task}",{}}}"#, members_of(state)))
            }
            Answer::TaskState(state) => Some(format!("{{{}}}", members_of(state))),
            Answer::Asks { state, inputs } => {
                let state =
                    state.map(|state| format!(",\"requestState\":{}", STATES[state])).unwrap_or_default();
                Some(format!(
                    r#"{{"resultType":"input_required","inputRequests":{}{state}}}"#,
                    INPUTS[inputs]
                ))
            }
            _ => None,
        };
        let error = match answer {
            Answer::Error(code) => Some(format!(r#"{{"code":{code},"message":"broken"}}"#)),
            Answer::ErrorDenied => Some(r#"{"message":"access Denied","code":-32001}"#.to_owned()),
            Answer::ErrorOnly | Answer::Both => Some(r#"{"message":"broken"}"#.to_owned()),
            _ => None,
        };
        let mut members = vec![member("id", &id.written(self.choices))];
        members.extend(result.map(|result| member("result", &result)));
        members.extend(error.map(|error| member("error", &error)));
        members.extend(matches!(answer, Answer::NullMethod).then(|| member("method", "null")));
        (Act::Answer(id, answer), self.object(&members))
    }

    fn task_state(&mut self) -> TaskState {
        let inside = [Inside::Nothing, Inside::Result, Inside::ToolError, Inside::ToolDenied, Inside::Error];
        TaskState {
            status: ["completed", "working", "input_required", "failed", "cancelled"][self.choices.below(5)],
            inside: inside[self.choices.below(inside.len())],
        }
    }

    fn cancel(&mut self, client: bool) -> (Act, String) {
        let own = &self.asked[usize::from(client)];
        let id = match own.len() {
            0 if self.legal => return (Act::Notify, self.object(&[method("notifications/initialized")])),
            open if open > 0 && (self.legal || !self.choices.once_in(3)) => own[self.choices.below(open)].id,
            _ => self.id(),
        };
        let reasons =
            [None, Some("the user stopped it"), Some("Request timed out"), Some("context deadline exceeded")];
        let reason = reasons[self.choices.below(reasons.len())];
        let text = reason.map(|reason| format!(",\"reason\":\"{reason}\"")).unwrap_or_default();
        let params = format!("{{\"requestId\":{}{text}}}", id.written(self.choices));
        (
            Act::Cancel(id, reason),
            self.object(&[method("notifications/cancelled"), member("params", &params)]),
        )
    }

    /// Returns an object of these members, in any order and with or without spaces.
    fn object(&mut self, members: &[String]) -> String {
        let mut members = members.to_vec();
        if self.choices.once_in(4) {
            members.reverse();
        }
        match self.choices.below(4) {
            3 => format!("{{ {} }}", members.join(" ,\t")).replacen("\":", "\" : ", 1),
            _ => format!("{{{}}}", members.join(",")),
        }
    }
}

fn members_of(state: TaskState) -> String {
    let inside = match state.inside {
        Inside::Nothing => "",
        Inside::Result => r#","result":{"content":[]}"#,
        Inside::ToolError => {
            r#","result":{"isError":true,"content":[{"type":"text","text":"no such file"}]}"#
        }
        Inside::ToolDenied => {
            r#","result":{"isError":true,"content":[{"type":"text","text":"Permission denied"}]}"#
        }
        Inside::Error => r#","error":{"code":-5,"message":"broken"}"#,
    };
    format!("\"status\":\"{}\"{inside}", state.status)
}

/// Returns what a peer sends of itself.
fn peer(name: &str) -> String {
    format!("{{\"name\":\"{name}\",\"version\":\"1\"}}")
}

fn member(name: &str, value: &str) -> String {
    format!("\"{name}\":{value}")
}

fn method(name: &str) -> String {
    member("method", &format!("\"{name}\""))
}

fn place_of_target(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    }
}

pub(super) fn target_text(target: usize) -> &'static str {
    TARGETS[target]
}
