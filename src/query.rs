//! Reads session files back into records and computes answers from them; `live` reads what runs now.
//!
//! `last_seen` reads the starts of logs. `files` finds the files, `scan` reads their lines, `entry` parses the needed
//! part of a record, `select` decides which records count. A scan counts a record once (`repeated`), and joins a call
//! with an outcome that a later connection saw (`tasks`). The folds `last`, `sessions`, `stats`, `errors`, `find`, `why`,
//! `report` and `top` compute the answer of one command each: of `totals`, `durations`, rows (`row`, `event`) and the
//! greatest of them (`greatest`). `follow` reads what is added later, and `filter` selects rows that were read.

pub(crate) mod attention;
pub(crate) mod durations;
pub mod entry;
pub(crate) mod errors;
pub(crate) mod event;
pub(crate) mod files;
pub(crate) mod filter;
pub(crate) mod find;
pub(crate) mod follow;
mod greatest;
pub(crate) mod last;
pub(crate) mod last_seen;
pub(crate) mod live;
pub mod name_pool;
pub(crate) mod nested;
pub(crate) mod repeated;
pub mod report;
pub mod row;
pub mod scan;
pub mod select;
pub mod sessions;
pub mod stats;
mod tasks;
mod tight;
pub(crate) mod time_spent;
pub(crate) mod top;
pub(crate) mod totals;
pub mod turns;
pub(crate) mod why;
