//! Floor 3: out.
//!
//! [`Exporter`] turns each event into one record and offers it to every output. An output stands
//! behind its own bounded queue: what it cannot take at once it drops and counts, so a hanging disk
//! does not stop the collector and the other way round.

use std::time::Instant;

use crate::observe::event::{Event, Kind, Sink};

pub mod record;
pub mod timestamp;

pub mod log;
pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod semconv;
pub mod trace;

use record::Record;

/// Which run this is: on every record.
#[derive(Clone, Debug)]
pub struct Identity {
    /// UUIDv7 in its usual text form.
    pub connection_id: String,
    pub session_id: String,
    pub server_name: String,
    pub user_id: Option<String>,
}

/// Where records go: a log file, a tracer, a meter, a collector's log endpoint.
pub trait Output: Send {
    /// Takes one event, and its record if it makes one. Never waits for a disk or a network beyond
    /// what its own documentation says, never fails: what is not taken is counted.
    fn take(&mut self, event: &Event, record: Option<&Record<'_>>);

    /// What has been lost so far, by place and reason; only ever grows.
    fn dropped(&self) -> Vec<Dropped>;

    /// Hears from time to time what all outputs together have lost so far.
    fn told_of_losses(&mut self, _dropped: &[Dropped]) {}

    /// Starts to write out what is queued, without waiting.
    fn begin_close(&mut self);

    /// Waits until everything is out, or until `deadline`; what is left then is counted as dropped.
    fn finish_close(&mut self, deadline: Instant);
}

/// Records (or spans, or points) that did not get out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// `log` or `otlp`.
    pub place: &'static str,
    /// `queue_full`, `no_space`, `refused`, `timeout`, …
    pub reason: &'static str,
    pub count: u64,
}

/// The sink that the observer writes to.
pub struct Exporter {
    identity: Identity,
    anchor: Anchor,
    host_name: Option<String>,
    outputs: Vec<Box<dyn Output>>,
}

/// Ties the steady clock to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    pub moment: crate::relay::tap::Moment,
    pub wall: timestamp::Timestamp,
}

impl Anchor {
    /// The wall-clock time of `moment`.
    pub fn wall(&self, moment: crate::relay::tap::Moment) -> timestamp::Timestamp {
        let micros = (i128::from(moment.0) - i128::from(self.moment.0)) / 1000;
        timestamp::Timestamp(self.wall.0.saturating_add(micros as i64))
    }
}

impl Exporter {
    pub fn new(identity: Identity, anchor: Anchor, outputs: Vec<Box<dyn Output>>) -> Exporter {
        Exporter { identity, anchor, host_name: None, outputs }
    }

    /// Writes everything out, all outputs at the same time, until `deadline` at the latest.
    pub fn close(&mut self, deadline: Instant) -> Vec<Dropped> {
        for output in &mut self.outputs {
            output.begin_close();
        }
        for index in 0..self.outputs.len() {
            // The last points of a collector tell what the outputs before it have lost.
            let dropped = self.dropped();
            self.outputs[index].told_of_losses(&dropped);
            self.outputs[index].finish_close(deadline);
        }
        self.dropped()
    }

    fn dropped(&self) -> Vec<Dropped> {
        self.outputs.iter().flat_map(|output| output.dropped()).collect()
    }
}

impl Sink for Exporter {
    fn record(&mut self, event: &Event) {
        if let Kind::PeerIdentified(peers) = &event.kind
            && let Some(name) = &peers.client_name
        {
            self.host_name = Some(name.as_str().to_owned());
        }
        let dropped: Vec<Dropped> = match event.kind {
            Kind::SessionEnded(_) | Kind::Pulse(_) => self.dropped(),
            _ => Vec::new(),
        };
        if !dropped.is_empty() {
            self.outputs.iter_mut().for_each(|output| output.told_of_losses(&dropped));
        }
        let record = Record::new(event, &self.identity, &self.anchor, self.host_name.as_deref(), &dropped);
        for output in &mut self.outputs {
            output.take(event, record.as_ref());
        }
    }
}
