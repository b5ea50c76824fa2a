//! The server's name, derived from its command.
//!
//! A command line contains secrets at any place, and a name is in every record, metric and file name. So a name
//! comes only from a word that the redactor left unchanged, and only from a place where a program is known to be:
//! after an option that is not known, the next word may be its value, and the launcher's own name is used.

use std::ffi::OsString;

mod launchers;

use crate::observe::redact::Redacted;
use launchers::{Launcher, LauncherOption};

/// One word of a command line.
#[derive(Clone, Debug)]
struct CommandWord {
    text: String,
    /// True if the redactor changed the word. Nothing may be derived from it.
    hidden: bool,
}

impl CommandWord {
    fn plain(text: &str) -> CommandWord {
        CommandWord { text: text.to_owned(), hidden: false }
    }
}

/// Returns a short name for the server that `command` starts: the package, the module or the script's stem.
/// `redacted` is the result of [`Redactor::redact_argv`](crate::observe::redact::Redactor::redact_argv).
pub(crate) fn server_name(command: &[OsString], redacted: &[Redacted]) -> String {
    let word = |(word, redacted): (&OsString, &Redacted)| {
        let text = word.to_string_lossy().into_owned();
        CommandWord { hidden: text != redacted.as_str(), text }
    };
    name_or_default(&command.iter().zip(redacted).map(word).collect::<Vec<_>>())
}

/// Returns the name by which `[server.NAME]` of the config file is looked up before there is a redactor. It is
/// the server's name, unless that is hidden. It may contain a secret and must not be shown.
pub(crate) fn section_name(command: &[OsString]) -> String {
    let word = |word: &OsString| CommandWord::plain(&word.to_string_lossy());
    name_or_default(&command.iter().map(word).collect::<Vec<_>>())
}

/// Returns the index of the word by which a command line starts spantap: its program, or what launchers such as
/// `npx -y` start. `None` if it starts another program, or if that is not certain.
pub(crate) fn spantap_at(words: &[&str]) -> Option<usize> {
    let mut at = 0;
    loop {
        let word = words.get(at)?.to_ascii_lowercase();
        // A package with a scope is another one.
        let name = match word.contains(['/', '\\']) && !word.starts_with('@') {
            true => stem(&word),
            false => package_name(&word),
        };
        if name == "spantap" && !word.starts_with('@') {
            return Some(at);
        }
        at += 1 + launched_at(Launcher::of(&stem(&word))?, &words[at + 1..])?;
    }
}

/// Returns the index of the program that `launcher` starts with these arguments.
fn launched_at(launcher: &Launcher, arguments: &[&str]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *arguments.get(at)? {
            "--" => return Some(at + 1),
            option if launcher.name == "cmd" && option.starts_with('/') => at += 1,
            option if launcher.is_shell() && is_script_option(option) => return None,
            option if option.starts_with('-') => match launcher.option(option) {
                LauncherOption::Alone => at += 1,
                LauncherOption::WithValue => at += 2,
                LauncherOption::Naming | LauncherOption::Unknown => return None,
            },
            verb if launcher.is_verb(verb) => at += 1,
            assignment if launcher.name == "env" && assignment.contains('=') => at += 1,
            _ => return Some(at),
        }
    }
}

fn name_or_default(words: &[CommandWord]) -> String {
    named(words).unwrap_or_else(|| "server".to_owned())
}

fn named(words: &[CommandWord]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let launcher = Launcher::of(&stem(&program.text));
    launcher.and_then(|launcher| launched_by(launcher, arguments)).or_else(|| package(program))
}

