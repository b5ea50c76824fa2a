//! Sends records out, to the session log, the live file and a collector, and runs the `notify` command.
//!
//! [`Exporter`] makes a record of each event that is recorded, and offers both to every output. Each output has a
//! bounded queue of its own. It waits for room for a bounded time and then drops and counts records, so a disk
//! that hangs does not stop the collector, and a collector that hangs does not stop the log.

use std::time::Instant;

use crate::observe::event::{Event, EventKind, Sink};
use crate::observe::{CHECK_CLIENT, Observer};
use crate::relay::chunk::Moment;

pub(crate) mod bodies;
pub(crate) mod live;
pub mod log;
pub(crate) mod notify;
pub mod otlp;

use crate::record::words::LossPlace;
use crate::record::{ClockAnchor, Dropped, Identity, Record};

/// A receiver of records: the session log or a collector.
pub trait Output: Send {
    /// Takes one event, and its record if it makes one. Never fails: a record that is not taken is counted.
    /// Waits for a disk or a network only as its own documentation allows.
    fn take(&mut self, event: &Event, record: Option<&Record<'_>>);

    /// Returns the losses so far by place and reason. The counts only grow.
    fn dropped(&self) -> Vec<Dropped>;

    /// Receives, from time to time, the losses of all outputs so far.
    fn update_losses(&mut self, _dropped: &[Dropped]) {}

    /// Returns the number of exchanges with a collector so far.
    fn exchanges(&self) -> u64 {
        0
    }

    /// Is called at intervals. Returns when it should be called again, if that is soon.
    fn refresh(&mut self, _observer: &Observer, _now: Moment) -> Option<Moment> {
        None
    }

    /// Starts to write the queued records out, without waiting.
    fn begin_close(&mut self);

    /// Waits until everything is out, at most until `deadline`; counts the rest as dropped.
    fn finish_close(&mut self, deadline: Instant);
}

/// The sink of the observer: makes a record of each event and gives it to all outputs.
pub struct Exporter {
    identity: Identity,
    anchor: ClockAnchor,
    host_name: Option<String>,
    outputs: Vec<Box<dyn Output>>,
    /// When records begin to be counted instead of made; the session's last record is always made.
    stop_at: Option<Instant>,
    /// Number of records that were not made.
    unmade: u64,
}

impl Exporter {
    pub fn new(identity: Identity, anchor: ClockAnchor, outputs: Vec<Box<dyn Output>>) -> Exporter {
        Exporter { identity, anchor, host_name: None, outputs, stop_at: None, unmade: 0 }
    }

    /// Sets the time after which records are counted as lost instead of made, because the session has ended.
    pub(crate) fn stop_at(&mut self, time: Instant) {
        self.stop_at = Some(time);
    }

    /// Refreshes all outputs. Returns when the first of them should be refreshed again, if that is soon.
    pub(crate) fn refresh(&mut self, observer: &Observer, now: Moment) -> Option<Moment> {
        self.outputs.iter_mut().filter_map(|output| output.refresh(observer, now)).min()
    }

    /// Returns the number of exchanges with collectors so far.
    pub(crate) fn exchanges(&self) -> u64 {
        self.outputs.iter().map(|output| output.exchanges()).sum()
    }

    fn dropped(&self) -> Vec<Dropped> {
        let unmade = Dropped { place: LossPlace::Observer, reason: "timeout", count: self.unmade };
        self.outputs.iter().flat_map(|output| output.dropped()).chain([unmade]).collect()
    }

    /// Closes all outputs: each begins to write out at once, and each is waited for until `deadline` at most. Returns
    /// all losses.
    pub fn close(&mut self, deadline: Instant) -> Vec<Dropped> {
        for output in &mut self.outputs {
            output.begin_close();
        }
        for index in 0..self.outputs.len() {
            // The last metrics of a collector contain the losses of the outputs before it.
            let dropped = self.dropped();
            self.outputs[index].update_losses(&dropped);
            self.outputs[index].finish_close(deadline);
        }
        self.dropped()
    }
}

impl Sink for Exporter {
    fn record(&mut self, event: &Event) {
        let name = match &event.kind {
            EventKind::PeerIdentified(peers) => peers.client_name.as_ref(),
            // Readers leave a probe out, whether it comes to a handshake or not.
            EventKind::SessionStarted(started) => {
                started.origin.as_ref().filter(|origin| origin.as_str() == CHECK_CLIENT)
            }
            _ => None,
        };
        if let Some(name) = name {
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
            self.outputs.iter_mut().for_each(|output| output.update_losses(&dropped));
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

    /// Counts the records that it takes.
    #[derive(Clone, Default)]
    struct RecordCounter(Arc<Mutex<u64>>);

    impl Output for RecordCounter {
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
        let anchor = ClockAnchor { moment: Moment(0), wall: crate::record::timestamp::Timestamp(0) };
        let made = RecordCounter::default();
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
