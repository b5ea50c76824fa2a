//! The way from the command line to a running proxy: settings, relay, observer. The work that the server does
//! not need is done on the observer's thread, after the server has been started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cli::exit_with;
use crate::cli::run::RunArgs;
use crate::export::bodies::{self, BodiesFile};
use crate::export::live::LiveFile;
use crate::export::log::{Log, LogSettings};
use crate::export::notify::Notifier;
use crate::export::otlp::sampler::Sampler;
use crate::export::otlp::settings::SignalEndpoints;
use crate::export::otlp::{ExportNotice, Otlp, OtlpSettings, OtlpWarning};
use crate::export::{Exporter, Output};
use crate::observe::canonical::HashKey;
use crate::observe::event::{BodiesState, SessionStarted, Span};
use crate::observe::redact::{Field, Redacted, Redactor};
use crate::observe::{Debug, Denials, Observer, ObserverSettings};
use crate::proxy::connection_span::{ConnectionSpan, begins_session};
use crate::proxy::debug_watch::DebugWatch;
use crate::proxy::known_tools::KnownTools;
use crate::proxy::nested::OuterProxy;
use crate::proxy::{self, ProxyOptions, ServerStart, SessionObserver, diagnostics, identity, nested};
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::SessionSource;
use crate::record::{ClockAnchor, Identity};
use crate::relay::RelayOptions;
use crate::relay::line_editor::LineEditor;
use crate::relay::pump::WhenFull;
use crate::settings::{
    LogLevel, Overload, Propagate, Setting, SettingLookup, SettingOrigin, SettingSources, Settings,
};
use crate::settings::{
    given_endpoint, hash_key, misspelt_variables, paths, process_environment, process_variable, server_name,
};
use crate::system::clock::Moment;
use crate::system::process;
use crate::system::server::TraceEnv;
use crate::system::thread;
use crate::text::glob::Glob;

/// How long spantap may outlive the server: hosts send SIGTERM two seconds after the end of stdin.
const FLUSH_BUDGET: Duration = Duration::from_millis(1500);

/// How much longer spantap may stay with `--overload=wait` to write records. A signal ends the wait.
const GRACE: Duration = Duration::from_secs(60);

/// Starts the proxy: settings, relay, observer. Does not return after the server has been started.
pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let RunArgs { given, verbose, server_command, .. } = args;
    let sources = SettingSources::read(given, &process_environment, paths::config_dir().as_deref());
    let launch = Launch { sources, command: server_command.command, section: OnceLock::new(), verbose };
    let early = launch.early_settings();
    let checked = early.strict.then(|| SessionSetup::new(&launch).checked()).transpose()?;

    let session = early.session_root.as_ref().map(|session| session.id.as_str());
    let span = ConnectionSpan::new(&process_environment, early.sampler, &early.endpoints, session);
    let outer = nested::outer(span.inherited_id(), &early.endpoints);
    let (when_full, grace) = match early.overload {
        Overload::Wait => (WhenFull::Wait, GRACE),
        Overload::Lose => (WhenFull::Lose, Duration::ZERO),
    };
    let mut relay = RelayOptions { when_full, ..RelayOptions::default() };
    if let Some(grace) = test_limit("SPANTAP_TEST_ORPHAN_GRACE") {
        relay.orphan_grace = grace;
    }
    let trace_env = if early.trace_env { span.trace_env() } else { TraceEnv::Untouched };
    let (editor, context) = match early.propagate {
        Propagate::Off => (None, None),
        Propagate::Meta => {
            let (inserter, context) = span.inserter();
            (Some(Box::new(inserter) as Box<dyn LineEditor>), Some(context))
        }
    };
    let flush_budget = test_limit("SPANTAP_TEST_FLUSH_BUDGET").unwrap_or(FLUSH_BUDGET);

    let launch = Arc::new(launch);
    let of_messages = Arc::clone(&launch);
    let of_observer = Arc::clone(&launch);
    let options = ProxyOptions {
        trace_env,
        relay,
        editor,
        flush_budget,
        grace,
        show_command: Box::new(move |command: &[OsString]| of_messages.show(command)),
        build_observer: Box::new(move |started: &ServerStart| {
            let session = checked.unwrap_or_else(|| SessionSetup::new(&of_observer));
            let mut session = session.observer(started, &span, outer);
            context.into_iter().for_each(|context| session.observer.follow(context));
            session
        }),
    };
    proxy::run(&launch.command, options)
}

