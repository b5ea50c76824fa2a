//! The server's name, derived from its command.

use std::ffi::OsString;

/// A program that starts another program, whose name becomes the server's name.
struct Launcher {
    name: &'static str,
    /// Words between the launcher and the launched program.
    verbs: &'static [&'static str],
    /// Options with a value that is not the launched program.
    with_value: &'static [&'static str],
    /// Options whose value is the launched program.
    naming: &'static [&'static str],
}

const fn launcher(
    name: &'static str,
    verbs: &'static [&'static str],
    with_value: &'static [&'static str],
) -> Launcher {
    Launcher { name, verbs, with_value, naming: &[] }
}

#[rustfmt::skip]
const CONTAINER_OPTIONS: &[&str] = &[
    "-e", "--env", "--env-file", "-v", "--volume", "--mount", "--name", "--network", "-p", "--publish", "-u",
    "--user", "-w", "--workdir", "--platform", "--entrypoint", "-l", "--label", "--add-host", "-m", "--memory",
    "--cpus", "--pull",
];

const LAUNCHERS: &[Launcher] = &[
    launcher("npx", &[], &["-p", "--package", "-c", "--call"]),
    launcher("bunx", &[], &["-p", "--package"]),
    launcher("pnpx", &[], &[]),
    launcher("npm", &["exec", "x", "run", "run-script"], &["-p", "--package", "-C", "--prefix"]),
    launcher("pnpm", &["dlx", "exec", "run"], &["-C", "--dir"]),
    launcher("yarn", &["dlx", "exec", "run"], &["--cwd", "-p", "--package"]),
    launcher(
        "node",
        &[],
        &["-r", "--require", "--import", "--loader", "--experimental-loader", "--env-file"],
    ),
    launcher("bun", &["run", "x"], &["--cwd", "--env-file"]),
    launcher("deno", &["run"], &["-c", "--config", "--import-map", "--lock"]),
    launcher("tsx", &["watch"], &["--tsconfig", "--env-file"]),
    launcher("ts-node", &[], &["-P", "--project"]),
    launcher(
        "uvx",
        &[],
        &["--from", "--with", "-p", "--python", "--index-url", "--index", "--refresh-package"],
    ),
    launcher(
        "uv",
        &["run", "tool", "x"],
        &["--directory", "--project", "--with", "--with-editable", "-p", "--python", "--from", "--env-file"],
    ),
    launcher("pipx", &["run"], &["--spec", "--python"]),
    launcher("python", &[], &["-W", "-X"]),
    launcher("mcp", &["run", "dev"], &["-t", "--transport", "--with", "-f", "--env-file"]),
    launcher("fastmcp", &["run", "dev"], &["-t", "--transport", "--with"]),
    launcher("docker", &["run", "exec", "container"], CONTAINER_OPTIONS),
    launcher("podman", &["run", "exec", "container"], CONTAINER_OPTIONS),
    launcher("java", &[], &["-cp", "-classpath", "--class-path", "-p", "--module-path"]),
    Launcher { name: "dotnet", verbs: &["run", "exec"], with_value: &["-c", "-f"], naming: &["--project"] },
    Launcher {
        name: "cargo",
        verbs: &["run"],
        with_value: &["--manifest-path", "--features", "--profile", "--target"],
        naming: &["--bin", "--example", "-p", "--package"],
    },
    launcher("go", &["run"], &["-C", "-tags", "-mod"]),
    launcher("ruby", &[], &["-r", "-I"]),
    launcher("php", &[], &["-d", "-c"]),
    launcher("env", &[], &["-u", "-C", "-S"]),
    launcher("sudo", &[], &["-u", "-g"]),
    launcher("nice", &[], &["-n"]),
    launcher("timeout", &[], &["-s", "-k"]),
    launcher("sh", &[], &[]),
    launcher("bash", &[], &["-O"]),
    launcher("zsh", &[], &[]),
    launcher("cmd", &[], &[]),
    launcher("spantap", &[], &[]),
];

