"""A scripted model on loopback for real agents.

It speaks the four wire formats that agents use: OpenAI Responses and chat completions, Anthropic messages, and Gemini
generateContent, streamed or not. The script is a list of [tool, arguments]; the tool may be SERVER/TOOL, and `null` ends a
turn: the prompt after it has AFTER-TURN-0, that of the next one AFTER-TURN-1. With K tool results and ended turns in the
conversation the model asks for the K-th call, under the first offered name that ends with that tool's name; at the end of
a turn it answers with a text that quotes the last result. The K-th answer reports 1000 * (K + 1) input and 10 * (K + 1)
output tokens; a tenth of the input is from the cache, and a tenth of the output is thought. In Anthropic's format the
tokens of the cache are apart from the input, and K + 7 were written to it.
In Gemini's format another tenth of the input is of the provider's own tools; it and the thoughts have numbers of their own.

    model.py --port N --script '[["echo", {"message": "hi"}]]' --log FILE [--look-for '["TEXT"]']

It prints its port. The log has one JSON object for each answer: wire format, offered tools, the tool it asked for, the
last result, the tokens that it reported, and the texts of --look-for that are in the request.
"""

import argparse
import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

A = None
LOCK = threading.Lock()


def log(**kw):
    with LOCK, open(A.log, "a") as f:
        f.write(json.dumps(kw) + "\n")


def pick(names, done):
    """The name under which the next tool of the script is offered, or None when the script is over."""
    if done >= len(A.script) or A.script[done] is None:
        return None
    server, _, tool = A.script[done][0].replace("-", "_").rpartition("/")
    for n in names:
        plain = n.replace("-", "_")  # some agents offer get-sum as get_sum
        if server in plain and (plain == tool or any(plain.endswith(mark + tool) for mark in ("__", "_", "."))):
            return n
    return None


def arguments(done):
    return json.dumps(A.script[done][1])


def used(done):
    return 1000 * (done + 1), 10 * (done + 1)


def text_of(x):
    """all strings inside a tool result, whatever its shape, in order"""
    if isinstance(x, str):
        return x
    if isinstance(x, list):
        return "\n".join(filter(None, map(text_of, x)))
    if isinstance(x, dict):
        for k in ("text", "output", "content", "response", "functionResponse", "result"):
            if k in x:
                return text_of(x[k])
        return json.dumps(x, sort_keys=True)
    return "" if x is None else str(x)


