//! The operations of records, and their comparison with the expected ones.

use serde_json::Value;

use super::peers::KnownPeers;
use super::{Expected, Operation, Outcome, Totals};
use crate::model::{CLIENTS, SERVERS, VERSIONS};
use crate::replay::is_operation;

const STATUSES: [&str; 6] = ["ok", "error", "denied", "timeout", "cancelled", "unknown"];

fn of<'r>(records: &'r [Value], event: &str) -> impl Iterator<Item = &'r Value> {
    records.iter().filter(move |record| record["event"] == event)
}

impl Expected {
    /// # Panics
    /// If the records differ.
    #[track_caller]
    pub fn compare(&self, records: &[Value]) {
        let found = Operation::all(records);
        for (number, (found, expected)) in found.iter().zip(&self.operations).enumerate() {
            assert_eq!(found, expected, "operation {number}");
        }
        assert_eq!(found.len(), self.operations.len(), "{found:#?}");
        let known = |name: &Value, names: [&'static str; 2]| names.into_iter().find(|known| name == known);
        let found: Vec<Outcome> = of(records, "task_ended")
            .map(|record| Outcome {
                status: STATUSES.into_iter().find(|status| record["status"] == *status).unwrap(),
                error_type: record["error_type"].as_str().map(str::to_owned),
                result_seen: record["task_result_seen"].as_bool().unwrap(),
            })
            .collect();
        assert_eq!(found, self.outcomes);
        let found: Vec<KnownPeers> = of(records, "peer_identified")
            .map(|record| KnownPeers {
                client: known(&record["client_name"], CLIENTS),
                server: known(&record["server_self_name"], SERVERS),
                version: known(&record["protocol_version"], VERSIONS),
            })
            .collect();
        assert_eq!(found, self.peers);
        let totals = &records.last().unwrap()["totals"];
        let total = |name: &str| totals[name].as_u64().unwrap();
        let found = Totals {
            tool_calls: total("tool_calls"),
            other_requests: total("other_requests"),
            errors: total("errors"),
            denied: total("denied"),
            notifications: total("notifications"),
            malformed: total("malformed"),
            unmatched: total("unmatched"),
            stdin_frames: total("stdin_frames"),
            stdout_frames: total("stdout_frames"),
            frames_lost: total("frames_lost"),
            stdin_bytes: total("stdin_bytes"),
            stdout_bytes: total("stdout_bytes"),
            bytes_lost: total("bytes_lost"),
        };
        assert_eq!(found, self.totals);
    }
}

impl Operation {
    fn all(records: &[Value]) -> Vec<Operation> {
        let records: Vec<&Value> = records.iter().filter(|record| is_operation(record)).collect();
        let place = |seq: &Value| records.iter().position(|record| record["seq"] == *seq).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let one = |record: &&Value| Operation {
            client: record["direction"] == "client_to_server",
            id: text(&record["request_id"]).unwrap(),
            method: text(&record["method"]).unwrap(),
            target: ["tool_name", "prompt_name", "resource_uri"].iter().find_map(|name| text(&record[name])),
            status: STATUSES.into_iter().find(|status| record["status"] == *status).unwrap(),
            error_type: text(&record["error_type"]),
            error_code: record["error_code"].as_i64(),
            milliseconds: record["duration_ms"].as_f64().unwrap() as u64,
            progress: record["progress_count"].as_u64(),
            user_wait: record["user_wait_ms"].as_f64().map(|ms| ms as u64),
            cancelled: record["cancelled_at"].is_string(),
            repeat_count: record["repeat_count"].as_u64(),
            continues: record.get("continues_seq").map(place),
            answer_id: text(&record["answer_id"]),
            turn: text(&record["turn_id"]),
            handle: record["task_handle_ms"].as_f64().map(|ms| ms as u64),
            result_seen: record["task_result_seen"].as_bool(),
            version: VERSIONS.into_iter().find(|version| record["protocol_version"] == *version),
        };
        records.iter().map(one).collect()
    }
}