impl Launcher {
    fn of(program: &str) -> Option<&'static Launcher> {
        let base = stem(program);
        let is_python = base == "pypy3" || (base.starts_with("python") && !base.contains('-'));
        let name = if is_python { "python" } else { base.as_str() };
        LAUNCHERS.iter().find(|launcher| launcher.name == name)
    }

    fn is_shell(&self) -> bool {
        matches!(self.name, "sh" | "bash" | "zsh" | "cmd")
    }

    /// Returns the name of the program that is launched with these arguments, if they contain one.
    fn launches(&self, arguments: &[String]) -> Option<String> {
        if self.name == "spantap" {
            let at = arguments.iter().position(|word| word == "--")?;
            return named(&arguments[at + 1..]);
        }
        let mut rest = arguments.iter().enumerate();
        let mut verbs_allowed = true;
        while let Some((index, word)) = rest.next() {
            match word.as_str() {
                "-m" if self.name == "python" => return rest.next().map(|(_, module)| module_name(module)),
                option if self.is_shell() && is_script_option(option) => {
                    return script_name(&arguments[index + 1..].join(" "));
                }
                "--" => return named(&arguments[index + 1..]),
                option if self.naming.contains(&option) => return rest.next().map(|(_, name)| package(name)),
                option if self.with_value.contains(&option) => {
                    rest.next();
                }
                option if option.starts_with('-') => {}
                verb if verbs_allowed && self.verbs.contains(&verb) => continue,
                assignment if self.name == "env" && assignment.contains('=') => {}
                time if self.name == "timeout" && time.starts_with(|c: char| c.is_ascii_digit()) => {}
                image if matches!(self.name, "docker" | "podman") => return Some(image_name(image)),
                next if Launcher::of(next).is_some() && index + 1 < arguments.len() => {
                    return named(&arguments[index..]);
                }
                next => return Some(package(next)),
            }
            verbs_allowed &= word.starts_with('-') || index == 0;
        }
        None
    }
}

/// Returns true for `-c`, alone or after other letters, and for `/c` of cmd.exe.
fn is_script_option(word: &str) -> bool {
    word.eq_ignore_ascii_case("/c")
        || (word.starts_with('-') && !word.starts_with("--") && word.ends_with('c'))
}

/// Returns the name of the last command of a shell script, which becomes the server.
fn script_name(script: &str) -> Option<String> {
    let command = script.split(['&', ';', '|', '\n']).map(str::trim).rfind(|command| !command.is_empty())?;
    let words = command.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned());
    let words: Vec<String> = words.skip_while(|word| word == "exec" || word.contains('=')).collect();
    named(&words)
}

/// Returns a short name for the server that `command` starts: the package, the module or the script's stem.
pub(crate) fn server_name(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    named(&words).filter(|name| !name.is_empty()).unwrap_or_else(|| "server".to_owned())
}

fn named(words: &[String]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let launched = Launcher::of(program).and_then(|launcher| launcher.launches(arguments));
    Some(launched.unwrap_or_else(|| package(program)))
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
fn package(word: &str) -> String {
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
fn module_name(module: &str) -> String {
    let mut parts = module.split('.').collect::<Vec<_>>();
    while parts.len() > 1 && matches!(parts.last(), Some(&("server" | "main" | "cli" | "__main__"))) {
        parts.pop();
    }
    parts.last().copied().unwrap_or(module).replace('_', "-")
}

/// Returns `server` for `registry.example/team/server:1.2@sha256:…`.
fn image_name(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split([':', '@']).next().unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("sh -c exec FOO=1 my-server", "my-server"),
            ("env A=1 npx -y @a/b", "b"),
            ("spantap --server x -- npx -y @a/b", "b"),
            ("bunx some-mcp", "some-mcp"),
            ("cat", "cat"),
            ("npx pkg", "pkg"),
            ("npx -y @scope/server-x@latest --root /data", "server-x"),
            ("npx --package=@x/y -- some-bin --flag", "some-bin"),
            ("npx -y mcp-remote https://mcp.example.com/sse", "mcp-remote"),
            ("npx.cmd -y @a/b", "b"),
            ("cmd /c npx -y @a/b", "b"),
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
            ("bash -lc exec npx -y @a/b", "b"),
            ("sh -c cd /x && npx -y @a/b", "b"),
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
            ("bash -c FOO=1 exec 'mcp-x' --flag", "mcp-x"),
            ("bash start-it.sh", "start-it"),
            ("C:\\tools\\thing.exe", "thing"),
            ("", "server"),
        ] {
            let words: Vec<OsString> =
                command.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect();
            let named = server_name(&words);
            if named != name {
                wrong.push(format!("{command}: {named} instead of {name}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
