"use strict";
// The data, the filter, and the boards' figures. Without a filter, the boards show the figures that spantap
// computed over all operations. With a filter, they are computed here by the same definitions.

const DATA = JSON.parse(document.getElementById("data").textContent);
const STATUS = ["ok", "error", "denied", "timeout", "cancelled", "unknown"];
const UNKNOWN = 5;
const FLAG = { toolCall: 1, continues: 2, slow: 4, askedByServer: 8 };

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
}));
const COMPLETE = ROWS.length === DATA.operations;

const isFailure = (row) => row.status !== 0 && row.status !== UNKNOWN;
const isToolCall = (row) => (row.flags & FLAG.toolCall) !== 0;
const begins = (row) => (row.flags & FLAG.continues) === 0;

// `server:git* tool:"two words" status:error session:01a2 anything`
function parseFilter(text) {
  const terms = [];
  for (const [, key, quoted, plain] of text.matchAll(/(?:(server|tool|status|session):)?(?:"([^"]*)"?|(\S+))/gi)) {
    const value = (quoted ?? plain ?? "").toLowerCase();
    if (value !== "") terms.push({ key: (key ?? "").toLowerCase(), value });
  }
  return terms;
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
        return value === "error" ? isFailure : (row) => STATUS[row.status] === value;
      default:
        return (row) => [row.server, row.name, row.session, row.type].some((text) => text.toLowerCase().includes(value));
    }
  });
  return (row) => tests.every((test) => test(row));
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
  if (isFailure(row)) sum.errors += 1;
  if (row.status === 2) sum.denied += 1;
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
  for (const row of rows) {
    const session = group(sessions, row.session, () => {
      const known = DATA.sessions.find((session) => session.id === row.session);
      return { ...known, ...noCounts(), turnSet: new Set() };
    });
    if (!isToolCall(row)) continue;
    if (row.hasTurn) session.turnSet.add(row.turn);
    addCounts(session, row);
    const pair = group(pairs, row.server + "\n" + row.name, () => ({
      server: row.server, tool: row.name, ...noCounts(), times: [], typeMap: new Map(),
    }));
    addCounts(pair, row);
    if (row.status !== UNKNOWN && row.ms >= 0) pair.times.push(row.ms);
    if (isFailure(row)) pair.typeMap.set(row.type, (pair.typeMap.get(row.type) ?? 0) + 1);
    const [calls, errors] = group(columns, row.server, () => [
      new Array(timeline.buckets).fill(0), new Array(timeline.buckets).fill(0),
    ]);
    const ended = row.start + Math.max(0, row.ms);
    const bucket = Math.min(timeline.buckets - 1, Math.max(0, Math.floor((ended - timeline.from) / timeline.step)));
    calls[bucket] += begins(row) ? 1 : 0;
    errors[bucket] += isFailure(row) ? 1 : 0;
  }
  for (const pair of pairs.values()) {
    const sorted = pair.times.sort((a, b) => a - b);
    pair.ms = sorted.length === 0 ? null : [0.5, 0.95, 0.99, 1].map((point) => quantile(sorted, point));
    pair.types = [...pair.typeMap];
  }
  for (const session of sessions.values()) session.turns = session.turnSet.size;
  const present = new Set(rows.map((row) => row.server));
  return {
    pairs: [...pairs.values()],
    sessions: [...sessions.values()],
    servers: DATA.servers.filter((server) => present.has(server.name)),
    timeline,
    columns,
    filtered: true,
  };
}

function everything() {
  return {
    pairs: DATA.pairs.map((pair) => ({ ...pair, types: Object.entries(pair.types) })),
    sessions: DATA.sessions,
    servers: DATA.servers,
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
