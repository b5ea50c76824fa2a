//! Calls that are answered with a task.

use std::time::Duration;

use spantap::relay::chunk::Moment;

use super::super::{Inside, TaskState};
use super::{Model, Open, OpenTask, Outcome};

impl Model {
    /// A call goes on as a task.
    pub(super) fn handle(&mut self, at: usize, task: usize, state: Option<TaskState>) {
        let number = self.open[at].number;
        if let Some(earlier) = self.call_of(task) {
            self.give_up(earlier, "unknown", "task_open", self.now);
        }
        self.known_tasks.extend([(task, false), (task, true)]);
        let open = self.open.iter_mut().find(|open| open.number == number).unwrap();
        open.task = Some(OpenTask { task, handle_at: self.now, ended: None });
        let conversation = open.ask.conversation;
        self.is_quiet(conversation, self.now);
        if let Some(state) = state {
            self.task_state(task, state);
        }
    }

    fn call_of(&self, task: usize) -> Option<usize> {
        self.open.iter().position(|open| open.task.is_some_and(|open| open.task == task))
    }

    pub(super) fn task_state(&mut self, task: usize, state: TaskState) {
        let known = match (state.status, state.inside) {
            ("completed", _) => ("ok", ""),
            ("failed", _) => ("error", "task_failed"),
            ("cancelled", _) => ("cancelled", "cancelled"),
            _ => return,
        };
        let (status, error_type, code) = match (state.status, state.inside) {
            ("cancelled", _) | (_, Inside::Nothing) => (known.0, known.1, None),
            (_, Inside::Result) => (known.0, known.1, None),
            (_, Inside::ToolError) => ("error", "tool_error", None),
            (_, Inside::ToolDenied) => ("denied", "tool_error", None),
            (_, Inside::Error) => ("error", "-5", Some(-5)),
        };
        if state.status == "cancelled" || state.inside != Inside::Nothing {
            let error_type = (!error_type.is_empty()).then(|| error_type.to_owned());
            self.end_task(task, status, error_type, code, state.status != "cancelled");
            return;
        }
        let Some(at) = self.call_of(task) else {
            let error_type = (!error_type.is_empty()).then(|| error_type.to_owned());
            return self.task_of_another_connection(task, status, error_type, false);
        };
        let now = self.now;
        let number = self.open[at].number;
        let task = self.open[at].task.as_mut().unwrap();
        if task.ended.is_none() {
            task.ended = Some((status, error_type, now));
            // Its questions do not count any more.
            let begun = self.open[at].started;
            let asked: Vec<Moment> = self
                .open
                .iter()
                .filter(|open| open.asked_for == Some(number))
                .map(|open| open.started.max(begun))
                .collect();
            self.open[at].waits.extend(asked.into_iter().map(|started| (started, now)));
            self.open
                .iter_mut()
                .filter(|open| open.asked_for == Some(number))
                .for_each(|open| open.asked_for = None);
        }
    }

    pub(super) fn running_calls(&self) -> impl Iterator<Item = &Open> {
        let is_running = |open: &&Open| open.task.is_none_or(|task| task.ended.is_none());
        self.open.iter().filter(|open| open.client && open.ask.method == "tools/call").filter(is_running)
    }

    /// The open questions are those of a new call, if no other call runs.
    pub(super) fn adopt_questions(&mut self, number: usize) {
        if self.running_calls().count() == 1 {
            let is_question =
                |open: &&mut Open| matches!(open.ask.method, "elicitation/create" | "sampling/createMessage");
            self.open.iter_mut().filter(is_question).for_each(|open| open.asked_for = Some(number));
        }
    }

    pub(super) fn end_task(
        &mut self,
        task: usize,
        status: &'static str,
        error_type: Option<String>,
        code: Option<i64>,
        result_seen: bool,
    ) {
        let Some(at) = self.call_of(task) else {
            return self.task_of_another_connection(task, status, error_type, result_seen);
        };
        let open = self.open.remove(at);
        let ended = open.task.and_then(|task| task.ended).map_or(self.now, |(_, _, at)| at);
        let is_cancelled = status == "cancelled";
        self.complete(open, status, error_type, code, is_cancelled, ended);
        self.expected.operations.last_mut().unwrap().result_seen = Some(result_seen);
    }

    /// An outcome of a task that this connection did not begin is reported once, and once more with its result.
    fn task_of_another_connection(
        &mut self,
        task: usize,
        status: &'static str,
        error_type: Option<String>,
        result_seen: bool,
    ) {
        if self.known_tasks.contains(&(task, result_seen)) {
            return;
        }
        self.known_tasks.extend([(task, false), (task, result_seen)]);
        self.expected.outcomes.push(Outcome { status, error_type, result_seen });
    }

    /// Time has passed, and the deadlines were kept.
    pub fn waited(&mut self, now: Moment) {
        self.now = now;
        let limit = self.call_timeout.unwrap_or(Duration::from_secs(30));
        self.settle(|ended| now >= ended.after(limit));
    }

    /// Ends the calls whose tasks have ended without a result.
    pub(super) fn settle(&mut self, is_over: impl Fn(Moment) -> bool) {
        let ended = |open: &Open| open.task?.ended;
        loop {
            let first = self
                .open
                .iter()
                .filter_map(|open| Some((ended(open)?.2, open.number)))
                .min_by_key(|(at, _)| *at);
            let Some((at, number)) = first.filter(|(at, _)| is_over(*at)) else { return };
            let place = self.open.iter().position(|open| open.number == number).unwrap();
            let open = self.open.remove(place);
            let (status, error_type, _) = ended(&open).unwrap();
            let error_type = (!error_type.is_empty()).then(|| error_type.to_owned());
            self.complete(open, status, error_type, None, false, at);
        }
    }
}

/// Returns how long at least one of the intervals lasted.
pub(super) fn union(mut intervals: Vec<(Moment, Moment)>) -> Duration {
    intervals.sort();
    let mut covered = Moment(0);
    intervals.into_iter().fold(Duration::ZERO, |sum, (from, to)| {
        let begin = from.max(covered);
        covered = covered.max(to);
        sum + to.since(begin)
    })
}