/// The command line and the sources of its settings.
struct Launch {
    sources: SettingSources<'static>,
    command: Vec<OsString>,
    /// Name of the server's section, derived at its first use. Without a config file, the first use is after the
    /// server's start.
    section: OnceLock<String>,
    verbose: u8,
}

impl Launch {
    fn section(&self) -> &str {
        self.section.get_or_init(|| self.sources.section_name(&self.command))
    }

    /// Resolves the settings that the start of the server depends on. The others are resolved on the observer's
    /// thread.
    fn early_settings(&self) -> EarlySettings {
        let has_file = matches!(self.sources.file(), Ok(Some(_)));
        let mut resolver = self.sources.resolver(if has_file { self.section() } else { "" });
        let tables = resolver.otlp_tables();
        let endpoint = resolver.otlp_endpoint();
        EarlySettings {
            endpoints: OtlpSettings::resolve_endpoints(given_endpoint(&endpoint), &tables, &process_variable),
            strict: resolver.strict().value,
            trace_env: resolver.trace_env().value,
            overload: resolver.overload().value,
            session_root: resolver
                .session_root()
                .value
                .then(|| session_of(&resolver.session_id(), process::parent())),
            propagate: resolver.propagate().value,
            sampler: OtlpSettings::resolve_sampler(&tables, &process_variable),
        }
    }

