//! Instruments of the traffic: open requests, added latency, and what was not recorded.

use std::collections::HashMap;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, UpDownCounter};

use crate::export::otlp::instruments::{InstrumentFactory, ServerLabel};
use crate::export::otlp::losses::LossCallback;
use crate::export::otlp::semconv::{self, attribute as name};
use crate::observe::event::{Lost, StatsSample};
use crate::record::Dropped;
use crate::record::words::LossPlace;

/// About how many samples one statistics sample makes of its latency counts, the same share of each bucket.
const MAX_SAMPLES: u64 = 2_000;

pub(super) struct TrafficMetrics {
    label: ServerLabel,
    in_flight: i64,
    dropped: HashMap<(LossPlace, &'static str), u64>,
    open: UpDownCounter<i64>,
    lost: Counter<u64>,
    latency: Histogram<f64>,
    depth: Gauge<u64>,
}

impl TrafficMetrics {
    pub(super) fn new(factory: &InstrumentFactory<'_>, label: ServerLabel) -> TrafficMetrics {
        let metrics = TrafficMetrics {
            in_flight: 0,
            dropped: HashMap::new(),
            open: factory.up_down_counter(semconv::IN_FLIGHT),
            lost: factory.counter(semconv::TELEMETRY_DROPPED),
            latency: factory.histogram(semconv::ADDED_LATENCY, &semconv::LATENCY_BOUNDS),
            depth: factory.gauge(semconv::QUEUE_DEPTH),
            label,
        };
        for sink in [LossPlace::Tap, LossPlace::Log, LossPlace::Otlp] {
            metrics.lost.add(0, &metrics.label.and(name::SPANTAP_SINK, sink.as_str()));
        }
        metrics.open.add(0, &metrics.label.with([]));
        metrics.depth.record(0, &metrics.label.with([]));
        metrics
    }

    pub(super) fn otlp_losses(&self) -> LossCallback {
        let (lost, label) = (self.lost.clone(), self.label.clone());
        Box::new(move |reason, count| lost.add(count, &loss(&label, LossPlace::Otlp, reason)))
    }

    pub(super) fn gap(&self, lost: &Lost) {
        let count = lost.frames.max(lost.records).max(1);
        self.lost.add(count, &loss(&self.label, lost.place, lost.reason));
    }

    pub(super) fn dropped(&mut self, Dropped { place, reason, count }: &Dropped) {
        let known = self.dropped.entry((*place, reason)).or_default();
        let new = count.saturating_sub(*known);
        *known = (*known).max(*count);
        if new > 0 {
            self.lost.add(new, &loss(&self.label, *place, reason));
        }
    }

    pub(super) fn sample(&mut self, sample: &StatsSample) {
        let attributes = self.label.with([]);
        let in_flight = i64::try_from(sample.in_flight).unwrap_or(i64::MAX);
        self.open.add(in_flight - self.in_flight, &attributes);
        self.in_flight = in_flight;
        self.depth.record(sample.ring_depth, &attributes);
        let total = sample.added_latency.iter().map(|(_, count)| count).sum::<u64>().max(MAX_SAMPLES);
        for (bound, count) in &sample.added_latency {
            for _ in 0..(count * MAX_SAMPLES).div_ceil(total) {
                // Buckets are powers of two; a sample is the middle of its bucket.
                self.latency.record(*bound as f64 * 0.75e-9, &attributes);
            }
        }
    }

    pub(super) fn ended(&mut self) {
        self.open.add(-self.in_flight, &self.label.with([]));
        self.in_flight = 0;
    }
}

fn loss(label: &ServerLabel, place: LossPlace, reason: &'static str) -> Vec<KeyValue> {
    let place = KeyValue::new(name::SPANTAP_SINK, place.as_str());
    label.with([place, KeyValue::new(name::SPANTAP_REASON, reason)])
}
