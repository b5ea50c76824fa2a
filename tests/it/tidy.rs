//! The house is in order: rooms, names, sizes, words, and what README and docs state.

mod code;
mod names;
mod rooms;
mod words;

use std::fs;
use std::path::Path;

use crate::support::skip;

/// A file, with its path from the repository's root.
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    fn of(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the files below `folder` whose names end in `ending`, in the order of their paths.
fn files(folder: &str, ending: &str) -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.ends_with(ending) {
                let text = read(&path);
                files.push(Source { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Returns every Rust file below `folder`.
fn sources(folder: &str) -> Vec<Source> {
    files(folder, ".rs")
}

/// Returns the files of `src` that are compiled into the program.
fn program() -> Vec<Source> {
    let mut sources = sources("src");
    sources.retain(|source| !source.path.ends_with("/tests.rs"));
    sources
}

/// Returns README and the pages of `docs`.
fn pages() -> Vec<(String, String)> {
    let docs = files("docs", ".md").into_iter().map(|page| (page.path, page.text));
    std::iter::once(("README.md".to_owned(), read("README.md"))).chain(docs).collect()
}

/// Checks that a page contains `text` between the markers of `name`. With `UPDATE_FIXTURES` it is written there.
#[track_caller]
fn write_between(path: &str, name: &str, text: &str) {
    let page = read(path);
    let [begin, end] = [format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n")];
    let (before, rest) = page.split_once(&begin).expect("a marker");
    let (found, after) = rest.split_once(&end).expect("a marker of the end");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(root().join(path), [before, &begin, text, &end, after].concat()).unwrap();
    } else {
        assert_eq!(found, text, "{path}; UPDATE_FIXTURES=1 writes it");
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
    for source in sources("src").into_iter().chain(sources("tests")) {
        let lines = source.text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines", source.path);
    }
}

#[test]
fn the_required_crates_are_direct_dependencies_with_a_use_that_the_docs_name() {
    let manifest = read("Cargo.toml");
    let architecture = read("docs/architecture.md");
    let code: String = sources("src").into_iter().map(|source| source.text).collect();
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
            // The code builds names from these parts: `OTEL_{}_EXPORTER` is documented as
            // `OTEL_<S>_EXPORTER`.
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

/// Returns the long names in backticked code of a page, which are names of tests.
fn named_tests(page: &str) -> Vec<&str> {
    let code = page.split('`').skip(1).step_by(2);
    let words = code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| word.matches('_').count() >= 4).collect()
}

#[test]
fn the_tests_that_the_architecture_names_exist() {
    let code: String = sources("src").into_iter().chain(sources("tests")).map(|source| source.text).collect();
    for name in named_tests(&read("docs/architecture.md")) {
        assert!(code.contains(&format!("fn {name}(")), "{name}");
    }
    assert_eq!(named_tests("a_b_c_d_e `m::{f_g_h_i_j,k_l}`"), ["f_g_h_i_j"]);
}

#[test]
fn the_files_that_docs_link_to_exist() {
    for (page, text) in pages() {
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#', ' ']).next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            assert!(root().join(&page).parent().unwrap().join(target).exists(), "{page}: {target}");
        }
    }
}

#[test]
fn top_level_holds_only_what_tools_need_there() {
    let output =
        std::process::Command::new("git").args(["ls-files"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let Ok(output) = output else { return skip("the files at the top level: git does not start") };
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
