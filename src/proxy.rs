//! The assembly: the relay, somebody who looks at its copies, and the end.
//!
//! The observer and its sinks are one value, the [`Watcher`](observer_thread::Watcher), behind a mutex that
//! works as a baton: whoever holds it observes. Most of the time that is a thread at the lowest
//! priority, which looks by itself and is never woken by traffic. When a ring is a quarter full, a
//! second thread at normal priority takes the baton for a while, as long as there is a core for it. At
//! the end that second thread takes it for good, drains the rings and closes the sinks, while the main
//! thread listens for a signal that cuts this short. The relay never touches the baton.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

pub(crate) mod connection_span;
pub(crate) mod diagnostics;
pub(crate) mod identity;
pub(crate) mod known_tools;
mod observer_thread;

use observer_thread::{Build, Time, Watcher};
pub use observer_thread::{Started, Watch};

use crate::observe::ServerEnd;
use crate::observe::event::EndReason;
use crate::relay::pump::WhenFull;
use crate::relay::{self, Relay, ServerExit};
use crate::system::process::{self, ExitStatus, SpawnError, TraceEnv};
use crate::system::signals::{self, MainThread, Woken};
use crate::system::thread;

/// Names a command in a message.
pub type Name = Box<dyn Fn(&[OsString]) -> String>;

/// Everything that `run` needs besides the command.
pub struct Setup {
    pub trace_env: TraceEnv,
    pub relay: relay::RelayOptions,
    /// How long we may outlive the server to write out what is queued.
    pub flush_budget: Duration,
    /// How much longer where something is still to be observed: nothing, unless to lose it is worse than to
    /// keep the host waiting.
    pub grace: Duration,
    /// How a command that could not be started is named: without its secrets.
    pub name: Name,
    /// Makes the observer and its sinks; called once the server runs, on a thread of its own.
    pub watch: Build,
}

/// Time within the flush budget to count and say what was lost.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// The flush budget once somebody has asked us to leave after the server's end.
const HURRIED_BUDGET: Duration = Duration::from_millis(600);
/// First look after this time, and after every look that found something.
const SHORTEST_NAP: Duration = Duration::from_millis(2);
/// Longest time between two looks when nothing happens: four wake-ups a second.
const LONGEST_NAP: Duration = Duration::from_millis(250);
/// How much is observed before the baton is offered to others.
const SLICE: usize = 256 << 10;
/// The same at the lowest priority, where a slice may take long and the end waits for it.
const BACKGROUND_SLICE: usize = 32 << 10;

/// Runs `command` behind the proxy until it ends, and then ends this process the same way.
pub fn run(command: &[OsString], setup: Setup) -> ! {
    let helper: Arc<OnceLock<Thread>> = Arc::default();
    let help = {
        let helper = Arc::clone(&helper);
        move || helper.get().into_iter().for_each(Thread::unpark)
    };
    match Relay::start(command, &setup.trace_env, &setup.relay, help) {
        Ok((relay, readers)) => {
            let time = (setup.flush_budget, setup.grace);
            watch(relay, Watcher::new(setup.watch, readers), &helper, time)
        }
        Err(error) => fail(command, &error, setup),
    }
}

