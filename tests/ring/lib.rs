//! The ring with the files it uses, compiled from `src` under their module paths.

#[path = "../../src/relay"]
pub mod relay {
    pub mod chunk;
    pub mod ring;
}

#[path = "../../src/system"]
mod system {
    pub mod clock;
    pub mod mapping;
    #[path = "unix/memory.rs"]
    #[expect(dead_code, reason = "the limits of memory are for the start")]
    pub mod memory;
}

#[path = "../../src/text"]
mod text {
    pub mod words;
}

#[cfg(all(test, loom))]
mod orders;
