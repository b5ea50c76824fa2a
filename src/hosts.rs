//! Host configuration files: where they are, and how a server entry is edited without touching the rest.
//!
//! A file is parsed for byte ranges only and edited by splice. Comments, order, spacing and line ends stay
//! as they are, and `unwrap` restores the original bytes. The editing modes of `jsonc-parser`, `toml_edit`
//! and `yaml-edit` do not promise this, so `splice` writes the bytes itself.
//! Every edit is tried in memory first: the result must parse, differ in the one intended way, and undo
//! to the original. An entry that fails this test is not changed, and the reason is reported.

pub mod backup_folder;
pub(crate) mod diff;
pub mod edit;
pub mod entry;
pub(crate) mod launch;
pub(crate) mod locate;
pub mod own_entry;
pub mod replace;
pub mod splice;
pub mod store;
pub mod table;
pub mod tree;

mod jsonc;
mod parse;
mod toml;
mod yaml;
