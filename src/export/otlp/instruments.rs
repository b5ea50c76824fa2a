//! Makes instruments of a meter, and the attributes of their points.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use crate::export::otlp::semconv::{Instrument, attribute as name};

/// Makes instruments with the names, units and descriptions of `semconv`.
pub(super) struct InstrumentFactory<'a>(pub(super) &'a Meter);

macro_rules! kinds {
    ($($kind:ident($builder:ident) -> $instrument:ty;)*) => {
        $(pub(super) fn $kind(&self, instrument: Instrument) -> $instrument {
            let builder = self.0.$builder(instrument.name).with_unit(instrument.unit);
            builder.with_description(instrument.description).build()
        })*
    };
}

impl InstrumentFactory<'_> {
    kinds! {
        gauge(u64_gauge) -> Gauge<u64>;
        float_gauge(f64_gauge) -> Gauge<f64>;
        counter(u64_counter) -> Counter<u64>;
        float_counter(f64_counter) -> Counter<f64>;
        up_down_counter(i64_up_down_counter) -> UpDownCounter<i64>;
    }

    pub(super) fn histogram(&self, instrument: Instrument, bounds: &[f64]) -> Histogram<f64> {
        let builder = self.0.f64_histogram(instrument.name).with_unit(instrument.unit);
        builder.with_description(instrument.description).with_boundaries(bounds.to_vec()).build()
    }
}

/// The attribute that all points of a connection carry: the server's name.
#[derive(Clone)]
pub(super) struct ServerLabel(KeyValue);

impl ServerLabel {
    pub(super) fn new(server: &str) -> ServerLabel {
        ServerLabel(KeyValue::new(name::MCP_SERVER_NAME, server.to_owned()))
    }

    pub(super) fn with<const N: usize>(&self, attributes: [KeyValue; N]) -> Vec<KeyValue> {
        std::iter::once(self.0.clone()).chain(attributes).collect()
    }

    pub(super) fn and(&self, key: &'static str, value: impl Into<opentelemetry::Value>) -> Vec<KeyValue> {
        self.with([KeyValue::new(key, value)])
    }
}
