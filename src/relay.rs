//! Floor 1: bytes only.

pub mod tap;
