//! Texts of the peers, read as a person reads them: does a message say that the request was refused, or that it
//! timed out?
//!
//! A word counts only if it is the point of the message. Outputs of tools contain names of tests, search results and
//! summaries with the same words.

use serde_json::Value;

/// Bytes of a message in which its point is looked for.
const MAX_POINT: usize = 500;
/// Words that may precede a refusal in its clause: "you are not allowed to do this" has none.
const MAX_BEFORE: usize = 6;
/// Parts of a name that say what is refused: `PERMISSION_DENIED`, `AccessDenied`.
const REFUSED_THINGS: [&str; 5] = ["access", "permission", "request", "authorization", "user"];
/// Words after a refusal. A noun in their place makes a description of it: "denied lookups".
const AFTER: [&str; 26] = [
    "for",
    "to",
    "by",
    "while",
    "when",
    "on",
    "in",
    "at",
    "because",
    "due",
    "as",
    "from",
    "with",
    "without",
    "and",
    "or",
    "access",
    "request",
    "operation",
    "client",
    "user",
    "error",
    "exception",
    "since",
    "until",
    "under",
];
/// Words after which a refusal is a name or a value, not a statement.
const NAMING: [&str; 16] = [
    "for", "of", "named", "called", "like", "about", "word", "text", "string", "column", "field", "key",
    "table", "no", "not", "never",
];
/// Those who refuse: "the user denied the request".
const REFUSERS: [&str; 9] =
    ["user", "person", "policy", "administrator", "admin", "host", "client", "sandbox", "hook"];
const OBJECTS: [&str; 4] = ["the", "this", "your", "permission"];
/// Parts of words that make a line a report about a refusal.
const REPORTS: [&str; 9] =
    ["assert", "assertion", "assertionerror", "test", "tests", "passed", "expected", "expect", "should"];
/// Words before a number which is a code, not a count.
const CODES: [&str; 5] = ["error", "code", "status", "http", "errno"];

/// Words that contain one of these say that a time was over: `ETIMEDOUT`, `TimeoutError`.
const TIMEOUTS: [&str; 2] = ["timeout", "timedout"];
/// Phrases that say the same.
const TIMEOUT_PHRASES: [&str; 12] = [
    " timed out ",
    " time out ",
    " time limit ",
    " too long ",
    " too slow ",
    " longer than ",
    " in time ",
    " out of time ",
    " gave up waiting ",
    " stopped waiting ",
    " request expired ",
    " operation expired ",
];
/// Words for a time, beside numbers with a unit.
const TIMES: [&str; 10] =
    ["time", "deadline", "timer", "duration", "ms", "milliseconds", "sec", "secs", "seconds", "minutes"];
/// Words that say that a time was over.
const OVER: [&str; 11] = [
    "exceeded",
    "exceeds",
    "exceeding",
    "elapsed",
    "expired",
    "passed",
    "reached",
    "over",
    "up",
    "missed",
    "ran",
];
/// Words that say that something did not happen within a time.
const NOT: [&str; 5] = ["no", "not", "never", "without", "nothing"];

/// Returns true if a message says that the request was refused, in one of these lower-case phrases.
pub(super) fn is_refusal(text: &str, phrases: &[String]) -> bool {
    if phrases.is_empty() {
        return false;
    }
    match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).is_ok_and(|value| json_refuses(&value, phrases, true)),
        false => line_refuses(&point(text), phrases),
    }
}

/// Returns true if the reason of a cancellation says that the asking side stopped waiting.
pub(super) fn is_timeout(reason: &str) -> bool {
    let words: Vec<String> = reason.split_whitespace().flat_map(parts).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    if has(&["before"]) {
        return false;
    }
    // `TimedOut` has two parts, as `timed out` has.
    let text = format!(" {} ", words.join(" "));
    let is_word = |(at, word): (usize, &&str)| {
        let is_denied = at > 0 && NOT.contains(&words[at - 1]);
        !is_denied && TIMEOUTS.iter().any(|timeout| word.contains(timeout))
    };
    let is_time = |word: &&str| {
        let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
        TIMES.contains(word) || (unit.len() < word.len() && matches!(unit, "s" | "ms" | "m" | "min" | "sec"))
    };
    let has_time = words.iter().any(is_time);
    words.iter().enumerate().any(is_word)
        || TIMEOUT_PHRASES.iter().any(|phrase| text.contains(phrase))
        || (has_time && (has(&OVER) || (has(&NOT) && has(&["within", "after", "for", "in"]))))
}

