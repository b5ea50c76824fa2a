//! Errors, and errors that are refusals.

use serde_json::json;

use super::{call, line, operations};
use crate::replay::{CLIENT, Player, SERVER};

#[test]
fn a_failure_of_the_host_is_no_error_of_the_server() {
    let mut player = Player::new();
    for (id, error) in
        [("a", json!({"code": -32601, "message": "no"})), ("b", json!({"code": -1, "message": "no"}))]
    {
        player.send(SERVER, line(json!({"id": id, "method": "sampling/createMessage"})));
        player.send(CLIENT, line(json!({"id": id, "error": error})));
    }
    let totals = &player.end().last().unwrap()["totals"].clone();
    assert_eq!((&totals["errors"], &totals["denied"]), (&json!(0), &json!(0)));
}

#[test]
fn the_code_of_a_refused_sampling_is_an_error_of_any_other_request() {
    let mut player = Player::new();
    let error = json!({"code": -1, "message": "NullPointerException"});
    player.send(CLIENT, call(1));
    player.send(SERVER, line(json!({"id": 1, "error": error})));
    player.send(SERVER, line(json!({"id": "s", "method": "sampling/createMessage"})));
    player.send(CLIENT, line(json!({"id": "s", "error": error})));
    let statuses =
        operations(&player.end()).iter().map(|record| record["status"].clone()).collect::<Vec<_>>();
    assert_eq!(statuses, ["error", "denied"]);
}
