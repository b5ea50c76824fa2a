//! The detectors: each finds one form of secret or personal data and adds the spans to replace to
//! [`matches::Matches`].

pub(super) mod announced;
mod argv;
pub(super) mod entropy;
pub(super) mod forms;
pub(super) mod harmless;
pub(super) mod key_patterns;
pub(super) mod keys;
mod labels;
pub(super) mod looks;
pub(super) mod matches;
pub(super) mod pairs;
pub(super) mod pem;
mod persons;
mod phones;
pub(super) mod pii;
mod programs;
pub(super) mod rules;
pub(super) mod runs;
pub(super) mod shapes;
pub(super) mod tokens;
mod trigrams;
pub(super) mod url;
pub(super) mod values;
mod word_list;
