//! The helper server of the lifecycle cases. A case commands it over a socket beside the streams, and it
//! reports events there, so that cases wait for events instead of time.
//!
//! Commands and answers are lines. `read` begins to read and check stdin. `write FD COUNT` and `flood FD`
//! write noise, in a thread for each descriptor; `stop FD` ends that at the next piece. `close FD`, `default
//! SIGNAL`, `grandchild` (in a session of its own), `grandchild-in-group` and `exit CODE` do that. The answer
//! to `count` is `count STDIN-BYTES STDIN-STATE STDOUT-BYTES STDERR-BYTES`. Without a command it sends
//! `signal N` for each signal, and `failed FD ERROR` for a write that failed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::noise::Endless;
use crate::sys;

/// Seeds of the noise on each descriptor are the same in all cases.
pub const SEED: u64 = 77;

/// The input so far.
#[derive(Default)]
struct Input {
    bytes: AtomicU64,
    state: AtomicU8,
}

const INPUT_STATES: [&str; 3] = ["open", "ended", "wrong"];

/// A writer of noise on one descriptor.
struct Output {
    noise: Arc<Mutex<Endless>>,
    bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Output {
    fn new(fd: i32) -> Output {
        Output {
            noise: Arc::new(Mutex::new(Endless::new(SEED, fd as u64))),
            bytes: Arc::default(),
            stop: Arc::default(),
            writer: None,
        }
    }

    /// Writes `count` bytes of noise, and reports the end.
    fn start(&mut self, fd: i32, count: u64, say: Say) {
        self.stop();
        self.stop = Arc::default();
        let (noise, bytes, stop) = (Arc::clone(&self.noise), Arc::clone(&self.bytes), Arc::clone(&self.stop));
        self.writer = Some(std::thread::spawn(move || {
            let Ok(mut noise) = noise.lock() else { return };
            let mut to = sys::standard(fd);
            let mut left = count;
            while left > 0 && !stop.load(Ordering::Relaxed) {
                // Sizes that are not a power of two, so that pieces cross the ends of buffers.
                let mut piece = noise.next(left.min(5_003) as usize);
                left -= piece.len() as u64;
                while !piece.is_empty() {
                    match to.write(piece) {
                        Ok(written) => {
                            bytes.fetch_add(written as u64, Ordering::Release);
                            piece = &piece[written..];
                        }
                        Err(error) => return say.line(&format!("failed {fd} {:?}", error.kind())),
                    }
                }
            }
            if left == 0 {
                say.line(&format!("wrote {fd} {}", bytes.load(Ordering::Acquire)));
            }
        }));
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The stream for answers. Each answer is one write, so that threads may share it.
#[derive(Clone)]
struct Say(Arc<TcpStream>);

impl Say {
    fn line(&self, text: &str) {
        let _ = (&*self.0).write_all(format!("{text}\n").as_bytes());
    }
}

/// Plays the server. The case listens at `socket`.
pub fn play(socket: &str) -> io::Result<()> {
    // All threads inherit this mask, and one of them takes the signals.
    #[cfg(unix)]
    sys::block_signals();
    let control = TcpStream::connect(socket)?;
    control.set_nodelay(true)?;
    let say = Say(Arc::new(control.try_clone()?));
    say.line(&format!("hello {}", std::process::id()));
    #[cfg(unix)]
    let signals = Signals::take(&say);
    let input = Arc::new(Input::default());
    let mut outputs = [Output::new(1), Output::new(2)];
    for line in BufReader::new(control).lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let fd = number(1) as i32;
        match words[0] {
            "read" => {
                let input = Arc::clone(&input);
                std::thread::spawn(move || read(&input));
            }
            "write" => outputs[fd as usize - 1].start(fd, number(2), say.clone()),
            "flood" => outputs[fd as usize - 1].start(fd, u64::MAX, say.clone()),
            "stop" => outputs[fd as usize - 1].stop(),
            "close" => {
                if fd > 0 {
                    outputs[fd as usize - 1].stop();
                }
                sys::close(fd);
                say.line("closed");
            }
            #[cfg(unix)]
            "default" => signals.give_back(fd),
            "grandchild" | "grandchild-in-group" => {
                let this = std::env::current_exe()?;
                let session = if words[0] == "grandchild" { "new-session" } else { "same-session" };
                let holder = Command::new(this).args(["role:holder", session]).spawn()?;
                say.line(&format!("holder {}", holder.id()));
            }
            "count" => {
                let written = |output: &Output| output.bytes.load(Ordering::Acquire);
                let state = INPUT_STATES[usize::from(input.state.load(Ordering::Acquire))];
                let read = input.bytes.load(Ordering::Acquire);
                say.line(&format!("count {read} {state} {} {}", written(&outputs[0]), written(&outputs[1])));
            }
            "exit" => std::process::exit(fd),
            _ => return Err(io::Error::other("no such command")),
        }
    }
    // The case has ended, with any result.
    std::process::exit(96)
}

/// The signals of this process, which a thread of their own takes and reports.
#[cfg(unix)]
struct Signals {
    /// Signals that have their default action again. Waiting for them would take them from it.
    given_back: Arc<Mutex<u128>>,
}

#[cfg(unix)]
impl Signals {
    fn take(say: &Say) -> Signals {
        let given_back: Arc<Mutex<u128>> = Arc::default();
        let (say, left_out) = (say.clone(), Arc::clone(&given_back));
        std::thread::spawn(move || {
            let mut known = 0;
            loop {
                let (signal, _) = sys::next_signal_and_origin(known);
                let now = left_out.lock().map_or(known, |others| *others);
                if now == known {
                    say.line(&format!("signal {signal}"));
                } else {
                    // Our own signal, which repeats the check.
                    known = now;
                    say.line("default");
                }
            }
        });
        Signals { given_back }
    }

    fn give_back(&self, signal: i32) {
        sys::restore_default(signal);
        if let Ok(mut others) = self.given_back.lock() {
            *others |= 1 << signal;
        }
        sys::kill(std::process::id(), libc::SIGURG);
    }
}

/// Reads stdin to its end and checks it.
fn read(input: &Input) {
    let mut from = sys::standard(0);
    let mut noise = Endless::new(SEED, 0);
    let mut buffer = vec![0; 1 << 16];
    let state = loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break 1,
            Ok(count) if noise.goes_on_with(&buffer[..count]) => {
                input.bytes.fetch_add(count as u64, Ordering::Release);
            }
            Ok(_) => break 2,
        }
    };
    input.state.store(state, Ordering::Release);
}
