//! Promises about the whole program, one module each.

mod cli;
mod log;
mod look;
mod redaction;
mod report;
mod sinks;
mod tidy;

mod support;
