//! Finds the process that listens on a TCP port.

use std::process::Command;

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    pub pid: u32,
    /// The name of its program.
    pub name: String,
}

/// Returns the process that listens on TCP port `port`. `None` if no process does, or if it belongs to another user.
pub fn owner_of(port: u16) -> Option<PortOwner> {
    let filter = format!("-iTCP:{port}");
    let found =
        Command::new("/usr/sbin/lsof").args(["-nP", &filter, "-sTCP:LISTEN", "-Fpc"]).output().ok()?;
    let text = String::from_utf8_lossy(&found.stdout);
    let field = |letter| text.lines().find_map(|line| line.strip_prefix(letter));
    Some(PortOwner { pid: field('p')?.parse().ok()?, name: field('c')?.to_owned() })
}
