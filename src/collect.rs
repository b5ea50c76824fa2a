//! Receives the telemetry of agents and of MCP servers, and records the fixed list of fields of
//! [`AgentRecord`](crate::record::agent::AgentRecord).
//!
//! `adapters` read each request into facts (`fact`).

pub mod adapters;
pub mod fact;
