//! `spantap demo`: a sample MCP server and a scripted client, with the real proxy process and real
//! pipes between them.

pub(crate) mod client;
pub(crate) mod server;
