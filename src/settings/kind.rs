//! The kinds of values that settings have: how each kind is parsed and shown.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::export::otlp::address;
use crate::observe::CHECK_CLIENT;
use crate::settings::listen::ListenAddress;
use crate::settings::origin::SettingOrigin;
use crate::system::files::home::expand_home;
use crate::text::{baggage, duration};

/// The text of one setting, as one source contains it.
pub(super) struct SettingText {
    /// The items of a list of the config file; otherwise one text.
    pub(super) texts: Vec<OsString>,
    pub(super) origin: SettingOrigin,
}

impl SettingText {
    fn only(&self) -> Option<&OsStr> {
        match self.texts.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        self.only()?.to_str()
    }

    /// Parses the items of a list: an array in the config file, separated by commas elsewhere.
    fn items<T>(&self, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        match (&self.origin, self.only()) {
            (SettingOrigin::Flag | SettingOrigin::Environment(_), Some(text)) => {
                text.to_str()?.split(',').map(|item| parse(item.trim())).collect()
            }
            _ => self.texts.iter().map(|item| parse(item.to_str()?)).collect(),
        }
    }
}

/// How the value of a flag is checked while the command line is parsed.
#[derive(Clone, Copy)]
pub(crate) enum FlagValue {
    /// Any bytes.
    Path,
    /// Any text. A text that the setting cannot use becomes a problem, and the next source counts.
    Text,
    /// A text for which the function returns no error.
    Checked(fn(&str) -> Result<(), String>),
    /// One of a few words.
    Word(fn() -> Vec<PossibleValue>),
}

/// How the values of one kind are parsed and shown.
pub(crate) struct SettingKind<T: 'static> {
    /// The form that a problem asks for.
    pub(super) expected: &'static str,
    pub(super) flag_value: FlagValue,
    pub(super) parse: fn(&SettingText) -> Option<T>,
    /// Shows a value to the user, without any part that may be a secret.
    pub(super) show: fn(&T) -> String,
}

pub(super) const BOOL: SettingKind<bool> = SettingKind {
    expected: "true or false",
    flag_value: FlagValue::Text,
    parse: |written| written.text()?.parse().ok(),
    show: bool::to_string,
};

/// A path may have bytes that are not UTF-8.
const fn path(expected: &'static str) -> SettingKind<PathBuf> {
    SettingKind {
        expected,
        flag_value: FlagValue::Path,
        parse: |written| expand_home(PathBuf::from(written.only()?)),
        show: |path| path.display().to_string(),
    }
}

pub(super) const FOLDER: SettingKind<PathBuf> = path("a folder (only ~ and $HOME at its start are replaced)");
pub(super) const FILE: SettingKind<PathBuf> = path("a file (only ~ and $HOME at its start are replaced)");

pub(super) const SIZE: SettingKind<u64> = SettingKind {
    expected: "a size, for example 64MiB",
    flag_value: FlagValue::Text,
    parse: |written| size(written.text()?),
    show: |bytes| {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = units.into_iter().find(|(shift, _)| *bytes > 0 && bytes.is_multiple_of(1 << shift));
        whole.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
    },
};

pub(super) const TIME: SettingKind<Duration> = SettingKind {
    expected: "a duration, for example 30s",
    flag_value: FlagValue::Checked(|text| duration::parse(text).map(drop).map_err(str::to_owned)),
    parse: |written| duration::parse(written.text()?).ok(),
    show: |time| format!("{}s", time.as_secs_f64()),
};

pub(super) const COUNT: SettingKind<u32> = SettingKind {
    expected: "a number",
    flag_value: FlagValue::Checked(|text| text.parse::<u32>().map(drop).map_err(|error| error.to_string())),
    parse: |written| written.text()?.parse().ok(),
    show: u32::to_string,
};

pub(super) const PRICE: SettingKind<f64> = SettingKind {
    expected: "a price",
    flag_value: FlagValue::Text,
    parse: |written| written.text()?.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0),
    show: f64::to_string,
};

const fn text(expected: &'static str, show: fn(&String) -> String) -> SettingKind<String> {
    SettingKind {
        expected,
        flag_value: FlagValue::Text,
        parse: |written| written.text().map(str::to_owned),
        show,
    }
}

pub(super) const NAME: SettingKind<String> = text("a name", String::clone);
/// An id may name a person: only its presence is shown.
pub(super) const ID: SettingKind<String> = text("an id", |_| "set".to_owned());
/// A host and a scope, as `wrap` writes them; or the mark that a check gives to the proxy that it starts.
pub(super) const ORIGIN: SettingKind<String> = SettingKind {
    expected: "HOST/SCOPE, each of letters, digits and dashes",
    parse: |written| {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let text = written.text()?;
        let is_entry = text.split_once('/').is_some_and(|(host, scope)| is_word(host) && is_word(scope));
        (is_entry || text == CHECK_CLIENT).then(|| text.to_owned())
    },
    ..ID
};
/// A URL may contain credentials: only its host and port are shown.
pub(super) const URL: SettingKind<String> =
    text("a URL", |url| address(url).unwrap_or_else(|| "none".to_owned()));

