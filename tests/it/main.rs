//! Promises about the whole program, one module each.

#![allow(clippy::print_stderr, reason = "a test that a machine cannot run says so")]

mod check;
mod cli;
mod config;
mod contract;
mod dashboards;
mod doctor;
mod gears;
mod hosts;
mod keep;
mod leaks;
mod lifecycle;
mod log;
mod look;
mod model;
mod otlp;
mod package;
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
mod wrap;
