//! The records of tool lists: what each tool costs, and what changed.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::replay::{CLIENT, Player, SERVER, check_books};
use crate::support::run::Run;
use crate::support::*;

fn ask(player: &mut Player, id: usize, cursor: Option<&str>) {
    let params = cursor.map_or(json!({}), |cursor| json!({"cursor": cursor}));
    let request = json!({"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": params});
    player.send(CLIENT, format!("{request}\n"));
}

fn answer(id: usize, tools: &[String], next: Option<&str>) -> String {
    let next = next.map(|next| format!(r#","nextCursor":"{next}""#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[{}]{next}}}}}{}"#, tools.join(","), "\n")
}

fn list(player: &mut Player, tools: &[String]) {
    ask(player, 1, None);
    player.send(SERVER, answer(1, tools, None));
}

fn tool(name: &str, description: &str) -> String {
    json!({"name": name, "description": description, "inputSchema": {"type": "object"}}).to_string()
}

/// Returns the records of one event, after checking all of them.
fn of_event(records: &[Value], event: &str) -> Vec<Value> {
    check_books(records);
    records.iter().for_each(|record| drop(validate_line(Path::new("player"), &record.to_string())));
    records.iter().filter(|record| record["event"] == event).cloned().collect()
}

fn sum(records: &[Value]) -> u64 {
    records.iter().map(|record| record["count"].as_u64().unwrap_or(1)).sum()
}

#[test]
fn a_list_is_recorded_once_and_again_when_it_differs() {
    let mut player = Player::new();
    for description in ["one", "one", "two", "two", "one"] {
        list(&mut player, &[tool("a", description), tool("b", "same")]);
    }
    let records = player.end();
    let listed = of_event(&records, "tools_listed");
    let sizes = |record: &Value| {
        record["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["definition_bytes"].clone())
            .collect::<Vec<_>>()
    };
    let size = tool("a", "one").len();
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|record| record["is_complete"] == true && sizes(record) == [size, size + 1]));
    let changed = of_event(&records, "tools_changed");
    let messages: Vec<&Value> = changed.iter().map(|record| &record["message"]).collect();
    assert_eq!(messages, ["description of a changed", "description of a changed"]);
    assert_eq!(changed[0]["changes"], json!([{"tool": "a", "change": "changed", "parts": ["description"]}]));
}

#[test]
fn changes_are_named_by_tool_and_part_those_of_known_tools_first() {
    let mut player = Player::new();
    list(&mut player, &["a", "b", "c", "d", "e"].map(|name| tool(name, "x")));
    list(&mut player, &[tool("e", "x")]);
    let records = player.end();
    let message = &of_event(&records, "tools_changed")[0]["message"];
    assert_eq!(message, "a removed, b removed, c removed, up to 1 more change");
    let mut player = Player::new();
    list(&mut player, &[tool("a", "x"), tool("c", "x"), tool("d", "x")]);
    let a = json!({"name": "a", "title": "t", "description": "y", "inputSchema": {}}).to_string();
    list(&mut player, &[a, tool("b", "new"), tool("e", "new")]);
    let records = player.end();
    let changed = &of_event(&records, "tools_changed")[0];
    assert_eq!(
        changed["message"],
        "title, description and input schema of a changed, c removed, d removed, up to 2 more changes"
    );
    assert_eq!(
        [&changed["added"], &changed["removed"], &changed["changed"]],
        [&json!(["b", "e"]), &json!(["c", "d"]), &json!(["a"])]
    );
}

#[test]
fn a_hundred_tools_take_at_most_sixteen_kib() {
    let mut player = Player::new();
    let tools: Vec<String> =
        (0..100).map(|number| tool(&format!("{number:024}"), &"x".repeat(3000))).collect();
    list(&mut player, &tools);
    let records = player.end();
    let listed = &of_event(&records, "tools_listed")[0];
    assert_eq!(listed["tools"].as_array().unwrap().len(), 100);
    assert!(listed.to_string().len() <= 16 << 10, "{}", listed.to_string().len());
}

/// After 64 records, changes are recorded together every ten minutes and at the end.
#[test]
fn a_server_that_changes_its_list_a_thousand_times_is_counted() {
    let mut player = Player::new();
    for number in 0..=1000 {
        list(
            &mut player,
            &[tool("a", &number.to_string()), tool(if number < 500 { "b" } else { "evil" }, "x")],
        );
        player.sleep(Duration::from_secs(1));
    }
    let records = player.end();
    let (listed, changed) = (of_event(&records, "tools_listed"), of_event(&records, "tools_changed"));
    assert_eq!((sum(&listed), sum(&changed)), (1001, 1000));
    assert!(listed.len() <= 67 && changed.len() <= 67, "{} {}", listed.len(), changed.len());
    // A change that hides among others is named.
    assert!(changed.iter().any(|record| record["added"] == json!(["evil"])), "{changed:?}");
    let last = listed.last().unwrap();
    assert_eq!(
        (&last["tools"][1]["name"], &last["definition_bytes"]),
        (&json!("evil"), &json!(tool("a", "1000").len() + tool("evil", "x").len()))
    );
    assert!(records.iter().map(|record| record.to_string().len()).sum::<usize>() < 1 << 20);
}

/// The first page changes with every third listing, the second one with each.
#[test]
fn pages_of_two_listings_are_never_joined_although_most_listings_are_not_recorded() {
    let mut player = Player::new();
    let listing =
        |number: usize| [("a", number / 3), ("b", number)].map(|(name, size)| tool(name, &"x".repeat(size)));
    for number in 0..=500 {
        let [first, second] = listing(number);
        for (cursor, tool, next) in [(None, first, Some("2")), (Some("2"), second, None)] {
            ask(&mut player, 1, cursor);
            player.send(SERVER, answer(1, &[tool], next));
            player.sleep(Duration::from_secs(7));
        }
    }
    let records = of_event(&player.end(), "tools_listed");
    let listings: Vec<[u64; 2]> =
        (0..=500).map(|number| listing(number).map(|tool| tool.len() as u64)).collect();
    let mut known = Vec::new();
    for record in &records {
        known.truncate(record["page"].as_u64().unwrap_or(1) as usize - 1);
        known.push(record["tools"][0]["definition_bytes"].as_u64().unwrap());
        if record["is_complete"] == true {
            assert!(listings.iter().any(|listing| listing[..] == known), "{record}");
        }
    }
    assert_eq!(known, listings[500]);
    assert!((75..100).contains(&records.len()), "{}", records.len());
}

#[test]
fn a_list_that_changes_and_changes_back_unseen_is_counted() {
    let mut player = Player::new();
    for number in 0..=66 {
        list(&mut player, &[tool("a", if number % 2 == 0 { "x" } else { "y" })]);
    }
    let records = player.end();
    let changed = of_event(&records, "tools_changed");
    let last = changed.last().unwrap();
    assert_eq!(last["message"], "tools changed and changed back, in 2 changes of the list");
    assert_eq!((sum(&changed), last["changes"].as_array().unwrap().len()), (66, 0));
}

#[test]
fn a_hundred_thousand_tools_are_counted_and_five_hundred_named() {
    let mut player = Player::new();
    let tools: Vec<String> = (0..100_000).map(|number| format!(r#"{{"name":"{number}"}}"#)).collect();
    list(&mut player, &tools);
    let mut other = tools.clone();
    other[99_999] = r#"{"name":"99999","x":1}"#.to_owned();
    list(&mut player, &other);
    let records = player.end();
    let listed = of_event(&records, "tools_listed");
    let bytes = |tools: &[String]| tools.iter().map(String::len).sum::<usize>();
    for (record, tools) in listed.iter().zip([&tools, &other]) {
        assert_eq!((&record["tools_total"], &record["unlisted"]), (&json!(100_000), &json!(99_500)));
        assert_eq!(record["definition_bytes"], bytes(tools));
        assert!(record.to_string().len() < 100 << 10);
    }
    let changed = &of_event(&records, "tools_changed")[0];
    assert!(changed["unlisted"].as_u64().is_some_and(|unlisted| unlisted > 90_000), "{changed}");
}

#[test]
fn a_list_that_was_torn_is_not_recorded_and_the_next_one_is() {
    let mut player = Player::new();
    ask(&mut player, 1, None);
    let text = answer(1, &[tool("a", "x")], None);
    player.send(SERVER, &text[..60]);
    player.lose(SERVER, &text[60..]);
    list(&mut player, &[tool("a", "x")]);
    let records = player.end();
    assert_eq!(of_event(&records, "tools_listed").len(), 1);
    assert!(of_event(&records, "tools_changed").is_empty());
}

/// Definitions of ten megabytes and many small ones, through the whole program.
#[cfg(unix)]
#[test]
fn lists_of_any_size_take_limited_memory() {
    let script = r#"read -r line
        printf '{"jsonrpc":"2.0","id":1,"result":{"tools":['
        for name in a b c; do
            printf '{"name":"%s","description":"' $name; head -c 10000000 /dev/zero | tr '\0' x; printf '"},'
        done
        seq 20000 | sed 's/.*/{"name":"&"},/' | tr -d '\n'
        printf '{"name":"last"}]}}\n'; cat"#;
    let home = Home::new();
    let mut session =
        Run::wrapping_script(script).home(&home).options(&["--overload", "wait"]).unhurried().start();
    session.request("tools/list", json!({}));
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", session.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    wait_until("the list in the log", || {
        logs_in(&home.logs())
            .iter()
            .flat_map(|log| validate_torn_log(log))
            .any(|record| record["event"] == "tools_listed")
    });
    // The list alone has 29 MiB. The pages of the binary, which is not optimised in tests, count as well.
    assert!(peak() < 56 << 10, "{} KiB", peak());
    let (status, said) = session.end();
    assert!(status.success(), "{said}");
    let records = home.records();
    let listed = records.iter().find(|record| record["event"] == "tools_listed").unwrap();
    let digits: u64 = (1..=20_000_u64).map(|number| number.to_string().len() as u64).sum();
    let small = 11 * 20_001 + digits + 4;
    assert_eq!(listed["definition_bytes"], small + 3 * (10_000_000 + 29));
    assert_eq!(listed["tools_total"], 20_004);
}

#[cfg(unix)]
#[test]
fn every_view_names_a_change_by_tool_and_part() {
    let home = Home::new();
    let lists = [r#"{"name":"read_file"}"#, r#"{"name":"read_file","description":"x"},{"name":"search"}"#];
    let mut session =
        Run::wrapping_lists(&lists).home(&home).options(&["--server", "files"]).unhurried().start();
    lists.iter().for_each(|_| drop(session.request("tools/list", json!({}))));
    assert!(session.end().0.success());
    let change = "description of read_file changed, search added";
    for view in [&["tail"][..], &["show"], &["sessions"], &["report", "--output", "-"], &["top", "--once"]] {
        let output = home.spantap(view.iter().copied()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(change), "{view:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    let coloured = home.spantap(["tail", "--color", "always"]).output().unwrap();
    let coloured = String::from_utf8(coloured.stdout).unwrap();
    let line = coloured.lines().find(|line| line.contains(change)).unwrap();
    assert!(line.contains(&format!("\u{1b}[33m{change}")), "{line:?}");
    let json = home.spantap(["sessions", "--json"]).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&json.stdout).unwrap()["tool_changes"], 1);
}

#[test]
fn a_definition_with_other_spaces_is_recorded_with_its_length_and_is_no_change() {
    let lengths = |records: &[Value]| -> Vec<u64> {
        let listed = of_event(records, "tools_listed");
        listed.iter().map(|record| record["tools"][0]["definition_bytes"].as_u64().unwrap()).collect()
    };
    let tools = [r#"{"name":"a"}"#, r#"{ "name": "a" }"#];
    let mut player = Player::new();
    for tool in tools {
        ask(&mut player, 1, None);
        player.send(SERVER, answer(1, &[tool.to_owned()], None));
    }
    let records = player.end();
    assert_eq!(lengths(&records), tools.map(|tool| tool.len() as u64));
    assert!(of_event(&records, "tools_changed").is_empty());
}

/// Names and texts that servers of all kinds send.
fn hostile_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]",
        Just("\u{202e}evil\u{7}".to_owned()),
        Just("x".repeat(5000)),
        Just(String::new()),
        Just("password=hunter2hunter2".to_owned()),
        "\\PC{0,9}",
    ]
}

