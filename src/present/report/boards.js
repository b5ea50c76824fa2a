// The six boards and the answers above them.

const place = (id) => document.getElementById(id);
const quote = (text) => (/[\s"]/.test(text) ? `"${text.replace(/"/g, "?")}"` : text);
const shortId = (id) => fit(id, 12);
const tokens = (number) => "~" + count(number);
const money = (item) => (DATA.priced ? "~" + usd(item.cost ?? 0) : "");
// Cost of model calls: what agents reported, and `~` what was calculated by prices of the config file. `+`: there is more.
const spentOn = ({ calls, priced, usd: reported, calculations, calculated }) => [priced > 0 ? usd(reported) : "", calculations > 0 ? "~" + usd(calculated) : ""]
  .filter((part) => part !== "").join(" and ") + (priced + calculations > 0 && priced + calculations < calls ? "+" : "");
const ofCalls = (number, calls) => (number < calls ? ` (of ${number} of ${plural(calls, "model call")})` : "");
const greatest = (rows, field) => Math.max(0, ...rows.map((row) => row[field]));
// A time span of less than an hour needs seconds to distinguish times.
const SHORT = DATA.last - DATA.first < 3600e3;
const SAME_CALL = (number) => `same call ${number}x`;

function filterBy(text) {
  place("query").value = text;
  update();
  place("filter").scrollIntoView({ block: "nearest" });
}

const ofTool = (row) => `server:${quote(row.server)} tool:${quote(row.tool)}`;

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
  const earlier = server.failures - (server.kind === "bad" ? 1 : 0);
  return [server.state, earlier > 0 ? `${server.failures} of ${plural(server.starts, "start")} went wrong` : "", server.lossy ? "records lost" : ""]
    .filter((part) => part !== "").join(", ");
}

const stateTone = (server) => (server.kind === "bad" ? "bad" : server.lossy || server.failures > 0 ? "warn" : server.kind === "running" ? "good" : "");

// The calls of one server over time, errors in red.
function overTime(server, timeline, most) {
  const width = 100 / timeline.buckets;
  const marks = server.columns[0].flatMap((calls, bucket) => {
    const errors = server.columns[1][bucket];
    if (calls === 0 && errors === 0) return [];
    const height = (number) => (number === 0 ? 0 : Math.max(2, (number / most) * 26));
    const what = `${moment(timeline.from + bucket * timeline.step, SHORT)}: ${plural(calls, "call")}, ${plural(errors, "failure")}`;
    const box = { x: bucket * width, width: Math.max(0.5, width * 0.85) };
    return [
      svg("rect", { ...box, y: 26 - height(calls), height: height(calls), class: COLOURS.get(server.name) }, title(what)),
      svg("rect", { ...box, y: 26 - height(errors), height: height(errors), class: "fail" }),
    ];
  });
  return strip(26, "time", `calls of ${server.name} over time`, marks);
}

function health(figures) {
  const none = [new Array(figures.timeline.buckets).fill(0), new Array(figures.timeline.buckets).fill(0)];
  const servers = figures.servers.map((server) => {
    const pairs = figures.pairs.filter((pair) => pair.server === server.name);
    const counts = {};
    for (const field of ["calls", "errors", "unknown", "denied"]) counts[field] = sum(pairs, field);
    return { ...server, ...counts, columns: figures.columns.get(server.name) ?? none };
  }).sort((a, b) => (b.kind === "bad") - (a.kind === "bad") || b.calls - a.calls);
  const minutes = Math.max((DATA.last - DATA.first) / 60000, 1 / 60);
  const most = Math.max(1, ...servers.flatMap((server) => server.columns[0]));
  const rows = servers.length === 0 ? [] : table("health", servers, [
    ["Server", (server) => element("span", { class: "whole" }, dot(server.name), fit(server.name, 20)), "text", (server) => server.name],
    ["Last known state", (server) => toned(state(server), stateTone(server)), "text", (server) => state(server)],
    [`${moment(DATA.first, SHORT)} \u2013 ${moment(DATA.last, SHORT)}`, (server) => overTime(server, figures.timeline, most), "wide picture"],
    ["Calls", (server) => server.calls, "n", (server) => server.calls],
    ["per minute", (server) => perMinute(server.calls / minutes), "n wide", (server) => server.calls],
    ["Errors", (server) => toned(server.errors, errorTone(rate(server))), "n", (server) => server.errors],
    ["Share", (server) => (figures.partial ? "" : toned(percent(rate(server)), errorTone(rate(server)))), "n wide", (server) => rate(server) ?? -1],
    ["Denied", (server) => server.denied || "", "n wide", (server) => server.denied],
    ["Not observed", (server) => server.unknown || "", "n wide", (server) => server.unknown],
    ["Last seen", (server) => moment(server.last_seen, SHORT), "n wide", (server) => server.last_seen],
  ], (server) => filterBy("server:" + quote(server.name)));
  board("health", "Server health and rate", "Which servers ran, how busy they were, and their last known state.", rows);
}

function errors(figures) {
  const groups = figures.errors;
  const most = greatest(groups, "count");
  const latest = CURRENT.filter(isFailure).sort((a, b) => b.start - a.start);
  const content = groups.length === 0 ? [] : [
    table("errors", groups, [
      ["Message", (row) => element("span", {}, row.denied === row.count ? "denied: " : "", toned(row.message, row.denied === row.count ? "warn" : "bad"),
        element("span", { class: "under" }, toolOn(row.tool, row.server))), "text", (row) => row.message],
      ["Times", (row) => barred([[row.count - row.denied, "fail", plural(row.count - row.denied, "error")], [row.denied, "caution", `${row.denied} denied`]], most, row.count), "n", (row) => row.count],
      ["Last", (row) => moment(row.last_seen, SHORT), "n wide", (row) => row.last_seen],
      ["Latest call", (row) => link(row.last), "n"],
    ], (row) => filterBy(`${ofTool(row)} status:${row.denied === row.count ? "denied" : "error"}`), 10),
    latest.length === 0 ? [] : [element("h3", {}, "Latest failures"), operations("latest", latest, 6)],
  ];
  board("errors", "Top error tools", "Which tools fail, how often, and how: numbers, ids and paths in messages are masked. A call that was denied, or whose end was not observed, is not an error.", content.flat(Infinity));
}

// Returns how an operation ended, in words.
function outcome(row) {
  if (!isFailure(row)) return row.status === UNKNOWN ? "answer not observed" : "ok";
  const message = DATA.rows.details[row.place]?.message ?? row.message;
  const known = row.status === 1 ? "" : STATUS[row.status] + (message === STATUS[row.status] ? "" : ": ");
  return message === STATUS[row.status] ? message : known + message;
}

const tone = (row) => (!isFailure(row) ? "" : row.status === DENIED || row.status === 4 ? "warn" : "bad");

function operations(name, rows, most) {
  return table(name, rows, [
    ["Tool", (row) => toolOn(row.name, row.server), "text", (row) => row.name],
    ["Call", (row) => link(row.handle, row.address), "wide"],
    ["Time", (row) => moment(row.start, true), "n wide", (row) => row.start],
    ["Took", (row) => duration(row.ms), "n", (row) => row.ms],
    ["Ended", (row) => toned(fit(outcome(row), 160), tone(row)), "text long", outcome],
  ], (row) => { location.hash = encodeURIComponent(row.address); }, most);
}

function latency(figures) {
  const timed = figures.pairs.filter((pair) => pair.ms !== null).sort((a, b) => b.ms[1] - a.ms[1]);
  const logs = timed.flatMap((pair) => [pair.ms[0], pair.ms[2]]).map((ms) => Math.log10(Math.max(ms, 0.01)));
  const low = Math.floor(Math.min(...logs));
  const high = Math.max(low + 1, Math.ceil(Math.max(...logs)));
  const x = (ms) => 2 + ((Math.log10(Math.max(ms, 0.01)) - low) / (high - low)) * 96;
  const powers = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
  const range = ({ tool, ms: [p50, p95, p99] }) => strip(16, "range", `${tool}: p50 ${duration(p50)}, p95 ${duration(p95)}, p99 ${duration(p99)}`,
    powers.map((power) => svg("rect", { x: x(power) - 0.1, y: 0, width: 0.2, height: 16, class: "axis" })),
    svg("rect", { x: x(p50), y: 6.5, width: Math.max(0.3, x(p99) - x(p50)), height: 3, class: "soft" }),
    svg("rect", { x: x(p50) - 0.6, y: 3, width: 1.2, height: 10, class: "ok" }, title("p50 " + duration(p50))),
    svg("rect", { x: x(p95) - 0.6, y: 3, width: 1.2, height: 10, class: "caution" }, title("p95 " + duration(p95))),
    svg("rect", { x: x(p99) - 0.6, y: 3, width: 1.2, height: 10, class: "fail" }, title("p99 " + duration(p99))));
  const slowest = CURRENT.filter((row) => isToolCall(row) && row.status !== UNKNOWN).sort((a, b) => b.ms - a.ms);
  const content = timed.length === 0 ? [] : [
    table("latency", timed, [
      ["Tool", (pair) => toolOn(pair.tool, pair.server), "text", (pair) => pair.tool],
      [`${duration(powers[0])} \u2013 ${duration(powers.at(-1))}, logarithmic`, range, "wide picture"],
      ["p50", (pair) => duration(pair.ms[0]), "n", (pair) => pair.ms[0]],
      ["p95", (pair) => duration(pair.ms[1]), "n", (pair) => pair.ms[1]],
      ["p99", (pair) => duration(pair.ms[2]), "n", (pair) => pair.ms[2]],
      ["Longest", (pair) => duration(pair.ms[3]), "n wide", (pair) => pair.ms[3]],
      ["Calls", (pair) => pair.calls, "n wide", (pair) => pair.calls],
      ["Reported slow", (pair) => pair.slow || "", "n wide", (pair) => pair.slow],
    ], (pair) => filterBy(ofTool(pair))),
    element("div", { class: "wide" }, legend(["ok", "p50"], ["caution", "p95"], ["fail", "p99"])),
    slowest.length === 0 ? [] : [element("h3", {}, "Slowest calls"), operations("slowest", slowest, 6)],
  ];
  board("latency", "Latency by (server, tool)", "How long calls take, sorted by the 95th percentile.", content.flat(Infinity));
}

const SPENT = [["starting", "start"], ["tools", "ok"], ["a person", "person"], ["nothing asked", "silent"]];

// A bar of where the time of a session went.
function spent(time) {
  const parts = SPENT.map(([what, kind], index) => [time[index], kind, `${what} ${duration(time[index])}`]);
  return bar(parts, time.reduce((total, ms) => total + ms, 0));
}

// Tools that the agent refused: no server was asked, so no operation of this page is one of them.
function refusals({ refused, turns }) {
  if (turns.length === 0) return element("p", { class: "muted" }, "Calls that a host refuses before it sends them are known only to the host: \u201cspantap collect\u201d records them.");
  if (refused.length === 0) return element("p", { class: "muted" }, "No tool was refused before a server was asked. Denials above were answers to calls that were sent.");
  const most = [...refused].sort((a, b) => b[2] - a[2]);
  const names = most.slice(0, 8).map(([tool, by, times]) => `${tool || "a tool"}${by ? " by " + by : ""}${times > 1 ? ` ${times}x` : ""}`);
  const rest = most.length > 8 ? ` and ${most.length - 8} more` : "";
  return element("p", { class: "warn" }, `Refused before a server was asked, so not among the calls and denials above: ${names.join(", ")}${rest}.`);
}

function shape(figures) {
  const rows = figures.sessions.filter((session) => session.calls > 0 || session.notes !== "").sort((a, b) => b.first - a.first);
  const known = rows.filter((session) => session.turns > 0);
  const calls = sum(rows, "calls");
  const facts = [
    `${plural(rows.length, "session")}, ${(calls / Math.max(1, rows.length)).toFixed(1)} tool calls each`,
    known.length === 0 ? "no turns known" : `${(sum(known, "calls") / sum(known, "turns")).toFixed(1)} calls per turn`,
    ...(figures.partial ? [] : [["denied", "denied"], ["repeats", "repeated"]])
      .map(([field, word]) => `${percent(calls === 0 ? 0 : sum(rows, field) / calls)} ${word}`),
  ];
  const most = greatest(rows, "calls");
  const parts = (session) => {
    const others = Math.max(0, session.calls - session.errors - session.denied);
    const repeated = Math.min(session.repeats, others);
    const plain = others - repeated;
    return [[plain, "ok", `${plain} went well`], [repeated, "caution", `${session.repeats} repeated`], [session.errors, "fail", plural(session.errors, "error")],
      [session.denied, "soft", `${session.denied} denied`]];
  };
  const content = rows.length === 0 ? [] : [
    element("p", {}, facts.join(" \u00b7 ")),
    table("shape", rows, [
      ["Start", (session) => element("span", { class: "whole" }, moment(session.first, SHORT)), "text", (session) => session.first],
      ["Session", (session) => shortId(session.id), "mono wide", (session) => session.id],
      ["Host", (session) => session.hosts.join(", "), "text wide", (session) => session.hosts.join(", ")],
      ["Servers", (session) => element("span", {}, session.servers.map((server) => [element("span", { class: "whole" }, dot(server), fit(server, 20)), " "])), "text wide", (session) => session.servers.length],
      ["Length", (session) => duration(session.last - session.first), "n wide", (session) => session.last - session.first],
      ["Calls", (session) => barred(parts(session), most, session.calls), "n", (session) => session.calls],
      ["Turns", (session) => session.turns || "", "n wide", (session) => session.turns],
      ["Time", (session) => (session.time ? spent(session.time) : ""), "wide picture small"],
      ["Tokens~", (session) => tokens(session.tokens), "n wide", (session) => session.tokens],
      ["Notes", (session) => toned(session.notes, session.tone), "text long", (session) => session.most],
    ], (session) => { location.hash = "session:" + encodeURIComponent(session.id); }),
    legend(["ok", "calls, tools"], ["caution", "repeats of an earlier call"], ["fail", "errors"], ["start", "servers starting"], ["person", "a person"], ["silent", "nothing asked"]),
    refusals(figures.agents),
  ];
  board("shape", "Session shape", "How agents work: the latest session first, its calls, and where its time went.", content);
}

const modelCalls = (used, requests) => plural(used.calls, "model call") + (requests > 0 ? ` in ${plural(requests, "request")}` : "");

// Requests to models as the agents reported them, by turn and by model.
function reported({ turns, requests, more, models }, filtered) {
  if (turns.length === 0) return [];
  const used = models.reduce(addFigures, noFigures("", ""));
  const tokensOf = (value) => (figures) => (figures.told > 0 ? count(figures[value]) : "");
  const facts = [
    modelCalls(used, requests),
    used.told > 0 ? `${count(used.input)} tokens in (${count(used.cached)} cached), ${count(used.output)} out${ofCalls(used.told, used.calls)}` : "no tokens reported",
    used.priced > 0 ? `${usd(used.usd)} as reported${ofCalls(used.priced, used.calls)}` : "no cost reported",
    used.calculations > 0 ? `apart from it ~${usd(used.calculated)} by the prices in the config file${ofCalls(used.calculations, used.calls)}` : null,
  ].filter((fact) => fact !== null);
  const names = (turn) => [...new Set(turn.models.map((used) => used.model || "(none)"))].join(", ");
  const refusedIn = (turn) => turn.refused.reduce((total, [, , times]) => total + times, 0);
  const figureColumns = (of) => [
    ...(used.errors > 0 ? [["Failed", (row) => toned(of(row).errors || "", "bad"), "n wide", (row) => of(row).errors]] : []),
    ["In", (row) => tokensOf("input")(of(row)), "n", (row) => of(row).input],
    ["Cached", (row) => tokensOf("cached")(of(row)), "n wide", (row) => of(row).cached],
    ["Out", (row) => tokensOf("output")(of(row)), "n", (row) => of(row).output],
    ["Cost", (row) => spentOn(of(row)), "n", (row) => of(row).usd + of(row).calculated],
  ];
  return [
    element("h3", {}, "By request, as the agents reported it"),
    element("p", {}, facts.join(" \u00b7 ")),
    table("requests", turns, [
      ["Request", (turn) => element("span", {}, element("span", { class: "whole" }, moment(turn.at, SHORT)), " ", element("small", {}, turn.turn === "" ? "outside turns" : fit(turn.turn, 12))), "text", (turn) => turn.at],
      ["Agent", (turn) => turn.agent, "text wide", (turn) => turn.agent],
      ["Session", (turn) => shortId(turn.session), "mono wide", (turn) => turn.session],
      ["Model", names, "text", names],
      ["Model calls", (turn) => turn.used.calls, "n wide", (turn) => turn.used.calls],
      ["Tools", (turn) => turn.tools || "", "n wide", (turn) => turn.tools],
      ["Refused", (turn) => toned(refusedIn(turn) || "", "warn"), "n wide", refusedIn],
      ...figureColumns((turn) => turn.used),
    ], (turn) => { location.hash = "session:" + encodeURIComponent(turn.session); }, 8),
    more > 0 ? element("p", { class: "muted" }, `${plural(more, "cheaper request")} not in this table; \u201cspantap stats --by turn\u201d lists all.`) : [],
    models.length < 2 ? [] : [element("h3", {}, "By model, as the agents reported it"), table("models", models, [
      ["Model", (used) => element("span", {}, used.model || "(none)", " ", element("small", {}, "of " + used.agent)), "text", (used) => used.model],
      ["Model calls", (used) => used.calls, "n", (used) => used.calls],
      ...figureColumns((used) => used),
    ])],
    element("p", { class: "muted" }, "~ calculated by the prices in the config file; + the cost of some model calls is not known."
      + " The tokens in have those of the cache, or have them not, as the agent counts them."
      + (filtered ? " A filter selects sessions; what their agents reported stays that of whole sessions." : "")),
  ];
}

function cost(figures) {
  const rows = figures.pairs.filter((pair) => pair.tokens > 0).sort((a, b) => (b.cost ?? 0) - (a.cost ?? 0) || b.tokens - a.tokens);
  const sessions = figures.sessions.filter((session) => session.turns > 0);
  const turns = sum(sessions, "turns");
  const most = greatest(rows, "tokens");
  const told = reported(figures.agents, figures.filtered);
  const facts = [
    `${tokens(sum(rows, "tokens"))} tokens of arguments and results`,
    turns > 0 ? `${tokens(Math.round(sum(sessions, "tokens") / turns))} per turn` : null,
    DATA.priced ? `${money({ cost: sum(rows, "cost") })} in all` : "no prices set ([cost] in the config file)",
  ].filter((fact) => fact !== null);
  const estimates = rows.length === 0 ? [] : [
    told.length === 0 ? [] : element("h3", {}, "By tool, estimated"),
    element("p", {}, facts.join(" \u00b7 ")),
    table("cost", rows, [
      ["Tool", (pair) => toolOn(pair.tool, pair.server), "text", (pair) => pair.tool],
      ["Tokens~", (pair) => barred([[pair.tokens, COLOURS.get(pair.server) ?? "ok", tokens(pair.tokens)]], most, tokens(pair.tokens)), "n", (pair) => pair.tokens],
      ["Per call", (pair) => tokens(Math.round(pair.tokens / Math.max(1, pair.calls))), "n", (pair) => pair.tokens / Math.max(1, pair.calls)],
      ["Calls", (pair) => pair.calls, "n wide", (pair) => pair.calls],
      ...(DATA.priced ? [["Cost~", money, "n", (pair) => pair.cost ?? 0]] : []),
    ], (pair) => filterBy(ofTool(pair)), 10),
  ];
  board("cost", "Cost", told.length > 0
    ? "What agents reported of each request, and apart from it what tools sent and received: an estimate, in which four bytes are one token. A part of the second is in the first, so the two are not added."
    : "Estimates: four bytes are one token. The cost of the model is not included; only the host knows it, and \u201cspantap collect\u201d records what it reports.", told, estimates);
}

function context(figures) {
  const rows = figures.tools;
  const shown = new Set(rows.map((row) => row.server));
  const servers = DATA.context.servers.filter((server) => shown.has(server.name));
  const defined = servers.filter((server) => server.tools !== null);
  const unknown = servers.filter((server) => !defined.includes(server)).map((server) => server.name);
  const most = greatest(rows, "tokens");
  const some = (number) => (number === null ? "" : tokens(number));
  const parts = ({ tokens: all, description, schema }) => [[description, "ok", `${tokens(description)} description`], [schema, "soft", `${tokens(schema)} schema`],
    [all - description - schema, "silent", `${tokens(Math.max(0, all - description - schema))} name and other parts`]];
  const savings = servers.filter((server) => server.saving !== null);
  const rest = savings.slice(4);
  const notes = [
    defined.length > 0 ? DATA.context.on_demand : null,
    unknown.length > 0 ? `No definitions are recorded for ${unknown.join(", ")}: an older spantap did not record them, or the host did not list tools.` : null,
    ...servers.flatMap((server) => server.notes),
    DATA.context.more > 0 ? `${plural(DATA.context.more, "more tool")} not in this table; \u201cspantap context\u201d lists all.` : null,
    figures.filtered ? "A filter selects tools; their figures stay those of all calls." : null,
  ].filter((note) => note !== null);
  const content = rows.length === 0 ? [] : [
    element("p", {}, defined.length === 0 ? "" : `${plural(sum(defined, "tools"), "tool")} defined \u00b7 ${tokens(sum(defined, "tokens"))} tokens a turn if the client loads all`),
    table("context", rows, [
      ["Tool", (row) => toolOn(row.tool || "(none)", row.server), "text", (row) => row.tool],
      ["Defined~", (row) => (row.tokens === null ? "" : barred(parts(row), most, tokens(row.tokens))), "n", (row) => row.tokens ?? -1],
      ["Description~", (row) => some(row.description), "n wide", (row) => row.description ?? -1],
      ["Schema~", (row) => some(row.schema), "n wide", (row) => row.schema ?? -1],
      ["Calls", (row) => row.calls, "n", (row) => row.calls],
      ["Result~", (row) => some(row.median), "n wide", (row) => row.median ?? -1],
      ["Largest~", (row) => (row.largest === null ? "" : toned(tokens(row.largest), row.over > 0 ? "bad" : "")), "n wide", (row) => row.largest ?? -1],
      ["Note", (row) => toned(row.note, row.over > 0 ? "bad" : row.never ? "warn" : "muted"), "text", (row) => row.note],
    ], (row) => filterBy(ofTool(row))),
    defined.length === 0 ? [] : legend(["ok", "description"], ["soft", "schema"], ["silent", "name and other parts"]),
    notes.map((note) => element("p", { class: "muted" }, note)),
    savings.length === 0 ? [] : element("p", { class: "warn" }, savings.slice(0, 4).map((server) => server.saving).join("; ")
      + (rest.length > 0 ? `; ${plural(rest.length, "more server")}: ${tokens(sum(rest, "unused"))}` : "")),
  ];
  board("context", "Context", "What definitions and results cost the context of the model, in estimated tokens; first the tools that could be left out.", content);
}

// Returns how the servers are, as a headline, its detail, and its tone.
function alive(servers) {
  const of = (kind) => servers.filter((server) => server.kind === kind);
  const named = (list, how) => list.slice(0, 4).map((server) => `\u201c${server.name}\u201d ${how(server)}`).join("; ") + (list.length > 4 ? ` and ${list.length - 4} more` : "");
  const bad = of("bad");
  const running = of("running");
  const earlier = servers.filter((server) => server.kind !== "bad" && server.failures > 0);
  const ran = running.length > 0 ? `${running.length} ran when this page was made` : "";
  const others = [[of("ended"), "ended in order"], [of("unknown"), "without a recorded end"]]
    .filter(([list]) => list.length > 0).map(([list, how]) => `${list.length} ${how}`);
  const before = named(earlier, (server) => `failed ${plural(server.failures, "time")} before`);
  const detail = (...parts) => parts.filter((part) => part !== "").join("; ");
  if (bad.length > 0) return [`last known: ${bad.length} of ${servers.length} ended badly`, detail(named(bad, (server) => server.state), ran, before), "bad"];
  if (running.length > 0) return [`${running.length} of ${plural(servers.length, "server")} running`, detail("when this page was made", ...others, before), before === "" ? "good" : "warn"];
  return [`last known: ${others.join(", ")}`, before === "" ? "no server failed" : before, before !== "" ? "warn" : of("unknown").length > 0 ? "plain" : "good"];
}

// Returns what it cost as the agents reported it, else as far as it can be estimated.
function costAnswer({ agents }, total) {
  const used = agents.models.reduce(addFigures, noFigures("", ""));
  const estimate = `${tokens(total.tokens)} tokens`;
  if (used.calls > 0) {
    const size = `${count(used.input)} in, ${count(used.output)} out`;
    return [spentOn(used) || size, `${modelCalls(used, agents.requests)}; apart from it ${plural(total.calls, "tool call")}, ${estimate}`, "plain"];
  }
  return [DATA.priced ? "~" + usd(total.cost) : estimate, `${plural(total.calls, "call")}${DATA.priced ? `, ${estimate}` : "; set prices to see dollars"}`, "plain"];
}

// The answers are about all operations of the page, also while a filter is on.
function answers(figures, isFiltered) {
  const total = {};
  for (const field of ["calls", "errors", "unknown", "tokens", "slow", "denied"]) total[field] = sum(figures.pairs, field);
  total.cost = figures.pairs.reduce((amount, pair) => amount + (pair.cost ?? 0), 0);
  const share = rate(total);
  const often = figures.errors.find((error) => error.denied < error.count);
  const refused = figures.agents.refused.reduce((all, [, , times]) => all + times, 0);
  const denied = (total.denied > 0 ? `; ${total.denied} denied apart` : "") + (refused > 0 ? `; ${refused} refused before a server was asked` : "");
  const slowest = figures.pairs.filter((pair) => pair.ms !== null).sort((a, b) => b.ms[1] - a.ms[1])[0];
  const loop = [...figures.sessions].sort((a, b) => b.most - a.most)[0];
  const looped = figures.pairs.filter((pair) => loop && pair.most === loop.most)[0];
  const most = loop ? loop.most : 0;
  const card = (target, question, answer, detail, tone) => element("a", { class: "answer is-" + tone, href: "#" + target },
    element("b", {}, question), element("strong", {}, answer), element("span", {}, detail));
  place("answers").classList.toggle("greyed", isFiltered);
  place("answers").replaceChildren(
    card("health", "Alive?", ...alive(figures.servers)),
    card("errors", "Failing?", share === null ? "no calls" : `${percent(share)} of calls`,
      (often ? `most often ${often.tool} on ${often.server}: ${fit(often.message, 60)}` : "no errors") + denied, share >= 0.2 ? "bad" : share > 0 ? "warn" : "good"),
    card("latency", "Slow?", slowest ? `p95 up to ${duration(slowest.ms[1]).replaceAll(" ", "\u00a0")}` : "no calls",
      slowest ? `${slowest.tool} on ${slowest.server}; ${total.slow} reported as slow` : "", total.slow > 0 ? "warn" : "plain"),
    card("shape", "Looping?", most > 1 ? SAME_CALL(most) : "no repeats",
      most > 1 ? `${looped ? looped.tool + " " : ""}in session ${shortId(loop.id)}` : "no call was made twice", most > DATA.about.warn ? "warn" : "good"),
    card("cost", "Cost?", ...costAnswer(figures, total)),
  );
}

let CURRENT = ROWS;

function update() {
  const judged = parseFilter(place("query").value).map((term) => [term, ...judge(term)]);
  const terms = judged.filter(([, , selects]) => selects).map(([term]) => term);
  const problems = judged.map(([, problem]) => problem).filter((problem) => problem !== "");
  const filtered = terms.length > 0;
  CURRENT = filtered ? ROWS.filter(predicate(terms)) : ROWS.slice();
  answers(everything(), filtered);
  const figures = filtered ? aggregate(CURRENT) : everything();
  if (filtered) {
    const called = new Set(figures.tools);
    const named = ofTools(terms);
    figures.tools = TOOLS.filter((tool) => called.has(tool) || named(tool));
  }
  // Shares among calls that were selected by how they ended mean nothing.
  figures.partial = terms.some((term) => term.key === "status");
  for (const draw of [health, errors, latency, shape, cost, context]) draw(figures);
  place("matches").textContent = filtered ? `${CURRENT.length} of ${plural(ROWS.length, "operation")}` : "";
  complain(problems.join(" \u00b7 "));
  place("partial").hidden = !filtered || COMPLETE;
  place("partial").textContent =
    `This page contains the newest and the worst ${ROWS.length} of ${DATA.operations} operations; with a filter, the numbers below count only these.`;
}

function complain(text) {
  place("unknown").textContent = text;
  place("unknown").hidden = text === "";
}
