//! The ring with the two files it uses, compiled from `src` under the module paths it has there.

pub mod relay {
    #[path = "../../../src/relay/chunk.rs"]
    pub mod chunk;
    #[path = "../../../src/relay/ring.rs"]
    pub mod ring;
}

mod system {
    #[path = "../../../src/system/clock.rs"]
    pub mod clock;
    #[path = "../../../src/system/memory.rs"]
    pub mod memory;
}

#[cfg(all(test, loom))]
mod orders;
