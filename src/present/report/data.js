"use strict";
// The data, the filter, and the boards' figures. Without a filter, the boards show the figures that spantap
// computed over all operations. With a filter, they are computed here by the same definitions.

const DATA = JSON.parse(document.getElementById("data").textContent);
const STATUS = ["ok", "error", "denied", "timeout", "cancelled", "unknown"];
const UNKNOWN = 5;
const DENIED = 2;
const FLAG = { toolCall: 1, continues: 2, slow: 4, askedByServer: 8, ofStart: 16 };

const ROWS = DATA.rows.list.map((row, place) => ({
  place,
  server: DATA.rows.servers[row[0]],
  name: DATA.rows.names[row[1]],
  session: DATA.rows.sessions[row[2]],
  sessionNumber: row[2],
  turn: row[3],
  hasTurn: DATA.rows.turns[row[3]] !== "",
  status: row[4],
  start: DATA.first + row[5],
  ms: row[6],
  tokens: row[7],
  repeat: row[8],
  type: DATA.rows.types[row[9]],
  flags: row[10],
  cost: row[11],
  message: DATA.rows.messages[row[12]],
  connection: DATA.rows.connections[row[13]],
  handle: `${[...DATA.rows.connections[row[13]]].slice(-6).join("")}.${row[14]}`,
}));
// By handle; the earlier ones of several calls with the same handle have an addition.
const HANDLES = new Map(ROWS.map((row) => [row.handle, row]));
for (const row of ROWS) {
  row.address = HANDLES.get(row.handle) === row ? row.handle : `${row.handle}~${row.place}`;
  HANDLES.set(row.address, row);
}
const SESSIONS = new Map(DATA.sessions.map((session) => [session.id, session]));
// A colour for each server, by its place in the alphabet.
const COLOURS = new Map(DATA.servers.map((server, index) => [server.name, "server-" + (index % 8)]));
// Tools that a server defines are here also without a call. Figures of the context board are of all calls.
const TOOLS = DATA.context.tools;
// Figures of the model calls of one agent with one model. `usd` is what the agent reported; `calculated` is apart from it.
const modelFigures = ([agent, model, calls, errors, told, input, cached, output, priced, usd, calculations, calculated]) =>
  ({ agent, model, calls, errors, told, input, cached, output, priced, usd, calculations, calculated });
