//! `spantap collect`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::selection::note;
use crate::cli::{Out, done, help, hint, settings};
use crate::collect::setup::{self, Sender};
use crate::collect::state::{CollectState, RunState};
use crate::collect::{self, CollectError, LastRun, ListenError};
use crate::present::{Printable, format};
use crate::settings::{GivenSettings, ListenAddress, Settings, paths};
use crate::system::process;

mod options;

pub(super) use options::start_problem;

/// The place that programs are given without `--listen`.
const USUAL_ENDPOINT: &str = "http://127.0.0.1:4318";

const STATUSES: &str =
    "Exit status: 0 it ended by a signal; 1 an error, such as a port that is taken; 2 usage.";

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub struct CollectArgs {
    /// Print the settings with which a program sends its telemetry here, and end
    #[arg(long, value_enum, value_name = "PROGRAM")]
    setup: Option<Sender>,
    #[arg(long, value_name = "ADDRESS", help = repeatable("collect.listen"))]
    listen: Vec<ListenAddress>,
    #[arg(long, value_name = "FILE", help = help::of("collect.token_file"))]
    token_file: Option<PathBuf>,
    #[arg(long, value_name = "URL", help = help::of("collect.forward"))]
    forward: Option<String>,
    #[arg(long, value_name = "NAME[=VALUE|=@FILE]", help = repeatable("collect.forward_headers"))]
    forward_header: Vec<String>,
    #[arg(
        long,
        value_name = "URL",
        help = format!("{}; only metrics of model calls are sent", help::of("otlp.endpoint"))
    )]
    otlp: Option<String>,
    #[arg(long, value_name = "KEY=VALUE", requires = "otlp", help = help::OTLP_SET)]
    otlp_set: Vec<String>,
    #[arg(long, value_name = "DIR", help = help::of("log_dir"))]
    log_dir: Option<PathBuf>,
    #[arg(long, value_name = "FILE", help = help::CONFIG)]
    config: Option<PathBuf>,
}

fn repeatable(setting: &str) -> String {
    format!("{}; repeatable", help::of(setting))
}

impl CollectArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let settings = settings(self.given())?;
        if let Some(sender) = self.setup {
            let lines =
                setup::lines(sender, &endpoint(&settings), settings.collect_token_file.value.is_some());
            return done(ExitCode::SUCCESS, out.write_all(lines.as_bytes()));
        }
        settings.problems.iter().for_each(|problem| note(&problem.to_string()));
        let options = options::of(&settings)?;
        let mut printed = Ok(());
        let ended = collect::run(options, |state, last| printed = begin(out, state, last));
        let state = ended.map_err(explain)?;
        done(ExitCode::SUCCESS, printed.and_then(|()| end(out, &state)))
    }

    fn given(&self) -> GivenSettings {
        GivenSettings {
            config: self.config.clone(),
            log_dir: self.log_dir.clone(),
            otlp_endpoint: self.otlp.clone(),
            otlp_set: self.otlp_set.clone(),
            collect_listen: (!self.listen.is_empty()).then(|| self.listen.clone()),
            collect_token_file: self.token_file.clone(),
            collect_forward: self.forward.clone(),
            collect_forward_headers: (!self.forward_header.is_empty()).then(|| self.forward_header.clone()),
            ..GivenSettings::default()
        }
    }
}

/// Returns the URL of the first address, for programs on this machine.
fn endpoint(settings: &Settings) -> String {
    match settings.collect_listen.value.iter().flatten().next() {
        None => USUAL_ENDPOINT.to_owned(),
        Some(ListenAddress::Port(port)) => format!("http://127.0.0.1:{port}"),
        Some(ListenAddress::Address(address)) => format!("http://{address}"),
    }
}

/// Adds the way out to an error.
fn explain(error: CollectError) -> anyhow::Error {
    match &error {
        CollectError::Listen(listen) => {
            let (problem, way_out) = explain_listen(listen);
            hint(problem, way_out)
        }
        CollectError::LeadsBack(..) => hint(error.into(), "name another collector"),
        CollectError::Unusable(option, _) => {
            let way_out = format!("correct the URL of {option}, its headers or its certificates");
            hint(error.into(), way_out)
        }
        CollectError::System(_) => hint(error.into(), process::WAY_TO_RESOURCES),
    }
}

/// Returns what is wrong with an address, and what to do.
fn explain_listen(ListenError { address, error, owner }: &ListenError) -> (anyhow::Error, String) {
    if error.kind() != std::io::ErrorKind::AddrInUse {
        let problem = anyhow::anyhow!("cannot listen on {address}: {error}");
        return (problem, "name another port or address with --listen ADDRESS".to_owned());
    }
    let running = collect::state::read().filter(|state| state.run_state() == RunState::Running);
    let pid = owner.as_ref().map(|owner| owner.pid);
    if let Some(state) = running.filter(|state| Some(state.pid) == pid) {
        let problem =
            anyhow::anyhow!("spantap collect runs already (pid {}) and listens on {address}", state.pid);
        return (problem, "`spantap status` shows what it received".to_owned());
    }
    let by = match owner {
        Some(owner) => format!("`{}` (pid {}) listens there", owner.name, owner.pid),
        None => "another program listens there".to_owned(),
    };
    let problem = anyhow::anyhow!("{address} is taken: {by}");
    // What listens at the port of OTLP over gRPC takes no HTTP.
    let port = if address.port() == 4317 { 4318 } else { address.port() };
    let way_out = format!(
        "if it is a collector, put spantap in front of it with these two lines, the second one for your agents:\n  \
         spantap collect --listen 14318 --forward http://{}\n  \
         {}",
        SocketAddr::new(address.ip(), port),
        process::command_to_set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:14318"),
    );
    (problem, way_out)
}

