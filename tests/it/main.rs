//! Promises about the whole program, one module each.

mod cli;
mod look;
mod report;
mod tidy;
