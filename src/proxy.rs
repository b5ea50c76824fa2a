//! The assembly of a session: the relay, the threads that observe its copies, and the end.
//!
//! The observer and its sinks are one value, the [`ObserverRunner`], in a mutex. A background thread
//! at the lowest priority takes the mutex at intervals; traffic never wakes it. When a
//! ring is a quarter full, a catch-up thread at normal priority takes the mutex for a while, as long as it has
//! a core of its own. At the end the catch-up thread takes the mutex permanently, drains the rings and closes
//! the sinks, while the main thread waits for a signal that cuts this short. The relay never touches the mutex.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

pub(crate) mod connection_span;
pub(crate) mod debug_watch;
pub(crate) mod diagnostics;
pub(crate) mod identity;
pub(crate) mod known_tools;
pub(crate) mod nested;
mod observer_runner;

use observer_runner::{BuildObserver, ObserverRunner, ShutdownBudget};
pub(crate) use observer_runner::{ServerStart, SessionObserver};

use crate::observe::ServerEnd;
use crate::observe::event::EndReason;
use crate::relay::line_editor::LineEditor;
use crate::relay::pump::WhenFull;
use crate::relay::{Relay, RelayOptions, ServerExit};
use crate::system::messages::{say, write_lines};
use crate::system::mutex::lock;
use crate::system::server::{ExitStatus, SpawnError, TraceEnv};
use crate::system::signals::{self, MainThread, Woken};
use crate::system::thread::{self, Duty};
use crate::system::{allocator, memory, messages, process};

/// Shows a command in a message, without its secrets.
pub(crate) type ShowCommand = Box<dyn Fn(&[OsString]) -> String>;

/// Everything that [`run`] needs besides the command.
pub(crate) struct ProxyOptions {
    pub(crate) trace_env: TraceEnv,
    pub(crate) relay: RelayOptions,
    /// Adds to lines of the client.
    pub(crate) editor: Option<Box<dyn LineEditor>>,
    /// How long spantap may outlive the server to write queued records.
    pub(crate) flush_budget: Duration,
    /// How much longer spantap may stay if chunks are still to be observed. Zero, unless losing them is worse
    /// than keeping the host waiting.
    pub(crate) grace: Duration,
    pub(crate) show_command: ShowCommand,
    /// Makes the observer and its sinks; called on a thread of its own after the server has been started.
    pub(crate) build_observer: BuildObserver,
}

/// Part of the flush budget that is reserved to count and report lost records.
const REPORT_BUDGET: Duration = Duration::from_millis(300);
/// The flush budget if a signal asked spantap to leave.
const HURRIED_BUDGET: Duration = Duration::from_millis(600);
/// First pause of the background loop, and its pause after chunks were observed.
const SHORTEST_NAP: Duration = Duration::from_millis(2);
/// Longest pause of the background loop without traffic: four wake-ups a second.
const LONGEST_NAP: Duration = Duration::from_millis(250);
/// Bytes that are observed before the mutex is released.
const SLICE: usize = 256 << 10;
/// Same at the lowest priority, where a slice may take long while the end waits for the mutex.
const BACKGROUND_SLICE: usize = 32 << 10;

/// Runs `command` with the proxy around it until it ends, and then ends this process in the same way.
pub(crate) fn run(command: &[OsString], mut options: ProxyOptions) -> ! {
    let helper: Arc<OnceLock<Thread>> = Arc::default();
    let help = {
        let helper = Arc::clone(&helper);
        move || helper.get().into_iter().for_each(Thread::unpark)
    };
    let editor = options.editor.take();
    match Relay::start(command, &options.trace_env, &options.relay, editor, help) {
        Ok((mut relay, readers)) => {
            let mut observer = ObserverRunner::new(options.build_observer, readers);
            observer.started = Some(ServerStart {
                pid: Some(relay.pid),
                spawned: relay.spawned,
                stderr_is_stdout: relay.outputs_are_one,
            });
            let session = RunningSession::start(observer);
            match &session.closer {
                Some(thread) => drop(helper.set(thread.clone())),
                None => {
                    // No thread will make room in the rings.
                    relay.set_when_full(WhenFull::Lose);
                    say(
                        "this session is not recorded: no thread can be started for it; traffic is not affected",
                    );
                }
            }
            let exit = relay.wait();
            session.finish(exit, options.flush_budget, options.grace);
            let bytes = relay.not_observed();
            if allocator::has_stopped_a_thread() && bytes > 0 {
                say(format_args!("{bytes} bytes were forwarded but not recorded: out of memory"));
            }
            messages::end_servers_stream();
            process::mirror(exit.status)
        }
        Err(error) => fail(command, &error, options),
    }
}

