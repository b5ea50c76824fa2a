//! Rooms: which folder of `src` may name which, and that no two files name each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{is_at, paths, tokens, without_tests};
use super::{Source, program, read, sources, write_between};

/// The rooms of `src`, lowest first: their duty, and the rooms or modules that they name.
/// `docs/architecture.md` prints this table.
const ROOMS: &[(&str, &str, &[&str])] = &[
    (
        "system",
        "calls to the operating system: processes, signals, descriptors, files, memory, clock, network",
        &[],
    ),
    ("text", "text without meaning: globs, hex, durations", &[]),
    (
        "relay",
        "starts the server, moves bytes, forwards signals, ends as the server ends",
        &["system", "text::words"],
    ),
    (
        "observe",
        "lines, JSON-RPC members, pairing, hashes, redaction, repeated calls, trace context for requests",
        &["text", "relay::chunk", "relay::line_editor"],
    ),
    (
        "record",
        "the line of the log: record, schema, timestamps, file names",
        &["text", "relay::chunk", "observe"],
    ),
    (
        "export",
        "outputs: the log file, the live file, the `notify` command and OTLP",
        &[
            "system::access",
            "system::detached",
            "system::files",
            "system::mutex",
            "system::network",
            "system::processes",
            "system::thread",
            "text::baggage",
            "text::words",
            "relay::chunk",
            "observe",
            "record",
        ],
    ),
    (
        "settings",
        "settings: one name in flag, environment and file; paths, hash key, server names",
        &["system::access", "system::files", "system::places", "text", "observe", "record", "export"],
    ),
    (
        "proxy",
        "assembly of one proxy: threads, load modes, shutdown",
        &["text", "system", "relay", "observe", "record", "export", "settings"],
    ),
    (
        "collect",
        "receives the telemetry of agents and servers: ports, requests, adapters, facts, records",
        &["system", "text", "observe::redact", "record", "export::log", "export::otlp", "settings"],
    ),
    (
        "query",
        "reads session files and live files: scan, select, totals",
        &[
            "system::files",
            "system::mutex",
            "system::processes",
            "system::signal_name",
            "system::vector",
            "text",
            "record",
        ],
    ),
    (
        "present",
        "shows what `query` computed and `check` found: tables, waterfalls, the report page, the screen of `top`",
        &["text", "record", "query"],
    ),
    (
        "hosts",
        "edits hosts' config files without changing anything else in them; resolves how an entry starts its server",
        &["system", "text", "settings::server_name"],
    ),
    (
        "check",
        "probes a server, over pipes or HTTP, in either era of the protocol; compares its tools with those of the last check",
        &["system::group", "system::mutex", "system::network", "text", "observe", "hosts::launch"],
    ),
    ("demo", "the sample server and the scripted client", &[]),
    (
        "cli",
        "the command line: one file for each command",
        &[
            "text", "system", "relay", "observe", "record", "export", "settings", "proxy", "collect",
            "query", "present", "hosts", "check", "demo",
        ],
    ),
    ("lib", "list of the rooms", &[]),
    ("main", "parses the arguments, runs a command, exits with its status", &["system", "cli"]),
];

/// Returns the room of a file below `src`: the first part of its path.
fn room(path: &str) -> &str {
    path.split('/').nth(1).unwrap().trim_end_matches(".rs")
}

/// Returns the modules that the code of a file names, without its tests.
fn named(source: &Source) -> Vec<String> {
    let tokens = without_tests(tokens(&source.text));
    let mut named = paths(&tokens, "crate");
    named.extend(paths(&tokens, "spantap"));
    named
}

/// Returns each name in `sources` that the table does not allow, and each entry of the table that is not used.
fn forbidden_names(table: &[(&str, &str, &[&str])], sources: &[Source]) -> Vec<String> {
    let is_in = |name: &str, module: &str| name == module || name.starts_with(&format!("{module}::"));
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources {
        let own = room(&source.path);
        let Some((_, _, allowed)) = table.iter().find(|(name, _, _)| *name == own) else {
            wrong.push(format!("{} has no row", source.path));
            continue;
        };
        used.insert((own, ""));
        for name in named(source) {
            // Constants and macros of the crate's root do not belong to a room.
            let is_of_a_room = table.iter().any(|(room, _, _)| is_in(&name, room));
            if is_in(&name, own) || !is_of_a_room {
                continue;
            }
            match allowed.iter().find(|module| is_in(&name, module)) {
                Some(module) => drop(used.insert((own, module))),
                None => wrong.push(format!("{} names {name}", source.path)),
            }
        }
    }
    let rows = table.iter().flat_map(|(room, _, allowed)| {
        std::iter::once((*room, "")).chain(allowed.iter().map(move |module| (*room, *module)))
    });
    wrong.extend(rows.filter(|row| !used.contains(row)).map(|row| format!("{row:?} is not used")));
    wrong
}

