//! The house is in order: floors, file sizes, what README and docs say.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below `folder`, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The floor that a file stands on: the first part of its path below `src`.
fn floor(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    below.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules that a text names as `crate::module::part`, as far as two parts deep, without its tests.
fn named(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.match_indices("crate::")
        .map(|(at, found)| {
            let rest = &code[at + found.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            rest[..end].trim_end_matches(':').to_owned()
        })
        .collect()
}

/// The rooms of `src`, lowest first, each with the rooms that it may name. `docs/architecture.md` prints
/// this table. Every room may name `text`.
const IMPORTS: &[(&str, &[&str])] = &[
    ("text", &[]),
    ("system", &[]),
    ("relay", &["system"]),
    ("observe", &["relay::chunk"]),
    ("record", &["observe", "relay::chunk"]),
    ("export", &["record", "observe", "relay::chunk"]),
    ("settings", &["export", "record", "observe", "relay", "system"]),
    ("proxy", &["settings", "export", "record", "observe", "relay", "system"]),
    ("query", &["record"]),
    ("present", &["query", "record"]),
    ("hosts", &[]),
    ("check", &["record", "observe", "system"]),
    ("demo", &[]),
];

#[test]
fn a_room_names_only_the_rooms_that_the_table_allows() {
    for (path, text) in sources("src") {
        let room = floor(&path);
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else { continue };
        for name in named(&text) {
            let fits = name == room
                || name.starts_with(&format!("{room}::"))
                || allowed
                    .iter()
                    .chain(&["text"])
                    .any(|allowed| name == *allowed || name.starts_with(&format!("{allowed}::")));
            assert!(fits, "{} names crate::{name}; {room} may name {allowed:?}", path.display());
        }
    }
}

#[test]
fn only_main_touches_standard_output() {
    for (path, text) in sources("src") {
        if path.ends_with("src/main.rs") {
            continue;
        }
        for forbidden in ["println!", "print!(", "io::stdout()", "stdout().lock"] {
            let found = text.lines().any(|line| {
                line.contains(forbidden) && !line.trim_start().starts_with("//") && !line.contains("eprint")
            });
            assert!(!found, "{} uses {forbidden}", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_the_system_room_and_the_relay_only() {
    for (path, text) in sources("src") {
        let has_unsafe = text.lines().any(|line| {
            line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
        });
        let allowed = ["relay", "system"].contains(&floor(&path).as_str());
        assert!(!has_unsafe || allowed, "{} has unsafe code", path.display());
    }
}

/// How often the code of a file says `unsafe`, its comments left out.
fn uses_of_unsafe(text: &str) -> usize {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| *word == "unsafe").count()
}

#[test]
fn the_inventory_of_unsafe_code_is_that_of_the_code() {
    let page = read("docs/architecture.md");
    let inventory = page.split("## Unsafe code").nth(1).unwrap();
    for (path, text) in sources("src/relay").into_iter().chain(sources("src/system")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "tests.rs" {
            continue;
        }
        let uses = uses_of_unsafe(&text);
        let row = format!("| `{name}` | {uses} | ");
        assert!(uses == 0 || inventory.contains(&row), "{name} has {uses} in docs/architecture.md");
        assert!(uses > 0 || !inventory.contains(&format!("| `{name}` |")), "{name} has none any more");
    }
}

#[test]
fn every_fuzz_target_is_one_under_libfuzzer_too() {
    let manifest = read("tests/fuzz/Cargo.toml");
    let table = read("tests/fuzz/targets.rs");
    let docs = read("docs/reliability.md");
    let names: Vec<&str> =
        table.lines().filter_map(|line| line.trim().strip_prefix("target(\"")?.split('"').next()).collect();
    assert!(names.len() >= 12);
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"coverage.rs\"")), "{name}");
        assert!(docs.contains(&format!("| `{name}` |")), "{name} in docs/reliability.md");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_required_crates_are_direct_dependencies_with_a_use_that_the_docs_name() {
    let manifest = read("Cargo.toml");
    let architecture = read("docs/architecture.md");
    let code: String = sources("src").into_iter().map(|(_, text)| text).collect();
    for name in
        ["tokio", "serde_json", "clap", "tracing", "tracing-appender", "opentelemetry-otlp", "sha2", "regex"]
    {
        assert!(manifest.lines().any(|line| line.starts_with(&format!("{name} = "))), "{name} in Cargo.toml");
        assert!(code.contains(&format!("{}::", name.replace('-', "_"))), "{name} is used");
        assert!(architecture.contains(&format!("`{name}`")), "{name} in docs/architecture.md");
    }
}

#[test]
fn the_documented_settings_are_those_of_the_code() {
    let docs = read("docs/configuration.md");
    let head = "| setting | flag | default | what it does |\n| --- | --- | --- | --- |\n";
    let (before, table) = docs.split_once(head).unwrap();
    let (table, after) = table.split_once("\n\n").unwrap();
    let rows: Vec<String> =
        spantap::settings::DECLARATIONS.iter().map(|setting| setting.documentation()).collect();
    let rows = rows.join("\n");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        return fs::write(path, format!("{before}{head}{rows}\n\n{after}")).unwrap();
    }
    assert_eq!(table, rows, "UPDATE_FIXTURES=1 writes the table anew");
}

#[test]
fn the_documented_attributes_and_instruments_are_those_of_the_code() {
    let docs = read("docs/telemetry.md");
    for instrument in spantap::export::otlp::semconv::INSTRUMENTS {
        let row = format!(
            "| `{}` | {} | `{}` | {} |",
            instrument.name, instrument.kind, instrument.unit, instrument.description
        );
        assert!(docs.contains(&row), "{row}");
    }
    let code = read("src/export/otlp/semconv.rs");
    let attributes = code.split("/// Values that the conventions fix.").next().unwrap().lines();
    for line in attributes.filter(|line| line.contains(": &str = ")) {
        let name = line.split('"').nth(1).unwrap();
        assert!(docs.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[test]
fn the_documented_variables_are_those_that_the_code_asks_for() {
    let docs = read("docs/telemetry.md");
    let mut asked = 0;
    for file in ["src/export/otlp/settings.rs", "src/export/otlp/settings/source.rs"] {
        let code = read(file);
        for word in code.split('"').filter(|word| word.starts_with("OTEL_")) {
            // Names are put together from these: OTEL_{}_EXPORTER stands as OTEL_<S>_EXPORTER.
            let name = word.split([' ', ',']).next().unwrap();
            let name =
                name.replace("OTLP_{}_{suffix}", "OTLP[_<S>]_").replace("{suffix}", "").replace("{}", "<S>");
            assert!(docs.contains(&name), "{name} in docs/telemetry.md");
            asked += 1;
        }
        for suffix in code.split("self.of(signal, \"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(docs.contains(&format!("OTEL_EXPORTER_OTLP[_<S>]_{suffix}`")), "{suffix}");
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked}");
}

#[test]
fn the_documented_reasons_are_those_of_the_code() {
    let docs = read("docs/telemetry.md");
    let mut told = 0;
    for file in ["grpc", "transport", "points"] {
        let code = read(&format!("src/export/otlp/{file}.rs"));
        for reason in code.split("Outcome::lost(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(docs.contains(&format!("`{reason}`")), "{reason}");
            told += 1;
        }
    }
    assert!(told > 10, "{told}");
}

#[test]
fn the_files_that_docs_link_to_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    pages.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#', ' ']).next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            assert!(page.parent().unwrap().join(target).exists(), "{}: {target}", page.display());
        }
    }
}

#[test]
fn top_level_holds_only_what_tools_need_there() {
    let output =
        std::process::Command::new("git").args(["ls-files"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let Ok(output) = output else { return };
    for file in String::from_utf8_lossy(&output.stdout).lines() {
        let top = file.split('/').next().unwrap();
        let known = [
            "Cargo.toml",
            "Cargo.lock",
            "LICENSE",
            "README.md",
            "src",
            "tests",
            "fixtures",
            "docs",
            "build.rs",
            "rustfmt.toml",
            "deny.toml",
        ];
        assert!(known.contains(&top) || top.starts_with('.'), "{file} at the top level");
    }
}