/// Reads the members of an error object that people read.
fn json_refuses(value: &Value, phrases: &[String], outermost: bool) -> bool {
    const MEMBERS: [&str; 10] = [
        "error",
        "message",
        "msg",
        "detail",
        "reason",
        "title",
        "code",
        "status",
        "error_message",
        "error_description",
    ];
    match value {
        Value::String(text) => line_refuses(&point(text), phrases),
        Value::Object(members) => MEMBERS
            .iter()
            .filter_map(|name| members.get(*name))
            .any(|value| (outermost || value.is_string()) && json_refuses(value, phrases, false)),
        _ => false,
    }
}

/// Returns the line that says what happened: the first one, or the last one of a traceback. A line that ends with a
/// colon continues.
fn point(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut point = first.to_owned();
    if first.starts_with("Traceback (most recent call last)") {
        point = lines.next_back().unwrap_or_default().to_owned();
    } else if first.ends_with(':') {
        point = format!("{first} {}", lines.next().unwrap_or_default());
    }
    point.truncate(point.floor_char_boundary(MAX_POINT));
    point
}

/// A word of a line.
struct MessageWord {
    /// Its parts in lower case: `AccessDenied` and `ACCESS_DENIED` have two.
    parts: Vec<String>,
    /// Words with the same number are one clause.
    clause: usize,
    /// True for paths and quoted words, which are names of something.
    is_name: bool,
    /// True for a word that makes the rest of the line a report about a refusal.
    is_report: bool,
}

impl MessageWord {
    /// Returns the first part.
    fn text(&self) -> &str {
        self.parts.first().map_or("", String::as_str)
    }
}

fn line_refuses(line: &str, phrases: &[String]) -> bool {
    let words = words(line);
    let end = words.iter().position(|word| word.is_report).unwrap_or(words.len());
    (0..end).any(|at| {
        let clause = words[at].clause;
        let start = words.iter().position(|word| word.clause == clause).unwrap_or(at);
        let length = words[at..].iter().take_while(|word| word.clause == clause).count();
        let (before, rest) = (&words[start..at], &words[at..at + length]);
        let phrase = phrases.iter().find_map(|phrase| phrase_length(rest, phrase));
        phrase.is_some_and(|length| match rest[0].parts.len() {
            1 => {
                let names_refuser = |word: &MessageWord| REFUSERS.contains(&word.text());
                // "the user denied" or, as a phrase, "user rejected".
                let has_refuser = names_refuser(&rest[0]) || before.last().is_some_and(names_refuser);
                is_point(before, has_refuser, rest.get(length))
            }
            // A code such as PERMISSION_DENIED is the point by itself.
            _ => true,
        })
    })
}

/// Returns the number of words that are the phrase, at the beginning of `words`.
fn phrase_length(words: &[MessageWord], phrase: &str) -> Option<usize> {
    let [first, ..] = words else { return None };
    let is_part = |part: &&str| !part.is_empty();
    let phrase: Vec<&str> = phrase.split(|c: char| !c.is_alphanumeric()).filter(is_part).collect();
    if first.is_name || phrase.is_empty() {
        return None;
    }
    if first.parts.len() > 1 {
        let mut parts = first.parts.iter().map(String::as_str).collect::<Vec<_>>();
        if matches!(parts.last(), Some(&("error" | "exception" | "fault"))) {
            parts.pop();
        }
        let thing = usize::from(parts.len() > phrase.len() && REFUSED_THINGS.contains(&parts[0]));
        return (parts[thing..] == phrase).then_some(1);
    }
    let is_phrase = words.len() >= phrase.len()
        && words.iter().zip(&phrase).all(|(word, part)| !word.is_name && word.parts == [*part]);
    is_phrase.then_some(phrase.len())
}