fn watch(
    mut relay: Relay,
    mut watcher: Watcher,
    helper: &OnceLock<Thread>,
    (flush_budget, grace): (Duration, Duration),
) -> ! {
    watcher.started = Some(Started { pid: Some(relay.pid), spawned: relay.spawned });
    let shared = Arc::new(Shared {
        watcher: Mutex::new(watcher),
        ending: OnceLock::new(),
        has_catch_up: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        main: MainThread::this(),
    });
    let start = |name: &str, body: fn(&Shared)| {
        let shared = Arc::clone(&shared);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || body(&shared))
    };
    // Without these threads nothing is observed, and everything else goes on; one of them is enough.
    let catch_up = start("catch-up", catch_up).ok();
    shared.has_catch_up.store(catch_up.is_some(), Ordering::Release);
    let observer = start("observer", look_by_itself).ok();
    let threads = [catch_up, observer].map(|thread| Some(thread?.thread().clone()));
    let closer = threads.into_iter().flatten().next();
    match &closer {
        Some(thread) => drop(helper.set(thread.clone())),
        None => {
            // Nobody will ever make room in the rings.
            relay.set_when_full(WhenFull::Lose);
            crate::system::stdio::say(
                "this session is not observed: there is no thread left for it; the traffic is not affected",
            );
        }
    }

    let ended = relay.wait();
    let (budget, grace) = match ended.hurried {
        true => (flush_budget.min(HURRIED_BUDGET), Duration::ZERO),
        false => (flush_budget, grace),
    };
    let deadline = Instant::now() + budget;
    if let Some(thread) = closer {
        // The sinks stop a little earlier, so that what they lost can still be said.
        let time = Time { deadline: deadline - LAST_WORDS, grace };
        let _ = shared.ending.set(Ending { end: server_end(ended), time });
        thread.unpark();
        wait_for_close(&shared.closed, deadline + grace);
        if !shared.closed.load(Ordering::Acquire) {
            // Whoever closes says what was lost; on a machine that busy, or with a signal, it has not come to that.
            crate::system::stdio::say(
                "the last records of this session may be lost, uncounted: there was no time left to write them",
            );
        }
    }
    process::mirror(ended.status)
}

/// Waits until everything is written out, the time is over, or a signal says that it matters no more.
fn wait_for_close(closed: &AtomicBool, deadline: Instant) {
    while !closed.load(Ordering::Acquire) {
        let left = deadline.saturating_duration_since(Instant::now());
        match signals::wait(Some(left)) {
            Woken::LookAround => {}
            Woken::Timeout if left.is_zero() => return,
            Woken::Timeout => {}
            Woken::Forward(signal) | Woken::Kernel(signal) => {
                if signals::asks_to_leave(signal) {
                    return;
                }
            }
        }
    }
}

/// The server could not be started: one line on stderr, the session in the log, the status of env(1).
fn fail(command: &[OsString], error: &SpawnError, setup: Setup) -> ! {
    let hint = match (error, command.first()) {
        (SpawnError::Own(_), _) => "free some processes, memory or descriptors and try again".to_owned(),
        (SpawnError::Exec(_), Some(program))
            if error.exit_status() == 127 && !program.as_encoded_bytes().contains(&b'/') =>
        {
            format!(
                "hosts started from the desktop have a short PATH; give the full path (`which {}`)",
                (setup.name)(std::slice::from_ref(program))
            )
        }
        (SpawnError::Exec(_), _) if error.exit_status() == 127 => {
            "check the path: it, its folder, or the interpreter in its first line is not there".to_owned()
        }
        _ => "check that the file is a program and may be executed".to_owned(),
    };
    let text = format!("error: failed to start server `{}`: {error}\nhint: {hint}\n", (setup.name)(command));
    crate::system::stdio::write_lines(&text);
    let status = ExitStatus::Exited(error.exit_status());
    let at = crate::system::clock::now();
    let started = Started { pid: None, spawned: at };
    let end = ServerEnd {
        at,
        reason: EndReason::SpawnFailed,
        exit_code: Some(error.exit_status()),
        signal: None,
        catch_ups: 0,
        observer_panics: 0,
    };
    let deadline = Instant::now() + setup.flush_budget;
    let main = MainThread::this();
    let closed = Arc::new(AtomicBool::new(false));
    let is_closed = Arc::clone(&closed);
    let closer = std::thread::Builder::new().spawn(move || {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut watch = (setup.watch)(&started);
            observer_thread::end(
                &mut watch,
                end,
                Time { deadline: deadline - LAST_WORDS, grace: Duration::ZERO },
            );
        }));
        is_closed.store(true, Ordering::Release);
        main.wake();
    });
    if closer.is_ok() {
        // The end of the child that could not become the server wakes us, too.
        wait_for_close(&closed, deadline);
    }
    process::mirror(status)
}

