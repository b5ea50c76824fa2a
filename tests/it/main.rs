//! Promises about the whole program, one module each.

mod check;
mod cli;
mod dashboards;
mod hosts;
mod leaks;
mod log;
mod look;
mod otlp;
mod redaction;
mod report;
mod schema;
mod sinks;
mod tidy;

mod support;
