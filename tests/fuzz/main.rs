//! Hostile input, made from the recorded sessions by a loop that cuts, repeats, swaps and flips.
//!
//! ```text
//! cargo test --test fuzz                              one second for each target
//! FUZZ_SECONDS=1800 cargo test --test fuzz holes      half an hour for one of them
//! FUZZ_SEED=7                                         another road; the default is the same each time
//! ```
//!
//! An input that breaks a promise is written to `target/fuzz`, and its path is told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use spantap::observe::canonical::canonical;
use spantap::observe::redact::{Field, Redactor};
use spantap::observe::traceparent::TraceParent;

#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../it/replay.rs"]
mod replay;

use replay::{CLIENT, Player, SERVER, check_books};

/// Takes one input and panics where a promise is broken.
type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 6] = [
    ("pieces", pieces),
    ("holes", holes),
    ("recovery", recovery),
    ("canonical", canonicaliser),
    ("redactor", redactor),
    ("traceparent", traceparent),
];

/// Any split of the same bytes gives the same records. The first bytes say how they are cut.
fn pieces(input: &[u8]) {
    let (sizes, input) = input.split_at(input.len().min(8));
    let (mut whole, mut cut) = (Player::new(), Player::new());
    for (number, line) in input.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let stream = if number % 2 == 0 { CLIENT } else { SERVER };
        whole.send(stream, line);
        cut.send(stream, b"");
        let mut rest = line;
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(usize::from(*size) + 1));
            cut.send_now(stream, piece);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
    }
    let whole = whole.end();
    check_books(&whole);
    assert_eq!(whole, cut.end());
}

/// Whatever is lost, the books balance and the next plain call is seen.
fn holes(input: &[u8]) {
    let mut player = Player::new();
    for piece in input.chunks(23) {
        let stream = if piece[0] & 1 == 0 { CLIENT } else { SERVER };
        match piece[0] % 5 {
            0 => player.lose(stream, piece),
            1 => player.wait(Duration::from_secs(u64::from(piece[piece.len() - 1]))),
            _ => player.send(stream, piece),
        }
    }
    plain_call_is_seen(player);
}

/// Behind any line whatever, the next plain call is seen.
fn recovery(input: &[u8]) {
    let mut player = Player::new();
    player.send(CLIENT, input);
    player.send(SERVER, input);
    plain_call_is_seen(player);
}

fn plain_call_is_seen(mut player: Player) {
    player.send(
        CLIENT,
        "\n{\"id\":\"the plain call\",\"method\":\"tools/call\",\"params\":{\"name\":\"t\"}}\n",
    );
    player.send(SERVER, "\n{\"id\":\"the plain call\",\"result\":{}}\n");
    let records = player.end();
    check_books(&records);
    let plain = |record: &&serde_json::Value| {
        record["event"] == "mcp_tool_call" && record["request_id"] == "\"the plain call\""
    };
    assert_eq!(records.iter().filter(plain).count(), 1);
    assert_eq!(records.iter().find(plain).unwrap()["status"], "ok");
}

/// The canonical form is JSON, says the same, and is its own canonical form.
fn canonicaliser(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n') {
        if let Some(once) = canonical(line) {
            serde_json::from_slice::<serde::de::IgnoredAny>(&once).expect("the canonical form is JSON");
            assert_eq!(canonical(&once).as_deref(), Some(once.as_slice()));
        }
    }
}

/// Nothing that a terminal or a reader of lines obeys comes out.
fn redactor(input: &[u8]) {
    let mut redactor = Redactor::default();
    for field in [Field::Message, Field::Name, Field::Uri, Field::Id, Field::StderrLine, Field::Summary] {
        let out = redactor.redact(field, input);
        assert!(!out.as_str().contains(char::is_control), "{:?}", out.as_str());
    }
}

/// What is read is written the same.
fn traceparent(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        for start in 0..text.len().min(300) {
            let Some(window) = text.get(start..(start + 55).min(text.len())) else { continue };
            if let Some(parent) = TraceParent::parse(window) {
                let ids = format!("-{}-{}-", parent.trace_id, parent.parent_id);
                assert_eq!(window.get(2..53), Some(ids.as_str()));
            }
        }
    }
}

/// xorshift64*: the road has to be the same each time, not good.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.below(length + 1), self.below(length + 1));
        a.min(b)..a.max(b)
    }
}

/// Bytes that mean something to somebody on the way.
const SPICE: [&[u8]; 16] = [
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\xef\xbb\xbf",
    b"\xff",
    b"1e400",
    b"null",
    b"\xe2\x80\xa8",
];

/// One input: a few lines of the corpus, changed a few times.
fn input(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..1 + random.below(6)).flat_map(|_| corpus[random.below(corpus.len())].clone()).collect();
    for _ in 0..random.below(8) {
        let range = random.range(bytes.len());
        match random.below(6) {
            0 => drop(bytes.drain(range)),
            1 if bytes.len() < 32 << 10 => {
                let piece = bytes[range].repeat(1 + random.below(20));
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, piece);
            }
            2 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            3 => {
                let other = &corpus[random.below(corpus.len())];
                let piece = other[random.range(other.len())].to_vec();
                bytes.splice(range, piece);
            }
            4 => bytes[range].reverse(),
            _ => {
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, SPICE[random.below(SPICE.len())].iter().copied());
            }
        }
    }
    bytes
}

/// The lines of all recorded sessions, and findings of earlier days.
fn corpus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("fixtures/sessions"), root.join("fixtures/fuzz")];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let texts = files.iter().map(|path| std::fs::read(path).unwrap());
    texts
        .flat_map(|text| text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn main() -> ExitCode {
    // What the test runner passes on may be flags; a plain word picks targets.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let time = Duration::from_secs(number("FUZZ_SECONDS", 1));
    let seed = number("FUZZ_SEED", 1).max(1);
    let corpus = corpus();
    assert!(!corpus.is_empty(), "there is something to start from");
    let mut result = ExitCode::SUCCESS;
    for (name, target) in TARGETS {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let (mut random, mut inputs) = (Random(seed), 0_u64);
        let end = Instant::now() + time;
        while Instant::now() < end {
            // The corpus as it is comes first.
            let input = match corpus.get(inputs as usize) {
                Some(line) => line.clone(),
                None => input(&corpus, &mut random),
            };
            inputs += 1;
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../fuzz");
                let path = folder.join(format!("{name}-{seed}-{inputs}"));
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &input).unwrap();
                say(&format!("{name}: broken by {}", path.display()));
                result = ExitCode::FAILURE;
                break;
            }
        }
        say(&format!("{name}: {inputs} inputs"));
    }
    result
}
