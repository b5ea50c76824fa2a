//! `spantap top`.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ColorChoice};
use crossterm::event::{Event, KeyEventKind};

use crate::cli::selection::{ColorArgs, DefaultRange, Reading, SelectArgs, note};
use crate::cli::tail::EndedConnections;
use crate::cli::top::terminal::ScreenTerminal;
use crate::cli::{Out, show, write_json};
use crate::present::Printable;
use crate::present::tail::RowPrinter;
use crate::present::top;
use crate::present::top::screen::{TopScreen, wrapped};
use crate::present::top::view::{TopRequest, TopView};
use crate::query::duplicates::NewRecords;
use crate::query::entry::LogEntry;
use crate::query::files::LogSource;
use crate::query::find::{Search, SearchResult, SearchTarget};
use crate::query::follow::LogFollower;
use crate::query::live::{LiveConnection, LiveFolder};
use crate::query::row::id_end;
use crate::query::top::{TopOrder, TopScan, TopServer, TopState};
use crate::record::timestamp::Timestamp;
use crate::settings::process_variable;
use crate::system::signals;

mod terminal;

#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print the state once, without the screen
    #[arg(long)]
    once: bool,
    /// Sort the servers by this column
    #[arg(long, value_enum, default_value_t)]
    sort: TopOrder,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    /// Maximum number of operations that --once prints [default: 20]
    #[arg(short = 'n', long, value_name = "N", help_heading = "Select")]
    limit: Option<usize>,
    /// Print the state once, as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) color: ColorArgs,
}

/// Default number of operations that `--once` prints.
const ROWS: usize = 20;
/// Shortest time between two looks at the files, and between two drawings that no key asked for.
const TICK: Duration = Duration::from_millis(250);
/// Longest time between two drawings: the clock shows seconds.
const CLOCK: Duration = Duration::from_secs(1);
/// Shortest time between two measurements of the processes.
const MEASURE: Duration = Duration::from_secs(2);
/// A measurement that took a time T is repeated after 300 T at the earliest, so measurements take at most 1/300 of the
/// time.
const PAUSE_PER_MEASUREMENT: u32 = 300;

impl TopArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let once = self.once || self.json;
        if let Some(reason) = ScreenTerminal::obstacle().filter(|_| !once) {
            anyhow::bail!(
                "the screen needs a terminal, and {reason}; `spantap top --once` prints the same once"
            );
        }
        let mut reading = Reading::open_early(&self.select, DefaultRange::LastDay)?;
        reading.leave_out_inner();
        if let Some(link) = &mut reading.terminal.trace_link {
            // The screen draws characters, and has no hyperlinks.
            link.is_marked = false;
        }
        // Made before the scan: lines that are written during the scan are followed.
        let follower = LogFollower::after(&reading.sources, reading.select.window);
        let make = || TopScan::new(&reading.select);
        let (scan, agents, mut findings) = reading.scan_with(reading.agents(), make);
        let mut watch = Watch {
            state: scan.finish(agents),
            reading,
            follower,
            new: NewRecords::after(std::mem::take(&mut findings.last_seqs)),
            live: LiveFolder::default(),
            ends: EndedConnections::of(&[]),
            followed: HashMap::new(),
            measured: None,
            has_colour: match self.color.color {
                ColorChoice::Auto => process_variable("NO_COLOR").is_none_or(|value| value.is_empty()),
                choice => choice == ColorChoice::Always,
            },
        };
        let (_, problems) = watch.look_at_live();
        watch.ends = EndedConnections::of(&watch.state.live);
        if !watch.reading.select.is_about_operations() {
            watch.state.add_killed();
        }
        watch.measure();
        if !once {
            return watch.run_screen(TopView::new(self.sort));
        }
        problems.iter().for_each(|problem| note(problem));
        self.print(out, &mut watch)?;
        watch.reading.print_problems(&findings);
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, out: &mut Out<'_>, watch: &mut Watch) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let servers = watch.state.servers(&watch.reading.select, self.sort, now);
        let count = self.limit.unwrap_or(ROWS);
        if self.json {
            write_json(out, &top::json(&watch.state, &servers, count, now))?;
            return Ok(());
        }
        let mut out = BufWriter::new(out);
        top::write(&mut out, &watch.reading.terminal, &watch.state, &servers, count, now)?;
        out.flush()?;
        Ok(())
    }
}

/// The state, and where it comes from.
struct Watch {
    reading: Reading,
    state: TopState,
    follower: LogFollower,
    new: NewRecords,
    live: LiveFolder,
    ends: EndedConnections,
    /// True for the connections whose logs are followed.
    followed: HashMap<String, bool>,
    /// When the processes were last measured, and how long that took.
    measured: Option<(Instant, Duration)>,
    has_colour: bool,
}

impl Watch {
    /// Reads what was added since the last time. Returns false if nothing was.
    fn look(&mut self) -> anyhow::Result<bool> {
        let (state, new, select) = (&mut self.state, &self.new, &self.reading.select);
        let ends = &mut self.ends;
        let mut is_changed = false;
        self.follower.round(&self.reading.folders, |line| {
            match LogEntry::parse(line) {
                Ok(entry) if entry.event.is_of_agent() => {
                    is_changed |= state.take_of_agent(&entry, line, new);
                }
                Ok(entry) => {
                    ends.take(&entry);
                    is_changed |= state.take(&entry, new, select);
                }
                Err(_) => {}
            }
            Ok(())
        })?;
        let (is_live_changed, _) = self.look_at_live();
        let killed = self.ends.killed(&self.state.live);
        is_changed |= !killed.is_empty();
        if !self.reading.select.is_about_operations() {
            self.state.add_rows(killed);
        }
        self.state.settle();
        let is_due =
            |(at, took): (Instant, Duration)| at.elapsed() > MEASURE.max(took * PAUSE_PER_MEASUREMENT);
        if self.measured.is_none_or(is_due) {
            self.measure();
            is_changed = true;
        }
        Ok(is_changed || is_live_changed || self.state.has_open())
    }