/// The address of a trace. Only its host and port are shown, as of every URL.
pub(super) const LINK: SettingKind<String> = SettingKind {
    expected: "an http or https address with {trace_id} or {span_id}, for example https://tempo.example/trace/{trace_id}",
    parse: |written| written.text().filter(|text| is_link(text)).map(str::to_owned),
    ..URL
};

/// Returns true for a template of which every address opens a web page and is harmless in a terminal and in a page.
fn is_link(template: &str) -> bool {
    let filled = template.replace("{trace_id}", "0").replace("{span_id}", "0");
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'`<>{}\\^|".contains(&byte);
    let has_no_user = |uri: &http::Uri| uri.authority().is_some_and(|host| !host.as_str().contains('@'));
    filled != template
        && (filled.starts_with("https://") || filled.starts_with("http://"))
        && filled.bytes().all(is_plain)
        && filled.parse().is_ok_and(|uri| has_no_user(&uri))
}

pub(super) const CODES: SettingKind<Vec<i64>> = SettingKind {
    expected: "a list of numbers",
    flag_value: FlagValue::Text,
    parse: |written| written.items(|text| text.parse().ok()),
    show: |codes| codes.iter().map(i64::to_string).collect::<Vec<_>>().join(", "),
};

pub(super) const WORDS: SettingKind<Vec<String>> = SettingKind {
    expected: "a list of words",
    flag_value: FlagValue::Text,
    parse: |written| written.items(|text| Some(text.to_lowercase())),
    show: |words| words.join(", "),
};

pub(super) const LISTEN: SettingKind<Vec<ListenAddress>> = SettingKind {
    expected: "a port (4318), an address (192.168.1.7:4318), or a list of them",
    flag_value: FlagValue::Text,
    parse: |written| {
        written.items(|text| text.parse().ok()).filter(|list: &Vec<ListenAddress>| !list.is_empty())
    },
    show: |list| list.iter().map(ListenAddress::to_string).collect::<Vec<_>>().join(", "),
};

/// Headers may be credentials: only their names are shown.
pub(super) const HEADERS: SettingKind<Vec<String>> = SettingKind {
    expected: "a list of headers, each NAME, NAME=VALUE or NAME=@FILE (percent-encoded in a variable)",
    flag_value: FlagValue::Text,
    parse: |written| match (&written.origin, written.only()) {
        // As OTEL_EXPORTER_OTLP_HEADERS: a value can have a comma.
        (SettingOrigin::Environment(_), Some(text)) => baggage::names_and_pairs(text.to_str()?),
        _ => written.items(|text| Some(text.to_owned())),
    },
    show: |headers| {
        let is_name =
            |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let names = headers.iter().map(|header| header.split('=').next().filter(is_name));
        names.map(|name| name.unwrap_or("(not a name)")).collect::<Vec<_>>().join(", ")
    },
};

/// Returns the kind of a setting that is one of a few words.
pub(super) const fn word<T: ValueEnum>(expected: &'static str) -> SettingKind<T> {
    SettingKind {
        expected,
        flag_value: FlagValue::Word(|| T::value_variants().iter().filter_map(T::to_possible_value).collect()),
        parse: |written| T::from_str(written.text()?, false).ok(),
        show: |word| word.to_possible_value().map_or_else(String::new, |word| word.get_name().to_owned()),
    }
}

/// Parses `4096`, `64KiB`, `64k`, `1.5GiB`, `2GB`; 1 k is 1024 with and without the `i`.
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let unit = text[split..].trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let bytes = number * (1u64 << shift) as f64;
    (bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", Some(4096)),
            ("64MiB", Some(64 << 20)),
            ("64 mb", Some(64 << 20)),
            ("1.5k", Some(1536)),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn a_link_opens_a_web_page_and_nothing_else() {
        for (template, is) in [
            ("https://tempo.example/trace/{trace_id}", true),
            ("http://localhost:16686/trace/{trace_id}?uiFind={span_id}#x", true),
            ("https://grafana.example/explore?left=%7B%22query%22:%22{trace_id}%22%7D", true),
            ("https://tempo.example/trace/", false),
            ("javascript:alert({trace_id})", false),
            ("file:///{trace_id}", false),
            ("HTTPS:{trace_id}", false),
            ("https:///{trace_id}", false),
            ("https://user:pass@tempo.example/{trace_id}", false),
            ("https://tempo.example/{trace_id}/{tenant}", false),
            ("https://tempo.example/{trace_id}\u{1b}]8;;", false),
            ("https://tempo.example/{trace_id}#\"><script>", false),
            ("https://tempo.example/{trace_id} x", false),
            ("https://tempo.example/\u{202e}{trace_id}", false),
        ] {
            assert_eq!(is_link(template), is, "{template}");
        }
    }

    #[test]
    fn an_address_is_all_that_is_shown_of_an_endpoint() {
        for (endpoint, shown) in [
            ("http://localhost:4318/v1/traces", Some("localhost:4318")),
            ("https://user:pass@collector.example/x?token=1", Some("collector.example:443")),
            ("http://[::1]/v1", Some("[::1]:80")),
            ("ftp://user:pass@x/y", Some("ftp://x")),
            ("ftp://x:21", Some("ftp://x:21")),
            ("localhost:4317", Some("localhost:4317")),
            ("http://", None),
            ("nonsense", None),
        ] {
            assert_eq!(address(endpoint).as_deref(), shown, "{endpoint}");
        }
    }
}