/// A line about the collector for other commands.
pub(super) struct CollectorNote {
    pub(super) text: String,
    /// The way to put it right; `None` if nothing is wrong.
    pub(super) fix: Option<String>,
}

/// Returns what is known of a collector that runs, or that did not end in order.
pub(super) fn last_run() -> Option<CollectorNote> {
    let state = collect::state::read()?;
    let counts = &state.counts;
    match state.run_state() {
        RunState::Running => {
            let losses = counts.losses();
            let taken = [
                format::plural(counts.requests, "request"),
                format::plural(counts.spans, "span"),
                format::plural(counts.logs, "log record"),
            ];
            let facts = losses.as_ref().map(|losses| format!("; {}", losses.facts)).unwrap_or_default();
            let text = format!(
                "spantap collect runs (pid {}) on {} and has taken {}{facts}",
                state.pid,
                state.addresses.join(", "),
                taken.join(", "),
            );
            Some(CollectorNote { text, fix: losses.map(|losses| losses.way_out) })
        }
        RunState::Killed => {
            let text = format!(
                "the last run of spantap collect (pid {}, from {}) did not end in order; {}",
                state.pid,
                state.started_at,
                lost_by(&state)
            );
            let fix = "start it again with `spantap collect`, or as a service";
            Some(CollectorNote { text, fix: Some(fix.to_owned()) })
        }
        RunState::Ended | RunState::Unknown => None,
    }
}

/// Prints where the collector listens and what it does.
fn begin(out: &mut Out<'_>, state: &CollectState, last: Option<&LastRun>) -> std::io::Result<()> {
    if let Some((last, run)) = last {
        match run {
            RunState::Running => note(&format!(
                "another collector runs (pid {}); `spantap status` shows that one, not this one",
                last.pid
            )),
            _ => note(&format!(
                "the last run (pid {}, from {}) did not end in order; {}",
                last.pid,
                last.started_at,
                lost_by(last)
            )),
        }
    }
    if let Some(forward) = &state.forward {
        note(&format!(
            "agents may put prompts and answers into their telemetry; spantap does not record those, but passes them \
             on to {forward}"
        ));
    }
    writeln!(out, "listening on {} (OTLP over HTTP and gRPC)", state.addresses.join(", "))?;
    if let Some(otlp) = &state.otlp {
        writeln!(out, "{}", Printable::new(&format!("sending metrics of model calls to {otlp}")))?;
    }
    let folder = match state.log_folder.as_str() {
        "" => "nothing is recorded (`log = false`)".to_owned(),
        folder => format!("recording to {}", paths::home_as_tilde(Path::new(folder))),
    };
    writeln!(out, "{}", Printable::new(&folder))?;
    writeln!(out, "set a program up with `spantap collect --setup PROGRAM`; end with Ctrl-C")?;
    out.flush()
}

/// Returns what a run that was killed has lost, by its last counts.
fn lost_by(run: &CollectState) -> String {
    let counts = &run.counts;
    let [facts, spans] = match run.log_folder.is_empty() {
        true => [0; 2],
        false => [counts.waiting, counts.waiting_spans],
    };
    let waited = [
        (facts, "fact", "for other parts or for the disk"),
        (spans, "span", "for the rest of their trace"),
        (counts.forward_waiting, "answered request", "to be passed on"),
    ];
    let waited = waited.into_iter().filter(|(count, ..)| *count > 0);
    let waited: String = waited
        .map(|(count, what, why)| format!(", {} that waited {why}", format::plural(count, what)))
        .collect();
    let before = counts.losses().map(|losses| format!("; before that, {}", losses.facts)).unwrap_or_default();
    format!("it lost the requests under way{waited}; its last second may not be counted{before}")
}

/// Prints what the run did.
fn end(out: &mut Out<'_>, state: &CollectState) -> std::io::Result<()> {
    let counts = &state.counts;
    writeln!(
        out,
        "took {} with {}, {} and {}; wrote {}",
        format::plural(counts.requests, "request"),
        format::plural(counts.spans, "span"),
        format::plural(counts.logs, "log record"),
        format::plural(counts.points, "data point"),
        format::plural(counts.records, "record"),
    )?;
    for (spans, logs, why) in [
        (counts.own_spans, counts.own_logs, "of spantap itself"),
        (counts.other_spans, counts.other_logs, "with no event of an agent or server"),
        (counts.joined_spans, 0, "around another span of the same call, whose record has them"),
    ] {
        let items = [(spans, "span"), (logs, "log record")].into_iter().filter(|(count, _)| *count > 0);
        let items: Vec<String> = items.map(|(count, what)| format::plural(count, what)).collect();
        if !items.is_empty() {
            writeln!(out, "not recorded: {} {why}", items.join(" and "))?;
        }
    }
    if state.forward.is_some() {
        writeln!(out, "passed on: {}", format::plural(counts.forwarded, "request"))?;
    }
    if let Some(count) = counts.silent_connections() {
        writeln!(out, "closed: {} without a request", format::plural(count, "connection"))?;
    }
    if let Some(losses) = counts.losses() {
        writeln!(out, "{losses}")?;
    }
    out.flush()
}