const noFigures = (agent, model) => modelFigures([agent, model, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
const addFigures = (total, other) => {
  for (const [field, value] of Object.entries(other)) if (typeof value === "number") total[field] += value;
  return total;
};
const AGENT_TURNS = DATA.agents.turns.map((turn) => {
  const models = turn.models.map(modelFigures);
  return { ...turn, models, used: models.reduce(addFigures, noFigures("", "")) };
});
const COMPLETE = ROWS.length === DATA.operations;

const isFailure = (row) => row.status !== 0 && row.status !== UNKNOWN;
// A refusal by a person or a policy is not an error.
const isError = (row) => isFailure(row) && row.status !== DENIED;
const isToolCall = (row) => (row.flags & FLAG.toolCall) !== 0;
const begins = (row) => (row.flags & FLAG.continues) === 0;

const KEYS = ["server", "tool", "status", "session"];
const STATUS_WORDS = ["ok", "error", "denied", "timeout", "cancelled", "unknown"];

// `server:git* tool:"two words" status:error session:01a2 anything`
function parseFilter(text) {
  const terms = [];
  for (const [whole, key, quoted, plain] of text.matchAll(/(?:([a-z_]+):(?!\/\/))?(?:"([^"]*)"?|(\S+))/gi)) {
    const value = (quoted ?? plain ?? "").toLowerCase();
    const isUnfinished = !key && KEYS.some((known) => value === known + ":");
    if (value !== "" && !isUnfinished) terms.push({ whole, key: (key ?? "").toLowerCase(), value });
  }
  return terms;
}

// Returns why a term means nothing, "" if it means something, and whether it selects.
function judge(term) {
  if (term.key !== "" && !KEYS.includes(term.key)) return [`${term.whole}: there are only ${KEYS.map((key) => key + ":").join(" ")}`, false];
  if (term.key === "status" && !STATUS_WORDS.includes(term.value)) return [`${term.whole}: a status is ${STATUS_WORDS.join(", ")}`, false];
  return [ROWS.some(predicate([term])) || TOOLS.some(ofTools([term])) ? "" : `${term.whole}: nothing here matches it`, true];
}

function glob(pattern) {
  const source = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".");
  return new RegExp("^" + source + "$", "is");
}

function predicate(terms) {
  const tests = terms.map(({ key, value }) => {
    const pattern = glob(value);
    switch (key) {
      case "server": return (row) => pattern.test(row.server);
      case "tool": return (row) => pattern.test(row.name);
      case "session": return (row) => row.session.toLowerCase().startsWith(value);
      case "status":
        return value === "error" ? isError : (row) => STATUS[row.status] === value;
      default:
        return (row) => (row.text ??= [row.server, row.name, row.session, row.type, row.message, row.handle].join("\n").toLowerCase()).includes(value);
    }
  });
  return (row) => tests.every((test) => test(row));
}

// Selects tools by their name and server: a tool without a call has no session and no end.
function ofTools(terms) {
  const test = predicate(terms);
  const ended = terms.some((term) => term.key === "status");
  return ({ server, tool }) => !ended && test({ server, name: tool, session: "", type: "", message: "", handle: "" });
}

// Linear interpolation between the two nearest ranks.
function quantile(sorted, point) {
  const rank = point * (sorted.length - 1);
  const below = sorted[Math.floor(rank)];
  return below + (sorted[Math.ceil(rank)] - below) * (rank - Math.floor(rank));
}

function group(map, key, make) {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

function addCounts(sum, row) {
  const first = begins(row);
  sum.calls += first ? 1 : 0;
  if (isError(row)) sum.errors += 1;
  if (row.status === DENIED) sum.denied += 1;
  if (row.status === UNKNOWN) sum.unknown += 1;
  if (row.repeat > 1) sum.repeats += 1;
  sum.most = Math.max(sum.most, row.repeat);
  if (row.flags & FLAG.slow) sum.slow += 1;
  sum.tokens += row.tokens;
  sum.cost += row.cost;
}

const noCounts = () => ({ calls: 0, errors: 0, denied: 0, unknown: 0, repeats: 0, most: 0, slow: 0, tokens: 0, cost: 0 });

// Computes the boards' figures over `rows`.
function aggregate(rows) {
  const pairs = new Map();
  const sessions = new Map();
  const timeline = { ...DATA.timeline, servers: {} };
  const columns = new Map();
  const messages = new Map();
  for (const row of rows) {
    if (isFailure(row)) {
      const error = group(messages, [row.server, row.name, row.message].join("\n"), () => (
        { server: row.server, tool: row.name, message: row.message, count: 0, denied: 0, last_seen: -Infinity, last: "" }));
      error.count += 1;
      error.denied += row.status === DENIED ? 1 : 0;
      const ended = row.start + Math.max(0, row.ms);
      if (ended >= error.last_seen) Object.assign(error, { last_seen: ended, last: row.handle });
    }
    const session = group(sessions, row.session, () => {
      const known = SESSIONS.get(row.session);
      return { ...known, ...noCounts(), turnSet: new Set() };
    });
    if (!isToolCall(row)) continue;
    if (row.hasTurn) session.turnSet.add(row.turn);
    addCounts(session, row);
    const pair = group(pairs, row.server + "\n" + row.name, () => ({
      server: row.server, tool: row.name, ...noCounts(), times: [],
    }));
    addCounts(pair, row);
    if (row.status !== UNKNOWN && row.ms >= 0) pair.times.push(row.ms);
    const [calls, errors] = group(columns, row.server, () => [
      new Array(timeline.buckets).fill(0), new Array(timeline.buckets).fill(0),
    ]);
    const ended = row.start + Math.max(0, row.ms);
    const bucket = Math.min(timeline.buckets - 1, Math.max(0, Math.floor((ended - timeline.from) / timeline.step)));
    calls[bucket] += begins(row) ? 1 : 0;
    errors[bucket] += isError(row) ? 1 : 0;
  }
  for (const pair of pairs.values()) {
    const sorted = pair.times.sort((a, b) => a - b);
    pair.ms = sorted.length === 0 ? null : [0.5, 0.95, 0.99, 1].map((point) => quantile(sorted, point));
  }
  for (const session of sessions.values()) if (!session.told) session.turns = session.turnSet.size;
  const present = new Set(rows.map((row) => row.server));
  return {
    pairs: [...pairs.values()],
    sessions: [...sessions.values()],
    servers: DATA.servers.filter((server) => present.has(server.name)),
    tools: TOOLS.filter((tool) => pairs.has(tool.server + "\n" + tool.tool)),
    errors: [...messages.values()].sort((a, b) => b.count - a.count || b.last_seen - a.last_seen),
    agents: ofTurns(AGENT_TURNS.filter((turn) => sessions.has(turn.session))),
    timeline,
    columns,
    filtered: true,
  };
}

// What agents reported in these turns, by model, and what they refused.
function ofTurns(turns) {
  const models = new Map();
  const refused = new Map();
  for (const turn of turns) {
    for (const used of turn.models) addFigures(group(models, used.agent + "\n" + used.model, () => noFigures(used.agent, used.model)), used);
    for (const [tool, by, times] of turn.refused) group(refused, tool + "\n" + by, () => [tool, by, 0])[2] += times;
  }
  const named = turns.filter((turn) => turn.turn !== "");
  return { turns, requests: named.length, more: 0, models: [...models.values()], refused: [...refused.values()] };
}

function everything() {
  return {
    pairs: DATA.pairs,
    sessions: DATA.sessions,
    servers: DATA.servers,
    tools: TOOLS,
    errors: DATA.errors,
    agents: { ...DATA.agents, turns: AGENT_TURNS, models: DATA.agents.models.map(modelFigures) },
    timeline: DATA.timeline,
    columns: new Map(Object.entries(DATA.timeline.servers)),
    filtered: false,
  };
}

const sum = (list, field) => list.reduce((total, item) => total + item[field], 0);

function rate(counts) {
  const known = Math.max(counts.calls - counts.unknown, counts.errors);
  return known > 0 ? counts.errors / known : null;
}
