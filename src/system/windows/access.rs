//! Who may read and write a file, which file it is, and how much room its disk has.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempPath;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_CRC, ERROR_GEN_FAILURE, ERROR_IO_DEVICE, ERROR_LOCK_VIOLATION,
    ERROR_SHARING_VIOLATION, ERROR_WRITE_FAULT, GENERIC_ALL, GENERIC_READ, GENERIC_WRITE,
    INVALID_HANDLE_VALUE, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT, SetSecurityInfo,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACL, DACL_SECURITY_INFORMATION, EqualSid, GetAce, GetSecurityDescriptorDacl,
    GetTokenInformation, IsWellKnownSid, OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION,
    PSID, TOKEN_INFORMATION_CLASS, TOKEN_OWNER, TOKEN_QUERY, TOKEN_USER, TokenOwner, TokenUser,
    WinAuthenticatedUserSid, WinBuiltinAdministratorsSid, WinBuiltinGuestsSid, WinBuiltinUsersSid,
    WinInteractiveSid, WinLocalSystemSid, WinWorldSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, DELETE, FILE_APPEND_DATA, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_DATA, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
    FILE_WRITE_DATA, FileBasicInfo, GetDiskFreeSpaceExW, GetFileInformationByHandle,
    GetFileInformationByHandleEx, READ_CONTROL, ReOpenFile, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::SystemServices::ACCESS_ALLOWED_ACE_TYPE;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::{checked, wide};
pub use crate::system::owner::{FileAccess, FileOwner};

/// Returns options for a file that only its owner and the system can read, once [`keep_private`] has been called. A link
/// at its place is not followed.
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    options
}

/// Returns options for a file that the user named. A new file gets the access list of its folder. A link is followed.
pub fn output_options() -> OpenOptions {
    OpenOptions::new()
}

/// Returns options to read a file.
pub fn reading_options(follows_links: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(if follows_links { 0 } else { FILE_FLAG_OPEN_REPARSE_POINT });
    options
}

/// Returns false: a link is opened itself, and is not a file.
pub fn is_link(_error: &io::Error) -> bool {
    false
}

/// Lets only its owner and the system use a new file, which was opened with [`private_options`]. Its folder's access
/// list already does that below a profile; elsewhere the file gets a list of its own.
///
/// # Errors
/// Fails if the file is a link, or if its list cannot be changed. A disk without such lists reports no error.
pub fn keep_private(file: &File) -> io::Result<()> {
    if file.metadata()?.file_type().is_symlink() {
        return Err(io::Error::other("it is a link"));
    }
    if !FileAccess::of(file)?.is_open {
        return Ok(());
    }
    let shared = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    // SAFETY: the handle is open, and nothing else owns the new one.
    let again = unsafe {
        let handle = ReOpenFile(file.as_raw_handle(), READ_CONTROL | WRITE_DAC, shared, 0);
        if handle == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        File::from(OwnedHandle::from_raw_handle(handle))
    };
    set_list(&again, &private_list("")?)
}

/// Lets only its owner and the system use the file at `path`.
pub fn make_private(path: &Path) -> io::Result<()> {
    let file = open_with(READ_CONTROL | WRITE_DAC, path, false)?;
    if FileAccess::of(&file)?.is_open { set_list(&file, &private_list("")?) } else { Ok(()) }
}

/// Closes a folder to other users, if it is open to them.
pub fn close_folder(folder: &Path) -> io::Result<()> {
    let file = open_with(READ_CONTROL | WRITE_DAC, folder, true)?;
    // What is made in the folder gets the same list.
    if FileAccess::of(&file)?.is_open { set_list(&file, &private_list("OICI")?) } else { Ok(()) }
}

/// Makes one folder. A private one can be used only by its owner and the system, also outside of a profile.
pub fn make_folder(folder: &Path, is_private: bool) -> io::Result<()> {
    std::fs::create_dir(folder)?;
    if is_private { close_folder(folder) } else { Ok(()) }
}

/// Returns a command that closes a file or folder to other users, in words of `cmd` and of PowerShell.
pub fn command_to_close(path: &Path) -> String {
    let inherited = if path.is_dir() { "(OI)(CI)" } else { "" };
    // This is the id of the owner of a file, also if the owner changes.
    format!("icacls \"{}\" /inheritance:r /grant:r \"*S-1-3-4:{inherited}F\"", path.display())
}

