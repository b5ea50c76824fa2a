//! Programs that start another program, and their options.

/// A program that starts another one, whose name becomes the server's. The lists are separated by blanks.
pub(super) struct Launcher {
    pub(super) name: &'static str,
    /// Words between the launcher and the launched program.
    pub(super) verbs: &'static str,
    /// Options without a value. A `*` at the end is any text.
    flags: &'static str,
    /// Options with a value that is not the launched program.
    with_value: &'static str,
    /// Options whose value is the launched program.
    naming: &'static str,
}

/// The argument of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LauncherOption {
    Alone,
    WithValue,
    Naming,
    /// The next word may be its value, or the launched program.
    Unknown,
}

impl Launcher {
    pub(super) fn of(program: &str) -> Option<&'static Launcher> {
        let is_python = program == "pypy3" || (program.starts_with("python") && !program.contains('-'));
        let name = if is_python { "python" } else { program };
        LAUNCHERS.iter().find(|launcher| launcher.name == name)
    }

    pub(super) fn is_shell(&self) -> bool {
        matches!(self.name, "sh" | "bash" | "zsh" | "cmd")
    }

    pub(super) fn is_verb(&self, word: &str) -> bool {
        self.verbs.split(' ').any(|verb| verb == word)
    }

    /// Returns what follows `option`, which begins with a dash.
    pub(super) fn option(&self, option: &str) -> LauncherOption {
        let has = |list: &str| list.split(' ').any(|known| known == option);
        let is_flag = |option: &str| {
            self.flags.split(' ').any(|flag| match flag.strip_suffix('*') {
                Some(start) => option.starts_with(start),
                None => option == flag,
            })
        };
        match option {
            _ if option.contains('=') => LauncherOption::Alone,
            _ if has(self.naming) => LauncherOption::Naming,
            _ if has(self.with_value) => LauncherOption::WithValue,
            _ if is_flag(option) => LauncherOption::Alone,
            // A single dash is a script from standard input.
            _ if option == "-" || option.starts_with("--") => LauncherOption::Unknown,
            _ => self.cluster(&option[1..], is_flag),
        }
    }

    /// Returns what follows several options of one letter, such as `-it`, or one with its value, such as `-p3`.
    fn cluster(&self, letters: &str, is_flag: impl Fn(&str) -> bool) -> LauncherOption {
        for (at, letter) in letters.char_indices() {
            let option = format!("-{letter}");
            if self.with_value.split(' ').any(|known| known == option) {
                let is_last = at + letter.len_utf8() == letters.len();
                return if is_last { LauncherOption::WithValue } else { LauncherOption::Alone };
            }
            if !is_flag(&option) {
                return LauncherOption::Unknown;
            }
        }
        LauncherOption::Alone
    }
}

const fn launcher(
    name: &'static str,
    verbs: &'static str,
    flags: &'static str,
    with_value: &'static str,
) -> Launcher {
    Launcher { name, verbs, flags, with_value, naming: "" }
}

const NPM_FLAGS: &str = "-y --yes --no --no-* -q --quiet -s --silent --verbose -d -g --global \
    --ignore-existing --prefer-online --prefer-offline --offline --if-present --workspaces";
const NPM_VALUES: &str = "-p --package -c --call --registry --cache --userconfig --prefix -C --dir --cwd -w \
    --workspace --loglevel --tag --otp --script-shell --node-options -F --filter";

const UV_FLAGS: &str = "-q --quiet -v --verbose -n --no-* -U --upgrade --refresh --reinstall --isolated --offline \
    --native-tls --frozen --locked --active --exact --dev --only-dev --all-* --managed-python --preview -s --script \
    --gui-script --compile-bytecode";
const UV_VALUES: &str = "--directory --project --with --with-editable --with-requirements -w -p --python --from \
    --env-file --extra --group --only-group --index --default-index --index-url -i --extra-index-url --find-links \
    -f --index-strategy --keyring-provider --cache-dir --config-file --link-mode --prerelease --resolution \
    --exclude-newer --refresh-package --upgrade-package -P --reinstall-package --no-binary-package \
    --no-build-package --color --allow-insecure-host -c --constraints --overrides --build-constraints \
    --python-preference --python-platform";

const CONTAINER_FLAGS: &str = "-i --interactive -t --tty -d --detach --rm --init --privileged --read-only -P \
    --publish-all -q --quiet --no-healthcheck --oom-kill-disable -D --debug --tls --tlsverify --replace \
    --no-hosts --remote";
const CONTAINER_VALUES: &str = "-a --attach --add-host --annotation --arch --blkio-weight --cap-add --cap-drop \
    --cgroup-parent --cgroupns --cidfile --config --context --cpu-period --cpu-quota -c --cpu-shares --cpus \
    --cpuset-cpus --cpuset-mems --detach-keys --device --dns --dns-option --dns-search --domainname --entrypoint \
    -e --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries \
    --health-timeout -H --host -h --hostname --ip --ip6 --ipc -l --label --label-file --link --log-driver \
    --log-level --log-opt --mac-address -m --memory --memory-reservation --memory-swap --mount --name --network \
    --net --network-alias --os --passwd-entry --pid --pids-limit --platform -p --publish --pull --restart \
    --runtime --secret --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs \
    --tz --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir";

