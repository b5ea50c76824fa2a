// What wine 8.0 does otherwise than Windows 10, by which .ci/excluded leaves tests out. Fails if wine does it as Windows,
// so that those tests come back. Writes into the working folder.
#define _WIN32_WINNT 0x0A00
#include <winsock2.h>
#include <windows.h>
#include <aclapi.h>
#include <sddl.h>
#include <stdio.h>

#define ALL_SHARED (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)

static HANDLE create(const char *name)
{
    return CreateFileA(name, GENERIC_READ | GENERIC_WRITE | DELETE, ALL_SHARED, NULL, CREATE_ALWAYS, 0, NULL);
}

// The name of a deleted file stays until the file is closed.
static int keeps_name(void)
{
    HANDLE file = create("deleted");
    int kept = DeleteFileA("deleted") && GetFileAttributesA("deleted") != INVALID_FILE_ATTRIBUTES;
    CloseHandle(file);
    return kept && GetFileAttributesA("deleted") == INVALID_FILE_ATTRIBUTES;
}

// A file is not renamed in the place of one that is open.
static int refuses_rename(void)
{
    struct { DWORD flags; HANDLE root; DWORD length; WCHAR name[MAX_PATH]; } to = {3, NULL, 0, {0}};
    HANDLE old = create("old"), new = create("new");
    to.length = GetFullPathNameW(L"old", MAX_PATH, to.name, NULL) * sizeof(WCHAR);
    // FileRenameInfoEx, with FILE_RENAME_REPLACE_IF_EXISTS and FILE_RENAME_POSIX_SEMANTICS.
    int refused = !SetFileInformationByHandle(new, 22, &to, sizeof(to));
    CloseHandle(new);
    refused = refused && !MoveFileExA("new", "old", MOVEFILE_REPLACE_EXISTING);
    CloseHandle(old);
    return refused && MoveFileExA("new", "old", MOVEFILE_REPLACE_EXISTING);
}

// A UDP socket gets an address that this machine does not have.
static int binds_any_address(void)
{
    WSADATA data;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("198.51.100.7")};
    WSAStartup(MAKEWORD(2, 2), &data);
    return !bind(socket(AF_INET, SOCK_DGRAM, 0), (struct sockaddr *)&address, sizeof(address));
}

static void set_list(const char *folder, const char *text)
{
    PSECURITY_DESCRIPTOR descriptor = NULL;
    PACL list = NULL;
    BOOL there, usual;
    HANDLE file = CreateFileA(folder, READ_CONTROL | WRITE_DAC, ALL_SHARED, NULL, OPEN_EXISTING,
                              FILE_FLAG_BACKUP_SEMANTICS, NULL);
    ConvertStringSecurityDescriptorToSecurityDescriptorA(text, SDDL_REVISION_1, &descriptor, NULL);
    GetSecurityDescriptorDacl(descriptor, &there, &list, &usual);
    SetSecurityInfo(file, SE_FILE_OBJECT, DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION, NULL,
                    NULL, list, NULL);
    CloseHandle(file);
}

// An access list that is to inherit nothing gets the entries of the next folder.
static int inherits_always(void)
{
    PSECURITY_DESCRIPTOR descriptor = NULL;
    char *text = NULL;
    CreateDirectoryA("open", NULL);
    set_list("open", "D:P(A;OICI;FA;;;WD)");
    CreateDirectoryA("open\\private", NULL);
    set_list("open\\private", "D:P(A;OICI;FA;;;SY)");
    GetNamedSecurityInfoA("open\\private", SE_FILE_OBJECT, DACL_SECURITY_INFORMATION, NULL, NULL, NULL, NULL,
                          &descriptor);
    ConvertSecurityDescriptorToStringSecurityDescriptorA(descriptor, SDDL_REVISION_1, DACL_SECURITY_INFORMATION,
                                                         &text, NULL);
    return text && strstr(text, ";WD)");
}

int main(void)
{
    const struct { const char *name; int holds; } limits[] = {
        {"keeps the name of a deleted file until it is closed", keeps_name()},
        {"refuses to rename a file in the place of one that is open", refuses_rename()},
        {"binds a UDP socket to any address", binds_any_address()},
        {"lets each access list inherit", inherits_always()},
    };
    int all = 1;
    for (size_t at = 0; at < sizeof(limits) / sizeof(*limits); at++) {
        printf("wine %s: %s\n", limits[at].name, limits[at].holds ? "yes" : "no; correct .ci/excluded");
        all = all && limits[at].holds;
    }
    return !all;
}
