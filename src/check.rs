//! Probes one server: starts a process or connects over HTTP, initializes it in either era of the protocol, sends
//! requests that every server must answer, and ends it as a host would. The probe never touches live traffic.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hosts::launch::{LocalLaunch, ServerLaunch};
use crate::observe::CHECK_CLIENT;
use crate::observe::redact::{Field, Redactor};

mod answer;
mod failure;
pub(crate) mod lint;
pub(crate) mod remote;
mod server;
pub(crate) mod tools;

pub use failure::FailureKind;
pub(crate) use failure::ServerFailure;

use answer::{ProbeAnswer, ProbeError, ProbeReply};
use lint::LintedServer;
use remote::HttpServer;
use server::ProbeServer;
use tools::CheckedTools;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// Time limit of each answer.
    pub(crate) timeout: Duration,
    pub(crate) era: ProtocolEra,
}

/// Era of the protocol, by its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProtocolEra {
    // `server/discover`, then `initialize` if the first is not answered (MCP 2026-07-28, dual-era clients).
    Auto,
    // `server/discover` only: revision 2026-07-28. A doc comment would become help text.
    Modern,
    // `initialize` only: revisions up to 2025-11-25.
    Legacy,
}

/// Measurements of a server that works.
#[derive(Clone, Debug)]
pub(crate) struct ServerHealth {
    /// Name that the server reports, redacted.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) protocol: String,
    /// `modern` or `legacy`.
    pub(crate) era: &'static str,
    /// Time from the start of the process to the end of the handshake.
    pub(crate) handshake: Duration,
    /// Round trip of the cheapest request. Its method depends on the era: the modern era has no `ping`.
    pub(crate) ping: Duration,
    pub(crate) ping_method: &'static str,
    /// `None` if the server has no tools.
    pub(crate) tools: Option<ToolList>,
    pub(crate) lint: LintedServer,
    pub(crate) end: ProbeEnd,
    /// Number of lines on stdout that are not JSON-RPC.
    pub(crate) banner_lines: usize,
    pub(crate) warnings: Vec<String>,
}

/// The tools of all pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolList {
    pub(crate) count: usize,
    /// Bytes of all definitions, as they came.
    pub(crate) bytes: u64,
    /// Time to list them.
    pub(crate) time: Duration,
    pub(crate) definitions: CheckedTools,
}

/// End of the process after the probe, or of the session over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeEnd {
    /// Action that ended it: `stdin_closed`, `sigterm` or `sigkill`; over HTTP `session_deleted`, or `none` if the
    /// server began no session.
    pub(crate) by: &'static str,
    pub(crate) after: Duration,
}

/// Shortest value of an entry that is replaced in texts: a shorter one is a part of many words.
const LEAST_SECRET: usize = 4;
/// How long to wait for the answer to `server/discover` before `initialize` is sent too. Servers of older
/// revisions answer with an error, or not at all.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of pages of tools above which the server is assumed to repeat them.
const MAX_PAGES: usize = 100;
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";
/// The versions with `initialize`.
const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY];

impl Probe {
    /// Probes a server and ends it. If the process ends at the first message of the modern era, starts it again for
    /// the legacy era. `redactor` returns a new redactor for the server's texts.
    pub(crate) fn run(
        &self,
        launch: &ServerLaunch,
        redactor: &dyn Fn() -> Redactor,
    ) -> Result<ServerHealth, ServerFailure> {
        let local =
            match launch {
                ServerLaunch::Local(local) => local,
                ServerLaunch::Remote(remote) => {
                    let server = HttpServer::new(remote, self.timeout)?;
                    return self.attempt_remote(server).map_err(|ProbeProblem { kind, text }| {
                        ServerFailure { kind, text, stderr: Vec::new(), banner_lines: 0 }
                    });
                }
            };
        match self.attempt(local, self.era, redactor) {
            // Some servers of older revisions end at an unknown first message.
            Err((ServerFailure { kind: FailureKind::Died, .. }, true)) if self.era == ProtocolEra::Auto => {
                self.attempt(local, ProtocolEra::Legacy, redactor).map_err(|(failure, _)| failure)
            }
            outcome => outcome.map_err(|(failure, _)| failure),
        }
        .map_err(|mut failure| {
            hide_values_of(local, failure.stderr.iter_mut().chain([&mut failure.text]));
            failure
        })
        .map(|mut health| {
            hide_values_of(local, health.warnings.iter_mut());
            health
        })
    }