/// Returns an access list, as text, that lets this user, the system and administrators do everything.
///
/// # Errors
/// Fails if the system does not say who the user is.
fn private_list(inheritance: &str) -> io::Result<String> {
    let unknown = || io::Error::other("the system does not say who the user is");
    let facts = token(TokenUser).ok_or_else(unknown)?;
    let mut text = std::ptr::null_mut();
    // SAFETY: the id points into `facts`. The text ends with a zero, and is freed after its last use.
    let user = unsafe {
        checked(ConvertSidToStringSidW((*facts.as_ptr().cast::<TOKEN_USER>()).User.Sid, &mut text))?;
        let length = (0..).take_while(|place| *text.add(*place) != 0).count();
        let user = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
        LocalFree(text.cast());
        user
    };
    Ok(format!("D:P(A;{inheritance};FA;;;{user})(A;{inheritance};FA;;;SY)(A;{inheritance};FA;;;BA)"))
}

/// Replaces the access list of a file that was opened with `WRITE_DAC`, and the entries that it inherited.
fn set_list(file: &File, list: &str) -> io::Result<()> {
    let text = wide(OsStr::new(list));
    let (mut facts, mut entries, mut is_there, mut is_default) =
        (std::ptr::null_mut(), std::ptr::null_mut(), 0, 0);
    // SAFETY: the text ends with a zero, the places are valid for the results, and `entries` points into `facts`, which
    // is freed after its last use.
    let status = unsafe {
        let size = std::ptr::null_mut();
        let descriptor = text.as_ptr();
        checked(ConvertStringSecurityDescriptorToSecurityDescriptorW(
            descriptor,
            SDDL_REVISION_1,
            &mut facts,
            size,
        ))?;
        let found = GetSecurityDescriptorDacl(facts, &mut is_there, &mut entries, &mut is_default);
        let set = checked(found).map(|()| {
            SetSecurityInfo(
                file.as_raw_handle(),
                SE_FILE_OBJECT,
                DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                entries,
                std::ptr::null(),
            )
        });
        LocalFree(facts);
        set?
    };
    match status {
        0 => Ok(()),
        status => Err(io::Error::from_raw_os_error(status as i32)),
    }
}

/// Returns false: devices are not in folders.
pub fn is_device(_metadata: &Metadata) -> bool {
    false
}

impl FileAccess {
    pub fn of(file: &File) -> io::Result<FileAccess> {
        let mut owner: PSID = std::ptr::null_mut();
        let mut list: *mut ACL = std::ptr::null_mut();
        let mut facts = std::ptr::null_mut();
        // SAFETY: the places are valid for the results, which point into `facts` until it is freed.
        unsafe {
            let status = GetSecurityInfo(
                file.as_raw_handle(),
                SE_FILE_OBJECT,
                OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                &mut owner,
                std::ptr::null_mut(),
                &mut list,
                std::ptr::null_mut(),
                &mut facts,
            );
            if status != 0 {
                return Err(io::Error::from_raw_os_error(status as i32));
            }
            let granted = granted_to_all(list);
            let owner = owner_of(owner);
            LocalFree(facts);
            Ok(FileAccess {
                owner,
                is_open: granted & (READS | WRITES) != 0,
                is_open_for_writing: granted & WRITES != 0,
                names: information(file)?.nNumberOfLinks.into(),
            })
        }
    }

    /// Returns the access of what is at `path`, or of the target of a link there.
    pub fn at(path: &Path) -> io::Result<FileAccess> {
        FileAccess::of(&look_at(path, true)?)
    }

    /// Returns the access of what is at `path`, also if it is a link.
    pub fn of_entry(path: &Path) -> io::Result<FileAccess> {
        FileAccess::of(&look_at(path, false)?)
    }
}

/// Opens a file or folder to ask about it.
fn look_at(path: &Path, follows_links: bool) -> io::Result<File> {
    open_with(READ_CONTROL, path, follows_links)
}

/// Opens a file or folder with these rights.
fn open_with(rights: u32, path: &Path, follows_links: bool) -> io::Result<File> {
    let link = if follows_links { 0 } else { FILE_FLAG_OPEN_REPARSE_POINT };
    let mut options = OpenOptions::new();
    options.access_mode(rights).custom_flags(FILE_FLAG_BACKUP_SEMANTICS | link).open(path)
}