    /// Reads the live files. Returns true if they have changed, and one line for each that cannot be read.
    fn look_at_live(&mut self) -> (bool, Vec<String>) {
        let (all, problems) = self.reading.all_live_in(&mut self.live);
        let (mut live, others) = all.into_iter().partition(|connection| self.reading.takes_live(connection));
        self.state.other_live = others;
        live.retain(|LiveConnection { state, .. }| {
            let is_followed = self.followed.entry(state.connection_id.clone()).or_default();
            *is_followed = *is_followed || self.follower.follows(&state.connection_id);
            *is_followed
        });
        (self.state.set_live(live), problems)
    }

    fn measure(&mut self) {
        let begun = Instant::now();
        self.state.measure();
        self.measured = Some((Instant::now(), begun.elapsed()));
    }

    /// Shows the screen until the user quits or a signal ends spantap.
    fn run_screen(mut self, mut view: TopView) -> anyhow::Result<ExitCode> {
        let mut screen = ScreenTerminal::take()?;
        self.reading.shows_progress = false;
        let mut printer = RowPrinter::of_single_lines(self.reading.terminal.clone());
        let mut servers = Vec::new();
        let (mut looked, mut drawn) = (Instant::now(), None::<Instant>);
        let mut is_changed = true;
        loop {
            let age = drawn.map(|drawn| drawn.elapsed());
            if age.is_none_or(|age| age >= CLOCK || is_changed && age >= TICK) {
                servers = self.draw(&mut screen, &mut view, &mut printer)?;
                (drawn, is_changed) = (Some(Instant::now()), false);
            }
            let Ok(events) = screen.events(TICK.saturating_sub(looked.elapsed())) else { break };
            for event in events {
                // A key is answered at once.
                drawn = None;
                let request = match event {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        view.key(key, &self.state, &servers)
                    }
                    Event::Resize(..) => view.written_for().cloned(),
                    _ => None,
                };
                match request {
                    Some(TopRequest::Quit) => return Ok(ExitCode::SUCCESS),
                    Some(TopRequest::Suspend) => screen.suspend()?,
                    Some(request) => self.open(request, &screen, &mut view),
                    None => {}
                }
            }
            match screen.signal() {
                Some(signal) if signals::asks_to_stop(signal) => {
                    screen.suspend()?;
                    drawn = None;
                }
                Some(signal) => {
                    screen.die(signal);
                    break;
                }
                None => {}
            }
            if looked.elapsed() >= TICK {
                is_changed |= !view.is_paused && self.look()?;
                looked = Instant::now();
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn draw(
        &mut self,
        screen: &mut ScreenTerminal,
        view: &mut TopView,
        printer: &mut RowPrinter,
    ) -> anyhow::Result<Vec<TopServer>> {
        let now = Timestamp::now();
        let servers = self.state.servers(&self.reading.select, view.order, now);
        view.update(&self.state);
        let has_colour = self.has_colour;
        let terminal = &mut self.reading.terminal;
        screen.terminal.draw(|frame| {
            let width = usize::from(frame.area().width);
            if terminal.width != width {
                terminal.width = width;
                *printer = RowPrinter::of_single_lines(terminal.clone());
            }
            let (state, servers) = (&self.state, &servers);
            let screen = TopScreen { terminal, state, servers, now, has_colour };
            screen.draw(view, printer, frame.buffer_mut());
        })?;
        Ok(servers)
    }

    /// Shows the page that `request` asks for.
    fn open(&mut self, request: TopRequest, screen: &ScreenTerminal, view: &mut TopView) {
        if let Ok(size) = screen.terminal.size() {
            self.reading.terminal.width = usize::from(size.width);
        }
        let mut text = Vec::new();
        match self.write_page(&mut text, &request) {
            Ok(true) => {
                let width = self.reading.terminal.width;
                let lines =
                    String::from_utf8_lossy(&text).lines().flat_map(|line| wrapped(line, width)).collect();
                view.show_text(lines, Some(request));
            }
            Ok(false) => view.notice = "it is not in the logs any more".to_owned(),
            Err(error) => view.notice = format!("{error:#}"),
        }
    }

    /// Writes the page that `request` asks for. Returns false if the logs do not have it.
    fn write_page(&mut self, out: &mut Vec<u8>, request: &TopRequest) -> anyhow::Result<bool> {
        self.reading.find_sources()?;
        match request {
            TopRequest::Operation(target) => {
                let all = self.reading.sources.clone();
                if let SearchTarget::Operation { session, .. } = target {
                    let end = id_end(session, 12);
                    let is_of_it = |source: &LogSource| source.name().contains(end);
                    if all.iter().any(is_of_it) {
                        self.reading.sources.retain(is_of_it);
                    }
                }
                let (search, _) = self.reading.scan(|| Search::new(&self.reading.select, target));
                let SearchResult::Operations { found, .. } = search.finish(&[]) else { return Ok(false) };
                let Some(found) = found.last() else { return Ok(false) };
                show::write_operation(out, &self.reading, found)?;
            }
            TopRequest::Session(session) => {
                show::write_session(out, &self.reading, session, show::USUAL_PART, &Printable::default())?;
            }
            TopRequest::Quit | TopRequest::Suspend => return Ok(false),
        }
        Ok(true)
    }
}
