//! A config file of any content: it is read within its limits, and values that could be secrets are never
//! quoted.

use std::path::Path;

use spantap::settings::{ConfigFile, GivenSettings, SettingSources};

/// A word that no problem may quote, wherever it is in the file.
const CANARY: &str = "canary-9f31";

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    resolve(text);
    // The word as the value of the first setting with a quoted value.
    if let Some((before, behind)) = text.split_once('"') {
        let with_canary = format!("{before}\"{CANARY}{behind}");
        if !before.rsplit('\n').next().unwrap_or_default().contains(['[', '.'])
            && before.trim_end().ends_with('=')
        {
            let problems = resolve(&with_canary);
            assert!(!problems.contains(CANARY), "{problems}");
        }
    }
}

fn resolve(text: &str) -> String {
    let file = ConfigFile::parse(Path::new("config.toml"), text);
    let sources = SettingSources::with_file(GivenSettings::default(), &|_| None, file);
    let mut problems = String::new();
    for server in ["server", "a.b", ""] {
        let settings = sources.settings(server);
        let _ = settings.redaction.redactor();
        for problem in &settings.problems {
            problems.push_str(&format!("{problem}\n"));
        }
    }
    problems
}
