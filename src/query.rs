//! Reads session files back into records and computes answers from them.
//!
//! `files` finds the files, `scan` reads their lines, `entry` parses the needed part of a record, `select`
//! decides which records count, `totals` and `durations` add them up.

pub mod durations;
pub mod entry;
pub mod files;
pub mod follow;
pub mod scan;
pub mod select;
pub mod totals;
