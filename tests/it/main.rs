//! Promises about the whole program, one module each.

#![allow(clippy::print_stderr, reason = "a test that a machine cannot run says so")]

mod cli;
mod dashboards;
mod keep;
mod leaks;
mod log;
mod look;
mod otlp;
mod redaction;
mod report;
mod schema;
mod sinks;
mod support;
mod tidy;