const LAUNCHERS: &[Launcher] = &[
    launcher("npx", "", NPM_FLAGS, NPM_VALUES),
    launcher("bunx", "", "--bun -b -y --yes --silent --verbose --no-install", "-p --package"),
    launcher("pnpx", "", NPM_FLAGS, NPM_VALUES),
    launcher("npm", "exec x run run-script", NPM_FLAGS, NPM_VALUES),
    launcher("pnpm", "dlx exec run", NPM_FLAGS, NPM_VALUES),
    launcher("yarn", "dlx exec run", NPM_FLAGS, NPM_VALUES),
    launcher(
        "node",
        "",
        "--no-* --trace-* --throw-deprecation --enable-source-maps --inspect --inspect-brk --watch \
         --experimental-* --preserve-symlinks --preserve-symlinks-main --expose-gc --strip-types",
        "-r --require --import --loader --experimental-loader --env-file --env-file-if-exists -C --conditions \
         --title --icu-data-dir --openssl-config --max-http-header-size --dns-result-order --disable-warning",
    ),
    launcher(
        "bun",
        "run x",
        "--bun -b --silent --watch --hot --smol --no-* -i --if-present",
        "--cwd --env-file -r --preload -c --config",
    ),
    launcher(
        "deno",
        "run",
        "-A -q --quiet --allow-* -R -W -N -E -S --unstable* --no-* --node-modules-dir -r --reload --watch \
         --cached-only --check --frozen",
        "-c --config --import-map --lock --cert --location --seed -L --log-level --ext",
    ),
    launcher(
        "tsx",
        "watch",
        "--no-* --test",
        "--tsconfig --env-file --import -r --require --include --exclude -C --conditions",
    ),
    launcher("ts-node", "", "-T --transpile-only --esm --swc --files", "-P --project -r --require"),
    launcher("uvx", "", UV_FLAGS, UV_VALUES),
    launcher("uv", "run tool x", UV_FLAGS, UV_VALUES),
    launcher(
        "pipx",
        "run",
        "--no-* --pypackages -q --quiet -v --verbose",
        "--spec --python --pip-args -i --index-url",
    ),
    launcher("python", "", "-u -B -E -I -O -OO -s -S -v -q -P -b -d", "-W -X"),
    launcher("mcp", "run dev", "", "-t --transport --with --with-editable -e -f --env-file"),
    launcher("fastmcp", "run dev", "--no-* --skip-*", "-t --transport --with --host --port -p --project"),
    launcher(
        "poetry",
        "run",
        "-q --quiet -v -n --no-interaction --no-plugins --no-cache",
        "-C --directory -P --project",
    ),
    launcher("pipenv", "run", "-q --quiet -v --verbose --clear", "--python"),
    launcher(
        "pdm",
        "run",
        "-q --quiet -v --verbose -g --global -s --site-packages -n --no-lock",
        "-p --project -c --config",
    ),
    launcher("docker", "run exec container", CONTAINER_FLAGS, CONTAINER_VALUES),
    launcher("podman", "run exec container", CONTAINER_FLAGS, CONTAINER_VALUES),
    launcher(
        "java",
        "",
        "-jar -X* -D* -ea -server",
        "-cp -classpath --class-path -p --module-path --add-opens",
    ),
    Launcher {
        name: "dotnet",
        verbs: "run exec",
        flags: "--no-* -v -q",
        with_value: "-c --configuration -f --framework -r --runtime --launch-profile",
        naming: "--project",
    },
    Launcher {
        name: "cargo",
        verbs: "run",
        flags: "--release -r -q --quiet --locked --offline --frozen --all-features --no-*",
        with_value: "--manifest-path --features -F --profile --target --target-dir --config -Z",
        naming: "--bin --example -p --package",
    },
    launcher("go", "run", "-race -v -x -a", "-C -tags -mod -ldflags -gcflags -exec"),
    launcher("ruby", "", "-w -W", "-r -I -C -E"),
    launcher("php", "", "-n -q", "-d -c"),
    launcher("env", "", "-i --ignore-environment", "-u --unset -C --chdir -S"),
    launcher("sudo", "", "-E -n -H -b -k", "-u -g -h -p -C -r -t -U -D -T"),
    launcher("nice", "", "", "-n"),
    launcher("timeout", "", "--foreground --preserve-status -v", "-s --signal -k --kill-after"),
    launcher("sh", "", "-e -u -x -l", ""),
    launcher("bash", "", "-e -u -x -l --login --norc --noprofile", "-O -o"),
    launcher("zsh", "", "-e -u -x -l -f", "-o"),
    launcher("cmd", "", "", ""),
    launcher("spantap", "", "", ""),
];
