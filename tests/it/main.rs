//! Promises about the whole program, one module each.

mod cli;
mod leaks;
mod look;
mod otlp;
mod pairing;
mod redaction;
mod replay;
mod report;
mod sessions;
mod tidy;
