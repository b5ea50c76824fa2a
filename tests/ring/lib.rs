//! The ring and what it speaks of, as they stand in `src/relay`.

#[path = "../../src/relay/clock.rs"]
mod clock;
#[path = "../../src/relay/ring.rs"]
pub mod ring;
#[path = "../../src/relay/tap.rs"]
pub mod tap;

#[cfg(all(test, loom))]
mod orders;