/// Returns true if a clause with these words around a refusal states it. `has_refuser` is true if it names who refuses.
fn is_point(before: &[MessageWord], has_refuser: bool, after: Option<&MessageWord>) -> bool {
    let texts: Vec<&str> = before.iter().map(MessageWord::text).collect();
    let last = texts.last().copied().unwrap_or_default();
    let is_count = |(at, text): (usize, &&str)| {
        let is_code = matches!(*text, "401" | "403") || at > 0 && CODES.contains(&texts[at - 1]);
        !is_code && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if before.len() > MAX_BEFORE || NAMING.contains(&last) || texts.iter().enumerate().any(is_count) {
        return false;
    }
    after
        .is_none_or(|after| AFTER.contains(&after.text()) || (has_refuser && OBJECTS.contains(&after.text())))
}

fn words(line: &str) -> Vec<MessageWord> {
    let mut clause = 0;
    let mut words = Vec::new();
    for text in line.split_whitespace() {
        let opened = text.trim_start_matches(['(', '[', '{', '<', '*']);
        let body = opened.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}', '>', '*']);
        clause += usize::from(opened.len() < text.len());
        let inner = body.trim_matches(['\'', '"', '`', '“', '”', '‘', '’']);
        let is_name = inner.len() < body.len()
            || inner.contains(['/', '\\', '.', '=', ':', '(', '#', '@', '$', '"', '\'']);
        let parts = parts(inner);
        if parts.is_empty() {
            // A dash between two clauses.
            clause += 1;
            continue;
        }
        let is_report =
            (!is_name || inner.contains("::")) && parts.iter().any(|part| REPORTS.contains(&part.as_str()));
        words.push(MessageWord { parts, clause, is_name, is_report });
        clause += usize::from(body.len() < opened.len());
    }
    words
}

