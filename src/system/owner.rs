//! Whose a file is, and who else may use it.

/// Owner of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOwner {
    /// The user of this process.
    Ours,
    /// The user or group that manages the system.
    System,
    Another,
    /// The system does not say who the user of this process is.
    Unknown,
}

/// Who may use a file or folder. Others are all users besides the owner on Unix, and on Windows the groups to which all
/// or most users belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAccess {
    pub owner: FileOwner,
    /// Others can read it or write to it.
    pub is_open: bool,
    /// Others can write to it.
    pub is_open_for_writing: bool,
    /// Number of its names (hard links).
    pub names: u64,
}