    fn attempt_remote(&self, mut server: HttpServer) -> Result<ServerHealth, ProbeProblem> {
        let begin = Instant::now();
        let mut session = ProbeSession::new(&mut server, self.timeout, None);
        let measured = session.measure(self.era, begin, &mut true);
        let warnings = std::mem::take(&mut session.warnings);
        // A session that has begun is ended, whatever came after it.
        let end = server.end();
        Ok(ServerHealth { end, warnings, ..measured? })
    }

    /// Probes one process. A failure comes with true if only `server/discover` had been sent.
    fn attempt(
        &self,
        launch: &LocalLaunch,
        era: ProtocolEra,
        redactor: &dyn Fn() -> Redactor,
    ) -> Result<ServerHealth, (ServerFailure, bool)> {
        let server = ProbeServer::start(launch, self.timeout, redactor);
        let mut server = server.map_err(|failure| (failure, false))?;
        let begin = server.begin;
        let mut session = ProbeSession::new(&mut server, self.timeout, Some(redactor()));
        let mut only_discovered = era != ProtocolEra::Legacy;
        let measured = session.measure(era, begin, &mut only_discovered);
        let mut warnings = std::mem::take(&mut session.warnings);
        let health = match measured {
            Ok(health) => health,
            Err(problem) => return Err((server.into_failure(problem), only_discovered)),
        };
        let banner_lines = server.banner_lines;
        if banner_lines > 0 {
            let noun = if banner_lines == 1 { "line on stdout is" } else { "lines on stdout are" };
            warnings.push(format!("{banner_lines} {noun} not JSON-RPC; strict hosts end the connection"));
        }
        let end = server.end();
        if end.by != "stdin_closed" {
            warnings.push(format!(
                "it did not end when its stdin was closed, only at {}; hosts wait two seconds",
                end.by.to_uppercase()
            ));
        }
        Ok(ServerHealth { end, banner_lines, warnings, ..health })
    }
}

/// The server's side of a probe.
trait ProbePeer {
    /// Sends a request; returns its id.
    fn request(&mut self, method: &str, params: Value) -> Result<u64, ProbeProblem>;

    fn send(&mut self, message: &Value) -> Result<(), ProbeProblem>;

    /// Returns the next answer to any of our requests; `None` if none arrives before `deadline`.
    fn reply(&mut self, deadline: Instant) -> Result<Option<ProbeReply>, ProbeProblem>;
}

/// Facts from the handshake.
struct ServerGreeting {
    name: String,
    version: String,
    protocol: String,
    era: &'static str,
    has_tools: bool,
    has_logging: bool,
}

/// Replaces values of the entry that are secret by their names. A server that refuses a key may quote it, where its form
/// alone does not show what it is.
fn hide_values_of<'t>(launch: &LocalLaunch, texts: impl Iterator<Item = &'t mut String>) {
    let is_secret = |(name, value): &(&String, &String)| {
        let shown = Redactor::default().explain(format!("{name}={value}").as_bytes()).0;
        value.len() >= LEAST_SECRET && !shown.as_str().contains(value.as_str())
    };
    let secrets: Vec<&String> = launch.environment.iter().filter(is_secret).map(|(_, value)| value).collect();
    for text in texts {
        for secret in &secrets {
            *text = text.replace(secret.as_str(), "[REDACTED:key_value]");
        }
    }
}

/// A failure before the end of the process is known.
#[derive(Debug)]
struct ProbeProblem {
    kind: FailureKind,
    text: String,
}

fn protocol_error(text: impl Into<String>) -> ProbeProblem {
    ProbeProblem { kind: FailureKind::ProtocolError, text: text.into() }
}

struct ProbeSession<'a> {
    server: &'a mut dyn ProbePeer,
    timeout: Duration,
    /// True if requests contain the metadata of the modern era.
    modern: bool,
    warnings: Vec<String>,
    definition_bytes: u64,
    /// `None` if the server's texts are not quoted.
    redactor: Option<Redactor>,
}