fn server_end(ended: ServerExit) -> ServerEnd {
    let (exit_code, signal) = match ended.status {
        ExitStatus::Exited(code) => (Some(code), None),
        ExitStatus::Killed(signal) => (None, Some(signal)),
    };
    // Some hosts send the polite signals to the server itself, past us.
    let politely = matches!(signal, Some(libc::SIGTERM | libc::SIGINT | libc::SIGHUP));
    let reason = if ended.asked || politely { EndReason::ServerExited } else { EndReason::ServerDied };
    ServerEnd { at: ended.at, reason, exit_code, signal, catch_ups: 0, observer_panics: 0 }
}

/// What the threads of the observing half share.
struct Shared {
    watcher: Mutex<Watcher>,
    ending: OnceLock<Ending>,
    /// There is a thread for the catch-up gear, which is also the one that closes.
    has_catch_up: AtomicBool,
    closed: AtomicBool,
    main: MainThread,
}

struct Ending {
    end: ServerEnd,
    time: Time,
}

impl Shared {
    fn watcher(&self) -> std::sync::MutexGuard<'_, Watcher> {
        // Panics are caught inside; a poisoned lock would still hold a usable watcher.
        self.watcher.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.ending.get().is_some()
    }

    fn close(&self) {
        if let Some(ending) = self.ending.get() {
            // Nobody waits for a thread that failed.
            let finish = || self.watcher().finish(ending.end, ending.time);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(finish)).is_err() {
                crate::system::stdio::say(
                    "the last records of this session may be lost, uncounted: writing them out failed",
                );
            }
            self.closed.store(true, Ordering::Release);
            self.main.wake();
        }
    }
}

/// The background gear: looks by itself, at the lowest priority, more and more rarely when nothing
/// happens.
fn look_by_itself(shared: &Shared) {
    // Once and at normal priority: on a machine without an idle core this would take a short session's
    // whole life otherwise, and the end would find nobody to hand it a log.
    shared.watcher().build();
    thread::lower_priority();
    let mut nap = SHORTEST_NAP;
    while !shared.is_ending() {
        std::thread::park_timeout(nap);
        let mut found = false;
        while !shared.is_ending() {
            let mut watcher = shared.watcher();
            let more = watcher.look(BACKGROUND_SLICE);
            found |= more > 0;
            if more < BACKGROUND_SLICE {
                watcher.tick();
                nap = if found { SHORTEST_NAP } else { (nap * 4).min(LONGEST_NAP) };
                nap = watcher.until_deadline(nap);
                break;
            }
        }
    }
    if !shared.has_catch_up.load(Ordering::Acquire) {
        shared.close();
    }
}

/// The catch-up gear: asleep until a ring is a quarter full, or until the end.
fn catch_up(shared: &Shared) {
    loop {
        if shared.is_ending() {
            return shared.close();
        }
        std::thread::park();
        run_while_there_is_a_core(shared);
    }
}

/// Observes at normal priority until little is waiting. Where somebody else needs the core (we get
/// less than the wall clock says) the rest is left to the background: the traffic comes first.
fn run_while_there_is_a_core(shared: &Shared) {
    /// A stretch long enough to tell sharing a core from a passing interruption.
    const STRETCH: Duration = Duration::from_millis(4);
    /// Least share of the wall clock that means that nobody was kept waiting.
    const OWN_CORE: f64 = 0.85;
    /// How long to stay away after having been in the way.
    const BACK_OFF: Duration = Duration::from_millis(60);
    while !shared.is_ending() {
        let (wall, cpu) = (Instant::now(), thread::thread_cpu());
        let mut waited = Duration::ZERO;
        let more = loop {
            let before = Instant::now();
            let mut watcher = shared.watcher();
            waited += before.elapsed();
            watcher.catch_ups += 1;
            let more = watcher.look(SLICE) >= SLICE && watcher.is_pressed();
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
