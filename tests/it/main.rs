//! Promises about the whole program, one module each.

#![allow(clippy::print_stderr, reason = "a test that a machine cannot run says so")]

mod check;
mod cli;
mod dashboards;
mod gears;
mod hosts;
mod keep;
mod leaks;
mod log;
mod look;
mod otlp;
mod pairing;
mod redaction;
mod replay;
mod report;
mod schema;
mod secrets;
mod sessions;
mod sinks;
mod support;
mod tidy;
