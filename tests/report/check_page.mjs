#!/usr/bin/env node
// Opens a report from disk in headless Chromium and checks the promises of the page.
//
//   check_page.mjs PAGE [--context PAGE] [--agents PAGE] [--shots DIR]
//
// Uses the DevTools protocol over a pipe; needs only Node and Chromium. With REAL_NODE, where tests/real/setup
// installed axe-core, it also looks for barriers. The page must be the output of
// `spantap report` for fixtures/logs (recorded) or fixtures/made-logs (hostile names); the page of --context that for
// fixtures/context and fixtures/days/hostile together, which have definitions of tools; that of --agents the page for
// fixtures/agents/session and fixtures/agents/joins/trace together, whose agents reported what they did.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { positionals: [page], values: { context, agents, shots } } = parseArgs({
  allowPositionals: true, options: { context: { type: "string" }, agents: { type: "string" }, shots: { type: "string" } },
});
if (!page) {
  console.error("usage: check_page.mjs PAGE [--context PAGE] [--agents PAGE] [--shots DIR]");
  process.exit(2);
}

const problems = [];
const check = (holds, promise) => { if (!holds) problems.push(promise); };

async function until(what, attempt) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const value = await attempt();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`timed out waiting for ${what}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

const profile = await mkdtemp(join(tmpdir(), "spantap-report-"));
const browser = spawn(process.env.CHROMIUM ?? "chromium", [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
  `--user-data-dir=${profile}`, "about:blank",
], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const exited = new Promise((done) => browser.once("exit", done));
const hung = setTimeout(() => { console.error("Chromium does not answer"); browser.kill("SIGKILL"); process.exit(1); }, 180_000);
browser.once("error", (error) => { console.error(`failed to start Chromium: ${error.message}`); process.exit(1); });

try {
  const [, , , to, from] = browser.stdio;
  to.on("error", () => {}); // If Chromium has ended, the time limit reports it.
  const waiting = new Map();
  const requests = [];
  let number = 0;
  let rest = Buffer.alloc(0);
  from.on("data", (data) => {
    rest = Buffer.concat([rest, data]);
    for (let end; (end = rest.indexOf(0)) >= 0; rest = rest.subarray(end + 1)) receive(JSON.parse(rest.subarray(0, end)));
  });
  const receive = (message) => {
    if (message.id) {
      const [done, fail] = waiting.get(message.id);
      waiting.delete(message.id);
      message.error ? fail(new Error(message.error.message)) : done(message.result);
    } else if (message.method === "Network.requestWillBeSent") {
      requests.push(message.params.request.url);
    } else if (message.method === "Runtime.exceptionThrown") {
      problems.push(`an exception: ${message.params.exceptionDetails.exception?.description ?? message.params.exceptionDetails.text}`);
    } else if (message.method === "Log.entryAdded" && message.params.entry.level === "error") {
      problems.push(`console: ${message.params.entry.text}`);
    } else if (message.method === "Runtime.consoleAPICalled" && ["error", "assert"].includes(message.params.type)) {
      problems.push(`console: ${JSON.stringify(message.params.args)}`);
    } else if (message.method === "Page.javascriptDialogOpening") {
      problems.push(`a dialog opened: ${message.params.message}`);
      send("Page.handleJavaScriptDialog", { accept: true });
    }
  };
  let session;
  const send = (method, params = {}) => new Promise((done, fail) => {
    waiting.set(++number, [done, fail]);
    to.write(JSON.stringify({ id: number, method, params, sessionId: session }) + "\0");
  });
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  ({ sessionId: session } = await send("Target.attachToTarget", { targetId, flatten: true }));
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await send(`${domain}.enable`);

  const run = async (source) => {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression: source, returnByValue: true });
    if (exceptionDetails) throw new Error(`${source}: ${exceptionDetails.exception?.description}`);
    return result.value;
  };
  const view = async (width, scheme) => {
    await send("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 });
    await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  };
  const shot = async (name, whole = true) => {
    if (!shots) return;
    const { data } = await send("Page.captureScreenshot", { format: "png", captureBeyondViewport: whole });
    await writeFile(join(shots, `${name}.png`), Buffer.from(data, "base64"));
  };
  const axe = process.env.REAL_NODE ? await readFile(join(process.env.REAL_NODE, "node_modules/axe-core/axe.min.js"), "utf8") : null;
  const barriers = async (where) => {
    if (!axe) return;
    // DevTools run this also where the policy of the page forbids other scripts.
    const { result } = await send("Runtime.evaluate", {
      expression: `${axe}; axe.run().then((found) => found.violations.map((one) => one.id + ": " + one.nodes[0].html.slice(0, 200)).join("; "))`,
      returnByValue: true, awaitPromise: true,
    });
    check(result.value === "", `axe-core finds ${result.value} ${where}`);
  };
  const filter = (text) => run(`filterBy(${JSON.stringify(text)}); CURRENT.length`);
  const url = pathToFileURL(resolve(page)).href;

  // Definitions of tools, also of those without a call, and what could be saved.
  const contextBoard = async (url) => {
    const names = () => run("[...document.querySelectorAll('#context tbody tr')].map((row) => row.cells[0].textContent)");
    const board = () => run("place('context').textContent");
    for (const [width, scheme] of [[1280, "light"], [400, "dark"]]) {
      await view(width, scheme);
      await send("Page.navigate", { url });
      await until("the boards", () => run("document.readyState === 'complete' && document.querySelectorAll('.board h2').length === 6"));
      check((await run("document.documentElement.scrollWidth")) <= width, `no horizontal scrolling of definitions at ${width}`);
      await barriers(`in the page with definitions at ${width} ${scheme}`);
      await run("place('context').scrollIntoView()");
      await shot(`context-${width}-${scheme}`);
    }
    await run("document.querySelector('#context button.more').click()");
    const all = await names();
    check(all.length === (await run("TOOLS.length")) && all[0] === "edit_file on files", `the most expensive tool without a call is first: ${all[0]}`);
    check(all.some((name) => name.startsWith("</script><img src=x onerror=alert(2)>")), "hostile names of tools are shown as text");
    check((await run("document.querySelectorAll('#context img, #context script').length")) === 0, "no element came from the name of a tool");
    check(!/[\u0000-\u0008\u001b\u202e\u2066-\u2069]|\[object|undefined|NaN|null/.test(await board()), "no control character and no undefined value is shown");
    check(await run("document.querySelectorAll('#context td svg rect').length > 20"), "definitions have bars");
    check((await run("place('context').lastElementChild.textContent")) === "files: 11 of 14 tools never called, ~1.5k tokens a turn; git: 3 of 5 tools never called, ~291 tokens a turn", `the last line says what could be saved: ${await run("place('context').lastElementChild.textContent")}`);
    check((await board()).includes("1 over 25k, probably cut"), "a result over the limit is named");
    check((await board()).includes("No definitions are recorded for search"), "a server without definitions is named");
    for (const [text, found] of [["server:git", 5], ["tool:git_push", 1], ["edit_file", 1], ["tool:git_push status:ok", 0], ["server:nobody_here", 0]]) {
      await filter(text);
      check((await names()).length === found, `${text} selects ${await names()}`);
      check(found > 0 ? !(await board()).includes("edit_file") || text === "edit_file" : (await board()).includes("Nothing here"), `${text} shows what it selects`);
    }
    await filter("tool:edit_file");
    check(await run("place('unknown').hidden"), "the name of a tool without a call is known");
    await filter("server:git status:ok");
    check((await names()).join() === "git_log on git,git_status on git", `a filter by status selects tools that were called: ${await names()}`);
    await filter("");
    await run("document.querySelector('#context tbody button').click()");
    check((await run("place('query').value")) === "server:files tool:edit_file", "a click on a tool selects it");
  };

  // What agents reported is apart from the estimates, by request and by model.
  const agentBoard = async (url) => {
    const cost = () => run("place('cost').textContent");
    const cells = (table) => run(`[...document.querySelectorAll("#cost table")][${table}] ? [...[...document.querySelectorAll("#cost table")][${table}].querySelectorAll("tbody tr")].map((row) => [...row.cells].slice(1).map((cell) => cell.textContent).join(" ")) : []`);
    for (const [width, scheme] of [[1280, "light"], [400, "dark"]]) {
      await view(width, scheme);
      await send("Page.navigate", { url });
      await until("the boards", () => run("document.readyState === 'complete' && document.querySelectorAll('.board h2').length === 6"));
      check((await run("document.documentElement.scrollWidth")) <= width, `no horizontal scrolling of reports of agents at ${width}`);
      await barriers(`in the page with reports of agents at ${width} ${scheme}`);
      await run("place('cost').scrollIntoView()");
      await shot(`agents-${width}-${scheme}`);
    }
    const requests = ["claude-code 7d1f6c1e-52… claude-opus-5 2 3 1 3.0k 1.1k 30 $0.027", "claude-code 7d1f6c1e-52… claude-opus-5 1 1  3.0k 1.9k 30 $0.016", "codex 44444444-55… gpt-6-codex 2 2  3.0k 0 30 "];
    check(JSON.stringify(await cells(0)) === JSON.stringify(requests), `requests are by cost: ${JSON.stringify(await cells(0))}`);
    check((await cells(1)).join() === "3 6.0k 3.0k 60 $0.043,2 3.0k 0 30 ", `models have their sums: ${await cells(1)}`);
    const facts = ["5 model calls in 3 requests · 9.0k tokens in (3.0k cached), 90 out · $0.043 as reported (of 3 of 5 model calls)", "By tool, estimated", "tokens of arguments and results"];
    for (const fact of facts) check((await cost()).includes(fact), `the board has ${fact}`);
    check((await run("document.querySelector('#answers a:last-child strong').textContent")) === "$0.043+", "the headline has what was reported, and says that there is more");
    check((await run("place('answers').textContent")).includes("1 refused before a server was asked"), "the headline has the refusals");
    check((await run("place('shape').textContent")).includes("not among the calls and denials above: write_file by user."), "refusals are apart from denials");
    const same = await run("JSON.stringify([ofTurns(AGENT_TURNS), everything().agents].map(({ requests, models, refused }) => [requests, models, refused]))");
    const [ours, theirs] = JSON.parse(same);
    check(JSON.stringify(ours) === JSON.stringify(theirs), `the page adds up what spantap adds up: ${same}`);
    await filter("server:files");
    check((await cells(0)).join() === requests.slice(0, 2).join() && (await cost()).includes("whole sessions") && !(await cost()).includes("codex"), `a filter selects sessions: ${await cells(0)}`);
    // Reported and calculated amounts are two amounts.
    const amounts = await run("[[2, 1, 0.5, 0, 0], [2, 1, 0.5, 1, 0.25], [3, 0, 0, 2, 0.25], [1, 0, 0, 0, 0]].map(([calls, priced, usd, calculations, calculated]) => spentOn({ calls, priced, usd, calculations, calculated })).join('|')");
    check(amounts === "$0.500+|$0.500 and ~$0.250|~$0.250+|", `amounts are not added: ${amounts}`);
    await filter("");
    await run("document.querySelector('#cost tbody tr').click()");
    await until("the session", () => run("place('waterfall').open"));
    check(!/\[object|undefined|NaN|null/.test(await cost()), "no undefined value is shown");
  };

  await view(1280, "light");
  await send("Page.navigate", { url });
  await until("the boards", () => run("document.readyState === 'complete' && document.querySelectorAll('.board h2').length === 6"));

  // Every board has a table with bars in its rows, in the order of the dashboards.
  const boards = await run(`[...document.querySelectorAll(".board")].map((board) => ({
    name: board.querySelector("h2").textContent,
    marks: board.querySelectorAll("td svg rect").length,
    rows: board.querySelectorAll("tbody tr").length,
  }))`);
  check(boards.map((board) => board.name).join("|") === "Server health and rate|Top error tools|Latency by (server, tool)|Session shape|Cost|Context",
    `the boards are ${boards.map((board) => board.name).join(", ")}`);
  // These logs have no definitions, so the context board has no bars.
  for (const board of boards) check((board.marks > 0 || board.name === "Context") && board.rows > 0, `board ${board.name} has ${board.marks} marks and ${board.rows} rows`);

  // The first screen answers the five questions.
  const answers = await run(`[...document.querySelectorAll(".answer")].map((card) => {
    const { bottom } = card.getBoundingClientRect();
    return { question: card.querySelector("b").textContent, text: card.querySelector("strong").textContent, bottom };
  })`);
  check(answers.map((answer) => answer.question).join(" ") === "Alive? Failing? Slow? Looping? Cost?", "the five questions are asked");
  for (const answer of answers) check(answer.text !== "" && answer.bottom < 900, `${answer.question} is answered on the first screen`);

  // With a filter that selects everything the page computes the same figures as spantap.
  const differences = await run(`(() => {
    const near = (a, b) => a === b || Math.abs(a - b) <= 1e-6 * Math.max(1, Math.abs(a));
    const ours = aggregate(ROWS), theirs = everything(), wrong = [];
    const compare = (what, a, b, fields) => {
      for (const field of fields) if (!near(a[field], b[field] ?? 0)) wrong.push(what + " " + field + ": " + a[field] + " for " + b[field]);
    };
    if (ours.pairs.length !== theirs.pairs.length) wrong.push("pairs");
    if (JSON.stringify(ours.errors.map((row) => [row.message, row.count, row.denied, row.last])) !== JSON.stringify(theirs.errors.map((row) => [row.message, row.count, row.denied, row.last]))) wrong.push("errors by message");
    for (const pair of theirs.pairs) {
      const other = ours.pairs.find((one) => one.server === pair.server && one.tool === pair.tool);
      compare(pair.tool, other, pair, ["calls", "errors", "denied", "unknown", "repeats", "most", "slow", "tokens"]);
      if (pair.ms) pair.ms.forEach((ms, index) => { if (!near(ms, other.ms[index])) wrong.push(pair.tool + " quantile " + index); });
    }
    for (const one of theirs.sessions.filter((one) => one.calls > 0)) {
      compare(one.id, ours.sessions.find((other) => other.id === one.id), one, ["calls", "errors", "denied", "unknown", "turns", "repeats", "tokens"]);
    }
    for (const [server, [calls, errors]] of theirs.columns) {
      const total = (list) => list.reduce((a, b) => a + b, 0);
      const other = ours.columns.get(server) ?? [[0], [0]];
      if (total(calls) !== total(other[0]) || total(errors) !== total(other[1])) wrong.push("columns of " + server);
    }
    return wrong;
  })()`);
  check(differences.length === 0, `figures of the page differ: ${differences.join("; ")}`);

  // Filters.
  const all = await run("ROWS.length");
  const made = await run("ROWS.some((row) => row.server === 'search')");
  check(all > 50 && (await filter("")) === all, "an empty filter selects everything");
  const filters = made ? [
    ["server:github", "row.server === 'github'"],
    ["server:git* status:error", "row.server === 'github' && ![0, 2, 5].includes(row.status)"],
    ["tool:create_*", "row.name.startsWith('create_')"],
    ["status:timeout", "row.status === 3"],
    ["status:unknown", "row.status === 5"],
    ["session:01c4", "row.session.startsWith('01c4')"],
    ["tool_error", "row.type === 'tool_error'"],
  ] : [
    ["server:git", "row.server === 'git'"],
    ["server:file* status:error", "row.server === 'filesystem' && ![0, 2, 5].includes(row.status)"],
    ["tool:git_*", "row.name.startsWith('git_')"],
    ["status:timeout", "row.status === 3"],
    ["status:denied", "row.status === 2"],
    ["tool_error", "row.type === 'tool_error'"],
  ];
  for (const [text, predicate] of filters) {
    const left = await filter(text);
    check(left > 0 && left < all && left === (await run(`ROWS.filter((row) => ${predicate}).length`)), `filter ${text} selects ${left}`);
  }
  check((await run("document.querySelector('#answers').classList.contains('greyed')")), "the answers are greyed while a filter is on");
  const answered = await run("document.querySelector('#answers').textContent");
  for (const [text, word] of [["status:eror", "status:eror"], ["serve:git", "serve:git"], ["server:gti", "server:gti"], ["tool:nope status:error", "tool:nope"]]) {
    await filter(text);
    const complaint = await run("place('unknown').hidden ? '' : place('unknown').textContent");
    check(complaint.includes(word) && !complaint.includes("status:error:"), `the unknown word of ${text} is named: ${complaint}`);
    check((await run("document.querySelector('#answers').textContent")) === answered, `the answers do not change for ${text}`);
  }
  await filter("status:error");
  check(!(await run("document.querySelector('main').textContent")).includes("100 %"), "a filter by status makes no shares");
  check((await filter("status:eror")) === all, "a word that means nothing does not select");
  await filter("server:file*");
  check(await run("place('unknown').hidden"), "a word that matches is not named");
  check((await filter("server:nobody")) === 0, "a filter without a match selects nothing");
  check((await run("document.querySelectorAll('.board .empty').length")) === 6, "an empty board has a note");
  await filter(made ? "server:search" : "server:everything");
  check((await run("document.querySelector('#health tbody').textContent")).includes(made ? "signal 11" : "1 of 2 starts went wrong"), "the death of a server is shown");
  await filter("");

  // Tables sort by their heads, and keep the order while a filter is on.
  const column = (board, head) => run(`(() => {
    const heads = [...document.querySelectorAll("#${board} table")][0].querySelectorAll("th");
    const at = [...heads].findIndex((th) => th.textContent === "${head}");
    return [heads[at].getAttribute("aria-sort"), [...document.querySelectorAll("#${board} table")[0].querySelectorAll("tbody tr")].map((row) => Number(row.cells[at].textContent))];
  })()`);
  const press = (board, head) => run(`[...document.querySelectorAll("#${board} th button")].find((button) => button.textContent === "${head}").click()`);
  for (const [order, sign] of [["descending", -1], ["ascending", 1]]) {
    await press("shape", "Calls");
    const [said, numbers] = await column("shape", "Calls");
    check(said === order && numbers.length > 1 && numbers.every((number, index) => index === 0 || (number - numbers[index - 1]) * sign >= 0), `sessions sort ${order} by calls: ${numbers}`);
  }
  await filter("status:ok");
  check((await column("shape", "Calls"))[0] === "ascending", "the order stays with a filter");
  await filter("");

  // A session, a call in it, and their addresses.
  await press("shape", "Calls");
  await run("document.querySelector('#shape tbody tr').click()");
  await until("the session", () => run("place('waterfall').open"));
  check(await run("location.hash.startsWith('#session:') && place('waterfall').querySelectorAll('.op rect').length > 5"), "a click on a session opens its waterfall");
  check((await run("place('waterfall').querySelector('details.turn summary').textContent")).includes(await run("duration(SESSIONS.get(decodeURIComponent(location.hash.slice('#session:'.length))).start.ms)")), "the start of servers has its time");
  check(await run("place('waterfall').querySelector('.spent svg rect') !== null && place('waterfall').querySelector('.ticks') !== null"), "the waterfall has an axis and where the time went");
  const first = await run("document.querySelector('.turn:not(details) .op').click(), decodeURIComponent(document.querySelector('.turn:not(details) .op').hash)");
  await until("the call", () => run("document.querySelector('.op[aria-current]') !== null"));
  check((await run("location.hash")) === first && /^#.+\.\d+$/.test(first), `a call has an address: ${first}`);
  const chain = await run("document.querySelector('#detail').textContent");
  for (const part of ["agent session", "connection", "request id", "trace", "span", "spantap show " + first.slice(1)]) check(chain.includes(part), `the details have the ${part}`);
  const link = await run("(() => { const link = document.querySelector('#detail a'); return [link.href, link.rel, link.textContent].join(' '); })()");
  const ids = await run("(() => { const { trace, span } = DATA.rows.details[HANDLES.get(location.hash.slice(1)).place]; return [trace, span]; })()");
  check(link === `https://tempo.example/t/${ids[0]}?s=${ids[1]} noopener noreferrer open trace`, `the trace is linked, not ${link}`);
  const noLink = await run("['javascript:alert(1)', 'https://a.example/{trace_id}'].map((template) => { const old = DATA.about.trace_link; DATA.about.trace_link = template; const made = [traceLink({ trace: 'x' }), traceLink({ trace: 'a'.repeat(32) })]; DATA.about.trace_link = old; return made.map((link) => link?.href ?? null).join(); }).join(' ')");
  check(noLink === `, ,https://a.example/${"a".repeat(32)}`, `only ids and web addresses make a link: ${noLink}`);
  const { result: copied } = await send("Runtime.evaluate", { expression: "document.querySelector('#detail .copy').click()", userGesture: true });
  await until("the copy", () => run("[...document.querySelectorAll('#detail .copy')][0].textContent === 'copied'"));
  check(copied.type === "undefined", "an id is copied");
  await shot(`waterfall-light-${made ? "made" : "logs"}`, false);
  await run("history.back()");
  await until("the session again", () => run("location.hash.startsWith('#session:')"));
  await run("history.back()");
  await until("the page again", () => run("location.hash === '' && !place('waterfall').open"));
  await run("document.querySelector('#errors td a').click()");
  await until("the failure", () => run("place('waterfall').open && document.querySelector('.op[aria-current]') !== null"));
  await run("[...document.querySelectorAll('.sheet-head button')].at(-1).click()");
  await until("the end", () => run("!place('waterfall').open"));
  check(await run("new Set(ROWS.map((row) => row.address)).size === ROWS.length"), "each call has its own address");
  // A page that is opened with the address of a call shows it; an unknown one is named.
  const fresh = async (hash) => {
    await send("Page.navigate", { url: "about:blank" });
    await send("Page.navigate", { url: url + hash });
    await until("the page", () => run("document.readyState === 'complete' && document.querySelectorAll('.board h2').length === 6"));
  };
  await fresh(first);
  check(await run("place('waterfall').open && document.querySelector('.op[aria-current]') !== null"), `${first} opens the call`);
  await fresh("#ffffff.999999");
  check(await run("!place('waterfall').open && place('unknown').textContent.includes('ffffff.999999')"), "an address that is not in the page is named");
  await fresh("#%E0%A4%A");

  // Names from the wire stay text: they make no elements, and cannot reverse or hide text.
  await filter("");
  await run("document.querySelectorAll('button.more').forEach((button) => button.click())");
  const text = await run("document.body.textContent");
  check(!made || text.includes("<script>alert(1)</script>") && text.includes("</script><img src=x onerror=alert(2)>"), "hostile names are shown as text");
  check(!/\[object|undefined|NaN/.test(await run("document.querySelector('main').textContent")), "no undefined value is shown");
  check((await run("document.querySelectorAll('img, iframe, object, embed, link, main script').length")) === 0, "no element came from a name");
  check(!/[\u0000-\u0008\u001b\u202e\u2066-\u2069]/.test(text), "no control character reached the page");

  check(!/died before|% of calls.*100/.test(await run("place('answers').textContent")), "the headline names servers so that they are names");
  check((await run("document.querySelector('#answers strong').textContent")).includes("last known"), "the headline does not claim that servers run");

  // No view needs horizontal scrolling.
  for (const [width, scheme] of [[1280, "light"], [1280, "dark"], [400, "light"], [400, "dark"]]) {
    await view(width, scheme);
    await send("Page.navigate", { url });
    await until("the boards", () => run("document.readyState === 'complete' && document.querySelectorAll('.board h2').length === 6"));
    check((await run("document.documentElement.scrollWidth")) <= width, `no horizontal scrolling at ${width}`);
    await barriers(`at ${width} ${scheme}`);
    await shot(`${width}-${scheme}`);
    await run("location.hash = encodeURIComponent(ROWS.find((row) => /^read_(text_)?file$/.test(row.name)).handle)");
    await until("a call", () => run("place('waterfall').open"));
    check(await run("place('waterfall').scrollWidth <= place('waterfall').clientWidth"), `no horizontal scrolling of a session at ${width}`);
    await barriers(`in a session at ${width} ${scheme}`);
  }
  await shot("waterfall-dark-400", false);

  const others = [context, agents].map((page) => page && pathToFileURL(resolve(page)).href);
  if (context) await contextBoard(others[0]);
  if (agents) await agentBoard(others[1]);

  const outside = requests.filter((request) => request.split("#")[0] !== url && !["about:blank", ...others].includes(request.split("#")[0]));
  check(outside.length === 0, `the page requested ${outside.join(", ")}`);
  const { size } = await stat(page);
  check(size < 2_000_000, `the page has ${size} bytes`);
} catch (error) {
  problems.push(`the check ended early: ${error.message}`);
} finally {
  clearTimeout(hung);
  browser.kill();
  await exited;
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}

for (const problem of problems) console.error(`failed: ${problem}`);
console.log(problems.length === 0 ? "all checks of the page passed" : `${problems.length} checks of the page failed`);
process.exit(problems.length === 0 ? 0 : 1);
