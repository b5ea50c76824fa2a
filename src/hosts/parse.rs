//! Parses a config file in the syntax of its format.

use crate::hosts::tree::{FileFormat, Node};
use crate::hosts::{jsonc, toml, yaml};

impl Node {
    /// Parses a whole file. An error never quotes the text, which may contain secrets.
    pub fn parse(text: &str, format: FileFormat) -> Result<Node, String> {
        match format {
            FileFormat::Json => jsonc::parse(text),
            FileFormat::Toml => toml::parse(text),
            FileFormat::Yaml => yaml::parse(text),
        }
    }
}
