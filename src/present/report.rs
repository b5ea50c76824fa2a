//! `spantap report`: one page that shows whether servers live, fail, are slow, loop, and what they cost.
//!
//! The page holds everything: style, script and data. Its content security policy forbids it to load or send
//! anything. All text of a log is in the data, as JSON that does not contain `<`, and reaches the page as
//! text nodes only.

mod agents;
mod context;
mod data;
mod page;

pub use data::{PageData, PageSource};
pub use page::page;
