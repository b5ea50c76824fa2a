//! Reads session files back into records and computes answers from them; `live` reads what runs now.
//!
//! How a command reads logs:
//! - `files` finds the logs; `last_seen` reads the first line of each
//! - `scan` reads their lines; `entry` parses the needed part of a record (`plain`: of one in the usual form)
//! - `duplicates` counts a record once that is in two places; `tasks` joins a call with the outcome of its task that a
//!   later connection saw; `nested` finds connections inside other ones
//! - `select` decides which records count; `filter` selects among rows
//! - `follow` reads lines that are added later; `live` and `attention` read live files
//!
//! `last`, `sessions`, `stats`, `errors`, `find`, `why`, `context`, `tool_history`, `diff`, `gate`, `report` and `top`
//! each compute the answer of one command. They share `totals`, `durations`, `listing`, `time_spent`, `greatest`,
//! `catalogue` (the tools that servers listed) and rows (`row`, `event`). `agents` joins what agents reported to the
//! calls of a session. `bodies` reads the files of bodies, for `show` alone.

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