const READS: u32 = FILE_READ_DATA | GENERIC_READ | GENERIC_ALL;
const WRITES: u32 =
    FILE_WRITE_DATA | FILE_APPEND_DATA | DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_WRITE | GENERIC_ALL;

/// Returns what an access list grants to groups to which all or most users belong. Without a list, everything.
///
/// # Safety
/// `list` must be null or a valid list.
unsafe fn granted_to_all(list: *const ACL) -> u32 {
    let groups =
        [WinWorldSid, WinAuthenticatedUserSid, WinBuiltinUsersSid, WinInteractiveSid, WinBuiltinGuestsSid];
    let mut granted = 0;
    // SAFETY: the list is valid, and `GetAce` gives entries within it. Entries of this type end with the group's id.
    unsafe {
        if list.is_null() {
            return u32::MAX;
        }
        for place in 0..u32::from((*list).AceCount) {
            let mut entry = std::ptr::null_mut();
            if GetAce(list, place, &mut entry) == 0 {
                continue;
            }
            let entry: *const ACCESS_ALLOWED_ACE = entry.cast();
            let group = (&raw const (*entry).SidStart).cast_mut().cast();
            let is_grant = u32::from((*entry).Header.AceType) == ACCESS_ALLOWED_ACE_TYPE;
            if is_grant && groups.iter().any(|kind| IsWellKnownSid(group, *kind) != 0) {
                granted |= (*entry).Mask;
            }
        }
    }
    granted
}

/// Returns whose id this is. The files of an administrator may belong to the group instead of the user.
///
/// # Safety
/// `owner` must be null or a valid id.
unsafe fn owner_of(owner: PSID) -> FileOwner {
    // SAFETY: the ids are valid; those of the token point into its facts, which live long enough.
    unsafe {
        if owner.is_null() {
            return FileOwner::Another;
        }
        let user = token(TokenUser);
        if user.is_none() {
            return FileOwner::Unknown;
        }
        let maker = token(TokenOwner);
        let user = user.as_ref().map(|facts| (*facts.as_ptr().cast::<TOKEN_USER>()).User.Sid);
        let maker = maker.as_ref().map(|facts| (*facts.as_ptr().cast::<TOKEN_OWNER>()).Owner);
        if user.into_iter().chain(maker).any(|ours| EqualSid(owner, ours) != 0) {
            return FileOwner::Ours;
        }
        let system = [WinLocalSystemSid, WinBuiltinAdministratorsSid];
        match system.iter().any(|kind| IsWellKnownSid(owner, *kind) != 0) {
            true => FileOwner::System,
            false => FileOwner::Another,
        }
    }
}

/// Returns a fact about the user of this process, aligned as its structure needs it.
fn token(fact: TOKEN_INFORMATION_CLASS) -> Option<Vec<u64>> {
    let mut facts = vec![0_u64; 32];
    let mut token = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the places are valid for the results, and nothing else owns the new handle.
    unsafe {
        checked(OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token)).ok()?;
        let token = OwnedHandle::from_raw_handle(token);
        let place = facts.as_mut_ptr().cast();
        checked(GetTokenInformation(token.as_raw_handle(), fact, place, 256, &mut size)).ok()?;
    }
    Some(facts)
}

fn information(file: &File) -> io::Result<BY_HANDLE_FILE_INFORMATION> {
    let mut facts = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: `facts` is a valid place for the result.
    checked(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut facts) })?;
    Ok(facts)
}

/// Identity of a file, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u32,
    number: u64,
}

impl FileId {
    pub fn of(file: &File) -> io::Result<FileId> {
        let facts = information(file)?;
        let number = u64::from(facts.nFileIndexHigh) << 32 | u64::from(facts.nFileIndexLow);
        Ok(FileId { device: facts.dwVolumeSerialNumber, number })
    }

    /// Returns the identity of what is at `path`, also if it is a link.
    pub fn at(path: &Path) -> io::Result<FileId> {
        FileId::of(&look_at(path, false)?)
    }

    /// Returns true if a file can be renamed between the places of the two.
    pub fn is_on_device_of(self, other: FileId) -> bool {
        self.device == other.device
    }
}

