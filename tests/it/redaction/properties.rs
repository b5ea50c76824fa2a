//! Properties that hold for any text.

use super::*;
use proptest::prelude::*;

/// Pieces that rules react to, in random order.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "password",
            "token",
            "=",
            ":",
            " ",
            "\"",
            "'",
            "\\",
            "\\\"",
            "\n",
            "\t",
            "{",
            "}",
            "[",
            "]",
            ",",
            ";",
            "&",
            "?",
            "#",
            "@",
            "%3D",
            "%40",
            "://",
            "https://h.example/",
            "Bearer ",
            "Authorization: ",
            "Cookie: ",
            "curl -u ",
            "--api-key ",
            "ghp_EXAMPLEexample0123456789",
            "eyJhbGciOiJub25lIn0.eyJhIjoiRVhBTVBMRSJ9.",
            "4111 1111 1111 1111",
            "DE89370400440532013000",
            "078-05-1123",
            "+49 30 1234567",
            "a@example.org",
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "\x1b[0m",
            "\u{200b}",
            "\u{2028}",
            "é",
            "<password>",
            "</password>",
            "[REDACTED:github]",
            "[REDACTED:",
            "…(+12 bytes)",
            "…(+",
            "\\u{a}",
            "\\u{",
            "none",
            "abc",
            "name",
            "value",
            "1",
            "x9Y",
            "null",
            "${A}",
            "key",
            "api ",
            "string",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9_./-]{1,12}".prop_map(String::from),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn limit(field: Field, text: &str) -> bool {
    let shown = text.split("…(+").next().unwrap();
    match field {
        Field::Name | Field::Id | Field::UserId => shown.chars().count() <= 128,
        Field::Uri | Field::Message => shown.chars().count() <= 500,
        Field::Summary => shown.chars().count() <= 200,
        Field::StderrLine => shown.len() <= 8 << 10,
        Field::TraceState => shown.chars().count() <= 512,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cleaning_twice_changes_nothing(text in text(), field in prop::sample::select(FIELDS.to_vec()), copies in 1_usize..30) {
        let text = text.repeat(copies);
        let once = one(field, &text);
        prop_assert_eq!(one(field, &once), once);
    }

    #[test]
    fn any_bytes_give_a_text_within_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..1500), field in prop::sample::select(FIELDS.to_vec())) {
        let cleaned = Redactor::default().redact(field, &bytes).to_string();
        prop_assert!(limit(field, &cleaned), "{}", cleaned);
        prop_assert!(!cleaned.chars().any(|c| c.is_control() && c != '\t'));
        prop_assert_eq!(one(field, &cleaned), cleaned);
    }

    #[test]
    fn a_secret_goes_whatever_stands_around_it(before in text(), after in text()) {
        let secret = "glpat-EXAMPLEexample012345";
        let cleaned = one(Field::StderrLine, &format!("{before} {secret} {after}"));
        prop_assert!(!cleaned.contains("EXAMPLEexample0123"), "{}", cleaned);
    }
}

#[test]
fn a_uuid_whose_digits_fit_an_account_number_stays() {
    // The id of a session is a UUID. Each of these has a part that passes the check of an IBAN.
    for id in [
        "af612ba8-16b3-8d27-8791-8fa9a28dc19a",
        "eb08b831-2315-8be6-b848-3e185284a523",
        "cd72560f-9cea-8955-b463-68616cd55d0c",
        "2faa94d6-ab12-81d2-8f12-4eba2483b227",
    ] {
        assert_eq!(one(Field::Message, id), id);
    }
    assert_eq!(one(Field::Message, "de89-3704-0044-0532-0130-00"), "[REDACTED:iban]");
}