/// The threads of a running session.
struct RunningSession {
    shared: Arc<SharedObserver>,
    /// The thread that closes the sinks, if a thread could be started.
    closer: Option<Thread>,
}

impl RunningSession {
    /// Starts the threads. Without them nothing is observed, and the traffic is not affected. One of the two
    /// threads is enough.
    fn start(observer: ObserverRunner) -> RunningSession {
        let shared = Arc::new(SharedObserver {
            observer: Mutex::new(observer),
            ending: OnceLock::new(),
            has_catch_up: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            main: MainThread::this(),
        });
        let start = |name: &str, body: fn(&SharedObserver)| {
            let shared = Arc::clone(&shared);
            thread::spawn(Duty::Observer, name, move || body(&shared))
        };
        let catch_up = start("catch-up", catch_up).ok();
        shared.has_catch_up.store(catch_up.is_some(), Ordering::Release);
        let background = start("observer", background_loop).ok();
        let closer = catch_up.or(background);
        RunningSession { shared, closer }
    }

    /// Waits until the observer and its sinks have ended, at most for the budget.
    fn finish(self, exit: ServerExit, flush_budget: Duration, grace: Duration) {
        let RunningSession { shared, closer: Some(thread) } = self else { return };
        let (flush_budget, grace) = match exit.hurried {
            true => (flush_budget.min(HURRIED_BUDGET), Duration::ZERO),
            false => (flush_budget, grace),
        };
        let deadline = Instant::now() + flush_budget;
        let budget = ShutdownBudget { deadline: deadline - REPORT_BUDGET, grace };
        let _ = shared.ending.set((server_end(exit), budget));
        thread.unpark();
        wait_for_close(&shared.closed, deadline + grace);
        if !shared.closed.load(Ordering::Acquire) {
            // The thread that closes reports lost records. It has not come to that: the machine is too busy, or a
            // signal has arrived.
            say(
                "the last records of this session may be lost, and their number is unknown: shutdown deadline reached",
            );
        }
    }
}

/// Waits until the sinks are closed, until `deadline`, or until a signal asks spantap to leave. A thread that has
/// stopped for want of memory may hold what the closing thread waits for.
fn wait_for_close(closed: &AtomicBool, mut deadline: Instant) {
    let mut is_short = false;
    while !closed.load(Ordering::Acquire) {
        if !is_short && thread::has_stopped(Duty::Observer) {
            is_short = true;
            deadline = deadline.min(Instant::now() + HURRIED_BUDGET);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match signals::wait(Some(left)) {
            // A sandbox that refuses the wait for signals never reports a time-out.
            Woken::LookAround | Woken::Timeout if left.is_zero() => return,
            Woken::LookAround | Woken::Timeout => {}
            Woken::Forward(signal) | Woken::Kernel(signal) => {
                if signals::asks_to_leave(signal) {
                    return;
                }
            }
        }
    }
}

/// Ends this process after the server could not be started: one line on stderr, the session in the log, the
/// status of env(1).
fn fail(command: &[OsString], error: &SpawnError, options: ProxyOptions) -> ! {
    let hint = spawn_hint(command, error, &options.show_command);
    let shown = (options.show_command)(command);
    write_lines(&format!("error: failed to start server `{shown}`: {error}\nhint: {hint}\n"));
    let status = ExitStatus::Exited(error.exit_status());
    let at = crate::system::clock::now();
    let started = ServerStart { pid: None, spawned: at, stderr_is_stdout: false };
    let end = ServerEnd {
        at,
        reason: EndReason::SpawnFailed,
        exit_code: Some(error.exit_status()),
        signal: None,
        orphan_killed: false,
        catch_ups: 0,
        observer_panics: 0,
    };
    let deadline = Instant::now() + options.flush_budget;
    let budget = ShutdownBudget { deadline: deadline - REPORT_BUDGET, grace: Duration::ZERO };
    let main = MainThread::this();
    let closed = Arc::new(AtomicBool::new(false));
    let is_closed = Arc::clone(&closed);
    let build_observer = options.build_observer;
    let closer = thread::spawn(Duty::Observer, "closer", move || {
        let _ = catch_unwind(AssertUnwindSafe(|| build_observer(&started).end(end, budget)));
        is_closed.store(true, Ordering::Release);
        main.wake();
    });
    if closer.is_ok() {
        // The end of the child that failed to execute the server also wakes the main thread.
        wait_for_close(&closed, deadline);
    }
    process::mirror(status)
}

/// Returns what the user can do after the server could not be started.
fn spawn_hint(command: &[OsString], error: &SpawnError, show_command: &ShowCommand) -> String {
    match (error, command.first()) {
        (SpawnError::Own(_), _) => "free some processes, memory or descriptors and try again".to_owned(),
        (SpawnError::Exec(_), Some(program)) if error.exit_status() == 127 && !process::is_path(program) => {
            format!(
                "hosts started from the desktop have a short PATH; give the full path (`{}`)",
                process::command_to_find(&show_command(std::slice::from_ref(program)))
            )
        }
        (SpawnError::Exec(_), _) if error.exit_status() == 127 => {
            "check the path: the file, its folder, or the interpreter in its first line does not exist"
                .to_owned()
        }
        _ => "check that the file is a program and may be executed".to_owned(),
    }
}

fn server_end(exit: ServerExit) -> ServerEnd {
    let (exit_code, signal) = match exit.status {
        ExitStatus::Exited(code) => (Some(code), None),
        ExitStatus::Killed(signal) => (None, Some(signal)),
    };
    // Some hosts send these signals to the server itself, and not to spantap.
    let politely = signal.is_some_and(signals::is_polite_end);
    let reason = if exit.asked || politely { EndReason::ServerExited } else { EndReason::ServerDied };
    let ServerExit { at, orphan_killed, .. } = exit;
    ServerEnd { at, reason, exit_code, signal, orphan_killed, catch_ups: 0, observer_panics: 0 }
}

/// The state that the main thread, the background loop and the catch-up loop share.
struct SharedObserver {
    observer: Mutex<ObserverRunner>,
    /// Set once the server has ended.
    ending: OnceLock<(ServerEnd, ShutdownBudget)>,
    /// True if there is a catch-up thread, which is also the thread that closes the sinks.
    has_catch_up: AtomicBool,
    closed: AtomicBool,
    main: MainThread,
}

impl SharedObserver {
    fn observer(&self) -> MutexGuard<'_, ObserverRunner> {
        // Panics are caught inside; a poisoned lock still has a usable observer.
        lock(&self.observer)
    }

    fn is_ending(&self) -> bool {
        self.ending.get().is_some()
    }

    fn close(&self) {
        if let Some((end, budget)) = self.ending.get() {
            // A panic must not keep the main thread waiting.
            let finish = || self.observer().finish(*end, *budget);
            if catch_unwind(AssertUnwindSafe(finish)).is_err() {
                say(
                    "the last records of this session may be lost, and their number is unknown: writing them failed",
                );
            }
            self.closed.store(true, Ordering::Release);
            self.main.wake();
        }
    }
}

