//! Finds programs of wrapped entries, processes of hosts, and the launcher of this process.

use std::path::Path;

use crate::system::process::find_program;
use crate::system::processes::start_times;

pub(crate) fn can_start(program: &str) -> bool {
    find_program(program).is_some()
}

pub(super) fn is_running(name: &str) -> bool {
    !start_times(name).is_empty()
}

/// Returns the launcher that keeps `exe` in its cache, and the command that installs spantap permanently.
pub(super) fn launcher_of(exe: &Path) -> Option<(&'static str, &'static str)> {
    let folders: Vec<String> = exe.iter().map(|part| part.to_string_lossy().to_ascii_lowercase()).collect();
    let is_in = |known: &dyn Fn(&str) -> bool| folders.iter().any(|folder| known(folder));
    let is_below = |above: &str, below: &str| {
        folders.windows(2).any(|pair| pair[0].starts_with(above) && pair[1].starts_with(below))
    };
    match () {
        () if is_in(&|folder| folder == "_npx") => Some(("npx", "npm install --global spantap")),
        () if is_in(&|folder| folder == "archive-v0") => Some(("uvx", "uv tool install spantap")),
        () if is_in(&|folder| folder.starts_with("bunx-") || folder.starts_with(".bunx-")) => {
            Some(("bunx", "bun install --global spantap"))
        }
        () if is_below("pnpm", "dlx") => Some(("pnpm dlx", "pnpm add --global spantap")),
        () if is_below("xfs-", "dlx-") => Some(("yarn dlx", "npm install --global spantap")),
        () if is_below(".cache", "pipx") || is_below("pipx", ".cache") || is_below("caches", "pipx") => {
            Some(("pipx run", "pipx install spantap"))
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_a_cache_of_a_launcher_is_told_from_an_installed_one() {
        for (path, launcher) in [
            ("/home/a/.npm/_npx/6a51/node_modules/@spantap/linux-x64/bin/spantap", Some("npx")),
            ("/home/a/.cache/uv/archive-v0/k3/bin/spantap", Some("uvx")),
            ("/home/a/.bun/install/cache/.bunx-0/spantap/bin/spantap", Some("bunx")),
            ("/tmp/bunx-1000-spantap@latest/node_modules/@spantap/linux-x64/bin/spantap", Some("bunx")),
            ("/home/a/.cache/pnpm/dlx/8c/node_modules/@spantap/linux-x64/bin/spantap", Some("pnpm dlx")),
            ("/tmp/xfs-1f/dlx-77/node_modules/@spantap/linux-x64/bin/spantap", Some("yarn dlx")),
            ("/home/a/.cache/pipx/5e/bin/spantap", Some("pipx run")),
            ("/home/a/.local/share/pipx/venvs/spantap/bin/spantap", None),
            ("/home/a/.local/share/pnpm/global/5/node_modules/@spantap/linux-x64/bin/spantap", None),
            ("/usr/lib/node_modules/spantap/node_modules/@spantap/linux-x64/bin/spantap", None),
            ("/usr/bin/spantap", None),
        ] {
            assert_eq!(launcher_of(Path::new(path)).map(|(name, _)| name), launcher, "{path}");
        }
    }
}
