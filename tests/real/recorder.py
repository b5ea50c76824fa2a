"""Copies streams and records them. Runs on one side of spantap, or in its place.

    recorder.py DIR NAME -- COMMAND ARGS...

Starts COMMAND with three pipes and copies the three streams. Each recorder process (some clients start a
server twice) writes to DIR NAME-PID.{stdin,stdout,stderr} with every byte and NAME-PID.json with
{"parent", "child", "status"}. The status is negative for a death by signal, as in subprocess. Forwards
SIGTERM and SIGINT, and ends like the command.
"""

import json
import os
import signal
import subprocess
import sys
import threading


def copy(source: int, target: int, path: str) -> None:
    with open(path, "wb", buffering=0) as record:
        try:
            while chunk := os.read(source, 65536):
                record.write(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[os.write(target, view):]
        except OSError:
            pass  # The reader has closed; all bytes are recorded.


def main() -> None:
    folder, name = sys.argv[1:3]
    command = sys.argv[sys.argv.index("--") + 1:]
    base = os.path.join(folder, f"{name}-{os.getpid()}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: child.send_signal(number))
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)

    def stdin() -> None:
        copy(0, child.stdin.fileno(), base + ".stdin")
        child.stdin.close()

    out = threading.Thread(target=copy, args=(child.stdout.fileno(), 1, base + ".stdout"))
    err = threading.Thread(target=copy, args=(child.stderr.fileno(), 2, base + ".stderr"))
    threading.Thread(target=stdin, daemon=True).start()
    out.start()
    err.start()
    status = child.wait()
    out.join()
    err.join()
    with open(base + ".json", "w") as meta:
        json.dump({"parent": os.getppid(), "child": child.pid, "status": status}, meta)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
