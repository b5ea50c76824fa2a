//! Host configuration files: where they are, and how a server entry is edited without touching the rest.
//!
//! A file is parsed for byte ranges only and edited by splice, so that comments, order, spacing and line
//! ends stay as they are, and taking the proxy out again gives the bytes that were there before.
//! Every edit is tried in memory first: the result must parse, differ in the one intended way, and undo
//! to the original; otherwise the entry is left alone and the reason is named.

pub mod diff;
pub mod entry;
pub mod locate;
pub mod splice;
pub mod store;
pub mod table;
pub mod tree;

mod jsonc;
mod parse;
mod toml;
mod yaml;

pub use entry::{Entry, State};
pub use locate::{Found, Scope};
pub use splice::{Edit, Proxy};
pub use table::{HOSTS, Host};
