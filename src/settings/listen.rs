//! Where `spantap collect` listens.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Where to listen: a port of this machine, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Port(u16),
    Address(SocketAddr),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        let text = text.strip_prefix("localhost:").unwrap_or(text);
        let port = text.parse().ok().map(ListenAddress::Port);
        let address = || text.parse().ok().map(ListenAddress::Address);
        port.or_else(address).ok_or_else(|| "write a port (4318) or an address (192.168.1.7:4318)".to_owned())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Port(port) => write!(f, "{port}"),
            ListenAddress::Address(address) => write!(f, "{address}"),
        }
    }
}

impl ListenAddress {
    /// Returns true if other machines can reach it.
    pub fn is_open(self) -> bool {
        match self {
            ListenAddress::Port(_) => false,
            ListenAddress::Address(address) => !address.ip().to_canonical().is_loopback(),
        }
    }
}