/// Returns the name of the program that `launcher` starts with these arguments, if they name one for certain.
fn launched_by(launcher: &Launcher, arguments: &[CommandWord]) -> Option<String> {
    if launcher.name == "spantap" {
        let at = arguments.iter().position(|word| word.text == "--")?;
        return named(&arguments[at + 1..]);
    }
    let mut rest = arguments.iter().enumerate();
    let mut verbs_allowed = true;
    while let Some((index, word)) = rest.next() {
        let after = &arguments[index + 1..];
        let is_assignment = || matches!(launcher.name, "env" | "sudo") && word.text.contains('=');
        let is_time = || launcher.name == "timeout" && word.text.starts_with(|c: char| c.is_ascii_digit());
        match word.text.as_str() {
            "-m" if launcher.name == "python" => return module_name(after.first()?),
            option if launcher.is_shell() && is_script_option(option) => return script_name(launcher, after),
            "--" => return named(after),
            // No option of the command interpreter takes the next word.
            option if launcher.name == "cmd" && option.starts_with('/') => {}
            option if option.starts_with('-') => match launcher.option(option) {
                LauncherOption::Alone => {}
                LauncherOption::WithValue => drop(rest.next()),
                LauncherOption::Naming => return package(after.first()?),
                LauncherOption::Unknown if after.first()?.text.starts_with('-') => {}
                LauncherOption::Unknown => return None,
            },
            verb if verbs_allowed && launcher.is_verb(verb) => continue,
            _ if is_assignment() || is_time() => {}
            _ if matches!(launcher.name, "docker" | "podman") => return image_name(word),
            next if Launcher::of(&stem(next)).is_some() && !after.is_empty() => {
                return named(&arguments[index..]);
            }
            _ => return package(word),
        }
        verbs_allowed &= word.text.starts_with('-') || index == 0;
    }
    None
}

/// Returns true for `-c`, alone or after other letters, and for `/c` of cmd.exe.
fn is_script_option(word: &str) -> bool {
    word.eq_ignore_ascii_case("/c")
        || (word.starts_with('-') && !word.starts_with("--") && word.ends_with('c'))
}

/// Returns the name of the last command of a script, which becomes the server.
fn script_name(shell: &Launcher, arguments: &[CommandWord]) -> Option<String> {
    let script = arguments.first().filter(|script| !script.hidden)?;
    if shell.name == "cmd" {
        return match script.text.contains([' ', '"', '&', '|', '^', '%']) {
            true => None,
            false => named(arguments),
        };
    }
    let words = last_command(&script.text)?;
    let is_assignment = |word: &str| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    let words: Vec<CommandWord> = words
        .iter()
        .skip_while(|word| *word == "exec" || is_assignment(word))
        .map(|word| CommandWord::plain(word))
        .collect();
    let program = &words.first()?.text;
    let is_program = |c: char| c.is_ascii_alphanumeric() || "_./@:+~-".contains(c);
    if program.starts_with('-') || !program.chars().all(is_program) { None } else { named(&words) }
}

