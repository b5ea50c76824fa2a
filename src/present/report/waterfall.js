// The operations of one session on time axes, the details of one beside them, and the addresses of both.

// A request of the server during a call has no turn of its own: it belongs to the call's.
function turnsOf(rows) {
  const calls = rows.filter((row) => isToolCall(row) && row.hasTurn);
  const asking = (row) => calls.find((call) => call.server === row.server && call.start <= row.start && row.start <= call.start + call.ms);
  const turns = new Map();
  for (const row of rows) group(turns, row.hasTurn ? row.turn : asking(row)?.turn ?? -1, () => []).push(row);
  return turns;
}

const ended = (row) => row.start + Math.max(0, row.ms);

// Rows under one heading, on one time axis.
function block(name, rows, shown) {
  const start = Math.min(...rows.map((row) => row.start));
  const span = Math.max(Math.max(...rows.map(ended)) - start, 0.001);
  const silence = (row) => (shown ? DATA.rows.silences[row.place] : undefined);
  const silent = (row) => (silence(row) === undefined ? [] : element("p", { class: "silence" }, `\u2026 ${duration(silence(row))} nothing asked`));
  const lines = rows.map((row) => [silent(row), operation(row, start, span)]);
  const [before, ...rest] = lines[0];
  const axis = element("div", { class: "axis-line" }, element("h3", {}, `${name} \u00b7 ${moment(start, true)}`),
    element("span", { class: "ticks", "aria-hidden": "true" }, element("span", {}, "0"), element("span", {}, duration(span / 2)), element("span", {}, duration(span))));
  return [before, element(shown ? "div" : "details", { class: "turn" }, shown ? axis : element("summary", {}, name), shown ? [] : axis, rest, lines.slice(1))];
}

function waterfall(rows) {
  const starts = rows.filter((row) => row.flags & FLAG.ofStart && !isFailure(row));
  const blocks = [];
  if (starts.length > 0) {
    // Without the operations that the page does not contain, the times are not known.
    const { servers, ms, slowest } = SESSIONS.get(rows[0].session)?.start ?? { servers: new Set(starts.map((row) => row.connection)).size };
    const what = servers === 1 ? starts[0].server : plural(servers, "server");
    const more = servers > 1 && slowest ? `, slowest ${slowest[0]} ${duration(slowest[1])}` : "";
    blocks.push(block(`Start of ${what}${ms === undefined ? "" : ": " + duration(ms)}${more}`, starts, false));
  }
  let number = 0;
  const others = new Set(starts);
  for (const [turn, list] of turnsOf(rows.filter((row) => !others.has(row)))) {
    // A group without a tool call that names its turn, such as pings, is not a turn.
    blocks.push(block(turn === -1 || !list.some(isToolCall) ? "Outside turns" : "Turn " + ++number, list, true));
  }
  return blocks;
}

function openWaterfall(session, chosen) {
  const rows = ROWS.filter((row) => row.session === session);
  const about = SESSIONS.get(session);
  const dialog = place("waterfall");
  const close = element("button", { type: "button", class: "plain", onclick: leave }, "Close");
  const facts = about ? [about.servers.join(", "), about.hosts.join(", "), moment(about.first, true, true), plural(about.calls, "call"), plural(about.errors, "error"), about.notes] : [];
  const missing = COMPLETE ? [] : [element("p", { class: "notice" }, "This page contains only the newest and the worst operations; `spantap show` draws all of them.")];
  const time = about?.time;
  dialog.replaceChildren(element("div", { class: "sheet" },
    element("div", { class: "sheet-head" }, element("h2", { id: "waterfall-title", class: "mono" }, session), copier(session, "session"), close),
    element("p", { class: "muted" }, facts.filter((fact) => fact !== "").join(" \u00b7 ")), missing,
    time ? [element("div", { class: "spent" }, spent(time)),
      legend(...SPENT.map(([what, kind], index) => [kind, `${what} ${duration(time[index])}`, time[index]]).filter(([, , ms]) => ms > 0))] : [],
    element("div", { class: "panes" },
      element("div", { class: "list" }, rows.length === 0 ? element("p", { class: "empty" }, "No operations of this session are in the page.") : waterfall(rows)),
      element("aside", { id: "detail", "aria-label": "Details of an operation", "aria-live": "polite" }, element("p", { class: "muted" }, "Choose an operation to see its ids and hashes.")))));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  if (chosen) choose(chosen);
}

// Closes the session; the address forgets it.
function leave() {
  if (location.hash === "" || location.hash === "#") place("waterfall").close();
  else location.hash = "";
}

// Shows the details of an operation of the open session.
function choose(row) {
  const dialog = place("waterfall");
  for (const line of dialog.querySelectorAll(".op[aria-current]")) line.removeAttribute("aria-current");
  const line = dialog.querySelector(`[data-place="${row.place}"]`);
  line?.setAttribute("aria-current", "true");
  const folded = line?.closest("details");
  if (folded) folded.open = true;
  place("detail").replaceChildren(...chain(row));
  const box = line?.getBoundingClientRect();
  if (box && (box.top < 60 || box.bottom > dialog.clientHeight * 0.55)) line.scrollIntoView({ block: "center" });
}

