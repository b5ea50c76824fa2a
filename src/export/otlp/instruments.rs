//! Makes instruments of a meter, and the attributes of their points.

use std::collections::HashSet;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use crate::export::otlp::semconv::{self, Instrument, attribute as name};

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

/// The first names that came. A peer that makes up names does not make a series of each.
pub(super) struct FirstNames {
    most: usize,
    names: HashSet<String>,
}

impl FirstNames {
    pub(super) fn new(most: usize) -> FirstNames {
        FirstNames { most, names: HashSet::new() }
    }

    /// Returns the attribute `key` with the name, or with `_OTHER` if it came after too many others.
    pub(super) fn attribute(&mut self, key: &'static str, name: &str) -> KeyValue {
        if self.names.len() < self.most && name != semconv::value::OTHER && !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
        let is_known = self.names.contains(name);
        KeyValue::new(key, if is_known { name.to_owned() } else { semconv::value::OTHER.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_after_the_first_ones_share_a_series() {
        let mut names = FirstNames::new(2);
        let mut values =
            |name: &str| names.attribute(name::RPC_RESPONSE_STATUS_CODE, name).value.as_str().into_owned();
        assert_eq!(
            ["-32601", "_OTHER", "7", "8", "-32601", "9"].map(&mut values),
            ["-32601", "_OTHER", "7", "_OTHER", "-32601", "_OTHER"]
        );
    }
}
