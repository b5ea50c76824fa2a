//! Draws the answers of `query`: tables, waterfalls, lines and the report page.

pub(crate) mod annotations;
mod body;
pub(crate) mod chain;
pub(crate) mod chain_json;
pub(crate) mod check;
pub(crate) mod commands;
pub(crate) mod context;
pub(crate) mod diff;
pub(crate) mod errors;
pub(crate) mod fact;
mod fact_list;
pub(crate) mod format;
pub mod gate;
pub(crate) mod lint;
pub(crate) mod models;
pub mod operation;
mod printable;
pub mod report;
pub(crate) mod sarif;
pub(crate) mod session;
pub mod sessions;
pub mod stats;
pub(crate) mod status_line;
pub mod table;
pub mod tail;
pub(crate) mod top;
pub mod trace_link;
pub mod waterfall;
pub(crate) mod why;

pub use printable::Printable;