function operation(row, start, span) {
  const x = Math.min(99.4, ((row.start - start) / span) * 100);
  const width = Math.max(0.6, Math.min(100 - x, (Math.max(0, row.ms) / span) * 100));
  const kind = row.status === UNKNOWN ? "unseen" : COLOURS.get(row.server);
  const end = isFailure(row) ? svg("rect", { x: Math.min(99, x + width), y: 0, width: 1, height: 14, class: row.status === DENIED || row.status === 4 ? "caution" : "fail" }) : [];
  const notes = [
    isFailure(row) || row.status === UNKNOWN ? outcome(row) : "",
    row.repeat >= DATA.about.warn ? SAME_CALL(row.repeat) : "",
    row.flags & FLAG.slow ? "reported slow" : "",
    row.flags & FLAG.askedByServer ? "asked by the server" : "",
  ].filter((note) => note !== "");
  return element("a", { class: "op", href: address(row.address), "data-place": row.place },
    element("span", { class: "name", title: `${row.name} on ${row.server}` }, dot(row.server), row.name, " ", element("small", {}, row.server)),
    element("span", { class: "took" }, duration(row.ms)),
    strip(14, "lane", "", svg("rect", { x, y: 2, width, height: 10, class: kind }), end),
    notes.length === 0 ? null : element("em", { class: tone(row) || "warn" }, notes.join(", ")));
}

function chain(row) {
  const detail = DATA.rows.details[row.place];
  const ids = [["operation", row.handle], ["agent session", row.session]];
  const facts = [["started", moment(row.start, true) + ", took " + duration(row.ms)], ["ended", outcome(row)]];
  // The line breaks between session, conversation and turn are in their written form.
  const [, conversation, turn] = DATA.rows.turns[row.turn].split("\\u{a}");
  ids.push(["conversation", conversation ?? detail?.conversation], ["turn", turn], ["connection", row.connection]);
  if (detail) {
    facts.push(["method", detail.method ?? "tools/call"], ["result size", detail.size === undefined ? "" : detail.size + " bytes"]);
    ids.push(["tool call", detail.call],
      ["request id", detail.request], ["trace", detail.trace], ["span", detail.span], ["arguments", detail.arguments],
      ["result", detail.result], ["text", detail.text], ["in a terminal", "spantap show " + row.handle]);
    facts.push(["is it the text?", detail.text ? "spantap redact --hash text FILE prints the hash of the text below if the server sent it" : ""]);
  } else {
    facts.push(["more", "the page has ids and hashes only of the newest and the worst operations"]);
    ids.push(["in a terminal", "spantap show " + row.handle]);
  }
  const lines = (list, make) => list.filter(([, value]) => value).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, make(value, name))]);
  return [element("h3", {}, `${row.name} on ${row.server}`),
    element("dl", { class: "chain" }, lines(facts, (value, name) => (name === "ended" ? toned(value, tone(row)) : value)),
      lines(ids, (value, name) => [element("span", { class: "mono" }, value), copier(value, name), name === "trace" ? traceLink(detail) : null]))];
}

// Links to the trace in the user's tracing backend. The ids are hexadecimal, so no part of the address is of a server.
function traceLink({ trace, span = "" }) {
  const template = DATA.about.trace_link ?? "";
  const isId = (id, length) => id.length === length && /^[0-9a-f]*$/i.test(id);
  if (!/^https?:\/\//.test(template) || !isId(trace, 32) || (template.includes("{span_id}") && !isId(span, 16))) return null;
  const href = template.replaceAll("{trace_id}", trace).replaceAll("{span_id}", span);
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, "open trace");
}

// Opens what the address names: `#d76af1.19` a call, `#session:ID` a session.
function route() {
  let hash = location.hash.slice(1);
  try { hash = decodeURIComponent(hash); } catch { /* It is not an address of this page. */ }
  const row = HANDLES.get(hash);
  const session = row ? row.session : hash.startsWith("session:") ? hash.slice(8) : null;
  if (session !== null && (row || SESSIONS.has(session))) {
    const isOpen = place("waterfall").open && place("waterfall").dataset.session === session;
    if (isOpen && row) choose(row);
    else openWaterfall(session, row);
    place("waterfall").dataset.session = session;
    return;
  }
  if (place("waterfall").open) place("waterfall").close();
  if (session !== null || /^[^:/]+\.\d+$/.test(hash)) complain(`${hash} is not in this page; spantap show ${hash} finds it in the logs`);
}

place("about").textContent =
  `${DATA.about.source} \u00b7 ${moment(DATA.first, SHORT, true)} \u2013 ${moment(DATA.last, SHORT)} \u00b7 ${plural(DATA.operations, "operation")}`;
place("footer").textContent = [`Made by spantap ${DATA.about.version} on ${moment(DATA.about.made_at, false, true)}; times are local. This page does not load or send anything.`,
  ...DATA.about.notes].join(" \u00b7 ");
place("filter").addEventListener("submit", (event) => event.preventDefault());
place("query").addEventListener("input", update);
place("waterfall").addEventListener("click", (event) => { if (event.target === event.currentTarget) leave(); });
place("waterfall").addEventListener("cancel", (event) => { event.preventDefault(); leave(); });
addEventListener("hashchange", route);
update();
route();
