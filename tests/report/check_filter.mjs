#!/usr/bin/env node
// Checks the filter of the page with the cases of `fixtures/filter`, which `query::filter` passes too.
//
//   check_filter.mjs PAGE
//
// The page must be the output of `spantap report` for fixtures/filter.

import { readFile } from "node:fs/promises";

const read = (path) => readFile(new URL(`../../${path}`, import.meta.url), "utf8");
const page = await readFile(process.argv[2], "utf8");
const [, data] = page.match(/<script id="data" type="application\/json">(.*?)<\/script>/s);
const script = await read("src/present/report/data.js");
const names = new Function("document", `${script}\nreturn { ROWS, parseFilter, judge, predicate };`);
const { ROWS, parseFilter, judge, predicate } = names({ getElementById: () => ({ textContent: data }) });

const cases = JSON.parse(await read("fixtures/filter/cases.json"));
let failed = 0;
for (const { filter, matches, unknown } of cases) {
  const terms = parseFilter(filter);
  const known = terms.filter((term) => judge(term)[1]);
  const found = ROWS.filter(predicate(known)).map((row) => Number(row.handle.split(".")[1]));
  if (String(found) === String(matches) && terms.length - known.length === unknown) continue;
  failed += 1;
  console.error(`failed: ${filter} selects ${found}, with ${terms.length - known.length} unknown terms`);
}
console.log(`${cases.length} filters, ${failed} failed`);
process.exit(failed > 0 || cases.length === 0 || ROWS.length === 0 ? 1 : 0);
