//! Promises about the whole program, one module each.
//!
//! On Windows run the modules and tests that need neither a shell nor signals, links or modes of files.

// Helpers of the other tests.
#![cfg_attr(windows, allow(dead_code, unused_imports))]

mod agents;
mod chain;
#[cfg(unix)]
mod check;
#[cfg(unix)]
mod check_hosts;
mod check_remote;
mod cli;
#[cfg(unix)]
mod collect;
#[cfg(unix)]
mod completion;
#[cfg(unix)]
mod config;
mod context;
#[cfg(unix)]
mod contract;
mod counts;
mod dashboards;
#[cfg(unix)]
mod debug;
mod demo;
mod diff;
#[cfg(unix)]
mod doctor;
mod gate;
#[cfg(unix)]
mod help;
mod hosts;
#[cfg(unix)]
mod hosts_write;
mod keep;
mod leaks;
#[cfg(unix)]
mod lifecycle;
#[cfg(unix)]
mod lint;
#[cfg(unix)]
mod live;
#[cfg(unix)]
mod load_modes;
#[cfg(unix)]
mod log;
mod look;
mod mcp;
mod model;
#[cfg(unix)]
mod notify;
#[cfg(unix)]
mod one_stream;
#[cfg(unix)]
mod origin;
mod otlp;
#[cfg(unix)]
mod package;
mod pairing;
#[cfg(unix)]
mod propagation;
#[cfg(unix)]
mod questions;
mod reading;
#[cfg(unix)]
mod redaction;
mod replay;
mod report;
#[cfg(unix)]
mod sandbox;
mod schema;
#[cfg(unix)]
mod secrets;
mod sessions;
#[cfg(unix)]
mod sinks;
#[cfg(unix)]
mod starved;
mod support;
#[cfg(unix)]
mod tidy;
mod tools;
#[cfg(unix)]
mod top;
mod why;
#[cfg(windows)]
mod windows;
mod wrap;
#[cfg(unix)]
mod wrap_screen;
#[cfg(unix)]
mod wrap_self;
