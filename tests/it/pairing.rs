//! Every observed request ends in exactly one operation, whatever else is sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use spantap::relay::chunk::Moment;

use crate::model;
use crate::replay::{CLIENT, Player, SERVER, check_books, is_operation, settings};
use crate::support::validate_line;

mod refusals;
mod repeats_and_tasks;

fn line(message: Value) -> String {
    format!("{message}\n")
}

fn call(id: impl Into<Value>) -> String {
    line(json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": "t"}}))
}

fn result(id: impl Into<Value>) -> String {
    line(json!({"jsonrpc": "2.0", "id": id.into(), "result": {}}))
}

fn operations(records: &[Value]) -> Vec<&Value> {
    records.iter().filter(|record| is_operation(record)).collect()
}

fn count(records: &[Value], event: &str) -> usize {
    records.iter().filter(|record| record["event"] == event).count()
}

/// Checks that the next plain call is observed, whatever came before it.
fn plain_call_is_seen(mut player: Player) -> Vec<Value> {
    player.send(CLIENT, call("plain"));
    player.send(SERVER, result("plain"));
    let records = player.end();
    check_books(&records);
    let seen = operations(&records);
    assert!(seen.iter().any(|record| record["request_id"] == "\"plain\"" && record["status"] == "ok"));
    records
}

#[test]
fn an_error_that_is_null_beside_a_result_is_none() {
    for (answer, status) in [
        (json!({"jsonrpc": "2.0", "id": 1, "result": {}, "error": null}), "ok"),
        (json!({"jsonrpc": "2.0", "id": 1, "error": null, "result": {}}), "ok"),
        (json!({"jsonrpc": "2.0", "id": 1, "error": null}), "error"),
        (json!({"jsonrpc": "2.0", "id": 1, "result": null, "error": {"code": 1, "message": "no"}}), "error"),
        (json!({"jsonrpc": "2.0", "id": 1, "result": null, "error": null}), "error"),
    ] {
        let mut player = Player::new();
        player.send(CLIENT, call(1));
        player.send(SERVER, line(answer.clone()));
        assert_eq!(operations(&player.end())[0]["status"], status, "{answer}");
    }
}

#[test]
fn an_answer_in_another_spelling_is_the_answer_and_the_record_has_its_id() {
    for (asked, answered) in
        [("0", "\"0\""), ("1", "1.0"), ("2", "2e0"), ("\"4\"", "4"), ("1e1", "10"), ("-3", "\"-3\"")]
    {
        let mut player = Player::new();
        player.send(
            CLIENT,
            format!("{{\"id\":{asked},\"method\":\"tools/call\",\"params\":{{\"name\":\"t\"}}}}\n"),
        );
        player.send(SERVER, format!("{{\"id\":{answered},\"result\":{{}}}}\n"));
        let records = player.end();
        check_books(&records);
        let call = operations(&records)[0];
        assert_eq!((&call["status"], &call["answer_id"]), (&json!("ok"), &json!(answered)), "{asked}");
        assert_eq!(records.last().unwrap()["totals"]["unmatched"], 0);
    }
}

#[test]
fn an_exact_id_comes_before_one_of_equal_value_and_two_of_equal_value_are_not_guessed_between() {
    let mut player = Player::new();
    for id in [json!(1), json!("1")] {
        player.send(CLIENT, call(id));
    }
    player.send(SERVER, "{\"id\":1.0,\"result\":{}}\n");
    player.send(SERVER, "{\"id\":\"1\",\"error\":{\"code\":5,\"message\":\"broken\"}}\n");
    player.send(SERVER, "{\"id\":1.0,\"result\":{}}\n");
    let records = player.end();
    let ends: Vec<_> = operations(&records)
        .iter()
        .map(|record| (record["request_id"].clone(), record["status"].clone()))
        .collect();
    assert_eq!(ends, [(json!("\"1\""), json!("error")), (json!("1"), json!("ok"))]);
    assert_eq!(records.last().unwrap()["totals"]["unmatched"], 1);
}

#[test]
fn a_method_or_an_id_that_is_null_counts_as_absent() {
    let mut player = Player::new();
    player.send(CLIENT, call(1));
    player.send(SERVER, "{\"id\":1,\"method\":null,\"result\":{}}\n");
    player.send(CLIENT, "{\"id\":null,\"method\":\"notifications/initialized\"}\n");
    let records = player.end();
    check_books(&records);
    assert_eq!(operations(&records).len(), 1);
    assert_eq!(operations(&records)[0]["status"], "ok");
    assert_eq!(records.last().unwrap()["totals"]["notifications"], 1);
}

#[test]
fn a_cancelled_id_that_is_used_again_is_remembered_from_its_last_cancellation() {
    let mut player = Player::new();
    let cancel = |id: u64| line(json!({"method": "notifications/cancelled", "params": {"requestId": id}}));
    let cancelled = |player: &mut Player, id: u64| {
        player.send(CLIENT, call(id));
        player.send(CLIENT, cancel(id));
    };
    cancelled(&mut player, 7);
    player.send(SERVER, result(7));
    cancelled(&mut player, 7);
    // All but one of the places are taken by others.
    (1000..2023).for_each(|id| cancelled(&mut player, id));
    player.send(SERVER, result(7));
    let records = player.end();
    assert_eq!(records.last().unwrap()["totals"]["unmatched"], 0);
}

#[test]
fn the_memory_of_open_requests_is_bounded_by_bytes() {
    let mut player = Player::new();
    for id in 0..8_192 {
        let token = format!("{id:01000}");
        let params = json!({"name": "t", "_meta": {"progressToken": token}});
        player.send(CLIENT, line(json!({"id": id, "method": "tools/call", "params": params})));
    }
    let records = plain_call_is_seen(player);
    let evicted = records.iter().filter(|record| record["error_type"] == "evicted").count();
    assert!((1_800..5_800).contains(&evicted), "{evicted}");
}

#[test]
fn a_progress_token_that_is_too_long_counts_as_absent() {
    let mut player = Player::new();
    // Together half as large again as the bound of the texts of open requests.
    for id in 0..4_096 {
        let params = json!({"name": "t", "_meta": {"progressToken": "t".repeat(3_000)}});
        player.send(CLIENT, line(json!({"id": id, "method": "tools/call", "params": params})));
    }
    let records = player.end();
    assert!(records.iter().all(|record| record["error_type"] != "evicted"));
}

#[test]
fn turns_that_are_mixed_count_once_each_and_greetings_not() {
    let mut player = Player::new();
    player.send(CLIENT, line(json!({"id": 0, "method": "initialize"})));
    player.send(SERVER, result(0));
    for id in 1..9 {
        let meta = json!({"threadId": format!("c{}", id % 2), "turnId": format!("t{}", id % 2)});
        let params = json!({"name": "t", "_meta": meta});
        player.send(CLIENT, line(json!({"id": id, "method": "tools/call", "params": params})));
        player.send(SERVER, result(id));
    }
    assert_eq!(player.end().last().unwrap()["totals"]["turns"], 2);
}

/// Plays a call with questions to a person, and returns its record.
fn call_with_questions(play: impl FnOnce(&mut Player)) -> Value {
    let mut player = Player::new();
    player.send(CLIENT, call(1));
    play(&mut player);
    let records = player.end();
    check_books(&records);
    operations(&records).into_iter().find(|record| record["request_id"] == "1").unwrap().clone()
}

fn question(id: &str) -> String {
    line(json!({"id": id, "method": "elicitation/create", "params": {"message": "?"}}))
}

fn person_says(id: &str, action: &str) -> String {
    line(json!({"id": id, "result": {"action": action}}))
}

#[test]
fn the_time_of_a_person_is_the_union_of_the_questions_within_the_call() {
    let second = Duration::from_secs(1);
    let overlapping = call_with_questions(|player| {
        ["a", "b", "c"].iter().for_each(|id| player.send_now(SERVER, question(id)));
        player.wait(second);
        ["a", "b", "c"].iter().for_each(|id| player.send_now(CLIENT, person_says(id, "accept")));
        player.send(SERVER, result(1));
    });
    assert_eq!(overlapping["user_wait_ms"], 1000.0);
    let withdrawn = call_with_questions(|player| {
        player.send_now(SERVER, question("a"));
        player.wait(second);
        player.send_now(
            SERVER,
            line(json!({"method": "notifications/cancelled", "params": {"requestId": "a"}})),
        );
        player.wait(second);
        player.send(SERVER, result(1));
    });
    assert_eq!(withdrawn["user_wait_ms"], 1000.0);
    let outlived = call_with_questions(|player| {
        player.send_now(SERVER, question("a"));
        player.wait(second);
        player.send_now(SERVER, result(1));
        player.wait(second);
        player.send(CLIENT, person_says("a", "accept"));
    });
    assert_eq!(outlived["user_wait_ms"], 1000.0);
}

#[test]
fn a_question_that_was_open_before_the_call_counts_from_the_call_on() {
    let mut player = Player::new();
    player.send_now(SERVER, question("q"));
    player.wait(Duration::from_secs(5));
    for id in [1, 2] {
        player.send_now(CLIENT, call(id));
        player.wait(Duration::from_secs(2));
        player.send_now(SERVER, result(id));
        player.wait(Duration::from_secs(1));
    }
    player.send_now(CLIENT, call(3));
    player.wait(Duration::from_secs(1));
    player.send_now(CLIENT, person_says("q", "accept"));
    player.wait(Duration::from_secs(1));
    player.send_now(SERVER, result(3));
    let records = player.end();
    check_books(&records);
    let calls = operations(&records).into_iter().filter(|record| record["event"] == "mcp_tool_call");
    let waits: Vec<&Value> = calls.map(|call| &call["user_wait_ms"]).collect();
    assert_eq!(waits, [&json!(2000.0), &json!(2000.0), &json!(1000.0)]);
}

#[test]
fn the_last_answer_of_a_person_decides_whether_a_failed_call_was_denied() {
    for (answers, status) in [
        (&["decline"][..], "denied"),
        (&["decline", "accept"], "error"),
        (&["accept", "decline"], "denied"),
        (&["cancel"], "error"),
        (&["decline", "cancel"], "denied"),
    ] {
        let call = call_with_questions(|player| {
            for answer in answers {
                player.send(SERVER, question("q"));
                player.send(CLIENT, person_says("q", answer));
            }
            player.send(SERVER, line(json!({"id": 1, "error": {"code": 5, "message": "disk full"}})));
        });
        assert_eq!(call["status"], status, "{answers:?}");
    }
}

#[test]
fn a_question_that_is_closed_without_an_answer_is_not_refused() {
    let mut player = Player::new();
    player.send(SERVER, question("q"));
    player.send(CLIENT, person_says("q", "cancel"));
    player.send(CLIENT, call(1));
    let message = "authorization required: unauthorized";
    player.send(SERVER, line(json!({"id": 1, "error": {"code": -32042, "message": message}})));
    let records = player.end();
    let ends: Vec<_> =
        operations(&records).iter().map(|record| [&record["status"], &record["error_type"]]).collect();
    assert_eq!(ends, [["cancelled", "dismissed"], ["error", "-32042"]]);
}

#[test]
fn junk_is_counted_and_told_at_each_doubling_only() {
    let mut player = Player::new();
    for number in 0..1000 {
        player.send(SERVER, format!("log line {number}\n"));
    }
    let records = plain_call_is_seen(player);
    assert_eq!(records.last().unwrap()["totals"]["malformed"], 1000);
    assert!(count(&records, "malformed") <= 12);
}

#[test]
fn any_nesting_is_survived_on_a_small_stack() {
    let play = || {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let mut player = Player::new();
            let deep = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
            player.send(CLIENT, format!("{deep}\n"));
            for place in ["arguments", "_meta", "name", "uri", "clientInfo"] {
                let head = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"#;
                player.send(CLIENT, format!("{head}\"{place}\":{deep}}}}}\n"));
            }
            for place in ["content", "tools", "_meta", "task", "inputRequests"] {
                player.send(CLIENT, call(place));
                player.send(SERVER, format!("{{\"id\":\"{place}\",\"result\":{{\"{place}\":{deep}}}}}\n"));
            }
            plain_call_is_seen(player);
        }
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(play).unwrap().join().unwrap();
}

/// A server's request costs it twenty bytes, and a record is thirty times as long.
#[test]
fn a_flood_of_requests_of_the_server_is_counted_and_hides_no_call() {
    let asks = |id: u32| line(json!({"id": id, "method": "a"}));
    let cancels = |id: u32| line(json!({"method": "notifications/cancelled", "params": {"requestId": id}}));
    let refusal = |id: u32| json!({"id": id, "error": {"code": id, "message": "no"}});
    type Flood<'a> = &'a dyn Fn(&mut Player, u32);
    let floods: [(&str, Flood<'_>); 5] = [
        ("new ids", &|player, id| player.send(SERVER, asks(id))),
        ("one id", &|player, _| player.send(SERVER, asks(1))),
        ("cancelled", &|player, id| player.send(SERVER, [asks(id), cancels(id)].concat())),
        ("answered", &|player, id| {
            player.send(SERVER, asks(id));
            player.send(CLIENT, result(id));
        }),
        ("refused", &|player, id| {
            player.send(SERVER, asks(id));
            player.send(CLIENT, line(refusal(id)));
        }),
    ];
    for (name, flood) in floods {
        let mut player = Player::new();
        player.send(CLIENT, call(7));
        (100..20_100).for_each(|id| flood(&mut player, id));
        player.wait(Duration::from_secs(3600));
        let records = plain_call_is_seen(player);
        check_books(&records);
        let is_of_flood = |record: &&Value| record["method"] == "a" && record["event"] == "mcp_request";
        let of_flood: Vec<&Value> = records.iter().filter(is_of_flood).collect();
        let sum: u64 = of_flood.iter().map(|record| record["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(sum, 20_000, "{name}");
        // Evicted ones and unanswered ones are two kinds, and each may be reported as pending twice.
        assert!(records.len() < 3_200, "{name}: {}", records.len());
        let is_call = |record: &&&Value| record["event"] == "mcp_tool_call" && record["request_id"] == "7";
        assert_eq!(operations(&records).iter().filter(is_call).count(), 1);
    }
}

#[test]
fn an_answered_question_is_always_recorded() {
    let mut player = Player::new();
    for id in 0..3000 {
        player.send(SERVER, line(json!({"id": id, "method": "elicitation/create"})));
        player.send(CLIENT, line(json!({"id": id, "result": {"action": "accept"}})));
    }
    let records = player.end();
    assert_eq!(operations(&records).len(), 3000);
}

#[test]
fn the_oldest_of_too_many_open_requests_is_given_up_as_unknown() {
    let mut player = Player::new();
    for id in 0..17_000 {
        player.send(CLIENT, call(id));
    }
    let records = plain_call_is_seen(player);
    let evicted: Vec<&Value> = records.iter().filter(|record| record["error_type"] == "evicted").collect();
    assert_eq!(evicted.len(), 17_001 - 16_384);
    assert!(evicted.iter().all(|record| record["status"] == "unknown"));
    assert_eq!(operations(&records).len(), 17_001);
}

#[test]
fn of_many_requests_whose_answers_may_be_lost_the_oldest_are_given_up() {
    let mut player = Player::new();
    for id in 0..5_000 {
        player.send(CLIENT, call(id));
    }
    player.lose(SERVER, result(0));
    for id in 5_000..10_000 {
        player.send(CLIENT, call(id));
    }
    // More requests may be open that began after the loss.
    (5_000..10_000).for_each(|id| player.send(SERVER, result(id)));
    let records = plain_call_is_seen(player);
    let lost: Vec<&Value> = records.iter().filter(|record| record["error_type"] == "gap").collect();
    assert_eq!(lost.len(), 5_000);
    assert!(lost.iter().all(|record| record["status"] == "unknown"));
    assert_eq!(operations(&records).iter().filter(|record| record["status"] == "ok").count(), 5_001);
}

#[test]
fn floods_of_progress_and_cancellation_for_nobody_leave_few_records() {
    let mut player = Player::new();
    for number in 0..5_000 {
        let progress = json!({"progressToken": number, "progress": 1});
        player.send(SERVER, line(json!({"method": "notifications/progress", "params": progress})));
        let cancel = json!({"requestId": number});
        player.send(CLIENT, line(json!({"method": "notifications/cancelled", "params": cancel})));
    }
    let records = plain_call_is_seen(player);
    assert!(records.len() < 30, "{}", records.len());
    assert_eq!(records.last().unwrap()["totals"]["unmatched"], 5_000);
}

#[test]
fn messages_for_no_open_request_are_counted_by_direction_and_kind() {
    let mut player = Player::new();
    let cancel = |id: u64| line(json!({"method": "notifications/cancelled", "params": {"requestId": id}}));
    (1..=5).for_each(|id| player.send(CLIENT, cancel(id)));
    (1..=3).for_each(|id| player.send(SERVER, result(id)));
    let mut counts = BTreeMap::new();
    for record in player.end().iter().filter(|record| record["event"] == "unmatched") {
        let kind = ["direction", "what"].map(|field| record[field].as_str().unwrap().to_owned());
        *counts.entry(kind.join(" ")).or_insert(0) += record["count"].as_u64().unwrap();
    }
    let expected = [("client_to_server cancellation", 5), ("server_to_client response", 3)];
    assert_eq!(counts, expected.map(|(kind, count)| (kind.to_owned(), count)).into());
}

#[test]
fn cancellations_after_the_answers_are_harmless_records_and_those_of_unknown_requests_warnings() {
    let mut player = Player::new();
    let cancel = |id: Value| line(json!({"method": "notifications/cancelled", "params": {"requestId": id}}));
    for id in 1..=5 {
        player.send(CLIENT, call(id));
        player.send(SERVER, result(id));
        player.send(CLIENT, cancel(id.into()));
    }
    // The text is another id than the number, and the server's ids are not the client's.
    player.send(CLIENT, cancel("1".into()));
    player.send(SERVER, cancel(1.into()));
    // A process that is killed does not write its last records: the others have most of the number.
    let records = player.end();
    let unmatched: Vec<[&Value; 4]> = records
        .iter()
        .filter(|record| record["event"] == "unmatched")
        .map(|record| ["level", "direction", "what", "count"].map(|field| &record[field]))
        .collect();
    let expected = [
        ("info", "client_to_server", "late_cancellation", 1),
        ("info", "client_to_server", "late_cancellation", 1),
        ("info", "client_to_server", "late_cancellation", 2),
        ("warn", "client_to_server", "cancellation", 1),
        ("warn", "server_to_client", "cancellation", 1),
        ("info", "client_to_server", "late_cancellation", 1),
    ];
    let expected = expected.map(|(level, direction, what, count)| {
        [Value::from(level), Value::from(direction), Value::from(what), Value::from(count)]
    });
    assert_eq!(unmatched, expected.each_ref().map(|fields| fields.each_ref()));
    assert_eq!(records.last().unwrap()["totals"]["unmatched"], 7);
}

#[test]
fn each_element_of_a_huge_batch_is_an_operation() {
    let mut player = Player::new();
    let elements = |of: fn(Value) -> String| {
        let elements: Vec<String> = (0..3_000).map(|id| of(json!(id)).trim_end().to_owned()).collect();
        format!("[{}]\n", elements.join(","))
    };
    player.send(CLIENT, elements(call));
    player.send(SERVER, elements(result));
    let records = plain_call_is_seen(player);
    assert_eq!(operations(&records).len(), 3_001);
    assert!(operations(&records).iter().all(|record| record["status"] == "ok"));
}

#[test]
fn a_clock_that_runs_backwards_gives_no_negative_time_and_a_sleep_a_long_one() {
    let mut player = Player::new();
    player.sleep(Duration::from_secs(100));
    player.send(CLIENT, call(1));
    player.back_to(Moment(0));
    player.send(SERVER, result(1));
    player.send(CLIENT, call(2));
    player.sleep(Duration::from_secs(8 * 3600));
    player.send(SERVER, result(2));
    let records = plain_call_is_seen(player);
    let durations: Vec<f64> =
        operations(&records).iter().map(|record| record["duration_ms"].as_f64().unwrap()).collect();
    assert_eq!(durations[0], 0.0);
    assert!(durations[1] >= 8.0 * 3_600_000.0);
}

#[test]
fn text_from_outside_cannot_forge_a_line() {
    let evil = "x\n{\"event\":\"session_ended\"}\r\u{2028}\u{85}\u{1b}[2J\u{0}\u{202e}\"";
    let mut player = Player::new();
    let params = json!({"name": evil, "_meta": {"threadId": evil, "turnId": evil}});
    player.send(CLIENT, line(json!({"jsonrpc": evil, "id": evil, "method": "tools/call", "params": params})));
    let error = json!({"code": 1, "message": evil});
    player.send(SERVER, line(json!({"id": evil, "error": error})));
    for record in plain_call_is_seen(player) {
        for text in record.as_object().unwrap().values().filter_map(Value::as_str) {
            for forged in ['\n', '\r', '\u{2028}', '\u{85}', '\u{1b}', '\u{0}', '\u{202e}'] {
                assert!(!text.contains(forged), "{text:?}");
            }
        }
    }
}

#[test]
fn an_answer_that_was_not_observed_is_never_called_late() {
    let mut late = settings();
    late.call_timeout = Some(Duration::from_secs(1));
    let mut player = Player::with(late);
    player.send(CLIENT, call(1));
    player.lose(SERVER, result(1));
    player.send(CLIENT, line(json!({"id": "s", "method": "subscriptions/listen"})));
    player.send(CLIENT, call(2));
    player.wait(Duration::from_secs(60));
    player.send(SERVER, result(2));
    player.send(SERVER, result("s"));
    let records = player.end();
    check_books(&records);
    let status: BTreeMap<&str, &str> = operations(&records)
        .iter()
        .map(|record| (record["request_id"].as_str().unwrap(), record["status"].as_str().unwrap()))
        .collect();
    assert_eq!(status, BTreeMap::from([("1", "unknown"), ("2", "timeout"), ("\"s\"", "ok")]));
}

#[test]
fn a_progress_token_is_the_same_however_it_is_escaped() {
    let mut player = Player::new();
    let asks = r#"{"id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":"é/"}}}"#;
    player.send(CLIENT, format!("{asks}\n"));
    for token in [r#""\u00e9/""#, r#""é\/""#, r#""é""#] {
        let params = format!(r#"{{"progressToken":{token},"progress":1}}"#);
        player.send(SERVER, format!("{{\"method\":\"notifications/progress\",\"params\":{params}}}\n"));
    }
    player.send(SERVER, result(1));
    let records = plain_call_is_seen(player);
    assert_eq!(operations(&records)[0]["progress_count"], 2);
}

#[test]
fn a_subscription_does_not_hold_the_turn() {
    let mut player = Player::new();
    player.send(CLIENT, line(json!({"id": "s", "method": "subscriptions/listen"})));
    for id in 1..4 {
        player.send(CLIENT, call(id));
        player.send(SERVER, result(id));
        player.wait(Duration::from_secs(20));
    }
    let records = player.end();
    assert_eq!(records.last().unwrap()["totals"]["turns"], 3);
}

#[test]
fn the_rounds_of_one_call_are_not_calls_made_again() {
    let mut player = Player::new();
    for round in 0..10 {
        let params = json!({"name": "t", "arguments": {}, "requestState": "s", "inputResponses": {}});
        player.send(CLIENT, line(json!({"id": round, "method": "tools/call", "params": params})));
        let asks = json!({"resultType": "input_required", "requestState": "s", "inputRequests": {}});
        player.send(SERVER, line(json!({"id": round, "result": asks})));
    }
    let records = plain_call_is_seen(player);
    assert_eq!(count(&records, "agent_thrashing"), 0);
    let rounds = operations(&records);
    for (before, after) in rounds[..10].iter().zip(&rounds[1..10]) {
        assert_eq!(after["continues_seq"], before["seq"]);
        assert_eq!(after.get("repeat_count"), None);
    }
}

#[test]
fn of_two_params_the_last_one_counts_however_long_the_first() {
    let mut player = Player::new();
    let long = "x".repeat(300 << 10);
    let before = format!("{{\"name\":\"t\",\"arguments\":{{\"a\":\"{long}\"}}}}");
    player.send(
        CLIENT,
        format!("{{\"id\":1,\"method\":\"tools/call\",\"params\":{before},\"params\":{{\"name\":\"t\"}}}}\n"),
    );
    player.send(SERVER, result(1));
    let records = plain_call_is_seen(player);
    let calls = operations(&records);
    assert_eq!(calls[0]["args_hash"], calls[1]["args_hash"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_conversation_in_any_pieces_with_any_loss_gives_the_operations_of_the_model(
        decisions in prop::collection::vec(any::<u8>(), 0..2400),
    ) {
        let records = model::check(&decisions);
        if decisions.len() % 16 == 0 {
            for record in &records {
                validate_line(Path::new("a random conversation"), &record.to_string());
            }
        }
    }
}
