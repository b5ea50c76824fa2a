//! Promises about the whole program, one module each.

mod cli;
mod leaks;
mod redaction;
mod tidy;
