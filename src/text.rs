//! Functions on text, and on packed text, that several rooms share. This room imports no other room.

pub(crate) mod baggage;
pub(crate) mod duration;
pub mod glob;
pub(crate) mod hex;
pub(crate) mod unprintable;
pub(crate) mod words;
pub(crate) mod zstd;

/// Returns the number, counted from 1, of the line that contains byte `at`.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