/// Observes at the lowest priority, at intervals that grow without traffic.
fn background_loop(shared: &SharedObserver) {
    // Once and at normal priority: on a machine without an idle core this would otherwise take the whole time of
    // a short session, and there would be no log at the end.
    let mut debug_watch = {
        let mut observer = shared.observer();
        observer.build();
        observer.take_debug_watch()
    };
    thread::lower_priority();
    let mut nap = SHORTEST_NAP;
    let mut unused_pages = UnusedPages::default();
    let mut exchanges = 0;
    while !shared.is_ending() {
        if nap == LONGEST_NAP && unused_pages.are_due(Instant::now(), exchanges) {
            memory::give_back_program();
        }
        std::thread::park_timeout(nap);
        let mut found = false;
        while !shared.is_ending() {
            let mut observer = shared.observer();
            let observed = observer.observe(BACKGROUND_SLICE);
            found |= observed > 0;
            if observed < BACKGROUND_SLICE {
                let now = observer.tick();
                nap = if found { SHORTEST_NAP } else { (nap * 4).min(LONGEST_NAP) };
                nap = observer.until_deadline(nap);
                exchanges = observer.exchanges();
                drop(observer);
                if let Some(order) = debug_watch.as_mut().and_then(|watch| watch.look(now)) {
                    shared.observer().order_debug(order, now);
                }
                break;
            }
        }
        if found {
            unused_pages.traffic(Instant::now());
        }
    }
    if !shared.has_catch_up.load(Ordering::Acquire) {
        shared.close();
    }
}

/// Tells when the pages of the program are given back: once the start is over, after the first exchange with a
/// collector, after a minute without traffic, and after each exchange from then on until there is traffic again. What
/// follows needs few of them, and maps them again. That takes the next call a tenth of a millisecond, or longer if the
/// system has dropped the pages from its cache meanwhile.
#[derive(Default)]
struct UnusedPages {
    /// When the session counts as quiet; `None` until the start is over.
    quiet_at: Option<Instant>,
    /// Number of exchanges when the pages were given back last.
    exchanges: u64,
    /// True if they were given back since the session is quiet.
    given_when_quiet: bool,
}

