//! Debug in a session: by its settings, or by an order of `spantap debug` while it runs.

use crate::observe::event::*;
use crate::observe::session::{Session, Step};
use crate::observe::{Debug, DebugOrder};
use crate::relay::chunk::Moment;

impl Session {
    pub(crate) fn is_debug(&self, now: Moment) -> bool {
        let by_settings = match self.settings.debug {
            Debug::Off => false,
            Debug::On => true,
            Debug::Until(end) => now < end,
        };
        by_settings || self.debug_order.is_some_and(|order| now < order.until)
    }

    /// Takes a new order, or ends the last one.
    pub(crate) fn order_debug(&mut self, order: Option<DebugOrder>, step: &mut Step<'_>) {
        let order = order.filter(|order| step.now < order.until);
        match order {
            _ if order == self.debug_order => {}
            Some(DebugOrder { until }) => {
                self.debug_order = order;
                self.emit(EventKind::DebugStarted(DebugStarted { until }), step);
            }
            None => {
                self.debug_order = None;
                self.report_end_of_debug(step);
            }
        }
    }

    /// Ends what has reached its end: the time of `--debug-for`, and the order.
    pub(super) fn end_debug(&mut self, step: &mut Step<'_>) {
        let mut has_ended = self.debug_order.take_if(|order| step.now >= order.until).is_some();
        if let Debug::Until(end) = self.settings.debug
            && step.now >= end
        {
            self.settings.debug = Debug::Off;
            has_ended = true;
        }
        if has_ended {
            self.report_end_of_debug(step);
        }
    }

    fn report_end_of_debug(&mut self, step: &mut Step<'_>) {
        if !self.is_debug(step.now) {
            self.emit(EventKind::DebugEnded, step);
        }
    }

    /// Returns the moment at which [`Session::end_debug`] next has something to do.
    pub(super) fn debug_deadline(&self) -> Option<Moment> {
        let by_settings = match self.settings.debug {
            Debug::Until(end) => Some(end),
            Debug::Off | Debug::On => None,
        };
        by_settings.into_iter().chain(self.debug_order.map(|order| order.until)).min()
    }
}