fn definition() -> impl Strategy<Value = String> {
    (hostile_name(), 0..3_u8, any::<bool>()).prop_map(|(name, version, is_spaced)| {
        let tool =
            json!({"name": name, "description": "d".repeat(version.into()), "outputSchema": [version]});
        if is_spaced { format!("{tool:#}").replace('\n', " ") } else { tool.to_string() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A record with `page` replaces that page of the listing and all later ones; a record without it, all.
    #[test]
    fn a_reader_of_the_records_has_the_tools_of_the_server(
        listings in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(definition(), 0..4), 1..4), 1..6)
    ) {
        let mut player = Player::new();
        let mut sent = Vec::new();
        for (number, pages) in listings.iter().enumerate() {
            for (page, tools) in pages.iter().enumerate() {
                let cursor = |page: usize| format!("{number}/{page}");
                ask(&mut player, 1, (page > 0).then(|| cursor(page)).as_deref());
                player.send(SERVER, answer(1, tools, (page + 1 < pages.len()).then(|| cursor(page + 1)).as_deref()));
                sent.push((page, page + 1 == pages.len(), tools));
            }
        }
        let records = player.end();
        let mut known: Vec<Vec<u64>> = Vec::new();
        let mut answers = sent.into_iter();
        let mut answer = answers.next();
        drop(of_event(&records, "tools_listed"));
        for record in records {
            if record["event"] == "mcp_request" {
                answer = answers.next();
            }
            if record["event"] != "tools_listed" {
                continue;
            }
            let (page, is_last, tools) = answer.unwrap();
            prop_assert_eq!(record["page"].as_u64().unwrap_or(1), page as u64 + 1);
            let listed = record["tools"].as_array().unwrap();
            let sizes: Vec<u64> = listed.iter().map(|tool| tool["definition_bytes"].as_u64().unwrap()).collect();
            prop_assert_eq!(&sizes, &tools.iter().map(|tool| tool.len() as u64).collect::<Vec<_>>());
            for (listed, tool) in listed.iter().zip(tools) {
                let tool: Value = serde_json::from_str(tool).unwrap();
                prop_assert_eq!(&listed["description_bytes"], &json!(tool["description"].to_string().len()));
                let name = listed["name"].as_str().unwrap();
                prop_assert!(!name.contains("hunter2") && !name.contains(char::is_control) && name.chars().count() < 200);
            }
            known.truncate(page);
            known.push(sizes);
            prop_assert_eq!(&record["is_complete"], is_last);
        }
        let last: Vec<Vec<u64>> = listings.last().unwrap().iter().map(|page| page.iter().map(|tool| tool.len() as u64).collect()).collect();
        prop_assert_eq!(known, last);
    }
}
