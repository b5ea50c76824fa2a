//! The peers: their names and versions, from handshakes and from `_meta`.

use serde_json::Value;

use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::{Meta, Method, Peer};
use crate::observe::redact::{Field, Redacted, RedactionCounts};
use crate::observe::session::facts::ReceivedRequest;
use crate::observe::session::{Session, Step};

#[derive(Default)]
pub(super) struct Peers {
    known: PeerNames,
    /// The names in the last `peer_identified`.
    reported: Option<PeerNames>,
    /// The last result of [`Session::version`].
    last_version: Option<Redacted>,
}

impl Peers {
    /// Returns the name that the client gives itself.
    pub(super) fn client_name(&self) -> Option<&str> {
        self.known.client.as_ref()?.name.as_deref()
    }
}

/// The names of both peers and their MCP revision, as they were received.
#[derive(Clone, Default, PartialEq)]
struct PeerNames {
    client: Option<Peer>,
    server: Option<Peer>,
    version: Option<String>,
}

impl Session {
    /// Updates the peers from a request of the client.
    pub(super) fn identify(&mut self, request: &ReceivedRequest<'_>, step: &mut Step<'_>) {
        let ReceivedRequest { direction, envelope, method, ref meta, .. } = *request;
        if direction != Direction::ClientToServer {
            return;
        }
        let known = &mut self.peers.known;
        if method == Method::Initialize {
            known.client = parse(envelope, Member::ClientInfo).and_then(|info| Peer::new(&info));
            // The requested revision counts until the answer names the one in force.
            known.version = parse_text(envelope, Member::ParamsProtocolVersion);
        }
        if meta.client.is_some() {
            known.client.clone_from(&meta.client);
        }
        if let Some(version) = &meta.protocol_version {
            known.version = Some(version.clone());
        }
        // The answer to `initialize` reports the peers. Without a handshake a request reports them.
        if method != Method::Initialize {
            self.report_peers(step);
        }
    }

    /// Updates the peers from an answer of the server.
    pub(super) fn update_peers(&mut self, method: Method, envelope: &Envelope, step: &mut Step<'_>) {
        let known = &mut self.peers.known;
        if method == Method::Initialize {
            let version = parse_text(envelope, Member::ResultProtocolVersion);
            known.version = version.or(known.version.take());
            let server = parse(envelope, Member::ServerInfo).and_then(|info| Peer::new(&info));
            known.server = server.or(known.server.take());
        }
        if envelope.has(Member::ResultMeta)
            && let Some(server) = Meta::of(envelope, Member::ResultMeta).server
        {
            known.server = Some(server);
        }
        self.report_peers(step);
    }

    /// Emits `peer_identified` if the known names have changed.
    fn report_peers(&mut self, step: &mut Step<'_>) {
        let Peers { known, reported, .. } = &mut self.peers;
        if *known == PeerNames::default() || reported.as_ref() == Some(known) {
            return;
        }
        *reported = Some(known.clone());
        let mut redact =
            |text: Option<&String>| text.map(|text| self.redactor.redact(Field::Name, text.as_bytes()));
        let (client, server) = (known.client.as_ref(), known.server.as_ref());
        let identified = PeerIdentified {
            client_name: redact(client.and_then(|client| client.name.as_ref())),
            client_version: redact(client.and_then(|client| client.version.as_ref())),
            server_name: redact(server.and_then(|server| server.name.as_ref())),
            server_version: redact(server.and_then(|server| server.version.as_ref())),
            protocol_version: redact(known.version.as_ref()),
        };
        self.emit(EventKind::PeerIdentified(Box::new(identified)), step);
    }

    /// Returns the MCP revision of the last handshake or request, as it was received.
    pub(super) fn revision(&self) -> Option<String> {
        self.peers.known.version.clone()
    }

    /// Returns the MCP revision that a request is under. The text is shared, because it rarely changes.
    pub(super) fn version(&mut self, meta: &Meta, counts: &mut RedactionCounts) -> Option<Redacted> {
        let Peers { known, last_version, .. } = &mut self.peers;
        let version = meta.protocol_version.as_deref().or(known.version.as_deref())?;
        if last_version.as_ref().is_none_or(|last| last.as_str() != version) {
            *last_version = Some(self.redactor.redact_counted(Field::Name, version.as_bytes(), counts));
        }
        last_version.clone()
    }
}

fn parse(envelope: &Envelope, member: Member) -> Option<Value> {
    serde_json::from_slice(envelope.raw(member)?).ok()
}

fn parse_text(envelope: &Envelope, member: Member) -> Option<String> {
    parse(envelope, member)?.as_str().map(str::to_owned)
}
