//! Jobs: the processes that end together.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT, JOB_OBJECT_LIMIT_BREAKAWAY_OK,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// A job. Its processes can be killed together.
pub(super) struct Job(OwnedHandle);

/// The job of this process and everything that it starts, while the server runs.
static OWN: OnceLock<Option<Job>> = OnceLock::new();

impl Job {
    /// Makes a job whose processes live on when its last handle is closed.
    pub(super) fn lasting() -> io::Result<Job> {
        // SAFETY: a plain call. Nothing else owns the new handle.
        unsafe {
            let job = CreateJobObjectW(std::ptr::null(), std::ptr::null());
            match job.is_null() {
                true => Err(io::Error::last_os_error()),
                false => Ok(Job(OwnedHandle::from_raw_handle(job))),
            }
        }
    }

    /// Makes a job whose processes the system kills when its last handle is closed. If `lets_go`, a process in it may
    /// start others outside of it, when it asks to.
    pub(super) fn new(lets_go: bool) -> io::Result<Job> {
        let job = Job::lasting()?;
        let breakaway = if lets_go { JOB_OBJECT_LIMIT_BREAKAWAY_OK } else { 0 };
        job.limit(JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | breakaway)?;
        Ok(job)
    }

    fn limit(&self, flags: JOB_OBJECT_LIMIT) -> io::Result<()> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = flags;
        // SAFETY: the structure lives through the call, with this size.
        super::checked(unsafe {
            SetInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size_of_val(&limits) as u32,
            )
        })
    }

    /// Adds a process. What it starts later belongs to the job, too.
    pub(super) fn add(&self, process: HANDLE) -> io::Result<()> {
        // SAFETY: a plain call, which fails on what is not a process.
        super::checked(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process) })
    }

    /// Kills the processes of the job.
    pub(super) fn kill(&self) {
        // SAFETY: a plain call.
        unsafe { TerminateJobObject(self.0.as_raw_handle(), 1) };
    }
}

/// Ties everything that this process starts from now on to its own end: if it is killed, the system kills the server
/// and what the server started. Without a job the server sees the end of its stdin.
pub(super) fn tie_children() {
    OWN.get_or_init(|| {
        let job = Job::new(true).ok()?;
        // SAFETY: the pseudo handle of this process is always valid.
        job.add(unsafe { GetCurrentProcess() }).ok()?;
        Some(job)
    });
}

/// Lets what the server has left behind live on after this process.
pub(super) fn untie_children() {
    if let Some(Some(job)) = OWN.get() {
        let _ = job.limit(JOB_OBJECT_LIMIT_BREAKAWAY_OK);
    }
}
