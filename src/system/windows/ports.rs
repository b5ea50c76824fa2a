//! Finds the process that listens on a TCP port.

use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCP6ROW_OWNER_PID, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};

use crate::system::processes;

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    pub pid: u32,
    /// The name of its program.
    pub name: String,
}

/// Returns the process that listens on TCP port `port`; `None` if no process does.
pub fn owner_of(port: u16) -> Option<PortOwner> {
    let of_v4 = |row: &MIB_TCPROW_OWNER_PID| (row.dwLocalPort, row.dwOwningPid);
    let of_v6 = |row: &MIB_TCP6ROW_OWNER_PID| (row.dwLocalPort, row.dwOwningPid);
    let listeners = rows(AF_INET, of_v4).into_iter().chain(rows(AF_INET6, of_v6));
    // The port is in the order of the network, in the first two bytes.
    let found = listeners.into_iter().find(|(local, _)| (*local as u16).swap_bytes() == port);
    let (_, pid) = found?;
    Some(PortOwner { pid, name: processes::name_of(pid).unwrap_or_default() })
}

/// Returns what `of` takes from each row of the listeners of a family. `Row` is the structure of its rows.
fn rows<Row>(family: u16, of: impl Fn(&Row) -> (u32, u32)) -> Vec<(u32, u32)> {
    let mut table = vec![0_u32; 1 << 16];
    let mut size = size_of_val(&table[..]) as u32;
    // SAFETY: the buffer has `size` bytes. The table is the number of its rows and then the rows, whose fields are
    // numbers of 32 bits or bytes, within the size.
    unsafe {
        let place = table.as_mut_ptr().cast();
        let class = TCP_TABLE_OWNER_PID_LISTENER;
        if GetExtendedTcpTable(place, &mut size, 0, family.into(), class, 0) != 0 {
            return Vec::new();
        }
        let most = (size as usize).saturating_sub(4) / size_of::<Row>();
        let count = (table[0] as usize).min(most);
        std::slice::from_raw_parts(table.as_ptr().add(1).cast::<Row>(), count).iter().map(of).collect()
    }
}
