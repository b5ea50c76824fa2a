//! Results of `spantap check` as metrics, apart from the figures of live traffic.

use opentelemetry::metrics::{Counter, Gauge, Meter};

use crate::export::otlp::instruments::{InstrumentFactory, ServerLabel};
use crate::export::otlp::semconv::{self, attribute as name};

/// Result of one check, in the words of the instruments.
#[derive(Clone, Debug)]
pub(crate) enum CheckMeasurement {
    /// Each step with its duration in seconds.
    Works(Vec<(&'static str, f64)>),
    /// Kind of the failure, in one word.
    Fails(&'static str),
}

/// The instruments of repeated checks.
pub(crate) struct CheckInstruments {
    label: ServerLabel,
    in_a_row: u64,
    up: Gauge<u64>,
    duration: Gauge<f64>,
    attempts: Counter<u64>,
    failures: Counter<u64>,
    failures_in_a_row: Gauge<u64>,
}

impl CheckInstruments {
    /// `kinds` are the words of [`CheckMeasurement::Fails`]. A counter of each begins at 0, so that the first
    /// failure is an increase.
    pub(crate) fn new(meter: &Meter, server: &str, kinds: &[&'static str]) -> CheckInstruments {
        let factory = InstrumentFactory(meter);
        let checks = CheckInstruments {
            label: ServerLabel::new(server),
            in_a_row: 0,
            up: factory.gauge(semconv::CHECK_UP),
            duration: factory.float_gauge(semconv::CHECK_DURATION),
            attempts: factory.counter(semconv::CHECK_ATTEMPTS),
            failures: factory.counter(semconv::CHECK_FAILURES),
            failures_in_a_row: factory.gauge(semconv::CHECK_FAILURES_IN_A_ROW),
        };
        for kind in kinds {
            checks.failures.add(0, &checks.label.and(name::ERROR_TYPE, *kind));
        }
        checks
    }

    pub(crate) fn take(&mut self, checked: &CheckMeasurement) {
        self.attempts.add(1, &self.label.with([]));
        match checked {
            CheckMeasurement::Works(steps) => {
                self.in_a_row = 0;
                for (step, seconds) in steps {
                    self.duration.record(*seconds, &self.label.and(name::SPANTAP_CHECK_STEP, *step));
                }
            }
            CheckMeasurement::Fails(kind) => {
                self.in_a_row += 1;
                self.failures.add(1, &self.label.and(name::ERROR_TYPE, *kind));
            }
        }
        self.up.record(u64::from(self.in_a_row == 0), &self.label.with([]));
        self.failures_in_a_row.record(self.in_a_row, &self.label.with([]));
    }
}