impl UnusedPages {
    const QUIET: Duration = Duration::from_secs(60);

    /// Returns true if the pages are to be given back now, after this number of exchanges.
    fn are_due(&mut self, now: Instant, exchanges: u64) -> bool {
        let is_quiet = self.quiet_at.is_some_and(|quiet_at| now >= quiet_at);
        let are_due = self.quiet_at.is_none()
            || self.exchanges == 0 && exchanges > 0
            || is_quiet && !(self.given_when_quiet && self.exchanges == exchanges);
        if are_due {
            self.quiet_at.get_or_insert(now + Self::QUIET);
            (self.exchanges, self.given_when_quiet) = (exchanges, is_quiet);
        }
        are_due
    }

    fn traffic(&mut self, now: Instant) {
        self.quiet_at = self.quiet_at.map(|_| now + Self::QUIET);
        self.given_when_quiet = false;
    }
}

/// Observes whenever a pump asks for help, and closes the sinks at the end.
fn catch_up(shared: &SharedObserver) {
    let mut is_first = true;
    loop {
        if shared.is_ending() {
            return shared.close();
        }
        std::thread::park();
        if is_first && shared.observer().is_pressed() {
            // A flood is the peak of memory. The pages that only the start needed must not add to it.
            memory::give_back_program();
            is_first = false;
        }
        catch_up_loop(shared);
    }
}

/// Observes at normal priority until few chunks are waiting. If another process needs the core (this thread
/// gets less CPU time than time has passed), the loop pauses, because the traffic comes first.
fn catch_up_loop(shared: &SharedObserver) {
    /// A stretch that is long enough to distinguish a shared core from a short interruption.
    const STRETCH: Duration = Duration::from_millis(4);
    /// Share of the elapsed time. A thread that ran for less of it shares its core.
    const OWN_CORE: f64 = 0.85;
    /// Pause after a stretch on a shared core.
    const BACK_OFF: Duration = Duration::from_millis(60);
    while !shared.is_ending() {
        let (wall, cpu) = (Instant::now(), thread::thread_cpu());
        let mut waited = Duration::ZERO;
        let more = loop {
            let before = Instant::now();
            let mut observer = shared.observer();
            waited += before.elapsed();
            observer.catch_ups += 1;
            let more = observer.observe(SLICE) >= SLICE && observer.is_pressed();
            if !more || wall.elapsed() >= STRETCH || shared.is_ending() {
                break more;
            }
        };
        if !more {
            return;
        }
        let busy = wall.elapsed().saturating_sub(waited).as_nanos() as f64;
        let own = thread::thread_cpu().saturating_sub(cpu) as f64;
        if own < busy * OWN_CORE {
            std::thread::park_timeout(BACK_OFF);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_given_back_after_the_start_and_after_a_minute_without_traffic() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let mut pages = UnusedPages::default();
        pages.traffic(second(0));
        assert!(pages.are_due(second(1), 0), "the start is over");
        assert!(!pages.are_due(second(60), 0));
        assert!(pages.are_due(second(61), 0));
        assert!(!pages.are_due(second(62), 0), "nothing has needed any since");
        pages.traffic(second(70));
        assert!(!pages.are_due(second(129), 0));
        assert!(pages.are_due(second(130), 0));
    }

    #[test]
    fn pages_are_given_back_after_the_first_exchange_with_a_collector_and_after_each_in_a_quiet_session() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let mut pages = UnusedPages::default();
        assert!(pages.are_due(second(1), 0), "the start is over");
        assert!(pages.are_due(second(2), 1), "the first exchange");
        assert!(!pages.are_due(second(10), 2), "the next call should not wait for pages");
        assert!(pages.are_due(second(61), 7));
        assert!(!pages.are_due(second(62), 7));
        assert!(pages.are_due(second(70), 8));
        pages.traffic(second(75));
        assert!(!pages.are_due(second(80), 9));
    }

    #[test]
    fn the_hint_about_a_missing_command_is_one_for_this_system() {
        let show: ShowCommand = Box::new(|words| words[0].display().to_string());
        let missing = SpawnError::Exec(std::io::ErrorKind::NotFound.into());
        let hint = |program: &str| spawn_hint(&[program.into()], &missing, &show);
        let (search, path) = match cfg!(windows) {
            true => ("(`where npx`)", r"C:\nowhere\npx.cmd"),
            false => ("(`which npx`)", "/nowhere/npx"),
        };
        assert!(hint("npx").ends_with(search), "{}", hint("npx"));
        assert!(hint(path).starts_with("check the path"), "{}", hint(path));
    }
}
