// The five boards, the answers above them, the waterfall, and the links between them.

const place = (id) => document.getElementById(id);
const quote = (text) => (/[\s"]/.test(text) ? `"${text.replace(/"/g, "?")}"` : text);
const shortId = (id) => fit(id, 12);
const tokens = (number) => "~" + count(number);
const money = (item) => (DATA.priced ? "~" + usd(item.cost ?? 0) : "");
// A time span of less than an hour needs seconds to distinguish times.
const SHORT = DATA.last - DATA.first < 3600e3;
const priceColumn = () => (DATA.priced ? [["Cost~", money, "n"]] : []);

function filterBy(text) {
  place("query").value = text;
  update();
  place("filter").scrollIntoView({ block: "nearest" });
}

function board(id, name, question, ...content) {
  const nothing = content.flat(Infinity).length === 0;
  place(id).replaceChildren(
    element("h2", {}, name),
    element("p", { class: "muted" }, question),
    ...(nothing ? [element("p", { class: "empty" }, "Nothing here for this filter.")] : content.flat(Infinity)),
  );
}

// Returns the last known state of a server, and its earlier failures.
function state(server) {
  const earlier = server.failures - (server.bad ? 1 : 0);
  return [server.state, earlier > 0 ? `${server.failures} of ${plural(server.starts, "start")} went wrong` : "", server.lossy ? "records lost" : ""]
    .filter((part) => part !== "").join(", ");
}

function health(figures) {
  const byServer = figures.servers.map((server) => {
    const pairs = figures.pairs.filter((pair) => pair.server === server.name);
    const counts = {};
    for (const field of ["calls", "errors", "unknown", "denied"]) counts[field] = sum(pairs, field);
    return { ...server, ...counts, columns: figures.columns.get(server.name) };
  }).sort((a, b) => b.bad - a.bad || b.calls - a.calls);
  const minutes = Math.max((DATA.last - DATA.first) / 60000, 1 / 60);
  const shown = byServer.filter((server) => server.columns && server.calls > 0).slice(0, 8);
  const height = 46;
  const greatest = Math.max(1, ...shown.flatMap((server) => server.columns[0]));
  const picture = shown.length === 0 ? [] : [
    drawing("Calls over time by server", shown.length * height + 18, (width) => {
      const left = Math.min(170, width * 0.3);
      const step = (width - left) / figures.timeline.buckets;
      const rows = shown.map((server, index) => {
        const base = (index + 1) * height - 8;
        const scale = (number) => (number === 0 ? 0 : Math.max(2, (number / greatest) * (height - 16)));
        const columns = server.columns[0].flatMap((calls, bucket) => {
          const errors = server.columns[1][bucket];
          if (calls === 0 && errors === 0) return [];
          const x = left + bucket * step;
          const at = moment(figures.timeline.from + bucket * figures.timeline.step, SHORT);
          const what = title(`${at}: ${plural(calls, "call")}, ${plural(errors, "error")}`);
          const box = { x, width: Math.max(1.5, step - 1) };
          return [
            svg("rect", { ...box, y: base - scale(calls), height: scale(calls), class: "ok" }, what),
            svg("rect", { ...box, y: base - scale(errors), height: scale(errors), class: "fail" }),
          ];
        });
        return svg("g", {},
          svg("text", { x: 2, y: base - 12, class: "name" }, fit(server.name, Math.floor(left / 7.6)), title(server.name)),
          svg("text", { x: 2, y: base + 2 }, plural(server.calls, "call")),
          svg("line", { x1: left, x2: width, y1: base, y2: base, class: "axis" }),
          columns);
      });
      const y = shown.length * height + 12;
      return [rows, svg("text", { x: left, y }, moment(DATA.first, SHORT)),
        svg("text", { x: width, y, "text-anchor": "end" }, moment(DATA.last, SHORT))];
    }),
    legend(["ok", "calls"], ["fail", "errors"]),
  ];
  const rows = byServer.length === 0 ? [] : table(byServer, [
    ["Server", (server) => server.name],
    ["State", (server) => toned(state(server), server.bad ? "bad" : server.lossy || server.failures > 0 ? "warn" : "")],
    ["Calls", (server) => server.calls, "n"],
    ["per minute", (server) => perMinute(server.calls / minutes), "n wide"],
    ["Errors", (server) => toned(server.errors, errorTone(rate(server))), "n"],
    ["Error share", (server) => toned(percent(rate(server)), errorTone(rate(server))), "n"],
    ["Not observed", (server) => server.unknown || "", "n wide"],
    ["Starts", (server) => server.starts, "n wide"],
    ["Last seen", (server) => moment(server.last_seen, SHORT), "n wide"],
  ], (server) => filterBy("server:" + quote(server.name)));
  board("health", "Server health and rate", "Which servers ran, how busy they were, and their last known state.", picture, rows);
}

function errors(figures) {
  const failing = figures.pairs.flatMap((pair) => pair.types.map(([type, number]) => ({ ...pair, type, number })))
    .sort((a, b) => b.number - a.number || a.server.localeCompare(b.server));
  const open = (row) => filterBy(`server:${quote(row.server)} tool:${quote(row.tool)} status:error`);
  const latest = CURRENT.filter(isFailure).sort((a, b) => b.start - a.start);
  const content = failing.length === 0 && latest.length === 0 ? [] : [
    failing.length === 0 ? [] : [
      bars("Errors by tool and type", failing.map((row) => ({
        name: `${row.server} / ${row.tool}`, value: `${row.number} \u00b7 ${row.type}`,
        parts: [[row.number, row.type === "declined" || row.type === "cancelled" ? "caution" : "fail", row.type]],
        open: () => open(row),
      })), 10),
      table(failing, [
        ["Tool", (row) => toolOn(row.tool, row.server)], ["Error", (row) => breakable(row.type)],
        ["Errors", (row) => row.number, "n"], ["Calls", (row) => row.calls, "n wide"],
        ["All errors", (row) => toned(percent(rate(row)), errorTone(rate(row))), "n"],
      ], open, 10),
    ],
    latest.length === 0 ? [] : [element("h3", {}, "Latest failures"), operations(latest, 6)],
  ];
  board("errors", "Top error tools", "Which tools fail, how often, and with which error. A call whose end was not observed is not an error.", content.flat(Infinity));
}

function operations(rows, most) {
  return table(rows, [
    ["Operation", (row) => toolOn(row.name, row.server)],
    ["Time", (row) => moment(row.start, true), "n wide"], ["Took", (row) => duration(row.ms), "n"],
    ["Ended", (row) => toned(breakable(row.type || STATUS[row.status]), isFailure(row) ? "bad" : "")],
    ["Session", (row) => shortId(row.session), "mono wide"],
  ], (row) => openWaterfall(row.session, row.place), most);
}

function latency(figures) {
  const timed = figures.pairs.filter((pair) => pair.ms !== null).sort((a, b) => b.ms[1] - a.ms[1]);
  const open = (row) => filterBy(`server:${quote(row.server)} tool:${quote(row.tool)}`);
  const shown = timed.slice(0, 12);
  const logs = shown.flatMap((pair) => [pair.ms[0], pair.ms[2]]).map((ms) => Math.log10(Math.max(ms, 0.01)));
  const low = Math.floor(Math.min(...logs));
  const high = Math.max(low + 1, Math.ceil(Math.max(...logs)));
  const step = 24;
  const picture = shown.length === 0 ? [] : [
    drawing("p50, p95 and p99 by tool on a logarithmic scale", shown.length * step + 20, (width) => {
      const left = Math.min(260, width * 0.42);
      const x = (ms) => left + 6 + ((Math.log10(Math.max(ms, 0.01)) - low) / (high - low)) * (width - left - 34);
      const every = width < 520 ? 2 : 1;
      const grid = Array.from({ length: high - low + 1 }, (_, index) => low + index).flatMap((power, index) => [
        svg("line", { x1: x(10 ** power), x2: x(10 ** power), y1: 0, y2: shown.length * step, class: "axis" }),
        index % every === 0
          ? svg("text", { x: x(10 ** power), y: shown.length * step + 15, "text-anchor": "middle" }, tick(10 ** power)) : [],
      ].flat(Infinity));
      return [grid, shown.map((pair, index) => {
        const y = index * step + 12;
        const [p50, p95, p99] = pair.ms;
        const name = `${pair.server} / ${pair.tool}`;
        return svg("g", { class: "row", onclick: () => open(pair) },
          svg("rect", { x: 0, y: y - 12, width, height: step - 1, rx: 4, class: "hit" }),
          svg("text", { x: 2, y: y + 4, class: "name" }, fit(name, Math.floor(left / 7.2)), title(name)),
          svg("line", { x1: x(p50), x2: x(p99), y1: y, y2: y, class: "range" }),
          svg("circle", { cx: x(p50), cy: y, r: 4, class: "ok" }, title("p50 " + duration(p50))),
          svg("rect", { x: x(p95) - 2, y: y - 7, width: 4, height: 14, rx: 1, class: "caution" }, title("p95 " + duration(p95))),
          svg("circle", { cx: x(p99), cy: y, r: 3, class: "fail" }, title("p99 " + duration(p99))));
      })];
    }),
    legend(["ok", "p50"], ["caution", "p95"], ["fail", "p99"]),
  ];
  const slowest = CURRENT.filter((row) => isToolCall(row) && row.status !== UNKNOWN).sort((a, b) => b.ms - a.ms);
  const content = timed.length === 0 ? [] : [
    picture,
    table(timed, [
      ["Tool", (pair) => toolOn(pair.tool, pair.server)],
      ["Calls", (pair) => pair.calls, "n wide"], ["p50", (pair) => duration(pair.ms[0]), "n"],
      ["p95", (pair) => duration(pair.ms[1]), "n"], ["p99", (pair) => duration(pair.ms[2]), "n"],
      ["Longest", (pair) => duration(pair.ms[3]), "n wide"], ["Reported slow", (pair) => pair.slow || "", "n wide"],
    ], open),
    element("h3", {}, "Slowest calls"), operations(slowest, 6),
  ];
  board("latency", "Latency by (server, tool)", "How long calls take, on a logarithmic scale, sorted by the 95th percentile.", content.flat(Infinity));
}

const tick = (ms) => (ms < 1 ? ms + " ms" : ms < 1000 ? ms + " ms" : ms / 1000 + " s");

function shape(figures) {
  const rows = figures.sessions.filter((session) => session.calls > 0 || session.notes !== "")
    .sort((a, b) => b.calls - a.calls);
  const known = rows.filter((session) => session.turns > 0);
  const perTurn = known.length === 0 ? null : sum(known, "calls") / sum(known, "turns");
  const calls = sum(rows, "calls");
  const facts = [
    `${plural(rows.length, "session")}, ${(calls / Math.max(1, rows.length)).toFixed(1)} tool calls each`,
    perTurn === null ? "no turns known" : `${perTurn.toFixed(1)} calls per turn`,
    `${percent(calls === 0 ? 0 : sum(rows, "denied") / calls)} denied`,
    `${percent(calls === 0 ? 0 : sum(rows, "repeats") / calls)} repeated`,
  ];
  const content = rows.length === 0 ? [] : [
    element("p", {}, facts.join(" \u00b7 ")),
    bars("Calls by session", rows.filter((session) => session.calls > 0).map((session) => {
      const repeated = Math.min(session.repeats, Math.max(0, session.calls - session.errors));
      const plain = Math.max(0, session.calls - session.errors - repeated);
      return {
        name: `${shortId(session.id)} ${session.hosts.join(", ")}`, value: plural(session.calls, "call"),
        parts: [[plain, "ok", `${plain} went well`], [repeated, "caution", `${session.repeats} repeated`], [session.errors, "fail", plural(session.errors, "error")]],
        open: () => openWaterfall(session.id),
      };
    }), 12),
    legend(["ok", "calls"], ["caution", "repeats of an earlier call"], ["fail", "errors"]),
    table(rows, [
      ["Session", (session) => shortId(session.id), "text mono"], ["Host", (session) => session.hosts.join(", "), "text wide"],
      ["Servers", (session) => session.servers.join(", "), "text wide"], ["Start", (session) => moment(session.first, SHORT), "n wide"],
      ["Length", (session) => duration(session.last - session.first), "n wide"],
      ["Calls", (session) => session.calls, "n"], ["Turns", (session) => session.turns || "", "n wide"],
      ["Per turn", (session) => (session.turns ? (session.calls / session.turns).toFixed(1) : ""), "n wide"],
      ["Same call", (session) => (session.most > 1 ? toned(session.most + "\u00d7", session.most > DATA.about.warn ? "warn" : "") : ""), "n"],
      ["Notes", (session) => toned(session.notes, "warn")],
    ], (session) => openWaterfall(session.id)),
    element("p", { class: "muted" }, "Calls that a host refuses before it sends them are not recorded; the telemetry of the host has them."),
  ];
  board("shape", "Session shape", "How agents work: calls per turn, refusals, and repeated calls.", content);
}

function cost(figures) {
  const rows = figures.pairs.filter((pair) => pair.tokens > 0).sort((a, b) => (b.cost ?? 0) - (a.cost ?? 0) || b.tokens - a.tokens);
  const sessions = figures.sessions.filter((session) => session.tokens > 0).sort((a, b) => b.tokens - a.tokens);
  const turns = sum(sessions, "turns");
  const all = sum(rows, "tokens");
  const facts = [
    `${tokens(all)} tokens of arguments and results`,
    turns > 0 ? `${tokens(Math.round(sum(sessions.filter((session) => session.turns > 0), "tokens") / turns))} per turn` : null,
    DATA.priced ? `${money({ cost: sum(rows, "cost") })} in all` : "no prices set ([cost] in the config file)",
  ].filter((fact) => fact !== null);
  const content = rows.length === 0 ? [] : [
    element("p", {}, facts.join(" \u00b7 ")),
    bars("Tokens by tool", rows.map((pair) => ({
      name: `${pair.server} / ${pair.tool}`, value: tokens(pair.tokens), parts: [[pair.tokens, "ok", tokens(pair.tokens)]],
      open: () => filterBy(`server:${quote(pair.server)} tool:${quote(pair.tool)}`),
    })), 10),
    table(sessions, [
      ["Session", (session) => shortId(session.id), "text mono"], ["Host", (session) => session.hosts.join(", "), "text wide"],
      ["Calls", (session) => session.calls, "n"], ["Tokens~", (session) => tokens(session.tokens), "n"],
      ["Per turn", (session) => (session.turns ? tokens(Math.round(session.tokens / session.turns)) : ""), "n wide"],
      ...priceColumn(),
    ], (session) => openWaterfall(session.id), 8),
  ];
  board("cost", "Cost", "Estimates: four bytes are one token. The cost of the model is not included; only the host knows it.", content);
}

function answers(figures) {
  const total = {};
  for (const field of ["calls", "errors", "unknown", "tokens", "slow", "denied"]) total[field] = sum(figures.pairs, field);
  total.cost = figures.pairs.reduce((amount, pair) => amount + (pair.cost ?? 0), 0);
  const dead = figures.servers.filter((server) => server.bad);
  const died = figures.servers.filter((server) => !server.bad && server.failures > 0);
  const share = rate(total);
  const often = figures.pairs.filter((pair) => pair.errors > 0).sort((a, b) => b.errors - a.errors)[0];
  const slowest = figures.pairs.filter((pair) => pair.ms !== null).sort((a, b) => b.ms[1] - a.ms[1])[0];
  const loop = [...figures.sessions].sort((a, b) => b.most - a.most)[0];
  const looped = figures.pairs.filter((pair) => loop && pair.most === loop.most)[0];
  const most = loop ? loop.most : 0;
  const card = (target, question, answer, detail, tone) => element("a", { class: "answer is-" + tone, href: "#" + target },
    element("b", {}, question), element("strong", {}, answer), element("span", {}, detail));
  place("answers").replaceChildren(
    card("health", "Alive?", dead.length === 0 ? plural(figures.servers.length, "server") : `${dead.length} of ${figures.servers.length} ended badly`,
      dead.length + died.length === 0 ? "no failures" : [...dead, ...died].map((server) => `${server.name} ${server.bad ? server.state : "died before"}`).join("; "),
      dead.length > 0 ? "bad" : died.length > 0 ? "warn" : "good"),
    card("errors", "Failing?", share === null ? "no calls" : `${percent(share)} of calls`,
      often ? `most often ${often.tool} on ${often.server}, ${percent(rate(often))}` : "no errors", share >= 0.2 ? "bad" : share > 0 ? "warn" : "good"),
    card("latency", "Slow?", slowest ? `p95 up to ${duration(slowest.ms[1]).replaceAll(" ", "\u00a0")}` : "no calls",
      slowest ? `${slowest.tool} on ${slowest.server}; ${total.slow} reported as slow` : "", total.slow > 0 ? "warn" : "plain"),
    card("shape", "Looping?", most > 1 ? `${most} identical calls` : "no repeats",
      most > 1 ? `${looped ? looped.tool + " " : ""}in session ${shortId(loop.id)}` : "no call was made twice", most > DATA.about.warn ? "warn" : "good"),
    card("cost", "Cost?", DATA.priced ? "~" + usd(total.cost) : `${tokens(total.tokens)} tokens`,
      `${plural(total.calls, "call")}${DATA.priced ? `, ${tokens(total.tokens)} tokens` : "; set prices to see dollars"}`, "plain"),
  );
}

// A request of the server during a call has no turn of its own: it belongs to the call's.
function turnsOf(rows) {
  const calls = rows.filter((row) => isToolCall(row) && row.hasTurn);
  const asking = (row) => calls.find((call) => call.server === row.server && call.start <= row.start && row.start <= call.start + call.ms);
  const turns = new Map();
  for (const row of rows) group(turns, row.hasTurn ? row.turn : asking(row)?.turn ?? -1, () => []).push(row);
  return turns;
}

function openWaterfall(session, chosen) {
  const rows = ROWS.filter((row) => row.session === session);
  const about = DATA.sessions.find((known) => known.id === session);
  const turns = turnsOf(rows);
  let number = 0;
  const servers = new Set(rows.map((row) => row.server)).size;
  const blocks = [...turns].map(([turn, list]) => {
    const start = Math.min(...list.map((row) => row.start));
    const end = Math.max(...list.map((row) => row.start + Math.max(0, row.ms)));
    // A group without a tool call that names its turn, such as greetings and listings, is not a turn.
    const name = turn === -1 || !list.some(isToolCall) ? "Outside turns" : "Turn " + ++number;
    return element("div", { class: "turn" },
      element("h3", {}, element("span", {}, `${name} \u00b7 ${moment(start, true)}`), element("span", {}, duration(end - start))),
      list.map((row) => operation(row, start, Math.max(end - start, 0.001), servers > 1)));
  });
  const dialog = place("waterfall");
  const close = element("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Close");
  const facts = about ? [about.servers.join(", "), about.hosts.join(", "), moment(about.first, true), plural(about.calls, "call"), plural(about.errors, "error"), about.notes] : [];
  const missing = COMPLETE ? [] : [element("p", { class: "notice" }, "This page contains only the newest and the worst operations; `spantap show` draws all of them.")];
  dialog.replaceChildren(element("div", { class: "sheet" },
    element("div", { class: "sheet-head" }, element("h2", { id: "waterfall-title", class: "mono" }, session), close),
    element("p", { class: "muted" }, facts.filter((fact) => fact !== "").join(" \u00b7 ")), missing,
    rows.length === 0 ? element("p", { class: "empty" }, "No operations of this session are in the page.") : blocks));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  const target = chosen === undefined ? null : dialog.querySelector(`[data-place="${chosen}"]`);
  if (target) { target.click(); target.scrollIntoView({ block: "center" }); }
}

function operation(row, start, span, withServer) {
  const kind = isFailure(row) ? (row.status === 2 || row.status === 4 ? "caution" : "fail") : row.status === UNKNOWN ? "unseen" : "ok";
  const x = ((row.start - start) / span) * 100;
  const bar = svg("svg", { viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { x: Math.min(x, 99.4), y: 2, width: Math.max(0.6, Math.min(100 - x, (Math.max(0, row.ms) / span) * 100)), height: 10, class: kind }));
  const notes = [
    isFailure(row) ? row.type : row.status === UNKNOWN ? "answer not observed" : "",
    row.repeat >= DATA.about.warn ? `${row.repeat}\u00d7 same arguments` : "",
    row.flags & FLAG.slow ? "reported slow" : "",
    row.flags & FLAG.askedByServer ? "asked by the server" : "",
  ].filter((note) => note !== "");
  const tone = isFailure(row) ? "bad" : "warn";
  const line = element("button", { type: "button", class: "op", "data-place": row.place, "aria-expanded": "false" },
    element("span", { title: row.name }, withServer ? `${row.server} / ${row.name}` : row.name), element("span", {}, duration(row.ms)),
    element("span", {}, bar, notes.length === 0 ? null : element("em", { class: tone }, notes.join(", "))));
  const box = element("div", {}, line);
  line.addEventListener("click", () => {
    const open = line.getAttribute("aria-expanded") === "true";
    line.setAttribute("aria-expanded", String(!open));
    if (open) box.lastElementChild.remove();
    else box.append(chain(row));
  });
  return box;
}

function chain(row) {
  const detail = DATA.rows.details[row.place];
  const facts = [["operation", `${detail ? detail.method + " " : ""}${row.name} on ${row.server}`],
    ["status", STATUS[row.status] + (row.type ? `, ${row.type}` : "") + (detail?.message ? `: ${detail.message}` : "")],
    ["started", moment(row.start, true) + ", took " + duration(row.ms)], ["agent session", row.session]];
  if (detail) {
    facts.push(["conversation", detail.conversation], ["turn", detail.turn], ["tool call", detail.call], ["connection", detail.connection],
      ["request id", detail.request], ["trace", detail.trace], ["span", detail.span], ["arguments", detail.arguments],
      ["result", detail.result], ["text", detail.text], ["result size", detail.size === undefined ? "" : detail.size + " bytes"],
      ["in a terminal", `spantap show ${detail.connection.slice(-12)}/${detail.seq}`],
      ["is it the text?", detail.text ? "spantap redact --hash text < FILE prints the hash above if the server sent it" : ""]);
  } else {
    facts.push(["more", "the page has ids and hashes only of the newest and the worst operations"]);
  }
  return element("dl", { class: "chain" }, facts.filter(([, value]) => value).flatMap(([name, value]) => [
    element("dt", {}, name), element("dd", { class: "mono" }, value)]));
}

let CURRENT = ROWS;

function update() {
  const terms = parseFilter(place("query").value);
  const filtered = terms.length > 0;
  CURRENT = filtered ? ROWS.filter(predicate(terms)) : ROWS.slice();
  const figures = filtered ? aggregate(CURRENT) : everything();
  REDRAW = [];
  answers(figures);
  for (const draw of [health, errors, latency, shape, cost]) draw(figures);
  REDRAW.forEach((render) => render());
  place("matches").textContent = filtered ? plural(CURRENT.length, "operation") : "";
  place("partial").hidden = !filtered || COMPLETE;
  place("partial").textContent =
    `This page contains the newest and the worst ${ROWS.length} of ${DATA.operations} operations; with a filter, the numbers count only these.`;
}

place("about").textContent =
  `${DATA.about.source} \u00b7 ${moment(DATA.first, SHORT)} \u2013 ${moment(DATA.last, SHORT)} \u00b7 ${plural(DATA.operations, "operation")}`;
place("footer").textContent = [`Made by spantap ${DATA.about.version} on ${moment(DATA.about.made_at)}; times are local. This page does not load or send anything.`,
  ...DATA.about.notes].join(" \u00b7 ");
place("filter").addEventListener("submit", (event) => event.preventDefault());
place("query").addEventListener("input", update);
place("waterfall").addEventListener("click", (event) => { if (event.target === event.currentTarget) event.currentTarget.close(); });
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => REDRAW.forEach((render) => render()), 60); });
update();
