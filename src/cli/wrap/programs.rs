//! Finds programs of wrapped entries and processes of hosts.

use crate::system::process::find_program;
use crate::system::processes::start_times;

pub(crate) fn can_start(program: &str) -> bool {
    find_program(program).is_some()
}

pub(super) fn is_running(name: &str) -> bool {
    !start_times(name).is_empty()
}
