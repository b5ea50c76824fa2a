//! What `spantap check` measures, as metrics: a pulse beside the live traffic, never part of its figures.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Meter};

use crate::export::otlp::semconv::{self, attribute as name};

/// One check, in the words of the instruments.
#[derive(Clone, Debug)]
pub enum CheckMeasurement {
    /// Each step with its seconds.
    Works(Vec<(&'static str, f64)>),
    /// Why it does not, in one word.
    Fails(&'static str),
}

/// The instruments of one pulse.
pub struct CheckInstruments {
    server: String,
    in_a_row: u64,
    up: Gauge<u64>,
    duration: Gauge<f64>,
    failures: Counter<u64>,
    failures_in_a_row: Gauge<u64>,
}

impl CheckInstruments {
    /// `kinds` are the words of [`CheckMeasurement::Fails`]: a counter of each begins at 0, so that the first
    /// failure is an increase.
    pub fn new(meter: &Meter, server: &str, kinds: &[&'static str]) -> CheckInstruments {
        let gauge = |instrument: semconv::Instrument| {
            let builder = meter.u64_gauge(instrument.name).with_unit(instrument.unit);
            builder.with_description(instrument.description).build()
        };
        let (duration, failures) = (semconv::CHECK_DURATION, semconv::CHECK_FAILURES);
        let checks = CheckInstruments {
            server: server.to_owned(),
            in_a_row: 0,
            up: gauge(semconv::CHECK_UP),
            duration: meter
                .f64_gauge(duration.name)
                .with_unit(duration.unit)
                .with_description(duration.description)
                .build(),
            failures: meter
                .u64_counter(failures.name)
                .with_unit(failures.unit)
                .with_description(failures.description)
                .build(),
            failures_in_a_row: gauge(semconv::CHECK_FAILURES_IN_A_ROW),
        };
        for kind in kinds {
            checks.failures.add(0, &checks.with(Some(KeyValue::new(name::ERROR_TYPE, *kind))));
        }
        checks
    }

    pub fn take(&mut self, checked: &CheckMeasurement) {
        match checked {
            CheckMeasurement::Works(steps) => {
                self.in_a_row = 0;
                for (step, seconds) in steps {
                    let step = KeyValue::new(name::SPANTAP_CHECK_STEP, *step);
                    self.duration.record(*seconds, &self.with(Some(step)));
                }
            }
            CheckMeasurement::Fails(kind) => {
                self.in_a_row += 1;
                self.failures.add(1, &self.with(Some(KeyValue::new(name::ERROR_TYPE, *kind))));
            }
        }
        self.up.record(u64::from(self.in_a_row == 0), &self.with(None));
        self.failures_in_a_row.record(self.in_a_row, &self.with(None));
    }

    fn with(&self, attribute: Option<KeyValue>) -> Vec<KeyValue> {
        let server = KeyValue::new(name::MCP_SERVER_NAME, self.server.clone());
        std::iter::once(server).chain(attribute).collect()
    }
}
