use super::*;

fn identity() -> Identity {
    Identity {
        connection_id: "01a2027b-0000-7000-8000-0123456789ab".to_owned(),
        server_name: "fs".to_owned(),
        ..Identity::default()
    }
}

fn writer(folder: &Path) -> Writer {
    let next = SessionFileName::first(&identity(), Timestamp(0));
    let (folder, register) = (folder.join("sessions"), folder.join("bodies"));
    Writer { folder, register, next, open: None, has_warned: false, warn: Box::new(|_| {}) }
}

fn age(path: &Path, age: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn a_part_covers_an_hour_and_each_is_registered_before_it_exists() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    for (line, hours) in [("a\n", 0), ("b\n", 0), ("c\n", 1)] {
        writer.write(line.as_bytes(), Moment(0).after(PART * hours)).unwrap();
    }
    for (name, content) in [
        ("fs-1970-01-01-0123456789ab.bodies.jsonl", "a\nb\n"),
        ("fs-1970-01-01-0123456789ab.1.bodies.jsonl", "c\n"),
    ] {
        let path = folder.path().join("sessions").join(name);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        assert!(cfg!(windows) || !FileAccess::at(&path).unwrap().is_open);
        let entry = std::fs::read(folder.path().join("bodies").join(name)).unwrap();
        assert_eq!(access::path_of(&entry), folder.path().join("sessions"));
    }
    // Without a register nothing is written that could stay for ever.
    std::fs::remove_dir_all(folder.path().join("bodies")).unwrap();
    std::fs::write(folder.path().join("bodies"), "a file").unwrap();
    writer.write(b"d\n", Moment(0).after(PART * 9)).unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path().join("sessions")).unwrap().count(), 2);
}

#[test]
fn only_old_files_of_ours_by_their_exact_name_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    for hours in 0..3 {
        writer.write(b"a\n", Moment(0).after(PART * hours)).unwrap();
    }
    let sessions = folder.path().join("sessions");
    let [old, future, young] =
        ["", ".1", ".2"].map(|part| sessions.join(format!("fs-1970-01-01-0123456789ab{part}.bodies.jsonl")));
    age(&old, OLD + PART);
    File::options().write(true).open(&future).unwrap().set_modified(SystemTime::now() + OLD * 2).unwrap();
    age(&young, OLD - PART);
    let others = ["fs-1970-01-01-0123456789ab.jsonl", "notes.bodies.jsonl", "x.bodies.jsonl.bak"];
    for other in others {
        std::fs::write(sessions.join(other), "mine").unwrap();
        age(&sessions.join(other), OLD * 9);
    }
    let link = sessions.join("fs-1970-01-01-00000000000a.bodies.jsonl");
    #[cfg(unix)]
    std::os::unix::fs::symlink("notes.bodies.jsonl", &link).unwrap();
    clean(&folder.path().join("bodies"), SystemTime::now());
    assert_eq!([&old, &future, &young].map(|path| path.exists()), [false, false, true]);
    let entries = || std::fs::read_dir(folder.path().join("bodies")).unwrap().count();
    assert_eq!(entries(), 1, "the entries of deleted files are deleted, too");
    clean_folder(&sessions, SystemTime::now() + OLD);
    assert!(!young.exists());
    assert!(link.is_symlink() == cfg!(unix) && others.iter().all(|other| sessions.join(other).exists()));
    clean(&folder.path().join("bodies"), SystemTime::now());
    assert_eq!(entries(), 1, "the proxy that wrote the entry may be about to make the file");
    clean(&folder.path().join("bodies"), SystemTime::now() + OLD * 2);
    assert_eq!(entries(), 0);
}

// Windows has no device that is full.
#[cfg(unix)]
#[test]
fn a_full_disk_is_counted_and_leaves_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    writer.write(b"a\n", Moment(0)).unwrap();
    // Every write to this device fails for want of space.
    let part = writer.open.as_mut().unwrap();
    part.file = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(writer.write(b"b\n", Moment(1)), Err("no_space"));
    assert!(writer.has_warned);
    assert!(writer.open.is_none(), "a device cannot be cut, so a new part begins");
    writer.write(b"c\n", Moment(2)).unwrap();
}

#[test]
fn a_session_keeps_at_most_64_mib_and_counts_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let anchor = ClockAnchor { moment: Moment(0), wall: Timestamp(0) };
    let (sessions, register) = (folder.path().join("sessions"), folder.path().join("bodies"));
    let mut file = BodiesFile::new(sessions, register, &identity(), anchor, |_| {});
    file.size = MOST - 10;
    file.send(vec![b'x'; 11], Moment(0));
    file.send(vec![b'x'; 1], Moment(0));
    assert_eq!(file.dropped(), [Dropped { place: LossPlace::Bodies, reason: "session_full", count: 2 }]);
    file.begin_close();
    file.finish_close(Instant::now());
    assert!(!folder.path().join("sessions").exists(), "no thread and no file without a body");
}
