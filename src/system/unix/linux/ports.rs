//! Finds the process that listens on a TCP port, from `/proc`.

use std::os::unix::ffi::OsStrExt;

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    pub pid: u32,
    /// The name of its program, at most 15 characters.
    pub name: String,
}

/// Returns the process that listens on TCP port `port`. `None` if no process does, if it belongs to another user, or if
/// the system has no `/proc`.
pub fn owner_of(port: u16) -> Option<PortOwner> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| listening(table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let descriptors = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        if targets.any(|target| sockets.iter().any(|name| target.as_os_str().as_bytes() == name.as_bytes())) {
            let name = std::fs::read(process.path().join("comm")).unwrap_or_default();
            return Some(PortOwner {
                pid,
                name: String::from_utf8_lossy(name.trim_ascii_end()).into_owned(),
            });
        }
    }
    None
}

/// Returns the inodes of the sockets of `table` that listen on `port`, proc_net_tcp(5).
fn listening(table: &str, port: u16) -> impl Iterator<Item = &str> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let found = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (found == port && state == LISTEN).then(|| fields.nth(5)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_port_and_a_connection_is_not_a_listener() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             \x20  0: 0100007F:10DE 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n\
             \x20  1: 0100007F:10DE 0100007F:8AE2 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1\n";
        assert_eq!(listening(table, 4318).collect::<Vec<_>>(), ["4711"]);
        assert_eq!(listening(table, 4317).count(), 0);
    }

    #[test]
    fn this_process_is_the_owner_of_its_own_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let owner = owner_of(listener.local_addr().unwrap().port());
            assert_eq!(owner.map(|owner| owner.pid), Some(std::process::id()), "{address}");
        }
    }
}
