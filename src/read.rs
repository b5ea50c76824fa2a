//! The other way round: session files become records again, and records become answers.
//!
//! ```text
//! files    which files can hold the answer       scan     their lines, two threads, constant memory
//! entry    the part of a record that is needed   select   which records count
//! stats, sessions, tail, show, report            what the five commands add up
//! durations, units, table, waterfall             how the answer is computed and drawn
//! ```
//!
//! A file may come from anywhere: what cannot be read is counted and named, never fatal, and no text
//! from a file reaches a terminal or a page without [`units::clean`] or its HTML counterpart.

pub mod entry;
pub mod files;
pub mod scan;
pub mod select;

pub mod durations;
pub mod figures;
pub mod notes;
pub mod table;
pub mod units;

pub mod follow;
pub mod report;

pub mod sessions;
pub mod show;
pub mod stats;
pub mod tail;
pub mod waterfall;