#[test]
fn a_room_names_only_the_rooms_that_the_table_allows() {
    assert_eq!(forbidden_names(ROOMS, &program()), Vec::<String>::new());
    // The test can fail.
    let table: &[(&str, &str, &[&str])] = &[("low", "", &[]), ("high", "", &["low"])];
    let climb = "use crate::{high::Roof, low::Floor}; #[cfg(test)] mod tests { use crate::high::Wall; }";
    let sources =
        [Source::of("src/low.rs", climb), Source::of("src/high/up.rs", "fn f() { m!(crate::low::X) }")];
    assert_eq!(forbidden_names(table, &sources), ["src/low.rs names high::Roof"]);
    assert_eq!(forbidden_names(table, &sources[1..]), ["(\"low\", \"\") is not used"]);
    assert_eq!(forbidden_names(&table[..1], &sources)[..1], ["src/high/up.rs has no row"]);
}

#[test]
fn the_rooms_are_listed_from_low_to_high_in_the_table_and_in_lib() {
    let rooms: Vec<&str> = ROOMS.iter().map(|(room, _, _)| *room).collect();
    for (place, (room, _, allowed)) in ROOMS.iter().enumerate() {
        for module in *allowed {
            let other = rooms.iter().position(|room| module.split("::").next() == Some(room)).unwrap();
            assert!(other < place, "{room} names {module}, which is not lower");
        }
    }
    let lib = read("src/lib.rs");
    let modules = lib.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'));
    let without_main: Vec<&str> = rooms.into_iter().filter(|room| !["lib", "main"].contains(room)).collect();
    assert_eq!(modules.collect::<Vec<_>>(), without_main);
}

#[test]
fn the_documented_rooms_are_those_of_the_table() {
    let mut table = String::from("| room | duty | names |\n| --- | --- | --- |\n");
    for (room, duty, allowed) in ROOMS {
        let allowed: Vec<String> = allowed.iter().map(|module| format!("`{module}`")).collect();
        table.push_str(&format!("| `{room}` | {duty} | {} |\n", allowed.join(", ")));
    }
    write_between("docs/architecture.md", "rooms", &table);
}

/// Returns the circles in the imports of files, each as the paths of its files.
fn circles(sources: &[Source]) -> Vec<Vec<&str>> {
    let module = |path: &str| path.trim_start_matches("src/").trim_end_matches(".rs").replace('/', "::");
    let modules: BTreeMap<String, usize> =
        sources.iter().enumerate().map(|(file, source)| (module(&source.path), file)).collect();
    let file_of = |name: &str| {
        let ends = name.match_indices("::").map(|(end, _)| end).chain([name.len()]);
        ends.filter_map(|end| modules.get(&name[..end]).copied()).last()
    };
    let edges: Vec<BTreeSet<usize>> = sources
        .iter()
        .enumerate()
        .map(|(own, source)| {
            let files = named(source).into_iter().filter_map(|name| file_of(&name));
            files.filter(|file| *file != own).collect()
        })
        .collect();
    let reach = |from: usize| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<usize> = edges[from].iter().copied().collect();
        while let Some(file) = next.pop() {
            if seen.insert(file) {
                next.extend(&edges[file]);
            }
        }
        seen
    };
    let reached: Vec<BTreeSet<usize>> = (0..sources.len()).map(reach).collect();
    let mut circles: Vec<Vec<&str>> = (0..sources.len())
        .filter(|file| reached[*file].contains(file))
        .map(|file| {
            let members = (0..sources.len()).filter(|other| {
                *other == file || reached[file].contains(other) && reached[*other].contains(&file)
            });
            members.map(|member| sources[member].path.as_str()).collect()
        })
        .collect();
    circles.sort();
    circles.dedup();
    circles
}

#[test]
fn no_two_files_name_each_other_in_a_circle() {
    assert_eq!(circles(&program()), Vec::<Vec<&str>>::new());
    // The test can fail.
    let sources = [
        Source::of("src/a.rs", "use crate::b::inner::B;"),
        Source::of("src/b/inner.rs", "fn f() { m!(crate::c::g()) }"),
        Source::of("src/c.rs", "#[cfg(test)] use crate::d::D; use crate::{a::A};"),
        Source::of("src/d.rs", "use crate::c::C;"),
    ];
    assert_eq!(circles(&sources), [["src/a.rs", "src/b/inner.rs", "src/c.rs"]]);
}

