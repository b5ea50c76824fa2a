use super::*;
use crate::observe::canonical::{Hash, HashKey};
use proptest::prelude::*;

/// The members of one message and their raw JSON.
type Members = Vec<(Member, Vec<u8>)>;

const KEY: HashKey = HashKey::Keyed([7; 32]);

/// Scans a line in pieces cut at `cuts`. Returns its kind, and the members and result hash of each message.
fn scan(line: &[u8], cuts: &[usize]) -> (LineKind, Vec<Members>, Vec<Option<Hash>>) {
    let mut scanner = Scanner::new(Hashing::new(&KEY));
    let (mut found, mut hashes) = (Vec::new(), Vec::new());
    let mut each = |envelope: &Envelope| {
        let members = MEMBERS
            .iter()
            .filter_map(|(member, ..)| envelope.raw(*member).map(|raw| (*member, raw.to_vec())));
        found.push(members.collect());
        hashes.push(envelope.result_hash);
    };
    let mut from = 0;
    for cut in cuts.iter().copied().chain([line.len()]) {
        scanner.feed(&line[from..cut.max(from)], &mut each);
        from = cut.max(from);
    }
    let kind = scanner.end(&mut each);
    (kind, found, hashes)
}

fn members(line: &str) -> Vec<(Member, String)> {
    let (kind, found, _) = scan(line.as_bytes(), &[]);
    assert_eq!(kind, LineKind::Messages, "{line}");
    found.concat().into_iter().map(|(member, raw)| (member, String::from_utf8(raw).unwrap())).collect()
}

#[test]
fn members_are_found_in_any_order_at_their_own_place_only() {
    let line = r#" {"params" : {"name":"x","arguments":{"id":9,"method":"no"}}, "id": 7 ,"jsonrpc":"2.0","method":"tools/call"}"#;
    let text = |text: &str| text.to_owned();
    assert_eq!(
        members(line),
        [
            (Member::JsonRpc, text("\"2.0\"")),
            (Member::Id, text("7")),
            (Member::Method, text("\"tools/call\"")),
            (Member::Name, text("\"x\"")),
            (Member::Arguments, text(r#"{"id":9,"method":"no"}"#)),
        ]
    );
}

#[test]
fn a_key_with_escapes_is_the_same_key_and_the_last_of_two_counts() {
    assert_eq!(members(r#"{"\u0069d":1,"id":2}"#), [(Member::Id, "2".to_owned())]);
    assert_eq!(
        members(r#"{"params":{"name":"a","uri":"u"},"params":{"name":"b"}}"#),
        [(Member::Name, "\"b\"".to_owned())]
    );
}

#[test]
fn every_cut_gives_the_same_members_and_hashes() {
    let lines: [&[u8]; 4] = [
        br#"{"jsonrpc":"2.0","id":"a\"\\b","result":{"content":[{"type":"text","text":"}{\"]"}],"isError":false,"x":[1,[2,{"y":"\\"}]]}}"#,
        br#"[{"id":1,"method":"a"},{"id":2,"result":[1,2]} , {"error":{"code":-1,"message":"no"}}]"#,
        br#"{"id":1e3,"params":"text","result":null}"#,
        "\u{feff}{\"method\":\"é\"}\r".as_bytes(),
    ];
    for line in lines {
        let whole = scan(line, &[]);
        assert_eq!(whole.0, LineKind::Messages);
        for cut in 0..=line.len() {
            assert_eq!(scan(line, &[cut]), whole, "cut at {cut}");
        }
    }
}

#[test]
fn the_result_is_hashed_as_received() {
    let line = br#"{"id":1,"result": {"a" : [1, 2 ]} ,"jsonrpc":"2.0"}"#;
    let (.., hashes) = scan(line, &[]);
    assert_eq!(hashes, [Some(Hashing::new(&KEY).raw(br#"{"a" : [1, 2 ]}"#))]);
}

#[test]
fn what_is_no_message_is_said_to_be_none() {
    for line in
        ["x", "{", "{]", "[1]", "{\"a\"}", "{\"a\":}", "{\"a\":1}}", "[{}", "[{},]", "3", "\"a\"", "{,}"]
    {
        assert_eq!(scan(line.as_bytes(), &[]).0, LineKind::NotJson, "{line}");
    }
    for line in ["", "  ", "\r"] {
        assert_eq!(scan(line.as_bytes(), &[]).0, LineKind::Empty, "{line:?}");
    }
}

#[test]
fn a_hundred_thousand_levels_cost_nothing() {
    let deep = ["{\"id\":1,\"result\":", &"[".repeat(100_000), &"]".repeat(100_000), "}"].concat();
    assert_eq!(scan(deep.as_bytes(), &[777]).0, LineKind::Messages);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let keys = prop_oneof![
            prop::sample::select(vec![
                "id", "method", "params", "result", "error", "name", "content", "code"
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(keys, inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn on_valid_json_the_scanner_agrees_with_serde_json(value in json(), pretty: bool, cut: prop::sample::Index) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap().replace('\n', " ");
        let (kind, found, _) = scan(text.as_bytes(), &[cut.index(text.len() + 1)]);
        let elements: Vec<&serde_json::Value> = match &value {
            serde_json::Value::Array(items) => items.iter().collect(),
            other => vec![other],
        };
        let is_message = elements.iter().all(|element| element.is_object());
        prop_assert_eq!(kind == LineKind::Messages, is_message, "{}", text);
        if is_message {
            for (element, found) in elements.into_iter().zip(found) {
                for (member, place, name, limit) in MEMBERS {
                    let holder = match place {
                        MemberParent::Root => element,
                        MemberParent::Params => &element["params"],
                        MemberParent::Result => &element["result"],
                        MemberParent::Error => &element["error"],
                    };
                    let there = holder.get(name);
                    let seen = found.iter().find(|(seen, _)| *seen == member);
                    let seen = seen.map(|(_, raw)| serde_json::from_slice::<serde_json::Value>(raw).unwrap());
                    // A value beyond the member's limit is not captured. White space counts.
                    let is_long = there.is_some_and(|there| 4 * there.to_string().len() > limit);
                    if seen.is_some() || !is_long {
                        prop_assert_eq!(there, seen.as_ref());
                    }
                }
            }
        }
    }
}
