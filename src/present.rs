//! Draws the answers of `query`: tables, waterfalls, lines and the report page.

pub mod annotations;
pub mod format;
pub mod printable;
pub mod report;
pub mod sessions;
pub mod show;
pub mod stats;
pub mod table;
pub mod tail;
pub mod waterfall;

pub use printable::Printable;