/// Returns true if the code of a file may print to standard output.
fn prints(text: &str) -> bool {
    let tokens = tokens(text);
    let forbidden: [&[&str]; 4] = [
        &["println", "!"],
        &["print", "!"],
        &["io", ":", ":", "stdout", "("],
        &["stdout", "(", ")", ".", "lock"],
    ];
    (0..tokens.len()).any(|at| forbidden.iter().any(|expected| is_at(&tokens, at, expected)))
}

#[test]
fn only_main_touches_standard_output() {
    for source in sources("src") {
        assert!(source.path == "src/main.rs" || !prints(&source.text), "{} prints", source.path);
    }
    assert!(prints("fn f() { println!() }") && prints("fn f() { std::io::stdout().write(b) }"));
    assert!(!prints("/// println!()\nfn f() { eprintln!(\"print!()\") }"));
}

/// Returns true if the code of a file may start a thread whose stack the environment decides.
fn starts_a_bare_thread(text: &str) -> bool {
    let tokens = without_tests(tokens(text));
    let at = |at: usize, words: &[&str]| is_at(&tokens, at, words);
    let is_bare = |place: usize| {
        ["spawn", "Builder"].iter().any(|word| at(place, &["std", ":", ":", "thread", ":", ":", word]))
            || at(place, &["thread", ":", ":", "Builder"])
            || (at(place, &["new_current_thread"])
                && !(place..tokens.len())
                    .take_while(|place| !at(*place, &["build"]))
                    .any(|place| at(place, &["thread_stack_size"])))
    };
    (0..tokens.len()).any(is_bare)
}

#[test]
fn every_thread_of_a_session_has_a_stack_of_a_known_size() {
    // Threads of these rooms do not run beside a server.
    let elsewhere = ["check", "cli", "demo"];
    for source in sources("src") {
        let is_allowed = source.path == "src/system/thread.rs"
            || source.path.ends_with("tests.rs")
            || elsewhere.contains(&room(&source.path));
        assert!(is_allowed || !starts_a_bare_thread(&source.text), "{} starts a thread", source.path);
    }
    assert!(starts_a_bare_thread("fn f() { std::thread::spawn(g) }"));
    assert!(starts_a_bare_thread("fn f() { Builder::new_current_thread().enable_all().build() }"));
    assert!(!starts_a_bare_thread("fn f() { Builder::new_current_thread().thread_stack_size(1).build() }"));
}

/// Returns true if the code of a file asks the operating system itself.
fn asks_the_system(text: &str) -> bool {
    let tokens = without_tests(tokens(text));
    let interfaces = ["libc", "rustix", "signal_hook", "windows_sys"];
    (0..tokens.len()).any(|at| {
        interfaces.iter().any(|name| is_at(&tokens, at, &[name, ":", ":"]))
            || is_at(&tokens, at, &["std", ":", ":", "os", ":", ":"])
            || is_at(&tokens, at, &["signal", ":", ":", "unix"])
            || tokens[at].text.contains("/proc/")
    })
}

#[test]
fn only_the_room_of_the_system_knows_the_system() {
    for source in program() {
        let is_allowed = room(&source.path) == "system";
        assert!(is_allowed || !asks_the_system(&source.text), "{} asks the system", source.path);
    }
    assert!(asks_the_system("use std::os::unix::fs::MetadataExt;"));
    assert!(
        asks_the_system("fn f() { g(libc::SIGTERM) }") && asks_the_system("fn f() { g(\"/proc/self\") }")
    );
    assert!(!asks_the_system("#[cfg(test)] mod tests { use std::os::unix::fs::MetadataExt; }"));
}

/// Returns how often the code of a file uses `unsafe`.
fn uses_of_unsafe(text: &str) -> usize {
    tokens(text).iter().filter(|token| token.text == "unsafe").count()
}

#[test]
fn unsafe_code_is_in_the_system_room_and_the_relay_only() {
    for source in sources("src") {
        let is_allowed = ["relay", "system"].contains(&room(&source.path));
        assert!(is_allowed || uses_of_unsafe(&source.text) == 0, "{} has unsafe code", source.path);
    }
    assert_eq!(uses_of_unsafe("// unsafe\nfn f() { unsafe { g(\"unsafe\") } }"), 1);
}

#[test]
fn the_inventory_of_unsafe_code_is_that_of_the_code() {
    let page = read("docs/architecture.md");
    let inventory = page.split("## Unsafe code").nth(1).unwrap();
    for source in sources("src/relay").into_iter().chain(sources("src/system")) {
        let name = source.path.trim_start_matches("src/");
        if name.ends_with("/tests.rs") {
            continue;
        }
        let uses = uses_of_unsafe(&source.text);
        let row = format!("| `{name}` | {uses} | ");
        assert!(uses == 0 || inventory.contains(&row), "{name} has {uses} in docs/architecture.md");
        assert!(uses > 0 || !inventory.contains(&format!("| `{name}` |")), "{name} has none any more");
    }
}
