//! Promises about the whole program, one module each.

mod cli;
mod dashboards;
mod leaks;
mod look;
mod otlp;
mod redaction;
mod report;
mod tidy;
