#!/usr/bin/env python3
"""Sends spans to `spantap collect` at a rate and prints what became of them and how much memory it took.

    tests/bench/collect_rate.py SPANTAP [--rate 10000] [--seconds 60] [--batch 512] [--gzip]

Every span is another model call as Claude Code sends it, with 14 attributes. Exit status 1 if a request failed, if the
records on disk and those that were counted as lost are not exactly the spans that were sent, or if the peak was above
64 MiB.
"""
import argparse, glob, gzip, http.client, json, os, shutil, signal, subprocess, sys, tempfile, time

MOST_MEMORY = 64 << 10  # KiB
# Place of the batch's number in the ids of its spans: four characters, so that the lengths stay the same.
BATCH = b"@@@@"

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("spantap")
ap.add_argument("--rate", type=int, default=10_000)
ap.add_argument("--seconds", type=int, default=60)
ap.add_argument("--batch", type=int, default=512)
ap.add_argument("--gzip", action="store_true")
o = ap.parse_args()


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def fixed(number, value):
    return varint(number << 3 | 1) + value.to_bytes(8, "little")


def attribute(key, value):
    any_value = varint(3 << 3) + varint(value) if isinstance(value, int) else field(1, value)
    return field(9, field(1, key) + field(2, any_value))


def span(at):
    """Returns a span whose ids have the place of the batch's number and its own number in the batch."""
    end = time.time_ns()
    values = {"session.id": "0f5a1c2e-5b1d-4f0e-9d3a-2a7a4f1f9a11", "span.type": "llm_request", "model": "claude-x", "input_tokens": 1000 + at,
              "output_tokens": 10, "cache_read_tokens": 800, "cache_creation_tokens": 0, "ttft_ms": 120, "duration_ms": 900,
              "attempt": 1, "success": "true", "request_id": f"req_{BATCH.decode()}_{at:04}", "user.id": "u" * 64, "text": "x" * 200}
    attributes = b"".join(attribute(key, value) for key, value in values.items())
    return (field(1, b"\x01" * 16) + field(2, BATCH + (at + 1).to_bytes(4, "big")) + field(5, "claude_code.llm_request")
            + fixed(7, end - 900_000_000) + fixed(8, end) + attributes)


def template():
    service = field(1, field(1, "service.name") + field(2, field(1, "claude-code")))
    scope = field(1, "com.anthropic.claude_code.tracing")
    spans = b"".join(field(2, span(at)) for at in range(o.batch))
    return field(1, field(1, service) + field(2, field(1, scope) + spans))


home = tempfile.mkdtemp()
env = {"HOME": home, "PATH": os.environ["PATH"]}
collector = subprocess.Popen([o.spantap, "collect", "--listen", "127.0.0.1:0"], env=env, stdout=subprocess.PIPE, text=True)
address = collector.stdout.readline().split()[2].rstrip(",")
connection = http.client.HTTPConnection(address, timeout=30)
headers = {"content-type": "application/x-protobuf"}
if o.gzip:
    headers["content-encoding"] = "gzip"
# Encoding in Python takes longer than sending: one batch is encoded, and the next ones differ in its number.
sent = failed = late = batches = 0
spans = template()
begin = time.monotonic()
while sent < o.rate * o.seconds:
    body = spans.replace(BATCH, b"%04x" % batches)
    body = gzip.compress(body, 1) if o.gzip else body
    due = begin + sent / o.rate
    pause = due - time.monotonic()
    if pause > 0:
        time.sleep(pause)
    late = max(late, -pause)
    connection.request("POST", "/v1/traces", body, headers)
    answer = connection.getresponse()
    answer.read()
    failed += answer.status != 200
    sent, batches = sent + o.batch, batches + 1
took = time.monotonic() - begin
status = open(f"/proc/{collector.pid}/status").read()
peak = int(status.split("VmHWM:")[1].split()[0])
ticks = sum(map(int, open(f"/proc/{collector.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
collector.send_signal(signal.SIGTERM)
printed = collector.communicate()[0]
counts = json.load(open(home + "/.local/state/spantap/collect.json"))["counts"]
print(f"{sent} spans in {took:.1f} s ({sent / took:.0f} a second), latest request {late * 1000:.0f} ms behind, {failed} requests failed")
lost = sum(counts["lost"].values())
# A span id that is on disk twice is one span.
on_disk, ids = 0, set()
for path in glob.glob(home + "/.local/state/spantap/**/collect-*.jsonl", recursive=True):
    with open(path, "rb") as lines:
        for line in lines:
            on_disk += 1
            ids.add(line.split(b'"span_id":"', 1)[1][:16])
print(f"peak {peak / 1024:.1f} MiB, {ticks / os.sysconf('SC_CLK_TCK') / took * 100:.0f}% of one core; counted {counts['spans']} spans, "
      f"wrote {counts['records']} records, lost {lost}; on disk {on_disk} records of {len(ids)} spans")
print(printed.strip().splitlines()[-1])
shutil.rmtree(home)
is_complete = counts["spans"] == sent and on_disk == len(ids) == counts["records"] == sent - lost
sys.exit(failed > 0 or not is_complete or peak > MOST_MEMORY)
