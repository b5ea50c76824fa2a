// Number formats, elements, pictures, tables. Text enters the page as text nodes only.

function duration(ms) {
  if (!(ms >= 0)) return "?";
  const seconds = ms / 1000;
  const whole = Math.round(seconds);
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (ms === 0) return "0 ms";
  if (ms < 0.05) return "<0.1 ms";
  if (ms < 9.95) return ms.toFixed(1) + " ms";
  if (ms < 999.5) return ms.toFixed(0) + " ms";
  if (ms < 9995) return seconds.toFixed(2) + " s";
  if (ms < 59950) return seconds.toFixed(1) + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " min " + two(whole % 60) + " s";
  if (whole < 86400) return Math.floor(whole / 3600) + " h " + two((whole / 60) % 60) + " min";
  return Math.floor(whole / 86400) + " d " + two((whole / 3600) % 24) + " h";
}

function count(number) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (number >= size) return (number / size).toFixed(number / size < 9.95 ? 1 : 0) + unit;
  }
  return String(number);
}

function percent(share) {
  if (share === null) return "";
  const value = share * 100;
  if (value === 0) return "0 %";
  if (value < 0.05) return "<0.1 %";
  return (value >= 99.95 ? "100" : value.toFixed(1)) + " %";
}

function usd(amount) {
  if (amount === 0) return "$0";
  if (amount < 0.001) return "<$0.001";
  return "$" + amount.toFixed(amount < 0.995 ? 3 : 2);
}

const plural = (number, word) => number + " " + word + (number === 1 ? "" : "s");

const ONE_DAY = new Date(DATA.first).toDateString() === new Date(DATA.last).toDateString();

function moment(ms, seconds, dated = !ONE_DAY) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (dated) Object.assign(options, { month: "short", day: "numeric" });
  if (seconds) options.second = "2-digit";
  return new Intl.DateTimeFormat(undefined, options).format(new Date(ms));
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity));
  return made;
}

function fit(text, columns) {
  const letters = [...text];
  return letters.length <= columns ? text : letters.slice(0, Math.max(1, columns - 1)).join("") + "\u2026";
}

const title = (text) => svg("title", {}, text);

// A picture as wide as its place, 100 units wide.
function strip(height, kind, label, ...marks) {
  const named = label === "" ? { "aria-hidden": "true" } : { role: "img", "aria-label": label };
  return svg("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", class: "strip " + kind, ...named }, marks);
}

// One bar; parts are [value, class, title]. `greatest` is the value of a full bar.
function bar(parts, greatest) {
  let x = 0;
  const marks = parts.filter(([value]) => value > 0).map(([value, kind, what]) => {
    const width = Math.max(0.8, (value / Math.max(greatest, 1e-9)) * 100);
    const part = svg("rect", { x, y: 0, width, height: 10, class: kind }, title(what));
    x += width;
    return part;
  });
  return strip(10, "bar", "", marks);
}

// A number with its bar before it.
function barred(parts, greatest, text) {
  return element("span", { class: "barred" }, bar(parts, greatest), element("span", {}, text));
}

function legend(...entries) {
  return element("ul", { class: "legend" }, entries.map(([kind, text]) => element("li", {}, element("i", { class: kind }), text)));
}

// The order of each table by its name, so that it stays when a filter draws the table anew.
const ORDER = new Map();

// Columns: [title, cell, kind, value]; kind has n (number), wide (not on a telephone), text. A column with a value
// sorts by it.
function table(name, rows, columns, open, most = 12) {
  const body = element("tbody");
  const place = element("div");
  const make = (row) => {
    const cells = columns.map(([, cell, kind]) => {
      const content = cell(row);
      return element("td", { class: kind ?? "text" }, content instanceof Node ? content : String(content ?? ""));
    });
    // The first cell is a button, so that the keyboard reaches it.
    if (open) cells[0].replaceChildren(element("button", { type: "button", class: "plain" }, ...cells[0].childNodes));
    const choose = (event) => { if (!event.target.closest("a")) open(row); };
    return element("tr", open ? { class: "link", onclick: choose } : {}, cells);
  };
  const draw = () => {
    const [index, down] = ORDER.get(name) ?? [-1, true];
    const value = columns[index]?.[3];
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b) * (down ? -1 : 1);
    const sorted = value ? [...rows].sort((a, b) => compare(value(a), value(b))) : rows;
    const all = ORDER.get(name)?.[2] || rows.length <= most + 3;
    body.replaceChildren(...sorted.slice(0, all ? rows.length : most).map(make));
    const head = columns.map(([text, , kind, sortable], at) => {
      const order = at === index ? (down ? "descending" : "ascending") : null;
      const sort = () => {
        ORDER.set(name, [at, at === index ? !down : typeof sortable(rows[0]) !== "string", ORDER.get(name)?.[2]]);
        draw();
        place.querySelectorAll("th")[at].querySelector("button").focus();
      };
      return element("th", { class: kind ?? "text", scope: "col", "aria-sort": order },
        sortable ? element("button", { type: "button", class: "sort", onclick: sort }, text) : text);
    });
    const more = () => { ORDER.set(name, [index, down, true]); draw(); };
    place.replaceChildren(
      element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, head)), body)),
      all ? "" : element("button", { type: "button", class: "more", onclick: more }, `Show ${rows.length - most} more`));
  };
  draw();
  return place;
}

function toned(text, tone) {
  return element("span", { class: tone }, text);
}

// A name that breaks between its words if a column is narrow.
function breakable(name) {
  return element("span", {}, name.split(/(?<=_)/).map((part, index) => (index === 0 ? part : [element("wbr"), part])));
}

function dot(server) {
  return element("i", { class: "dot " + (COLOURS.get(server) ?? ""), "aria-hidden": "true" });
}

// A tool, and its server in small letters.
function toolOn(tool, server) {
  return element("span", {}, dot(server), tool, " ", element("small", {}, "on " + server));
}

// The whole address of a call: a bare `#…` counts as a link that skips parts of a page.
const address = (handle) => `${location.href.split("#")[0]}#${encodeURIComponent(handle)}`;

// A link to a call, if the page contains it.
function link(handle, at = handle) {
  return HANDLES.has(at) ? element("a", { href: address(at), class: "mono" }, handle) : element("span", { class: "mono" }, handle);
}

// A button that copies a text.
function copier(text, name) {
  const button = element("button", { type: "button", class: "copy", "aria-label": `copy ${name}` }, "copy");
  const done = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = "copy"; }, 1500); };
  button.addEventListener("click", () => {
    const other = () => {
      const box = element("textarea", { class: "offstage", "aria-hidden": "true" });
      box.value = text;
      button.after(box);
      box.select();
      if (document.execCommand("copy")) done();
      box.remove();
      button.focus();
    };
    (navigator.clipboard ? navigator.clipboard.writeText(text) : Promise.reject()).then(done, other);
  });
  return button;
}

function perMinute(number) {
  return number >= 9.95 ? number.toFixed(0) : number >= 0.095 ? number.toFixed(1) : number >= 0.005 ? number.toFixed(2) : number > 0 ? "<0.01" : "0";
}

const errorTone = (share) => (share === null || share === 0 ? "" : share >= 0.2 ? "bad" : "warn");
