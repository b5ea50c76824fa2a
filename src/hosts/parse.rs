//! Parses a config file in the syntax of its format.

use crate::hosts::tree::{Format, Node};
use crate::hosts::{jsonc, toml, yaml};

impl Node {
    /// Parses a whole file.
    ///
    /// # Errors
    /// The text is not valid in that format. The reason never quotes the text, which may contain secrets.
    pub fn parse(text: &str, format: Format) -> Result<Node, String> {
        match format {
            Format::Json => jsonc::parse(text),
            Format::Toml => toml::parse(text),
            Format::Yaml => yaml::parse(text),
        }
    }
}