/// Returns the words of the last command of a shell script, or `None` if the script has substitutions,
/// groups, redirected input, escapes or comments, in which a word can be anything.
fn last_command(script: &str) -> Option<Vec<String>> {
    let mut command: Vec<String> = Vec::new();
    let (mut last, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = script.chars().chain(['\n']).peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\' | '`' | '(' | ')') | (None, '<') => return None,
            (None, '#') if word.is_none() => return None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\n' | ';' | '|' | '&') => {
                command.extend(word.take());
                if !matches!(c, ' ' | '\t') && !command.is_empty() {
                    last = std::mem::take(&mut command);
                }
            }
            (None, c) => {
                word.get_or_insert_default().push(c);
                // `2>&1` does not end a command.
                word.get_or_insert_default().extend(chars.next_if(|next| c == '>' && *next == '&'));
            }
        }
    }
    quote.is_none().then_some(last)
}

/// Returns the file name without folder and ending.
fn stem(path: &str) -> String {
    const ENDINGS: &[&str] = &[
        ".exe", ".cmd", ".bat", ".sh", ".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".tsx", ".jar", ".dll",
        ".csproj", ".rb", ".php", ".go",
    ];
    let name = path.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(path);
    let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending).filter(|stem| !stem.is_empty()));
    stem.unwrap_or(name).to_owned()
}

/// Returns `server-x` for `@scope/server-x@1.2`, for `jsr:@scope/server-x` and for a path to it.
fn package(word: &CommandWord) -> Option<String> {
    if word.hidden {
        return None;
    }
    let word = match word.text.split_once("://") {
        Some((_, address)) => {
            let address = address.split(['?', '#']).next()?;
            if address.split('/').next()?.contains('@') {
                return None;
            }
            address
        }
        None => word.text.as_str(),
    };
    Some(package_name(word)).filter(|name| !name.is_empty())
}

fn package_name(word: &str) -> String {
    let is_registry = ["npm:", "jsr:"].iter().find_map(|registry| word.strip_prefix(registry));
    let word = is_registry.unwrap_or(word);
    if word.contains(['/', '\\']) && !word.starts_with('@') && is_registry.is_none() {
        return path_name(word);
    }
    let name = word.rsplit('/').next().unwrap_or(word);
    let name = name.split(['@', '[', '=', '>', '<', '~']).find(|part| !part.is_empty()).unwrap_or(name);
    stem(name)
}

/// Returns the stem of a path, or the name of its folder if the stem is a generic word.
fn path_name(path: &str) -> String {
    const STEMS: &[&str] = &["index", "main", "server", "cli", "app", "__main__"];
    const FOLDERS: &[&str] = &["dist", "build", "src", "bin", "lib", "out", "target", "release", "debug"];
    /// Folders of users and of the system, whose names do not name a server.
    const ROOTS: &[&str] =
        &["home", "Users", "usr", "local", "opt", "srv", "tmp", "var", "root", ".", "..", "/", ""];
    let path = match path.rsplit_once('@') {
        Some((path, version)) if !version.contains('/') => path,
        _ => path,
    };
    let stem = stem(path);
    if !STEMS.contains(&stem.as_str()) {
        return stem;
    }
    let path = path.replace('\\', "/");
    let folders: Vec<&str> = path.split('/').rev().skip(1).collect();
    let nearest = folders.iter().position(|folder| !FOLDERS.contains(folder));
    let folder = nearest.and_then(|at| folders.get(at));
    let above = nearest.and_then(|at| folders.get(at + 1)).copied().unwrap_or_default();
    match folder {
        Some(folder) if !ROOTS.contains(folder) && !matches!(above, "home" | "Users") => (*folder).to_owned(),
        _ => stem,
    }
}

/// Returns `mcp-server-git` for `mcp_server_git`, and `pkg` for `pkg.server`.
fn module_name(module: &CommandWord) -> Option<String> {
    let mut parts = module.text.split('.').collect::<Vec<_>>();
    while parts.len() > 1 && matches!(parts.last(), Some(&("server" | "main" | "cli" | "__main__"))) {
        parts.pop();
    }
    parts.last().filter(|name| !module.hidden && !name.is_empty()).map(|name| name.replace('_', "-"))
}

/// Returns `server` for `registry.example/team/server:1.2@sha256:…`.
fn image_name(image: &CommandWord) -> Option<String> {
    let name = image.text.rsplit('/').next()?.split([':', '@']).next()?;
    Some(name).filter(|name| !image.hidden && !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::redact::Redactor;

    #[test]
    fn spantap_is_found_behind_launchers() {
        for (line, at) in [
            ("spantap -- cat", Some(0)),
            ("/opt/bin/spantap -- cat", Some(0)),
            (r"C:\Tools\Spantap.EXE run -- cat", Some(0)),
            ("spantap.cmd -- cat", Some(0)),
            ("npx -y spantap -- npx -y pkg", Some(2)),
            ("npx spantap@0.1.0 -- cat", Some(1)),
            ("npx.cmd --yes --package spantap spantap -- cat", Some(4)),
            ("cmd /d /s /c npx -y spantap -- cat", Some(6)),
            ("uvx spantap==0.1.0 -- cat", Some(1)),
            ("/usr/bin/uvx --from spantap spantap run -- cat", Some(3)),
            ("uv tool run spantap -- cat", Some(3)),
            ("pnpm dlx spantap -- cat", Some(2)),
            ("bun x spantap -- cat", Some(2)),
            ("env A=b spantap -- cat", Some(2)),
            ("npx -y pkg spantap --", None),
            ("npx -y @other/spantap -- cat", None),
            ("npx --future-option spantap -- cat", None),
            ("npx", None),
            ("npx -p", None),
            ("sh -c spantap", None),
            ("node spantap-server.js", None),
            ("spantap-other -- cat", None),
        ] {
            assert_eq!(spantap_at(&line.split(' ').collect::<Vec<_>>()), at, "{line}");
        }
        assert_eq!(spantap_at(&[]), None);
    }
    use std::collections::BTreeSet;

    /// Splits a command line at blanks that are not between single quotes.
    fn words(command: &str) -> Vec<OsString> {
        let parts = command.split('\'').enumerate().flat_map(|(at, part)| match at % 2 {
            0 => part.split(' ').filter(|word| !word.is_empty()).collect(),
            _ => vec![part],
        });
        parts.map(Into::into).collect()
    }

    /// The value of an option that is not known is not a name, nor is any other word that need not be a program.
    #[test]
    fn a_word_that_may_be_anything_is_not_a_name() {
        let mut wrong = Vec::new();
        for (command, name) in [
            ("npx --future-option VALUE pkg", "npx"),
            ("npx -Z VALUE pkg", "npx"),
            ("npx --future-option -y pkg", "pkg"),
            ("uvx --future-option VALUE", "uvx"),
            ("uv run --future-option VALUE srv", "uv"),
            ("docker run -i --future-option VALUE image", "docker"),
            ("docker run -it --rm -h VALUE image", "image"),
            ("docker run -iv VALUE image", "image"),
            ("docker --context VALUE run -i image", "image"),
            ("node --title VALUE server.js", "server"),
            ("node -e 'VALUE'", "node"),
            ("node -p 'VALUE' x.js", "node"),
            ("python3 -c 'import VALUE'", "python3"),
            ("python3 -uc 'VALUE'", "python3"),
            ("python3 - VALUE", "python3"),
            ("ruby -e 'VALUE'", "ruby"),
            ("php -r 'VALUE'", "php"),
            ("deno eval 'VALUE'", "eval"),
            ("bun -e 'VALUE'", "bun"),
            ("perl -e 'VALUE'", "perl"),
            ("uvx --extra-index-url https://u:VALUE@h mcp-foo", "mcp-foo"),
            ("npx -y https://u:VALUE@packages.corp/x", "npx"),
            ("npx -y https://packages.corp/x.tgz?sig=VALUE", "x.tgz"),
            ("sh -c 'A=\"two VALUE\" srv'", "srv"),
            ("sh -c 'A=\"two; VALUE\" srv'", "srv"),
            ("sh -c 'srv \"a && VALUE b\"'", "srv"),
            ("sh -c 'srv $(cat x; VALUE y)'", "sh"),
            ("sh -c 'srv `cat x; VALUE y`'", "sh"),
            ("sh -c 'srv <<END\nVALUE\nEND'", "sh"),
            ("sh -c 'srv # x; VALUE'", "sh"),
            ("sh -c 'srv a\\; VALUE'", "sh"),
            ("sh -c 'srv \"a; VALUE'", "sh"),
            ("sh -c '> VALUE srv'", "sh"),
            ("sh -c 'exec -a VALUE srv'", "sh"),
            ("sh -c 'srv;' VALUE", "srv"),
            ("sh -c 'srv 2>&1'", "srv"),
            ("cmd /c 'set A=VALUE&& npx -y b'", "cmd"),
            ("sudo A=VALUE mcp-x", "mcp-x"),
            ("env -i A=VALUE mcp-x", "mcp-x"),
            ("timeout --future-option VALUE 5 srv", "timeout"),
        ] {
            let named = section_name(&words(command));
            if named != name || named.contains("VALUE") {
                wrong.push(format!("{command}: {named} instead of {name}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Tokens of vendors, and passwords that are recognised by what stands before them, at every place of
    /// the command lines that hosts have.
    #[test]
    fn no_part_of_a_secret_is_in_a_name() {
        let mut redactor = Redactor::default();
        let mut seen = BTreeSet::new();
        let tokens: Vec<&str> = crate::observe::redact::rules().map(|rule| rule.sample).step_by(12).collect();
        let passwords = ["Zx9qT4mWv7", "correct horse"];
        let lines: &[&[&str]] = &[
            &["npx", "-y", "pkg"],
            &["npx", "--registry", "https://h", "--future", "x", "pkg"],
            &["uvx", "--index", "https://h", "pkg", "--flag"],
            &["uv", "run", "--directory", "/x", "python", "-m", "pkg.server"],
            &["docker", "run", "-i", "--rm", "-e", "A=b", "--future", "x", "image"],
            &["env", "A=b", "node", "--title", "x", "server.js"],
            &["python3", "-c", "code"],
            &["sh", "-c", "cd /x && exec npx -y pkg", "sh"],
            &["/opt/x/server", "--flag"],
        ];
        for line in lines {
            for at in 0..=line.len() {
                let secrets = tokens.iter().map(|token| (*token, vec!["{}", "x-{}", "@{}/{}", "{}.js"]));
                let named = ["--api-key={}", "API_KEY={}", "https://u:{}@h/{}", "A=b API_KEY='{}' srv"];
                let secrets = secrets.chain(passwords.map(|password| (password, named.to_vec())));
                for (secret, form) in
                    secrets.flat_map(|(secret, forms)| forms.into_iter().map(move |form| (secret, form)))
                {
                    let secret_word = match form.starts_with("https") {
                        true => form.replacen("{}", &secret.replace(' ', "%20"), 1).replace("{}", "pkg"),
                        false => form.replace("{}", secret),
                    };
                    let inserted = [&line[..at], &[&secret_word], &line[at..]].concat();
                    let mut replaced = line.to_vec();
                    replaced.splice(at..(at + 1).min(line.len()), [secret_word.as_str()]);
                    let mut within: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
                    if let Some(word) = within.get_mut(at) {
                        *word = format!("{word} \"{secret_word}\"; {secret_word} x");
                    }
                    for words in [inserted, replaced, within.iter().map(String::as_str).collect()] {
                        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
                        let redacted = redactor.redact_argv(&words);
                        let named = server_name(&words, &redacted);
                        let is_hidden =
                            |part: &str| !redacted.iter().any(|word| word.as_str().contains(part));
                        let leaks = secret.split(' ').any(|part| named.contains(part) && is_hidden(part));
                        assert!(!leaks && !named.contains("REDACTED"), "{words:?}: {named}");
                        seen.insert(named);
                    }
                }
            }
        }
        // Names are still derived.
        for name in ["pkg", "image", "server"] {
            assert!(seen.contains(name), "{seen:?}");
        }
    }

    #[test]
    fn a_server_is_named_as_its_user_would_name_it() {
        let mut wrong = Vec::new();
        for (command, name) in [
            ("npx -y @modelcontextprotocol/server-filesystem /data", "server-filesystem"),
            ("npx --yes some-mcp@1.2.3", "some-mcp"),
            ("npx -p @x/y some-bin", "some-bin"),
            ("uvx mcp-server-git --repository .", "mcp-server-git"),
            ("uvx --from git+https://h.example/x mcp-x", "mcp-x"),
            ("uv run --directory /x python -m pkg.server", "pkg"),
            ("uv tool run mcp-server-time", "mcp-server-time"),
            ("node dist/index.js", "index"),
            ("node /home/me/weather/dist/index.js", "weather"),
            ("node --require x.js build/tool.mjs", "tool"),
            ("python3 -m mcp_server_fetch", "mcp-server-fetch"),
            ("/usr/bin/python3.11 -u scripts/notes.py", "notes"),
            ("docker run -i --rm -e KEY ghcr.io/github/github-mcp-server:latest", "github-mcp-server"),
            ("/opt/bin/my-server --flag", "my-server"),
            ("sh -c 'exec FOO=1 my-server'", "my-server"),
            ("env A=1 npx -y @a/b", "b"),
            ("spantap --server x -- npx -y @a/b", "b"),
            ("bunx some-mcp", "some-mcp"),
            ("bunx -y foo-mcp", "foo-mcp"),
            ("poetry run srv", "srv"),
            ("pdm run -p /x srv", "srv"),
            ("cat", "cat"),
            ("npx pkg", "pkg"),
            ("npx -y @scope/server-x@latest --root /data", "server-x"),
            ("npx --package=@x/y -- some-bin --flag", "some-bin"),
            ("npx -y mcp-remote https://mcp.example.com/sse", "mcp-remote"),
            ("npx.cmd -y @a/b", "b"),
            ("cmd /c npx -y @a/b", "b"),
            ("cmd.exe /D /S /C npx -y @a/b", "b"),
            ("cmd /d", "cmd"),
            ("/usr/local/bin/npx -y tool", "tool"),
            ("npm exec -y @a/b", "b"),
            ("npm exec -- @a/b arg", "b"),
            ("pnpm dlx @a/b", "b"),
            ("yarn dlx @a/b", "b"),
            ("bun x @a/b", "b"),
            ("bunx --bun @a/b", "b"),
            ("bun run src/index.ts", "index"),
            ("deno run --allow-net --allow-read jsr:@scope/mcp-thing@1", "mcp-thing"),
            ("deno run -A npm:@scope/mcp-thing", "mcp-thing"),
            ("deno run -A https://example.com/mcp/tool.ts", "tool"),
            ("uvx mcp-server-git==1.2.3", "mcp-server-git"),
            ("uvx mcp-server-git@latest", "mcp-server-git"),
            ("uvx --python 3.12 pkg[extra]", "pkg"),
            ("uv run server.py", "server"),
            ("uv run --with mcp mcp run weather.py", "weather"),
            ("uv --directory /home/me/weather run weather.py", "weather"),
            ("uv run --project . pkg-server", "pkg-server"),
            ("pipx run --spec x mcp-x", "mcp-x"),
            ("python -m pkg.server --port 1", "pkg"),
            ("python -m pkg", "pkg"),
            ("python -m weather.__main__", "weather"),
            ("python3 /srv/notes/server.py", "notes"),
            ("python3 -u -X dev /srv/notes/src/main.py", "notes"),
            ("docker run --rm -i mcp/github", "github"),
            ("docker run -i --rm --name x -v /a:/b -e A=1 --env B=2 reg:5000/t/srv:1@sha256:0", "srv"),
            ("docker run -i --rm --mount type=bind,src=/a,dst=/b mcp/fs /b", "fs"),
            ("docker exec -i box mcp-server", "box"),
            ("podman run -i img", "img"),
            ("node --import tsx --inspect=0 src/server.ts", "server"),
            ("node /x/node_modules/@scope/server-y/dist/index.js", "server-y"),
            ("node /x/node_modules/.bin/server-z", "server-z"),
            ("node build/index.js", "index"),
            ("tsx watch src/tool.ts", "tool"),
            ("bash -lc 'exec npx -y @a/b'", "b"),
            ("sh -c 'cd /x && npx -y @a/b'", "b"),
            ("sh -c 'cd \"$HOME/x y\" && exec mcp-x 2>&1'", "mcp-x"),
            ("sh -c 'A=\"b c\" \"mcp-x\" --flag'", "mcp-x"),
            ("env -u X A=1 B=2 uvx mcp-x", "mcp-x"),
            ("sudo -u me mcp-x", "mcp-x"),
            ("nice -n 5 mcp-x --flag", "mcp-x"),
            ("/usr/bin/env node /x/thing/index.js", "thing"),
            ("spantap run --server a -- uvx mcp-x", "mcp-x"),
            ("/opt/spantap -- /opt/other/server", "other"),
            ("java -jar /opt/my-mcp-1.2.jar", "my-mcp-1.2"),
            ("dotnet run --project /src/My.Server/My.Server.csproj", "My.Server"),
            ("dotnet /opt/My.Server.dll", "My.Server"),
            ("go run ./cmd/mcp-x", "mcp-x"),
            ("go run github.com/a/mcp-y@latest", "mcp-y"),
            ("cargo run --release --bin mcp-z", "mcp-z"),
            ("ruby -Ilib bin/mcp-r", "mcp-r"),
            ("php artisan.php", "artisan"),
            ("/nix/store/abc-x/bin/mcp-nix", "mcp-nix"),
            ("./server", "server"),
            ("../weather/server", "weather"),
            ("npx", "npx"),
            ("npx -y", "npx"),
            ("python", "python"),
            ("docker run -i", "docker"),
            ("/home/me/server.py", "server"),
            ("python /home/me/server.py", "server"),
            ("/usr/local/bin/server", "server"),
            ("C:\\Users\\me\\weather\\dist\\index.js", "weather"),
            ("node C:\\Users\\me\\index.js", "index"),
            ("node /x/node_modules/@scope/server-y/dist/cli.js", "server-y"),
            ("timeout 60 mcp-x", "mcp-x"),
            ("bash -c 'FOO=1 exec mcp-x --flag' name", "mcp-x"),
            ("bash start-it.sh", "start-it"),
            ("C:\\tools\\thing.exe", "thing"),
            ("", "server"),
        ] {
            let named = section_name(&words(command));
            if named != name {
                wrong.push(format!("{command}: {named} instead of {name}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
