use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::observe::traceparent::{SpanId, TraceId};

fn inserter(trace_state: Option<&str>) -> (ContextInserter, Arc<SharedContext>) {
    let connection = TraceParent {
        trace_id: TraceId::new([1; 16]).unwrap(),
        parent_id: SpanId::new([2; 8]).unwrap(),
        flags: TraceFlags::new_trace(true),
    };
    ContextInserter::new(connection, trace_state, [[3; 32], [4; 32]])
}

/// Returns the line with its insertion, if there is one.
fn edited(inserter: &mut ContextInserter, line: &str) -> Option<String> {
    let LineEdit { insertion, mark } = inserter.edit(line.as_bytes(), Moment(0));
    let (at, bytes) = insertion?;
    let text = std::str::from_utf8(bytes).unwrap();
    let span = format!("{:016x}", mark.expect("a request with context has a mark").span);
    assert!(text.contains(&span), "{text} names {span}");
    Some(format!("{}{text}{}", &line[..at], &line[at..]))
}

/// Returns why a line stays as it is.
fn omission(line: &[u8]) -> Option<ContextOmission> {
    InsertionPlace::find(line).expect_err(&String::from_utf8_lossy(line))
}

#[test]
fn context_is_the_first_member_of_meta() {
    let context = r#""traceparent":"00-01010101010101010101010101010101-SPAN-03""#;
    for (before, after) in [
        (r#"{"id":1,"method":"m","params":{}}"#, r#"{"id":1,"method":"m","params":{"_meta":{CONTEXT}}}"#),
        (
            r#"{"id":"1","method":"m","params": { "a":1}}"#,
            r#"{"id":"1","method":"m","params": {"_meta":{CONTEXT}, "a":1}}"#,
        ),
        (
            r#"{"params":{"_meta":{}},"id":-1,"method":"m"}"#,
            r#"{"params":{"_meta":{CONTEXT}},"id":-1,"method":"m"}"#,
        ),
        (
            r#" {"method":"m","params":{"a":[{}],"_meta":{ "p":1}},"id":0} "#,
            r#" {"method":"m","params":{"a":[{}],"_meta":{CONTEXT, "p":1}},"id":0} "#,
        ),
        // Another place of the same name decides nothing.
        (
            r#"{"id":1,"method":"m","params":{"a":{"_meta":{"traceparent":""}}}}"#,
            r#"{"id":1,"method":"m","params":{"_meta":{CONTEXT},"a":{"_meta":{"traceparent":""}}}}"#,
        ),
        (
            r#"{"id":1,"method":"m","params":{"\u005fmeta":{"a":1}}}"#,
            r#"{"id":1,"method":"m","params":{"\u005fmeta":{CONTEXT,"a":1}}}"#,
        ),
    ] {
        let found = edited(&mut inserter(None).0, before).expect(before);
        let start = found.find("0101-").unwrap() + 5;
        let span = &found[start..start + 16];
        assert_eq!(found, after.replace("CONTEXT", &context.replace("SPAN", span)));
    }
}

#[test]
fn the_state_of_the_connections_trace_goes_with_it_and_no_further() {
    let request = r#"{"id":1,"method":"m","params":{}}"#;
    let (mut inserter, shared) = inserter(Some("a=\"x\",b=2"));
    let state = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        value["params"]["_meta"].get("tracestate").map(|state| state.as_str().unwrap().to_owned())
    };
    for _ in 0..1000 {
        let line = edited(&mut inserter, request).unwrap();
        assert_eq!(state(&line).as_deref(), Some("a=\"x\",b=2"));
    }
    let line = edited(&mut inserter, request).unwrap();
    assert_eq!(state(&line), None);
    assert!(line.contains(&shared.series.nth(1).to_string()));
}