impl<'a> ProbeSession<'a> {
    fn new(server: &'a mut dyn ProbePeer, timeout: Duration, redactor: Option<Redactor>) -> ProbeSession<'a> {
        ProbeSession { server, timeout, modern: true, warnings: Vec::new(), definition_bytes: 0, redactor }
    }

    /// Does everything before the end. `begin` is the start of the process or connection.
    fn measure(
        &mut self,
        era: ProtocolEra,
        begin: Instant,
        only_discovered: &mut bool,
    ) -> Result<ServerHealth, ProbeProblem> {
        let greeting = self.handshake(era, only_discovered)?;
        let handshake = begin.elapsed();
        let (ping_method, ping) = self.ping()?;
        let mut lint = LintedServer::new(greeting.has_logging, &greeting.protocol);
        let tools = if greeting.has_tools { Some(self.list_tools(&mut lint)?) } else { None };
        Ok(ServerHealth {
            name: greeting.name,
            version: greeting.version,
            protocol: greeting.protocol,
            era: greeting.era,
            handshake,
            ping,
            ping_method,
            tools,
            lint,
            end: ProbeEnd { by: "none", after: Duration::ZERO },
            banner_lines: 0,
            warnings: Vec::new(),
        })
    }

    /// Does the handshake, and clears `only_discovered` when `initialize` is sent.
    fn handshake(
        &mut self,
        era: ProtocolEra,
        only_discovered: &mut bool,
    ) -> Result<ServerGreeting, ProbeProblem> {
        let mut discover = None;
        let mut initialize = None;
        let mut deadline = Instant::now() + self.timeout;
        let mut fall_back = None;
        let mut has_other = false;
        if era == ProtocolEra::Legacy {
            initialize = Some(self.initialize()?);
        } else {
            discover = Some(self.send("server/discover", json!({}))?);
            let timeout = DISCOVER_TIMEOUT.min(self.timeout / 2);
            fall_back = (era == ProtocolEra::Auto).then(|| Instant::now() + timeout);
        }
        loop {
            let Some(ProbeReply { id, answer, .. }) = self.server.reply(fall_back.unwrap_or(deadline))?
            else {
                if fall_back.take().is_none() {
                    let method = if initialize.is_some() { "initialize" } else { "server/discover" };
                    return Err(self.no_answer(method, has_other));
                }
                *only_discovered = false;
                initialize = Some(self.initialize()?);
                deadline = Instant::now() + self.timeout;
                continue;
            };
            if Some(id) == discover {
                match answer {
                    ProbeAnswer::Result(result) if is_modern(&result) => {
                        self.modern = true;
                        return Ok(modern_greeting(&result));
                    }
                    ProbeAnswer::Result(_) if era == ProtocolEra::Modern => {
                        let text = format!("the answer to server/discover names no version from {MODERN} on");
                        return Err(protocol_error(text));
                    }
                    ProbeAnswer::Error(error) if era == ProtocolEra::Modern => {
                        return Err(self.refused("server/discover", &error));
                    }
                    _ if initialize.is_none() => {
                        fall_back = None;
                        *only_discovered = false;
                        initialize = Some(self.initialize()?);
                        deadline = Instant::now() + self.timeout;
                    }
                    _ => {}
                }
            } else if Some(id) == initialize {
                return self.initialized(answer);
            } else {
                has_other = true;
            }
        }
    }

    fn initialize(&mut self) -> Result<u64, ProbeProblem> {
        self.modern = false;
        let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info()});
        self.send("initialize", params)
    }

    /// Checks the answer to `initialize` and ends the handshake.
    fn initialized(&mut self, answer: ProbeAnswer) -> Result<ServerGreeting, ProbeProblem> {
        let result = match answer {
            ProbeAnswer::Result(result) => result,
            ProbeAnswer::Error(error) => return Err(self.refused("initialize", &error)),
        };
        if !result["protocolVersion"].is_string() || !result["capabilities"].is_object() {
            return Err(protocol_error("the answer to initialize has no protocolVersion or no capabilities"));
        }
        let info = &result["serverInfo"];
        if !info["name"].is_string() || !info["version"].is_string() {
            self.warnings.push("its answer to initialize has no serverInfo with name and version".to_owned());
        }
        if !VERSIONS.iter().any(|version| result["protocolVersion"] == **version) {
            self.warnings.push(format!("it chose a protocol version that MCP does not have by {MODERN}"));
        }
        self.server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok(legacy_greeting(&result))
    }

    /// Measures a round trip that costs the server little. An error is an answer too.
    fn ping(&mut self) -> Result<(&'static str, Duration), ProbeProblem> {
        let method = if self.modern { "server/discover" } else { "ping" };
        let begin = Instant::now();
        if let ProbeAnswer::Error(error) = self.ask(method, json!({}))? {
            let error = self.text_of(&error);
            self.warnings.push(format!("it answers {method} with {error}"));
        }
        Ok((method, begin.elapsed()))
    }

    /// Lists the tools on all pages, and lints them.
    fn list_tools(&mut self, lint: &mut LintedServer) -> Result<ToolList, ProbeProblem> {
        let begin = Instant::now();
        let mut list = ToolList::default();
        let mut params = json!({});
        for _ in 0..MAX_PAGES {
            let page = match self.ask("tools/list", params)? {
                ProbeAnswer::Result(page) => page,
                ProbeAnswer::Error(error) => return Err(self.refused("tools/list", &error)),
            };
            let tools = page["tools"].as_array();
            for tool in tools.ok_or_else(|| protocol_error("the answer to tools/list has no tools"))? {
                list.count += 1;
                list.definitions.add(tool);
                lint.add(tool);
            }
            match page["nextCursor"].as_str() {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => {
                    return Ok(ToolList { time: begin.elapsed(), bytes: self.definition_bytes, ..list });
                }
            }
        }
        Err(protocol_error(format!("tools/list has more than {MAX_PAGES} pages")))
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<ProbeAnswer, ProbeProblem> {
        let (asked, mut has_other) = (self.send(method, params)?, false);
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.server.reply(deadline)? {
                Some(ProbeReply { id, answer, definition_bytes }) if id == asked => {
                    self.definition_bytes += definition_bytes;
                    return Ok(answer);
                }
                Some(_) => has_other = true,
                None => return Err(self.no_answer(method, has_other)),
            }
        }
    }

    fn send(&mut self, method: &str, mut params: Value) -> Result<u64, ProbeProblem> {
        if self.modern {
            // MCP 2026-07-28, basic: each request contains version, capabilities and client.
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": client_info(),
            });
        }
        self.server.request(method, params)
    }

    fn refused(&mut self, method: &str, error: &ProbeError) -> ProbeProblem {
        protocol_error(format!("the server answered {method} with {}", self.text_of(error)))
    }

    /// Returns the code of an error, and its message if the server's texts are quoted: `error -32603: db down`.
    fn text_of(&mut self, error: &ProbeError) -> String {
        let code =
            error.code.map_or_else(|| "an error without a code".to_owned(), |code| format!("error {code}"));
        match &mut self.redactor {
            Some(redactor) if !error.message.is_empty() => {
                format!("{code}: {}", redactor.redact(Field::Summary, error.message.as_bytes()).as_str())
            }
            _ => code,
        }
    }

    /// `has_other` is true if an answer came whose id is not that of the request.
    fn no_answer(&self, method: &str, has_other: bool) -> ProbeProblem {
        let other = if has_other { ", but an answer with another id" } else { "" };
        let text = format!("no answer to {method} within {:?}{other}", self.timeout);
        ProbeProblem { kind: FailureKind::NoAnswer, text }
    }
}