    /// Shows the words of a command without its secrets.
    fn show(&self, command: &[OsString]) -> String {
        let words = self.sources.settings(self.section()).redaction.redactor().redact_argv(command);
        words.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// The settings that the start of the server depends on.
struct EarlySettings {
    strict: bool,
    trace_env: bool,
    overload: Overload,
    /// The session whose root span is the parent of the connection's span.
    session_root: Option<identity::SessionId>,
    propagate: Propagate,
    sampler: Sampler,
    endpoints: SignalEndpoints,
}

/// Returns a time limit of the end in builds with debug assertions, in milliseconds: the time of an orphaned
/// server, or the time that spantap may outlive the server. A test on a busy machine must not depend on them.
fn test_limit(name: &str) -> Option<Duration> {
    if !cfg!(debug_assertions) {
        return None;
    }
    process_variable(name)?.parse().ok().map(Duration::from_millis)
}

/// Returns the agent session of the host process `host`.
fn session_of(setting: &Setting<Option<String>>, host: i32) -> identity::SessionId {
    let configured = setting.value.clone().filter(|id| !id.is_empty());
    let configured = configured.map(|id| match setting.origin {
        SettingOrigin::Environment(_) => (id, SessionSource::Environment),
        _ => (id, SessionSource::Flag),
    });
    identity::session_id(configured, &process_variable, host)
}

fn clean_session_id(redactor: &mut Redactor, session: &identity::SessionId) -> String {
    redactor.redact(Field::Id, session.id.as_bytes()).as_str().to_owned()
}

/// Returns the id of the agent session of the host process `host`, as the records of its proxies have it.
pub(in crate::cli) fn session_id(settings: &Settings, host: i32) -> String {
    clean_session_id(&mut settings.redaction.redactor(), &session_of(&settings.session_id, host))
}

/// The settings of the session, and its identity.
struct SessionSetup {
    settings: Settings,
    identity: Identity,
    session_source: SessionSource,
    /// Process that started spantap. It can end before the server starts.
    host: i32,
    command: Vec<Redacted>,
    redactor: Redactor,
    file_error: Option<String>,
    verbose: u8,
    /// The log, if it has been opened already.
    opened: Option<Log>,
}

impl SessionSetup {
    fn new(launch: &Launch) -> SessionSetup {
        let mut settings = launch.sources.settings(launch.section());
        let names = process::environment_names().into_iter().filter_map(|name| name.into_string().ok());
        settings.problems.extend(misspelt_variables(names));
        let mut redactor = settings.redaction.redactor();
        let host = process::parent();
        let session = session_of(&settings.session_id, host);
        let command = redactor.redact_argv(&launch.command);
        let server = settings.server.value.clone().filter(|name| !name.is_empty());
        let server = server.unwrap_or_else(|| server_name::server_name(&launch.command, &command));
        let session_id = clean_session_id(&mut redactor, &session);
        let mut clean = |field, text: &str| redactor.redact(field, text.as_bytes()).as_str().to_owned();
        let identity = Identity {
            connection_id: identity::connection_id(),
            session_id,
            server_name: clean(Field::Name, &server),
            user_id: settings.user_id.value.as_deref().map(|user| clean(Field::UserId, user)),
        };
        SessionSetup {
            settings,
            identity,
            session_source: session.source,
            host,
            command,
            redactor,
            file_error: launch.sources.file().err().map(ToString::to_string),
            verbose: launch.verbose,
            opened: None,
        }
    }

    /// Returns the set-up if each part of it works, as `--strict` demands.
    fn checked(mut self) -> anyhow::Result<SessionSetup> {
        let refuse = |text: String, hint: &str| Err(exit_with(125, anyhow::anyhow!(text), hint));
        if let Some(error) = self.file_error {
            return refuse(error, "fix the file or leave --strict out");
        }
        if let Some(problem) = self.settings.problems.first() {
            return refuse(problem.cause(), "fix the setting or leave --strict out");
        }
        let (otlp, warnings) = self.otlp(None);
        if let Some(warning) = warnings.first() {
            return refuse(warning.cause.clone(), "fix the setting or leave --strict out");
        }
        if let Some(Err(error)) = otlp.as_ref().map(Otlp::check) {
            return refuse(
                format!("export cannot be set up: {error:#}"),
                "fix the setting or leave --strict out",
            );
        }
        self.opened = self.log();
        if let Some(log) = &self.opened
            && let Err(error) = log.open_now()
        {
            return refuse(
                format!("the session log cannot be written: {error}"),
                "name another folder with --log-dir",
            );
        }
        Ok(self)
    }

    fn log(&self) -> Option<Log> {
        if !self.settings.log.value {
            return None;
        }
        let Some(folder) = self.settings.log_folder() else {
            tracing::warn!("no log: the home folder is not known; name a folder with --log-dir");
            return None;
        };
        let settings = LogSettings {
            folder,
            max_size: self.settings.max_log_size.value,
            max_total_size: self.settings.max_total_size.value,
        };
        let log = Log::new(settings, &self.identity, |line| tracing::warn!("{line}"));
        let log = log.limited(self.settings.max_session_size.value, |line| tracing::warn!("{line}"));
        match self.settings.overload.value {
            Overload::Lose => Some(log.with_thread(thread::lower_priority)),
            // The traffic waits for the log.
            Overload::Wait => Some(log.patient()),
        }
    }

    /// Returns the export to collectors, if it is asked for, and warnings. The outer spantap exports the same calls.
    fn otlp(&self, outer: Option<OuterProxy>) -> (Option<Otlp>, Vec<OtlpWarning>) {
        let (mut settings, warnings) = self.settings.otlp(&process_environment);
        if let Some(settings) = &mut settings
            && let Some(outer) = outer
            && nested::leave_to(outer, settings)
        {
            tracing::info!("process {} is a spantap around this one, and exports the same calls", outer.pid);
        }
        let settings = settings.filter(|settings| settings.targets().next().is_some());
        let side = self.settings.side.value;
        let prices = Prices::new(self.settings.usd_per_million_tokens.value, &self.settings.cost_per_call);
        let otlp = settings.map(|settings| {
            let notify = |notice: &ExportNotice| match notice {
                ExportNotice::NoAnswer { .. } | ExportNotice::NotTaken { .. } => {
                    tracing::warn!("{notice}; traffic is not affected")
                }
                _ => tracing::warn!("{notice}"),
            };
            let otlp = Otlp::new(settings, &self.identity, side, prices, notify);
            otlp.with_thread(thread::lower_priority)
        });
        (otlp, warnings)
    }

    /// Makes the observer and its sinks for a server that runs (or could not be started).
    fn observer(
        mut self,
        started: &ServerStart,
        span: &ConnectionSpan,
        outer: Option<OuterProxy>,
    ) -> SessionObserver {
        std::panic::set_hook(Box::new(report_panic));
        diagnostics::install(self.verbose, paths::state_dir().map(|dir| dir.join("diagnostics")).as_deref());
        self.warn();
        let hash_key = self.hash_key();
        self.redactor.set_hash_key(hash_key.clone());
        let now = crate::system::clock::now();
        let root = span.session_root();
        let span = span.span(&mut self.redactor);
        let mut exporter = self.exporter(now, outer);
        let session_started = SessionStarted {
            pid: std::process::id(),
            child_pid: started.pid.and_then(|pid| u32::try_from(pid).ok()),
            host_pid: u32::try_from(self.host).ok().filter(|pid| *pid > 0),
            command: std::mem::take(&mut self.command),
            environment: self.environment_names(),
            session_source: self.session_source,
            cwd: self.cwd(),
            origin: self
                .settings
                .origin
                .value
                .clone()
                .map(|id| self.redactor.redact(Field::Id, id.as_bytes())),
            span: span.clone(),
            hash_key_id: hash_key.id(),
            spawned: started.spawned,
            stderr_is_stdout: started.stderr_is_stdout,
            begins_session: root.is_some_and(|root| begins_session(&paths::roots_dir(), root)),
        };
        let settings = self.observer_settings(now, hash_key, span);
        let bodies_state = self.bodies_state();
        let mut random = [0; 32];
        let _ = getrandom::fill(&mut random);
        let mut observer = Observer::new(settings, self.redactor, random);
        let command = session_started.command.clone();
        observer.start(session_started, started.spawned, &mut exporter);
        // After the log has begun: this waits for the disk.
        let known_tools = KnownTools::of(&self.identity.server_name, &command);
        observer.remember_tools(known_tools.read());
        let remember_tools = move |observer: &Observer| {
            if let Some(tools) = observer.tools() {
                known_tools.update(tools);
            }
        };
        if let Some(register) = paths::bodies_dir() {
            bodies::clean(&register, std::time::SystemTime::now());
        }
        let debug_watch = paths::debug_control()
            .map(|path| DebugWatch::new(path, &self.identity.server_name, bodies_state));
        SessionObserver { observer, exporter, remember_tools: Some(Box::new(remember_tools)), debug_watch }
    }

    /// Returns whether this session keeps bodies if the user asks for them.
    fn bodies_state(&self) -> BodiesState {
        match self.settings.redaction.bodies_state() {
            BodiesState::On if self.file_error.is_some() => BodiesState::RedactionSettings,
            BodiesState::On if self.bodies_place().is_none() => BodiesState::NoLog,
            state => state,
        }
    }

    /// Returns the folder of the log, and the register of files of bodies.
    fn bodies_place(&self) -> Option<(PathBuf, PathBuf)> {
        let folder = self.settings.log_folder().filter(|_| self.settings.log.value)?;
        Some((folder, paths::bodies_dir()?))
    }

    /// Returns the working folder with the home folder as `~`, unless the user forbids it.
    fn cwd(&mut self) -> Option<Redacted> {
        let cwd = std::env::current_dir().ok().filter(|_| self.settings.record_cwd.value)?;
        let cwd = paths::home_as_tilde(&cwd);
        Some(self.redactor.redact(Field::Message, cwd.as_bytes()))
    }

    /// Warns of everything in the settings that the user should know.
    fn warn(&self) {
        if let Some(error) = &self.file_error {
            tracing::warn!(
                "{error}; continuing without the file, and without any free text, since the file may contain redaction rules"
            );
        }
        for problem in &self.settings.problems {
            tracing::warn!("{problem}");
        }
        for warning in self.settings.redaction.warnings() {
            tracing::warn!("{warning}");
        }
    }

    fn exporter(&mut self, now: Moment, outer: Option<OuterProxy>) -> Exporter {
        let anchor = ClockAnchor { moment: now, wall: Timestamp::now() };
        let mut outputs: Vec<Box<dyn Output>> = Vec::new();
        let log = self.opened.take().or_else(|| self.log());
        outputs.extend(log.map(|log| Box::new(log) as Box<dyn Output>));
        let bodies = self.bodies_place().filter(|_| self.bodies_state() == BodiesState::On);
        let bodies = bodies.map(|(folder, register)| {
            BodiesFile::new(folder, register, &self.identity, anchor, |line| tracing::warn!("{line}"))
        });
        outputs.extend(bodies.map(|bodies| Box::new(bodies) as Box<dyn Output>));
        let live = paths::live_dir().filter(|_| self.settings.log.value);
        let log_folder = self.settings.log_folder();
        let live = live.map(|folder| LiveFile::new(&folder, log_folder.as_deref(), &self.identity, anchor));
        outputs.extend(live.map(|live| Box::new(live) as Box<dyn Output>));
        if !self.settings.notify.is_empty() {
            let folder = paths::live_dir().filter(|_| self.settings.log.value);
            let command = self.settings.notify.clone();
            outputs.push(Box::new(Notifier::new(command, &self.identity.server_name, folder.as_deref())));
        }
        let (otlp, warnings) = self.otlp(outer);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        outputs.extend(otlp.map(|otlp| Box::new(otlp) as Box<dyn Output>));
        Exporter::new(self.identity.clone(), anchor, outputs)
    }

    fn observer_settings(&mut self, now: Moment, hash_key: HashKey, connection: Span) -> ObserverSettings {
        let conversation = identity::host_conversation(&process_variable);
        let thrash_tools = self.settings.thrash_tools.iter();
        ObserverSettings {
            slow: self.settings.slow.value,
            call_timeout: self.settings.call_timeout.value,
            thrash_threshold: self.settings.thrash_threshold.value,
            thrash_tools: thrash_tools.map(|(glob, threshold)| (Glob::new(glob), threshold.get())).collect(),
            result_limit: self.settings.result_limit.value,
            debug: self.debug(now),
            hash_key,
            connection,
            denials: Denials {
                codes: self.settings.denied_codes.value.clone(),
                words: self.settings.denied_words.value.clone(),
            },
            conversation_id: conversation.map(|id| self.redactor.redact(Field::Id, id.as_bytes())),
        }
    }

    fn debug(&self, now: Moment) -> Debug {
        match (self.settings.debug_for.value, self.settings.log_level.value) {
            (Some(time), _) => {
                tracing::info!("debug records for {} s", time.as_secs());
                Debug::Until(now.after(time))
            }
            (None, LogLevel::Debug) => {
                tracing::warn!(
                    "debug records are on until you turn them off: the log contains summaries of results; --debug-for 15m ends them after that time"
                );
                Debug::On
            }
            (None, LogLevel::Info) => Debug::Off,
        }
    }

    fn environment_names(&mut self) -> Vec<Redacted> {
        let names = process::environment_names();
        names.iter().map(|name| self.redactor.redact(Field::Name, name.as_encoded_bytes())).collect()
    }

    fn hash_key(&self) -> HashKey {
        hash_key::choose(&self.settings).load_or_make().unwrap_or_else(|error| {
            tracing::warn!("{error}; hashes of this session cannot be compared with those of other sessions");
            hash_key::for_this_process()
        })
    }
}

/// Reports the place of a panic. Its message is left out, since it may quote observed text.
fn report_panic(info: &std::panic::PanicHookInfo<'_>) {
    let place =
        info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    crate::system::messages::say(format_args!("internal error{place}"));
}
