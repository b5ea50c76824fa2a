//! The words that settings choose from.

use clap::ValueEnum;

/// Level of detail of the session log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Info,
    Debug,
}

/// Reaction to an observer that cannot keep up with the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overload {
    /// Records are lost and counted.
    Lose,
    /// The traffic is slowed down.
    Wait,
}

/// Place in a request where trace context is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Propagate {
    Off,
    /// `params._meta`.
    Meta,
}

/// Hash of arguments and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArgsHash {
    Hmac,
    Sha256,
}
