//! No field of an event can hold a text that did not pass the redactor.

/// Types in the fields of `source` that are not known to be unable to carry an outside text.
fn doubtful_types(source: &str) -> Vec<String> {
    // What `event.rs` declares itself is looked at where it is declared.
    const KNOWN: [&str; 15] = [
        "Redacted",
        "Hash",
        "Method",
        "TraceId",
        "SpanId",
        "TraceFlags",
        "Direction",
        "Moment",
        "Stream",
        "Duration",
        "Option",
        "Vec",
        "Box",
        // Class names: only the redactor adds to it.
        "RedactionCounts",
        "Copy",
    ];
    let declares = |line: &str| line.starts_with("pub struct ") || line.starts_with("pub enum ");
    let names: Vec<&str> = source
        .lines()
        .filter(|line| declares(line))
        .filter_map(|line| line.split([' ', '(']).nth(2))
        .collect();
    let mut doubtful = Vec::new();
    let mut inside = false;
    for line in source.lines() {
        inside |= declares(line);
        let code = line.split("//").next().unwrap();
        if inside && !code.trim_start().starts_with('#') {
            // A variant's own name is no type.
            let is_variant = code.starts_with("    ") && code.trim_start().starts_with(char::is_uppercase);
            let types = match is_variant {
                true => code.split_once('(').map_or("", |(_, types)| types),
                false => code.split_once(": ").map_or("", |(_, types)| types),
            };
            let words =
                types.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            let unknown = |word: &&str| {
                word.starts_with(char::is_uppercase) && !KNOWN.contains(word) && !names.contains(word)
            };
            doubtful.extend(words.filter(unknown).map(str::to_owned));
            let rest = types.replace("&'static str", "").replace("[u8; 4]", "");
            doubtful.extend(
                ["str", "u8", "char", "dyn", "impl", "::"].map(str::to_owned).into_iter().filter(|word| {
                    rest.split(|c: char| !c.is_alphanumeric() && c != ':')
                        .any(|part| part.contains(word.as_str()) && (part == word || word == "::"))
                }),
            );
        }
        inside &= !(line.starts_with('}') || declares(line) && line.ends_with(';'));
    }
    doubtful
}

/// The vocabulary of events has no type that could carry an outside text past the redactor.
#[test]
fn no_field_of_an_event_is_a_plain_text() {
    let path = format!("{}/src/observe/event.rs", env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(path).unwrap();
    assert!(source.contains("pub error_message: Option<Redacted>"), "the test reads the right file");
    assert_eq!(doubtful_types(&source), Vec::<String>::new());
    // The test can fail.
    for field in [
        "String",
        "Option<String>",
        "Arc<str>",
        "Box<str>",
        "&'a str",
        "Cow<'static, str>",
        "OsString",
        "Vec<u8>",
        "PathBuf",
        "Value",
        "serde_json::Value",
        "RequestId",
        "char",
        "Box<dyn Error>",
    ] {
        let with_it = source.replace("    pub request_size: u64,", &format!("    pub extra: {field},"));
        assert!(!doubtful_types(&with_it).is_empty(), "{field}");
        let with_it = source.replace("    DebugEnded,", &format!("    DebugEnded({field}),"));
        assert!(!doubtful_types(&with_it).is_empty(), "a variant of {field}");
    }
}