#[test]
fn everything_else_stays_as_it_is() {
    use ContextOmission::*;
    for (line, reason) in [
        (&br#"{"id":1,"method":"m","params":{"_meta":{"traceparent":"00-x"}}}"#[..], HasContext),
        (br#"{"id":1,"method":"m","params":{"_meta":{"traceparent":null}}}"#, HasContext),
        (br#"{"id":1,"method":"m","params":{"_meta":{"tracestate":"a=1"}}}"#, HasContext),
        (br#"{"id":1,"method":"m","params":{"_meta":{"\u0074raceparent":"00-x"}}}"#, HasContext),
        (br#"{"id":1,"method":"m"}"#, NoParams),
        (br#"{"id":1,"method":"m","params":[{}]}"#, NoParams),
        (br#"{"id":1,"method":"m","params":null}"#, NoParams),
        (br#"{"id":1,"method":"m","params":{"_meta":[]}}"#, NoParams),
        (br#"{"id":1,"method":"m","params":{"_meta":null}}"#, NoParams),
        (br#"{"method":"m","params":{}}"#, NotARequest),
        (br#"{"id":null,"method":"m","params":{}}"#, NotARequest),
        (br#"{"id":1,"result":{"method":"m","params":{}}}"#, NotARequest),
        (br#"{"id":1,"method":"m","params":{},"error":{}}"#, NotARequest),
        (br#"{"id":{},"method":"m","params":{}}"#, NotARequest),
        (br#"{"id":1,"method":5,"params":{}}"#, NotARequest),
        (br#"{}"#, NotARequest),
        (br#"[{"id":1,"method":"m","params":{}}]"#, Batch),
        (br#"[]"#, Batch),
        (br#"{"id":1,"method":"m","params":{},"params":{}}"#, Duplicate),
        (br#"{"id":1,"method":"m","params":{},"p\u0061rams":1}"#, Duplicate),
        (br#"{"id":1,"method":"m","params":{"_meta":{},"_\u006deta":{}}}"#, Duplicate),
        (
            br#"{"id":1,"method":"m","params":{"_meta":{"traceparent":"","\u0074\u0072aceparent":""}}}"#,
            Duplicate,
        ),
        (br#"{"id":1,"id":2,"method":"m","params":{}}"#, Duplicate),
        (br#"{"id":1,"method":"m","params":{}"#, Invalid),
        (br#"{"id":1,"method":"m","params":{}}}"#, Invalid),
        (br#"{"id":1,"method":"m","params":{}} {}"#, Invalid),
        (br#"{"id":01,"method":"m","params":{}}"#, Invalid),
        (br#"{"id":1,"method":"m","params":{},}"#, Invalid),
        (br#"{"id":1,"method":"m","params":{"a":[1,]}}"#, Invalid),
        (br#"{"id":1,"method":"m","params":{"a":{1:2}}}"#, Invalid),
        (br#"{"id":1,"method":"m","params":{"a":[}]}}"#, Invalid),
        (br#"{"id":1,"method":"m\x","params":{}}"#, Invalid),
        (b"{\"id\":1,\"method\":\"a\tb\",\"params\":{}}", Invalid),
        (b"{\"id\":1,\"method\":\"\xff\",\"params\":{}}", Invalid),
        (b"\xef\xbb\xbf{\"id\":1,\"method\":\"m\",\"params\":{}}", Invalid),
        (b"\x0c{\"id\":1,\"method\":\"m\",\"params\":{}}", Invalid),
        (b"Content-Length: 20\r", Invalid),
    ] {
        assert_eq!(omission(line), Some(reason), "{}", String::from_utf8_lossy(line));
    }
    let deep = format!(r#"{{"id":1,"method":"m","params":{{"a":{}{}}}}}"#, "[".repeat(200), "]".repeat(200));
    assert_eq!(omission(deep.as_bytes()), Some(ContextOmission::Invalid));
    for blank in [&b""[..], b" ", b"\r", b"\t \r"] {
        assert_eq!(omission(blank), None);
    }
}

#[test]
fn every_line_is_counted_once_and_requests_without_params_are_marked() {
    let (mut inserter, shared) = inserter(None);
    let requests =
        [r#"{"id":1,"method":"m","params":{}}"#, r#"{"id":1,"method":"ping"}"#, r#"{"method":"m"}"#, ""];
    let marks = requests.map(|line| inserter.edit(line.as_bytes(), Moment(0)).mark.is_some());
    assert_eq!(marks, [true, true, false, false]);
    inserter.passes(UnreadLine::TooLong);
    inserter.passes(UnreadLine::Incomplete);
    let expected = ContextCounts {
        inserted: 1,
        no_params: 1,
        not_a_request: 1,
        too_long: 1,
        incomplete: 1,
        ..ContextCounts::default()
    };
    assert_eq!(shared.counts(), expected);
}

#[test]
fn a_line_allocates_nothing() {
    let (mut inserter, _) = inserter(Some(&"x".repeat(512)));
    let room = inserter.text.capacity();
    edited(&mut inserter, r#"{"id":1,"method":"m","params":{"a":[[[[{"b":"\u0041"}]]]]}}"#).unwrap();
    assert_eq!(inserter.text.capacity(), room);
}

/// JSON of requests and of values that are almost requests.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("params".to_owned()),
        Just("_meta".to_owned()),
        Just("id".to_owned()),
        Just("traceparent".to_owned()),
        "\\PC{0,4}",
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn only_the_inserted_member_is_new(params in json(), id in 0u32..3) {
        let message = serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": "m", "params": params });
        let line = message.to_string();
        let has_place = params.is_object()
            && params.get("_meta").is_none_or(|meta| meta.is_object() && meta.get("traceparent").is_none());
        let after = edited(&mut inserter(None).0, &line);
        prop_assert_eq!(after.is_some(), has_place);
        if let Some(after) = after {
            let mut value: Value = serde_json::from_str(&after).unwrap();
            let meta = value["params"]["_meta"].as_object_mut().unwrap();
            let parent = meta.remove("traceparent").unwrap();
            prop_assert!(TraceParent::parse(parent.as_str().unwrap()).is_some());
            if meta.is_empty() && params.get("_meta").is_none() {
                value["params"].as_object_mut().unwrap().remove("_meta");
            }
            prop_assert_eq!(value, serde_json::from_str::<Value>(&line).unwrap());
        }
    }
}
