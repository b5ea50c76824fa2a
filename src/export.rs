//! Floor 3: out.
//!
//! [`Exporter`] turns each event into one record and offers it to every output. An output stands
//! behind its own bounded queue: what it cannot take at once it drops and counts, so a hanging disk
//! does not stop the collector and the other way round.

use std::time::Instant;

use crate::observe::event::{Event, EventKind, Sink};

pub mod log;
pub mod otlp;

use crate::record::words::LossPlace;
use crate::record::{Anchor, Dropped, Identity, Record};

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

/// The sink that the observer writes to.
pub struct Exporter {
    identity: Identity,
    anchor: Anchor,
    host_name: Option<String>,
    outputs: Vec<Box<dyn Output>>,
    /// From then on records are counted, not made, but for the session's last one.
    stop_at: Option<Instant>,
    /// Records that there was no time to make.
    unmade: u64,
}

impl Exporter {
    pub fn new(identity: Identity, anchor: Anchor, outputs: Vec<Box<dyn Output>>) -> Exporter {
        Exporter { identity, anchor, host_name: None, outputs, stop_at: None, unmade: 0 }
    }

    /// The session is over and time is short: from `time` on, records are counted as lost instead of made.
    pub fn stop_at(&mut self, time: Instant) {
        self.stop_at = Some(time);
    }

    fn dropped(&self) -> Vec<Dropped> {
        let unmade = Dropped { place: LossPlace::Observer, reason: "timeout", count: self.unmade };
        self.outputs.iter().flat_map(|output| output.dropped()).chain([unmade]).collect()
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
}

impl Sink for Exporter {
    fn record(&mut self, event: &Event) {
        if let EventKind::PeerIdentified(peers) = &event.kind
            && let Some(name) = &peers.client_name
        {
            self.host_name = Some(name.as_str().to_owned());
        }
        let is_last = matches!(event.kind, EventKind::SessionEnded(_));
        if !is_last && self.stop_at.is_some_and(|time| Instant::now() >= time) {
            self.unmade += 1;
            return;
        }
        let dropped = match is_last || matches!(event.kind, EventKind::StatsSample(_)) {
            true => self.dropped(),
            false => Vec::new(),
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::relay::chunk::Moment;

    /// Counts what it is given.
    #[derive(Clone, Default)]
    struct Counter(Arc<Mutex<u64>>);

    impl Output for Counter {
        fn take(&mut self, _: &Event, record: Option<&Record<'_>>) {
            *self.0.lock().unwrap() += u64::from(record.is_some());
        }

        fn dropped(&self) -> Vec<Dropped> {
            Vec::new()
        }

        fn begin_close(&mut self) {}

        fn finish_close(&mut self, _: Instant) {}
    }

    #[test]
    fn what_there_is_no_time_to_record_is_counted() {
        let identity = Identity {
            connection_id: "01a2027b-0000-7000-8000-0123456789ab".to_owned(),
            session_id: "s".to_owned(),
            server_name: "fs".to_owned(),
            user_id: None,
        };
        let anchor = Anchor { moment: Moment(0), wall: crate::record::timestamp::Timestamp(0) };
        let made = Counter::default();
        let mut exporter = Exporter::new(identity, anchor, vec![Box::new(made.clone())]);
        let event = |seq| {
            let kind = EventKind::DebugEnded;
            Event { seq, at: Moment(0), conversation_id: None, turn_id: None, kind }
        };
        exporter.record(&event(0));
        exporter.stop_at(Instant::now());
        exporter.record(&event(1));
        exporter.record(&event(2));
        let dropped = exporter.close(Instant::now());
        assert_eq!(dropped, [Dropped { place: LossPlace::Observer, reason: "timeout", count: 2 }]);
        assert_eq!(*made.0.lock().unwrap(), 1);
    }
}
