//! Feeds events to instruments.
//!
//! Totals of a connection are gauges: a histogram with one value of each process has no useful average in
//! Prometheus. Names of tools and prompts come from answers to `tools/list` and `prompts/list` only, so that an
//! agent that invents names does not create series. Of codes and versions the first ones that come have series.

use opentelemetry::metrics::Meter;

use crate::export::otlp::instruments::{InstrumentFactory, ServerLabel};
use crate::export::otlp::losses::LossCallback;
use crate::observe::event::{Direction, Event, EventKind};
use crate::record::Dropped;
use crate::record::cost::Prices;
use crate::record::words::Side;
use crate::relay::chunk::Moment;

mod calls;
mod definitions;
mod health;
mod traffic;

use calls::CallMetrics;
use definitions::DefinitionMetrics;
use health::HealthMetrics;
use traffic::TrafficMetrics;

pub(crate) struct Metrics {
    calls: CallMetrics,
    definitions: DefinitionMetrics,
    traffic: TrafficMetrics,
    health: HealthMetrics,
    started: Option<Moment>,
}

impl Metrics {
    /// Makes the instruments and their first points, so that the first event of a kind is an increase.
    pub(crate) fn new(meter: &Meter, side: Side, server: &str, prices: Prices) -> Metrics {
        let (factory, label) = (InstrumentFactory(meter), ServerLabel::new(server));
        Metrics {
            calls: CallMetrics::new(&factory, label.clone(), side, server, prices),
            definitions: DefinitionMetrics::new(&factory, label.clone()),
            traffic: TrafficMetrics::new(&factory, label.clone()),
            health: HealthMetrics::new(&factory, label, side),
            started: None,
        }
    }

    pub(super) fn otlp_losses(&self) -> LossCallback {
        self.traffic.otlp_losses()
    }

    pub(crate) fn dropped<'a>(&mut self, dropped: impl Iterator<Item = &'a Dropped>) {
        dropped.for_each(|dropped| self.traffic.dropped(dropped));
    }

    pub(crate) fn take(&mut self, event: &Event) {
        let age = self.started.map(|started| event.at.since(started));
        match &event.kind {
            EventKind::SessionStarted(started) => {
                self.started = Some(started.spawned);
                self.health.started(started.child_pid.is_some());
            }
            EventKind::ToolsListed(listed) => {
                self.definitions.listed(listed);
                self.calls.tools_listed(listed, self.definitions.tokens());
            }
            EventKind::PromptsListed(names) => self.calls.prompts_listed(names),
            EventKind::ToolsChanged(changed) => self.definitions.changed(changed),
            EventKind::Operation(operation) => {
                if operation.facts.direction == Direction::ClientToServer {
                    self.health.answered(operation);
                }
                self.calls.operation(operation, event);
            }
            EventKind::StatsSample(sample) => {
                self.health.sample(sample, age);
                self.traffic.sample(sample);
                self.calls.record_totals();
            }
            EventKind::Gap(lost) => self.traffic.gap(lost),
            EventKind::SessionEnded(ended) => {
                self.health.ended(ended, age.unwrap_or_default());
                self.traffic.ended();
                self.calls.record_totals();
            }
            _ => {}
        }
    }
}
