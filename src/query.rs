//! Reads session files back into records and computes answers from them; `live` reads what runs now.
//!
//! `files` finds the logs, `scan` reads their lines, `entry` parses the needed part of a record
//! (`plain`: of one in the form that most have), and `select` decides which records count. A scan counts a record once (`duplicates`) and joins a call with an outcome that a later
//! connection saw (`tasks`); `nested` finds connections inside another one. `last`, `sessions`, `stats`, `errors`,
//! `find`, `why`, `context`, `diff`, `gate`, `report` and `top` each compute the answer of one command; `tool_history` that of
//! `context --history`. They share `totals`, `durations`, `listing`,
//! `time_spent`, rows (`row`, `event`) and `greatest`. `follow` reads lines that are added later, and `filter` selects
//! among rows. `catalogue` collects the tools that servers listed. `attention` reads live files only. `agents` joins
//! what agents reported to the calls of a session. `bodies` reads the files of bodies, for `show` alone. `last_seen` reads the first line of each log.

pub(crate) mod agents;
pub(crate) mod attention;
pub mod bodies;
pub(crate) mod catalogue;
pub(crate) mod context;
pub(crate) mod diff;
pub(crate) mod duplicates;
pub(crate) mod durations;
pub mod entry;
pub(crate) mod errors;
pub(crate) mod event;
pub(crate) mod files;
pub(crate) mod filter;
pub(crate) mod find;
pub(crate) mod follow;
pub(crate) mod gate;
mod greatest;
pub(crate) mod last;
pub(crate) mod last_seen;
pub(crate) mod listing;
pub(crate) mod live;
pub mod name_pool;
pub(crate) mod nested;
mod plain;
pub mod report;
pub mod row;
pub mod scan;
pub mod select;
pub mod sessions;
pub mod stats;
mod tasks;
mod text_filter;
mod tight;
pub(crate) mod time_spent;
pub(crate) mod tool_history;
pub(crate) mod top;
pub(crate) mod totals;
pub mod turns;
pub(crate) mod why;
