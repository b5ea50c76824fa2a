//! Facts about processes.

use std::collections::HashMap;

pub use super::own::processes::*;

/// All processes, on Linux those of this pid namespace, each with its parent and its memory.
#[derive(Debug, Default)]
pub struct ProcessTree {
    by_parent: HashMap<u32, Vec<u32>>,
    by_pid: HashMap<u32, Size>,
}

#[derive(Debug)]
struct Size {
    start_ticks: u64,
    resident: u64,
}

impl ProcessTree {
    /// Reads the processes; none if the system does not list them. A process that ends meanwhile is left out.
    pub fn read() -> ProcessTree {
        let mut tree = ProcessTree::default();
        for pid in all() {
            if let Some(stat) = i32::try_from(pid).ok().and_then(ProcessStat::read) {
                tree.add(pid, stat.parent, Size { start_ticks: stat.start_ticks, resident: stat.resident() });
            }
        }
        tree
    }

    fn add(&mut self, pid: u32, parent: u32, size: Size) {
        self.by_parent.entry(parent).or_default().push(pid);
        self.by_pid.insert(pid, size);
    }

    /// Returns the resident memory of the process that was started then as `pid`, and of all processes below it, in
    /// bytes. Memory that several processes share is counted in each of them. `None` if the process is gone.
    pub fn memory(&self, pid: u32, start_ticks: u64) -> Option<u64> {
        self.by_pid.get(&pid).filter(|size| size.start_ticks == start_ticks)?;
        let mut memory = 0;
        let mut left = vec![pid];
        while let Some(pid) = left.pop() {
            memory += self.by_pid.get(&pid).map_or(0, |size| size.resident);
            left.extend(self.by_parent.get(&pid).into_iter().flatten());
        }
        Some(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_process_includes_those_below_it() {
        let mut tree = ProcessTree::default();
        for (pid, parent, resident) in [(2, 1, 10), (3, 2, 20), (4, 3, 30), (5, 1, 40)] {
            tree.add(pid, parent, Size { start_ticks: 7, resident });
        }
        assert_eq!(tree.memory(2, 7), Some(60));
        assert_eq!(tree.memory(2, 8), None, "the pid was used again");
        let own = std::process::id();
        let start = ProcessStat::read(own as i32).unwrap().start_ticks;
        assert!(ProcessTree::read().memory(own, start).is_some_and(|bytes| bytes > 4_096));
    }
}