/// Splits a name at everything that is not a letter or a digit, and before the capitals of `CamelCase`.
fn parts(word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for character in word.chars() {
        let is_upper = character.is_uppercase();
        if !character.is_alphanumeric() || (is_upper && was_lower) {
            parts.push(String::new());
        }
        if character.is_alphanumeric()
            && let Some(part) = parts.last_mut()
        {
            part.extend(character.to_lowercase());
        }
        was_lower = character.is_lowercase();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::Denials;

    fn refuses(text: &str) -> bool {
        is_refusal(text, &Denials::standard().words)
    }

    #[test]
    fn a_refusal_is_found_where_it_is_the_point() {
        for text in [
            "Permission denied",
            "access Denied",
            "Access is denied.",
            "403 Forbidden",
            "HTTP 403: Forbidden",
            "Request failed with status code 401: Unauthorized",
            "Error: EACCES: permission denied, open '/etc/shadow'",
            "[Errno 13] Permission denied: '/etc/shadow'",
            "open /etc/shadow: permission denied",
            "cat: /root/x: Permission denied",
            "cannot read /tmp/test/x: Permission denied",
            "git@github.com: Permission denied (publickey).",
            "Access denied - path outside allowed directories: /etc not in /home",
            "MCP error -32001: access Denied",
            "rpc error: code = PermissionDenied desc = no",
            "7 PERMISSION_DENIED: Missing scope",
            "An error occurred (AccessDenied) when calling the GetObject operation: no",
            "AccessDeniedException: no",
            "You are not authorized to perform this operation",
            "User arn:aws:iam::1:user/x is not authorized to perform s3:Get",
            "Tool call rejected by user",
            "The user denied the request",
            "User rejected the request",
            "MCP error -32000: user rejected request",
            "Tool use was rejected by the user",
            "User declined",
            "the call was declined by the user",
            "blocked by policy",
            "the call was denied by policy",
            "Unauthorized access",
            "Unauthorised",
            "Error executing tool:\npermission denied",
            "Traceback (most recent call last):\n  File \"x.py\", line 1\nPermissionError: [Errno 13] Permission denied: 'x'",
            r#"{"error": "Forbidden"}"#,
            r#"{"error": {"code": 403, "message": "Access denied"}}"#,
            r#"{"status": "PERMISSION_DENIED", "rows": []}"#,
        ] {
            assert!(refuses(text), "{text}");
        }
    }

    #[test]
    fn a_refusal_that_a_text_is_about_is_none() {
        for text in [
            "1 failed, 3 passed\ntest_forbidden_words PASSED",
            "disk full\nnote: 3 lookups were denied by the cache",
            "note: 3 lookups were denied by the cache",
            "0 requests denied",
            "2 denied, 10 allowed",
            "test_access_denied failed",
            "FAILED tests/test_x.py::test_denied - PermissionError: [Errno 13] Permission denied: '/root'",
            "AssertionError: permission denied != ok",
            "expected 403 Forbidden but got 200",
            "Expected: 200, got: 403 Forbidden",
            "no such file: forbidden.txt",
            "cannot parse denied.json",
            "No results found for denied",
            "column 'denied' does not exist",
            "unknown field \"unauthorized\"",
            "forbidden words found in the text",
            "denied_users is empty",
            "the list of denied hosts is empty",
            "the server rejected the request",
            "the user rejected 3 of 4 rows",
            "syntax error near isForbidden()",
            "the file is not forbidden",
            "src/unauthorized.rs: 3 errors",
            r#"{"rows": [{"state": "denied"}], "error": "no such table"}"#,
            r#"{"error": "cut off and Permission denied"#,
            "title is missing",
            "",
        ] {
            assert!(!refuses(text), "{text}");
        }
    }

    #[test]
    fn a_configured_word_may_have_punctuation() {
        let words = ["quota_exceeded", "not-allowed", "e perm"].map(str::to_owned);
        for text in ["quota_exceeded", "Error: QUOTA_EXCEEDED", "not-allowed", "e-perm: no"] {
            assert!(is_refusal(text, &words), "{text}");
        }
        assert!(!is_refusal("the quota was not exceeded", &words));
    }

    #[test]
    fn a_time_out_is_found_in_the_words_of_each_sdk() {
        for reason in [
            "Request timed out",
            "The operation has timed-out.",
            "context deadline exceeded",
            "deadline_exceeded",
            "DEADLINE_EXCEEDED",
            "deadline has elapsed",
            "McpError: MCP error -32001: Request timed out",
            "TimeoutError: The operation was aborted due to timeout",
            "java.util.concurrent.TimeoutException",
            "ETIMEDOUT",
            "the call took too long",
            "AbortError: Abort timeout",
            "Client.Timeout exceeded while awaiting headers",
            "maximum time exceeded",
            "exceeded the maximum duration of 30s",
            "no response within 30 seconds",
            "not answered within 60000ms",
            "the server did not respond in time",
            "response took longer than expected",
            "gave up waiting for the tool",
            "deadline passed",
            "DeadlineExceeded",
            "DeadlineExceededException",
            "time is up",
            "30s elapsed",
            "no answer for 45s",
        ] {
            assert!(is_timeout(reason), "{reason}");
        }
        for reason in [
            "context canceled",
            "the user stopped it",
            "stopped before timeout",
            "no timeout",
            "",
            "cancelled before the deadline passed",
            "rate limit exceeded",
            "token limit reached",
            "no longer needed",
            "the user closed the window",
            "session expired",
            "not wanted",
            "5 results are enough",
        ] {
            assert!(!is_timeout(reason), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_contains_a_refusal_is_none(
            before in "[a-z]{1,8}", after in "[a-z]{1,8}", index in 0..6_usize, join in "[_./-]",
        ) {
            let word = Denials::standard().words[index].replace(' ', &join);
            for name in [format!("{before}{join}{word}{join}{after}"), format!("{word}{join}{after}x"), format!("'{word}'")] {
                let text = format!("{name}: failed");
                prop_assert!(!refuses(&text), "{text}");
            }
        }

        #[test]
        fn later_lines_do_not_refuse(first in "[a-z][a-z ]{0,40}", rest in "[a-z\n]{0,40}") {
            let is_plain = !refuses(&first);
            let text = format!("{first}\n{rest}\nPermission denied\n403 Forbidden");
            prop_assert!(refuses(&text) != is_plain);
        }

        #[test]
        fn any_text_is_read(text in any::<String>()) {
            refuses(&text);
            is_timeout(&text);
        }
    }
}
