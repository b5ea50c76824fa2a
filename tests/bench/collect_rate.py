#!/usr/bin/env python3
"""Sends spans to `spantap collect` at a rate and prints what became of them and how much memory it took.

    tests/bench/collect_rate.py SPANTAP [--rate 10000] [--seconds 60] [--batch 512] [--gzip]

Exit status 1 if a span was not counted, a request failed, or the peak was above 64 MiB. The spans are
those of a model call as Claude Code sends them, with 14 attributes each.
"""
import argparse, gzip, http.client, json, os, signal, subprocess, sys, tempfile, time

MOST_MEMORY = 64 << 10  # KiB

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
    end = time.time_ns()
    values = {"session.id": "0f5a1c2e-5b1d-4f0e-9d3a-2a7a4f1f9a11", "span.type": "llm_request", "model": "claude-x", "input_tokens": 1000 + at,
              "output_tokens": 10, "cache_read_tokens": 800, "cache_creation_tokens": 0, "ttft_ms": 120, "duration_ms": 900,
              "attempt": 1, "success": "true", "request_id": f"req_{at}", "user.id": "u" * 64, "text": "x" * 200}
    attributes = b"".join(attribute(key, value) for key, value in values.items())
    return (field(1, b"\x01" * 16) + field(2, (at + 1).to_bytes(8, "big")) + field(5, "claude_code.llm_request")
            + fixed(7, end - 900_000_000) + fixed(8, end) + attributes)


def body(first):
    service = field(1, field(1, "service.name") + field(2, field(1, "claude-code")))
    scope = field(1, "com.anthropic.claude_code.tracing")
    spans = b"".join(field(2, span(first + at)) for at in range(o.batch))
    encoded = field(1, field(1, service) + field(2, field(1, scope) + spans))
    return gzip.compress(encoded, 1) if o.gzip else encoded


home = tempfile.mkdtemp()
env = {"HOME": home, "PATH": os.environ["PATH"]}
collector = subprocess.Popen([o.spantap, "collect", "--listen", "127.0.0.1:0"], env=env, stdout=subprocess.PIPE, text=True)
address = collector.stdout.readline().split()[2].rstrip(",")
connection = http.client.HTTPConnection(address, timeout=30)
headers = {"content-type": "application/x-protobuf"}
if o.gzip:
    headers["content-encoding"] = "gzip"
# Encoding in Python takes longer than sending: a second of bodies is made before and sent again and again. A span that
# was recorded already has no second record.
sent = failed = late = 0
bodies = [body(at * o.batch) for at in range(max(1, o.rate // o.batch))]
begin = time.monotonic()
while sent * 1.0 < o.rate * o.seconds:
    due = begin + sent / o.rate
    pause = due - time.monotonic()
    if pause > 0:
        time.sleep(pause)
    late = max(late, -pause)
    connection.request("POST", "/v1/traces", bodies[sent // o.batch % len(bodies)], headers)
    answer = connection.getresponse()
    answer.read()
    failed += answer.status != 200
    sent += o.batch
took = time.monotonic() - begin
status = open(f"/proc/{collector.pid}/status").read()
peak = int(status.split("VmHWM:")[1].split()[0])
ticks = sum(map(int, open(f"/proc/{collector.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
collector.send_signal(signal.SIGTERM)
printed = collector.communicate()[0]
counts = json.load(open(home + "/.local/state/spantap/collect.json"))["counts"]
print(f"{sent} spans in {took:.1f} s ({sent / took:.0f} a second), latest request {late * 1000:.0f} ms behind, {failed} requests failed")
print(f"peak {peak / 1024:.1f} MiB, {ticks / os.sysconf('SC_CLK_TCK') / took * 100:.0f}% of one core; counted {counts['spans']} spans, "
      f"wrote {counts['records']} records, lost {sum(counts['lost'].values())}")
print(printed.strip().splitlines()[-1])
sys.exit(failed > 0 or counts["spans"] != sent or peak > MOST_MEMORY)
