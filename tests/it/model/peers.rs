//! The names of the peers: several clients can use one connection.

use super::super::{Answer, Ask, CLIENTS, SERVERS, VERSIONS};
use super::Model;

/// The names of the peers and the revision, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KnownPeers {
    pub client: Option<&'static str>,
    pub server: Option<&'static str>,
    pub version: Option<&'static str>,
}

impl Model {
    /// A handshake names its client, and makes the earlier names void. Other requests may name theirs.
    pub(super) fn client_names(&mut self, ask: &Ask) {
        let known = &mut self.known_peers;
        let (client, version) =
            (ask.client.map(|client| CLIENTS[client]), ask.version.map(|version| VERSIONS[version]));
        if ask.method == "initialize" {
            (known.client, known.version) = (client, version);
        } else {
            known.client = client.or(known.client);
            known.version = version.or(known.version);
            self.peers_are_known();
        }
    }

    pub(super) fn server_names(&mut self, method: &str, answer: Answer) {
        let known = &mut self.known_peers;
        match answer {
            Answer::Welcome { server, version } if method == "initialize" => {
                known.server = server.map(|server| SERVERS[server]).or(known.server);
                known.version = version.map(|version| VERSIONS[version]).or(known.version);
            }
            Answer::Signed(server) => known.server = Some(SERVERS[server]),
            _ => {}
        }
        self.peers_are_known();
    }

    /// Each change of what is known is reported once.
    pub(super) fn peers_are_known(&mut self) {
        let known = self.known_peers;
        let last = self.expected.peers.last().copied().unwrap_or_default();
        if known != last && known != KnownPeers::default() {
            self.expected.peers.push(known);
        }
    }
}
