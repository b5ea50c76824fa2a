//! Streams of every kind and size: long lines, bursts, files.

use std::fs::File;
use std::io::{Seek, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::noise::{Endless, Noise};
use crate::party::SEED;
use crate::rig::{Rig, Verdict, eventually, expect};
use crate::sys;
use crate::table::{Meeting, Reader, State, Table};

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// The server fills every pipe and buffer on the way and exits. Only then the host begins to read.
pub fn burst_read_late(rig: &Rig) -> Verdict {
    let meeting = Meeting::new()?;
    let mut host = rig.start(&["role:party", &meeting.socket])?;
    let mut control = meeting.control()?;
    control.tell("flood 1")?;
    let ours = host.from.as_ref().ok_or("no stdout")?;
    eventually("the host's pipe is full", || sys::is_full_pipe(ours))?;
    // The bytes in the wrapper come on top. However few they are, they must arrive.
    let mut written = control.count()?.outputs[0];
    loop {
        std::thread::sleep(Duration::from_millis(30));
        let before = std::mem::replace(&mut written, control.count()?.outputs[0]);
        if written == before {
            break;
        }
    }
    control.tell("exit 19")?;
    let server = control.server;
    eventually("the server is gone", || sys::is_gone(server))?;
    let seen = host.read_all()?;
    expect(Endless::new(SEED, 1).goes_on_with(&seen), "other bytes on stdout")?;
    expect(seen.len() as u64 >= written, &format!("{} bytes of {written} on stdout", seen.len()))?;
    host.ends_with(19)
}

/// Lengths around the sizes of pipes and buffers, where off-by-one errors occur.
pub fn lines_of_many_sizes(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:echo"])?;
    for size in [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 131_072, 1_048_577] {
        let line = [vec![b'l'; size], b"\n".to_vec()].concat();
        let mut to = host.to.take().ok_or("no stdin")?;
        let sent = line.clone();
        let writer = std::thread::spawn(move || to.write_all(&sent).map(|()| to));
        let mut seen = vec![0; line.len()];
        host.read_exact(&mut seen)?;
        expect(seen == line, &format!("a line of {size} bytes was changed"))?;
        host.to = Some(writer.join().map_err(|_| "panic")?.map_err(text)?);
    }
    host.close_stdin();
    expect(host.wait()?.code() == Some(0), "status")
}

/// A line without end: every byte arrives, and no buffer grows.
pub fn endless_line(rig: &Rig) -> Verdict {
    const SIZE: usize = 256 << 20;
    let mut host = rig.start(&["role:endless-line", &SIZE.to_string()])?;
    let mut buffer = vec![0; 1 << 20];
    let sent = vec![b'x'; buffer.len()];
    let mut image = 0;
    for seen in 0..SIZE / buffer.len() {
        if seen == 1 {
            image = sys::image_memory(host.pid());
        }
        host.read_exact(&mut buffer).map_err(|error| format!("after {seen} MiB: {error}"))?;
        expect(buffer == sent, "other bytes")?;
    }
    let peak = sys::peak_memory(host.pid()).ok_or("no memory figures")? - image;
    host.close_stdin();
    expect(host.wait()?.code() == Some(0), "status")?;
    expect(peak <= 64 << 20, &format!("{} MiB for one line", peak >> 20))
}

/// Back pressure reaches the host, and the output of the server still passes.
pub fn server_that_does_not_read(rig: &Rig) -> Verdict {
    // The server has not been asked to read.
    let mut table = Table::set_silent(rig)?;
    let mut to = table.host.to.take().ok_or("no stdin")?;
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let writer = std::thread::spawn(move || {
        let piece = [b'x'; 4096];
        while to.write_all(&piece).is_ok() && count.fetch_add(piece.len(), Ordering::Relaxed) < 64 << 20 {}
    });
    let mut last = usize::MAX;
    loop {
        table.control.ask("write 1 1000", "wrote")?;
        table.control.ask("write 2 1000", "wrote")?;
        std::thread::sleep(Duration::from_millis(200));
        match taken.load(Ordering::Relaxed) {
            now if now == last => break,
            now => last = now,
        }
    }
    expect(last <= 4 << 20, &format!("{last} bytes were taken for a server that reads nothing"))?;
    table.exit(3)?;
    eventually("a write to a server that is gone returns", || writer.is_finished())
}

/// The server exits during a large write of the host. The host gets an error and does not block.
pub fn server_exits_while_host_writes(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:one-byte"])?;
    let mut to = host.to.take().ok_or("no stdin")?;
    let writer = std::thread::spawn(move || to.write_all(&vec![b'x'; 16 << 20]).is_err());
    let status = host.wait()?;
    eventually("the host's write returns", || writer.is_finished())?;
    expect(writer.join().map_err(|_| "panic")?, "a write of 16 MiB to a server that reads a byte succeeded")?;
    expect(status.code() == Some(6), &format!("{status}"))
}

pub fn plain_files(rig: &Rig) -> Verdict {
    let seed = 31;
    let mut stdin = tempfile::tempfile().map_err(text)?;
    Noise::new(seed, 0).pour(&mut stdin).map_err(text)?;
    stdin.rewind().map_err(text)?;
    let (mut stdout, mut stderr) = (tempfile::tempfile().map_err(text)?, tempfile::tempfile().map_err(text)?);
    let mut command = rig.command(&["role:noise", &seed.to_string()]);
    let copy = |file: &File| file.try_clone().map(Stdio::from).map_err(text);
    let mut host = rig.spawn(command.stdin(copy(&stdin)?).stdout(copy(&stdout)?).stderr(copy(&stderr)?))?;
    expect(host.wait()?.code() == Some(0), "the server got other bytes on stdin")?;
    for (file, stream) in [(&mut stdout, 1), (&mut stderr, 2)] {
        file.rewind().map_err(text)?;
        Noise::new(seed, stream).check(file).map_err(|error| format!("stream {stream}: {error}"))?;
    }
    Ok(())
}

pub fn dev_null(rig: &Rig) -> Verdict {
    let mut command = rig.command(&["role:late"]);
    let null = Stdio::null;
    let mut host = rig.spawn(command.stdin(null()).stdout(null()).stderr(null()))?;
    expect(host.wait()?.code() == Some(0), "status")
}

/// Both sides end at once: no process remains that uses the core.
pub fn host_closes_everything(rig: &Rig) -> Verdict {
    let mut table = Table::set(rig, State::Flood)?;
    table.stdout.close();
    table.stderr.as_mut().map(Reader::close);
    table.close_stdin()?;
    table.control.failure()?;
    table.control.failure()?;
    table.control.tell("exit 9")?;
    expect(table.host.wait()?.code() == Some(9), "status")
}

/// The host reads stdout and stderr from one pipe (`2>&1`), and the wrapper has reason to complain: it can write
/// no file. The server's bytes arrive, and nothing else.
pub fn shared_outputs(rig: &Rig) -> Verdict {
    let (from, to) = std::io::pipe().map_err(|error| error.to_string())?;
    let mut command = rig.command(&["role:half"]);
    for name in sys::PLACES {
        command.env(name, sys::NOWHERE);
    }
    let copy = to.try_clone().map_err(|error| error.to_string())?;
    let mut host = rig.spawn(command.stdin(Stdio::piped()).stdout(copy).stderr(to))?;
    drop(command);
    host.from = Some(File::from(sys::Owned::from(from)));
    // Half a line stands there while the wrapper starts.
    let mut half = [0; 11];
    host.read_exact(&mut half)?;
    expect(&half == b"half a line", &format!("`{}` among the bytes", String::from_utf8_lossy(&half)))?;
    std::thread::sleep(Duration::from_millis(200));
    host.say(b"x")?;
    let rest = host.read_all()?;
    expect(rest == b", and its end", &format!("`{}` among the bytes", String::from_utf8_lossy(&rest)))
}
