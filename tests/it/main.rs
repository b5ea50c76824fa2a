//! Promises about the whole program, one module each.

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
mod tidy;

mod support;
