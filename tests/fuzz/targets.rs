//! The targets: each takes one input and panics if a promise is broken.
//!
//! An input is in the format that the target reads (lines of a stream, a config file, a log), so that a
//! fixture is an input and a finding is readable. Other choices of a target (where to cut, what to lose) are
//! drawn from the bytes of the input.

mod body;
mod canonical;
mod config;
mod envelope;
mod framer;
mod log;
mod message;
mod otlp;
mod propagation;
mod redactor;
mod session;
mod splice;
mod tools;
mod traceparent;

use crate::random::Random;

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Folders of `fixtures` that inputs start from.
    #[allow(dead_code, reason = "libFuzzer is given its seeds as files")]
    pub seeds: &'static [&'static str],
    #[allow(dead_code, reason = "as above")]
    pub unit: Unit,
}

/// The part of a fixture that is one input.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    File,
    Line,
    /// A folder of `fixtures/sessions`, its lines in their order, each after a mark (see [`session`]).
    Session,
}

pub const TARGETS: [Target; 15] = [
    target("framer", framer::run, &["sessions"], Unit::File),
    target("envelope", envelope::run, &["sessions"], Unit::Line),
    target("message", message::run, &["sessions"], Unit::Line),
    target("session", session::run, &["sessions"], Unit::Session),
    target("model", model, &["sessions"], Unit::Line),
    target("tools", tools::run, &["sessions", "redaction"], Unit::Line),
    target("canonical", canonical::run, &["sessions", "hash"], Unit::Line),
    target("redactor", redactor::run, &["redaction", "sessions"], Unit::Line),
    target("body", body::run, &["redaction", "sessions"], Unit::Line),
    target("traceparent", traceparent::run, &["sessions"], Unit::Line),
    target("propagation", propagation::run, &["sessions"], Unit::Line),
    target("splice", splice::run, &["hosts"], Unit::File),
    target("log", log::run, &["logs"], Unit::File),
    target("config", config::run, &["config", "hosts/codex"], Unit::File),
    target("otlp", otlp::run, &["otlp"], Unit::File),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: &'static [&'static str], unit: Unit) -> Target {
    Target { name, run, seeds, unit }
}

/// Every conversation gives the operations of the model, however it travels.
fn model(input: &[u8]) {
    crate::model::check(input);
}

/// Returns `bytes` in pieces of at most `most` bytes, drawn from their own content.
fn pieces(bytes: &[u8], most: usize) -> Vec<&[u8]> {
    let mut random = Random::of(bytes);
    let (mut rest, mut pieces) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + random.below(most)));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