class H(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def do_HEAD(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()

    def do_GET(self):
        p = self.path.split("?")[0]
        if p.endswith("/models"):
            m = {"id": "fake-model", "slug": "fake-model", "object": "model", "created": 1, "owned_by": "kit", "display_name": "fake"}
            self.js({"object": "list", "data": [m], "models": []})
        else:
            log(path=self.path, verb="GET")
            self.js({})

    def js(self, o, code=200):
        b = json.dumps(o).encode()
        self.send_response(code); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(b))); self.end_headers(); self.wfile.write(b)

    def sse(self, events):
        self.send_response(200); self.send_header("request-id", "req_%d" % time.time_ns()); self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-cache"); self.send_header("connection", "close"); self.end_headers()
        for name, o in events:
            d = o if isinstance(o, str) else json.dumps(o)
            self.wfile.write(((f"event: {name}\n" if name else "") + f"data: {d}\n\n").encode()); self.wfile.flush()
        self.close_connection = True

    def do_POST(self):
        n = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(n) if n else b""
        if not n and "chunked" in (self.headers.get("transfer-encoding") or ""):
            parts = []
            while True:
                k = int(self.rfile.readline().split(b";")[0], 16)
                if not k:
                    self.rfile.readline(); break
                parts.append(self.rfile.read(k)); self.rfile.readline()
            raw = b"".join(parts)
        if self.headers.get("content-encoding") == "gzip":
            raw = gzip.decompress(raw)
        try:
            r = json.loads(raw)
        except Exception:
            r = {}
        # A request can have the last text of a turn twice, so the prompts of further turns have their number.
        self.ended = sum(f"AFTER-TURN-{turn}".encode() in raw for turn in range(A.script.count(None)))
        self.found = [text for text in A.look_for if text.encode() in raw]
        p = self.path.split("?")[0]
        if p.endswith("/responses"):
            return self.oai_responses(r)
        if p.endswith("/chat/completions"):
            return self.chat(r)
        if p.endswith("/messages"):
            return self.messages(r)
        if p.endswith("/count_tokens"):
            return self.js({"input_tokens": 10})
        if ":generateContent" in p or ":streamGenerateContent" in p:
            return self.gemini(r, "stream" in p)
        if ":countTokens" in p:
            return self.js({"totalTokens": 10})
        log(path=self.path, verb="POST", unknown=True)
        self.js({}, 200)

    # --- OpenAI Responses (codex) -------------------------------------------------
    def oai_responses(self, r):
        tools, ns = [], {}
        for t in r.get("tools") or []:
            if t.get("type") == "function":
                tools.append(t["name"])
            elif t.get("type") == "namespace":
                for s in t.get("tools") or []:
                    full = f"{t.get('name')}__{s.get('name')}"
                    tools.append(full); ns[full] = (t.get("name"), s.get("name"))
        inp = r.get("input") if isinstance(r.get("input"), list) else []
        outs = [i for i in inp if i.get("type") in ("function_call_output", "mcp_tool_call_output", "custom_tool_call_output")]
        k = len(outs) + self.ended; want = pick(tools, k); tin, tout = used(k)
        seen = text_of(outs[-1].get("output")) if outs else None
        log(api="responses", offered=tools, want=want, result=seen, input_tokens=tin, output_tokens=tout, found=self.found)
        if want:
            item = {"type": "function_call", "id": f"fc_{k + 1}", "call_id": f"call_{k + 1}", "name": want, "arguments": arguments(k), "status": "completed"}
            if ns.get(want):
                item["namespace"], item["name"] = ns[want]
        else:
            item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "FINAL:" + (seen or "no tool " + ",".join(tools)), "annotations": []}]}
        resp = {"id": "resp_%d" % len(inp), "object": "response", "created_at": 1, "status": "completed", "model": "fake-model", "output": [item],
                "usage": {"input_tokens": tin, "output_tokens": tout, "total_tokens": tin + tout, "input_tokens_details": {"cached_tokens": tin // 10}, "output_tokens_details": {"reasoning_tokens": tout // 10}}}
        if not r.get("stream"):
            return self.js(resp)
        started = dict(resp, status="in_progress", output=[])
        self.sse([("response.created", {"type": "response.created", "response": started}),
                  ("response.output_item.added", {"type": "response.output_item.added", "output_index": 0, "item": item}),
                  ("response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}),
                  ("response.completed", {"type": "response.completed", "response": resp})])

    # --- OpenAI chat completions (opencode, qwen, goose, crush ...) -----------------
    def chat(self, r):
        tools = [t["function"]["name"] for t in r.get("tools") or [] if t.get("type") == "function"]
        res = [m for m in r.get("messages") or [] if m.get("role") == "tool"]
        k = len(res) + self.ended; want = pick(tools, k); tin, tout = used(k)
        seen = text_of(res[-1].get("content")) if res else None
        log(api="chat", offered=tools, want=want, result=seen, input_tokens=tin, output_tokens=tout, found=self.found)
        base = {"id": "c1", "object": "chat.completion.chunk" if r.get("stream") else "chat.completion", "created": 1, "model": "fake-model"}
        use = {"prompt_tokens": tin, "completion_tokens": tout, "total_tokens": tin + tout, "prompt_tokens_details": {"cached_tokens": tin // 10},
               "completion_tokens_details": {"reasoning_tokens": tout // 10}}
        if want:
            msg = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, "id": f"call_{k + 1}", "type": "function", "function": {"name": want, "arguments": arguments(k)}}]}
            fin = "tool_calls"
        else:
            msg = {"role": "assistant", "content": "FINAL:" + (seen or "no tool")}; fin = "stop"
        if not r.get("stream"):
            return self.js(dict(base, choices=[{"index": 0, "message": msg, "finish_reason": fin}], usage=use))
        self.sse([(None, dict(base, choices=[{"index": 0, "delta": msg, "finish_reason": None}])),
                  (None, dict(base, choices=[{"index": 0, "delta": {}, "finish_reason": fin}], usage=use)), (None, "[DONE]")])

    # --- Anthropic messages (claude code) --------------------------------------------
    def messages(self, r):
        tools = [t.get("name") for t in r.get("tools") or []]
        res = []
        for m in r.get("messages") or []:
            if isinstance(m.get("content"), list):
                res += [b for b in m["content"] if b.get("type") == "tool_result"]
        k = len(res) + self.ended; want = pick(tools, k); tin, tout = used(k)
        seen = text_of(res[-1].get("content")) if res else None
        log(api="messages", offered=tools, want=want, result=seen, input_tokens=tin, output_tokens=tout, found=self.found)
        if want:
            blk = {"type": "tool_use", "id": f"toolu_{k + 1}", "name": want, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": arguments(k)}; stop = "tool_use"
            whole = dict(blk, input=A.script[k][1])
        else:
            t = "FINAL:" + (seen or "no tool")
            blk = {"type": "text", "text": ""}; delta = {"type": "text_delta", "text": t}; stop = "end_turn"; whole = {"type": "text", "text": t}
        msg = {"id": "msg_1", "type": "message", "role": "assistant", "model": r.get("model", "fake"), "content": [], "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": tin, "output_tokens": tout, "cache_read_input_tokens": tin // 10, "cache_creation_input_tokens": k + 7}}
        if not r.get("stream"):
            return self.js(dict(msg, content=[whole], stop_reason=stop))
        self.sse([("message_start", {"type": "message_start", "message": msg}),
                  ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": blk}),
                  ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}),
                  ("content_block_stop", {"type": "content_block_stop", "index": 0}),
                  ("message_delta", {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": tout}}),
                  ("message_stop", {"type": "message_stop"})])

    # --- Gemini ----------------------------------------------------------------------
    def gemini(self, r, stream):
        tools = [f["name"] for t in r.get("tools") or [] for f in t.get("functionDeclarations") or []]
        res = [p["functionResponse"] for c in r.get("contents") or [] for p in c.get("parts") or [] if "functionResponse" in p]
        # Gemini CLI 0.61.0 repeats the last result in a conversation that it continues.
        k = len({x.get("id", n) for n, x in enumerate(res)}) + self.ended; want = pick(tools, k); tin, tout = used(k)
        seen = text_of(res[-1].get("response")) if res else None
        log(api="gemini", offered=tools, want=want, result=seen, input_tokens=tin, output_tokens=tout, found=self.found)
        if want:
            part = {"functionCall": {"name": want, "args": A.script[k][1]}}
        else:
            part = {"text": "FINAL:" + (seen or "no tool")}
        o = {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
             "modelVersion": "fake", "usageMetadata": {
                 "promptTokenCount": tin - tin // 10, "toolUsePromptTokenCount": tin // 10, "cachedContentTokenCount": tin // 10,
                 "candidatesTokenCount": tout - tout // 10, "thoughtsTokenCount": tout // 10, "totalTokenCount": tin + tout}}
        return self.sse([(None, o)]) if stream else self.js(o)


def main():
    global A
    ap = argparse.ArgumentParser()
    ap.add_argument("--port", type=int, required=True)
    ap.add_argument("--script", type=json.loads, default=[["echo", {"message": "hello"}]])
    ap.add_argument("--log", required=True)
    ap.add_argument("--look-for", type=json.loads, default=[])
    A = ap.parse_args()
    open(A.log, "w").close()
    s = ThreadingHTTPServer(("127.0.0.1", A.port), H); s.daemon_threads = True
    print("port", s.server_address[1], flush=True)
    s.serve_forever()


if __name__ == "__main__":
    main()