fn client_info() -> Value {
    json!({"name": CHECK_CLIENT, "version": env!("CARGO_PKG_VERSION")})
}

/// Returns a name or version that the server reports, redacted; `?` if it reports none.
fn reported(value: &Value) -> String {
    name(value.as_str().unwrap_or("?"))
}

/// Redacts a name, so that it can be shown and exported.
pub(crate) fn name(text: &str) -> String {
    Redactor::default().redact(Field::Name, text.as_bytes()).as_str().to_owned()
}

/// Returns true if the server supports our version or a later one. Versions are dates; a server of a later
/// version supports ours too, or answers with an error.
fn is_modern(result: &Value) -> bool {
    let mut versions = result["supportedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    versions.any(|version| version >= MODERN)
}

fn modern_greeting(result: &Value) -> ServerGreeting {
    let versions = result["supportedVersions"].as_array().into_iter().flatten();
    let newest = versions.filter_map(Value::as_str).max().unwrap_or("?");
    let protocol = Value::from(if newest > MODERN { MODERN } else { newest });
    greeting("modern", &result["_meta"]["io.modelcontextprotocol/serverInfo"], &protocol, result)
}

fn legacy_greeting(result: &Value) -> ServerGreeting {
    greeting("legacy", &result["serverInfo"], &result["protocolVersion"], result)
}

fn greeting(era: &'static str, info: &Value, protocol: &Value, result: &Value) -> ServerGreeting {
    ServerGreeting {
        name: reported(&info["name"]),
        version: reported(&info["version"]),
        protocol: reported(protocol),
        era,
        has_tools: result["capabilities"]["tools"].is_object(),
        has_logging: result["capabilities"]["logging"].is_object(),
    }
}