/// Facts of a file that change when it is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    id: FileId,
    changed: i64,
    size: u64,
}

impl FileVersion {
    /// Returns the version of what is at `path`, also if it is a link.
    pub fn at(path: &Path) -> io::Result<FileVersion> {
        let file = look_at(path, false)?;
        let mut times = FILE_BASIC_INFO::default();
        // SAFETY: `times` is a valid place for the result, with this size.
        checked(unsafe {
            let size = size_of_val(&times) as u32;
            GetFileInformationByHandleEx(file.as_raw_handle(), FileBasicInfo, (&raw mut times).cast(), size)
        })?;
        Ok(FileVersion { id: FileId::of(&file)?, changed: times.ChangeTime, size: file.metadata()?.len() })
    }
}

/// Calls `action` again for a moment while another program has the file open.
pub(super) fn again_while_in_use<T>(mut action: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const PAUSE: Duration = Duration::from_millis(20);
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        match action() {
            Err(error) if is_in_use(&error) => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    action()
}

fn is_in_use(error: &io::Error) -> bool {
    let codes = [ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION];
    codes.iter().any(|code| error.raw_os_error() == Some(*code as i32))
}

/// Gives a file another name, in the place of what has it.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    again_while_in_use(|| std::fs::rename(from, to))
}

/// Gives a temporary file the name `path`, in the place of what has it. Another program that has that file open for a
/// moment is waited for.
pub fn persist(temporary: TempPath, path: &Path) -> io::Result<()> {
    let mut left = Some(temporary);
    again_while_in_use(|| match left.take().map(|temporary| temporary.persist(path)) {
        Some(Err(problem)) => {
            left = Some(problem.path);
            Err(problem.error)
        }
        _ => Ok(()),
    })
}

/// Writes all of `bytes` at a place of the file.
pub fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

/// Returns the bytes of a path, for a file that [`path_of`] reads.
pub fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// Returns the path that [`bytes_of`] wrote. One that is not Unicode becomes a path that does not exist.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// Returns the bytes that this user may still write to the disk of `folder`; `None` if the system does not say.
pub fn free_space(folder: &Path) -> Option<u64> {
    let name = wide(folder.as_os_str());
    let mut free = 0;
    // SAFETY: the text ends with a zero, and `free` is a valid place for the result.
    let found =
        unsafe { GetDiskFreeSpaceExW(name.as_ptr(), &mut free, std::ptr::null_mut(), std::ptr::null_mut()) };
    (found != 0).then_some(free)
}

/// Returns true if a write failed because the device has an error.
pub fn is_device_error(error: &io::Error) -> bool {
    let codes = [ERROR_CRC, ERROR_GEN_FAILURE, ERROR_IO_DEVICE, ERROR_WRITE_FAULT];
    codes.iter().any(|code| error.raw_os_error() == Some(*code as i32))
}

/// Lets all users use a file or folder, and what is made in it.
#[cfg(test)]
pub(crate) fn open_to_all(path: &Path) {
    set_list(&open_with(READ_CONTROL | WRITE_DAC, path, true).unwrap(), "D:P(A;OICI;FA;;;WD)").unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_all_users_can_read_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = private_options().write(true).create_new(true).open(&path).unwrap();
        for close in
            [&|| keep_private(&file) as io::Result<()>, &|| make_private(&path)] as [&dyn Fn() -> _; 2]
        {
            open_to_all(&path);
            assert!(FileAccess::at(&path).unwrap().is_open_for_writing);
            close().unwrap();
            let access = FileAccess::at(&path).unwrap();
            assert_eq!((access.is_open, access.owner), (false, FileOwner::Ours));
            // Its owner can still use it.
            std::fs::write(&path, "text").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"text");
        }
    }

    #[test]
    fn a_private_folder_in_one_that_all_users_can_use_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let private = folder.path().join("private");
        make_folder(&private, true).unwrap();
        assert!(!FileAccess::at(&private).unwrap().is_open);
        open_to_all(&private);
        close_folder(&private).unwrap();
        let path = private.join("file");
        std::fs::write(&path, "text").unwrap();
        assert!([private, path].iter().all(|path| !FileAccess::at(path).unwrap().is_open));
    }
}
