//! Calls that are repeated, and calls that become tasks.

use std::time::Duration;

use serde_json::{Value, json};

use super::{call, count, line, operations, result};
use crate::replay::{CLIENT, Player, SERVER, check_books, settings};

/// Plays calls of tools, each with its answer, and returns the alarms and reports of repeats: count, level, length of
/// the cycle.
fn repeats(calls: impl IntoIterator<Item = (&'static str, Value)>) -> Vec<(u64, String, Option<u64>)> {
    let mut player = Player::new();
    for (id, (tool, answer)) in calls.into_iter().enumerate() {
        player.send(CLIENT, line(json!({"id": id, "method": "tools/call", "params": {"name": tool}})));
        let mut message = json!({"id": id});
        message.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        player.send(SERVER, line(message));
    }
    let records = player.end();
    check_books(&records);
    let reports = records.iter().filter(|record| record["event"] == "agent_thrashing");
    let report = |record: &Value| {
        let level = record["level"].as_str().unwrap().to_owned();
        (record["count"].as_u64().unwrap(), level, record["cycle_length"].as_u64())
    };
    reports.map(report).collect()
}

#[test]
fn repeats_are_an_alarm_without_progress_and_at_four_times_the_threshold() {
    let [info, warn] = ["info", "warn"].map(str::to_owned);
    let same = json!({"result": {"content": []}});
    let no = json!({"error": {"code": 5, "message": "no such branch"}});
    assert_eq!(repeats((0..6).map(|_| ("t", same.clone()))), [(6, warn.clone(), None)]);
    assert_eq!(repeats((0..6).map(|_| ("t", no.clone()))), [(6, warn.clone(), None)]);
    let other = |n: u64| json!({"result": {"n": n}});
    let growing = repeats((0..30).map(|n| ("t", other(n))));
    assert_eq!(growing, [(6, info.clone(), None), (12, info.clone(), None), (24, warn.clone(), None)]);
    let errors = repeats((0..6).map(|n| ("t", json!({"error": {"code": 5, "message": format!("no {n}")}}))));
    assert_eq!(errors, [(6, info.clone(), None)]);
    // A cycle is one repeating call.
    let tools = ["read", "edit", "test", "commit"];
    for length in 2..=4_u64 {
        let cycle = |rounds: u64| (0..rounds * length).map(|n| tools[(n % length) as usize]);
        assert_eq!(repeats(cycle(6).map(|tool| (tool, same.clone()))), [(6, warn.clone(), Some(length))]);
        let answers = cycle(6).enumerate().map(|(n, tool)| (tool, other(n as u64)));
        assert_eq!(repeats(answers), [(6, info.clone(), Some(length))]);
        assert_eq!(repeats(cycle(5).map(|tool| (tool, same.clone()))), []);
    }
}

/// Plays a call that becomes a task, and returns its record.
fn task_call(play: impl FnOnce(&mut Player)) -> Value {
    let mut player = Player::new();
    player.send(CLIENT, call(1));
    player.send(SERVER, line(json!({"id": 1, "result": {"task": {"taskId": "a", "status": "working"}}})));
    play(&mut player);
    let records = player.end();
    check_books(&records);
    operations(&records).into_iter().find(|record| record["request_id"] == "1").unwrap().clone()
}

fn task_is(player: &mut Player, status: &str) {
    let params = json!({"taskId": "a", "status": status});
    player.send(SERVER, line(json!({"method": "notifications/tasks/status", "params": params})));
}

fn task_result(player: &mut Player, answer: Value) {
    player.send(CLIENT, line(json!({"id": "r", "method": "tasks/result", "params": {"taskId": "a"}})));
    let mut message = json!({"id": "r"});
    message.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
    player.send(SERVER, line(message));
}

#[test]
fn a_task_that_fails_an_hour_later_is_an_error_that_lasted_an_hour() {
    let failed = task_call(|player| {
        player.wait(Duration::from_secs(3600));
        task_is(player, "failed");
    });
    assert_eq!((&failed["status"], &failed["task_handle_ms"]), (&json!("error"), &json!(1.0)));
    assert_eq!(failed["duration_ms"], 3_600_002.0);
    let handle_alone = task_call(|_| {});
    assert_eq!(
        (&handle_alone["status"], &handle_alone["error_type"]),
        (&json!("unknown"), &json!("task_open"))
    );
}

#[test]
fn a_call_that_becomes_a_task_lasts_until_its_outcome() {
    let minute = Duration::from_secs(60);
    let failed = json!({"result": {"isError": true, "content": [{"type": "text", "text": "disk full"}]}});
    let result = task_call(|player| {
        player.wait(minute);
        task_result(player, failed.clone());
    });
    assert_eq!((&result["status"], &result["error_message"]), (&json!("error"), &json!("disk full")));
    assert_eq!((&result["task_result_seen"], &result["task_handle_ms"]), (&json!(true), &json!(1.0)));
    assert_eq!(result["duration_ms"], 60_003.0);
    // The result follows after the status: it decides, and the status is the end.
    let late = task_call(|player| {
        task_is(player, "completed");
        player.wait(Duration::from_secs(20));
        task_result(player, failed.clone());
    });
    assert_eq!((&late["status"], &late["duration_ms"]), (&json!("error"), &json!(2.0)));
    let too_late = task_call(|player| {
        task_is(player, "completed");
        player.wait(minute);
        task_result(player, failed);
    });
    assert_eq!((&too_late["status"], &too_late["task_result_seen"]), (&json!("ok"), &json!(false)));
    for (status, expected) in [("failed", "error"), ("cancelled", "cancelled"), ("completed", "ok")] {
        assert_eq!(task_call(|player| task_is(player, status))["status"], expected);
    }
    let open = task_call(|player| {
        task_is(player, "working");
        task_result(player, json!({"error": {"code": -32602, "message": "unknown task"}}));
    });
    assert_eq!((&open["status"], &open["error_type"]), (&json!("unknown"), &json!("task_open")));
}

#[test]
fn the_failure_of_a_task_counts_once_and_a_result_that_is_null_is_none() {
    let failed = json!({"result": {"isError": true, "content": [{"type": "text", "text": "disk full"}]}});
    let denied = json!({"error": {"code": 403, "message": "no"}});
    let unknown = json!({"error": {"code": -32602, "message": "unknown task"}});
    for (answer, errors, denials) in [(failed, 1, 0), (denied, 0, 1), (unknown, 1, 0)] {
        let mut player = Player::new();
        player.send(CLIENT, call(1));
        let handle = json!({"id": 1, "result": {"task": {"taskId": "a", "status": "working"}}});
        player.send(SERVER, line(handle));
        task_result(&mut player, answer.clone());
        let records = player.end();
        check_books(&records);
        let totals = &records.last().unwrap()["totals"];
        assert_eq!([&totals["errors"], &totals["denied"]], [errors, denials], "{answer}");
    }
    let ended = |members: Value| {
        task_call(|player| {
            let mut params = json!({"taskId": "a", "status": "completed"});
            params.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            player.send(SERVER, line(json!({"method": "notifications/tasks/status", "params": params})));
        })
    };
    let done = ended(json!({"result": {"content": []}, "error": null}));
    assert_eq!([&done["status"], &done["task_result_seen"]], [&json!("ok"), &json!(true)]);
    let unseen = ended(json!({"result": null}));
    assert_eq!([&unseen["status"], &unseen["task_result_seen"]], [&json!("ok"), &json!(false)]);
    let invalid = ended(json!({"result": "done"}));
    assert_eq!([&invalid["status"], &invalid["error_type"]], ["error", "invalid_response"]);
}

#[test]
fn a_task_is_neither_slow_nor_late_and_does_not_hold_its_turn_or_its_id() {
    let mut late = settings();
    late.call_timeout = Some(Duration::from_secs(1));
    let mut player = Player::with(late);
    player.send(CLIENT, call(1));
    player.send(
        SERVER,
        line(json!({"id": 1, "result": {"resultType": "task", "taskId": 7, "status": "working"}})),
    );
    player.wait(Duration::from_secs(3600));
    player.send(CLIENT, call(1));
    player.send(SERVER, result(1));
    let inside = json!({"taskId": 7, "status": "completed", "result": {"content": []}});
    player.send(SERVER, line(json!({"method": "notifications/tasks", "params": inside})));
    let records = player.end();
    check_books(&records);
    assert_eq!(count(&records, "call_pending"), 0);
    let ends: Vec<_> =
        operations(&records).iter().map(|record| [&record["status"], &record["turn_id"]]).collect();
    assert_eq!(ends, [["ok", "2"], ["ok", "1"]]);
}

#[test]
fn an_outcome_that_was_seen_stays_if_the_server_uses_the_id_of_the_task_again() {
    let record = task_call(|player| {
        let params = json!({"taskId": "a", "status": "failed", "statusMessage": "no such branch"});
        player.send(SERVER, line(json!({"method": "notifications/tasks/status", "params": params})));
        player.send(CLIENT, call(2));
        player.send(SERVER, line(json!({"id": 2, "result": {"task": {"taskId": "a", "status": "working"}}})));
    });
    assert_eq!((&record["status"], &record["error_message"]), (&json!("error"), &json!("no such branch")));
}

#[test]
fn a_progress_token_that_a_later_call_named_does_not_come_back_to_a_call_that_becomes_a_task() {
    let mut player = Player::new();
    for id in [1, 2] {
        let params = json!({"name": "t", "_meta": {"progressToken": "p"}});
        player.send(CLIENT, line(json!({"id": id, "method": "tools/call", "params": params})));
    }
    player.send(SERVER, result(2));
    player.send(SERVER, line(json!({"id": 1, "result": {"task": {"taskId": "a", "status": "working"}}})));
    let params = json!({"progressToken": "p", "progress": 1});
    player.send(SERVER, line(json!({"method": "notifications/progress", "params": params})));
    let records = player.end();
    let calls = operations(&records);
    assert!(calls.iter().all(|call| call.get("progress_count").is_none()), "{calls:?}");
}

#[test]
fn the_outcome_of_a_task_of_an_earlier_connection_is_one_record_and_one_more_with_its_result() {
    let ended = |play: &dyn Fn(&mut Player)| -> Vec<(Value, Value, Value)> {
        let mut player = Player::new();
        play(&mut player);
        let records = player.end();
        check_books(&records);
        let ended = records.iter().filter(|record| record["event"] == "task_ended");
        let fields = |record: &Value| {
            let get = |name: &str| record[name].clone();
            (get("status"), get("error_message"), get("task_result_seen"))
        };
        ended.map(fields).collect()
    };
    let failed = json!({"result": {"isError": true, "content": [{"type": "text", "text": "disk full"}]}});
    let all = ended(&|player| {
        task_is(player, "working");
        task_is(player, "completed");
        task_is(player, "completed");
        task_result(player, failed.clone());
        task_result(player, failed.clone());
        task_is(player, "completed");
    });
    let (ok, error, no) = (json!("ok"), json!("error"), Value::Null);
    assert_eq!(
        all,
        [(ok.clone(), no.clone(), json!(false)), (error.clone(), json!("disk full"), json!(true))]
    );
    let unknown = json!({"error": {"code": -32602, "message": "unknown task"}});
    assert_eq!(ended(&|player| task_result(player, unknown.clone())), []);
    let params = json!({"taskId": "a", "status": "failed", "statusMessage": "token=ghp_abcdefghijklmnopqrstuvwxyz0123456789"});
    let leak = ended(&|player| {
        player.send(SERVER, line(json!({"method": "notifications/tasks", "params": params})));
    });
    assert!(leak.len() == 1 && !leak[0].1.to_string().contains("ghp_abc"), "{leak:?}");
    // A task of this connection is part of its call.
    let own = ended(&|player| {
        player.send(CLIENT, call(1));
        player.send(SERVER, line(json!({"id": 1, "result": {"task": {"taskId": "a", "status": "working"}}})));
        task_result(player, failed.clone());
        task_is(player, "completed");
        task_result(player, failed.clone());
    });
    assert_eq!(own, []);
}

#[test]
fn a_result_that_is_not_an_object_is_an_invalid_response() {
    for result in ["null", "[]", "\"text\"", "7", "[{\"content\":[]}]"] {
        let mut player = Player::new();
        player.send(CLIENT, call(1));
        player.send(SERVER, format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{result}}}\n"));
        let records = player.end();
        let call = &operations(&records)[0];
        assert_eq!([&call["status"], &call["error_type"]], ["error", "invalid_response"], "{result}");
        assert_eq!(call["result_size_bytes"], result.len(), "{result}");
        assert_eq!(records.last().unwrap()["totals"]["errors"], 1);
    }
}
