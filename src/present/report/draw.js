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

function moment(ms, seconds) {
  const options = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
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

// A drawing as wide as its container, so that its text has the same size on a telephone.
function drawing(label, height, draw) {
  const place = element("div", { class: "picture" });
  const render = () => {
    const width = Math.max(280, Math.round(place.clientWidth || 640));
    place.replaceChildren(
      svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, draw(width)),
    );
  };
  REDRAW.push(render);
  return place;
}
let REDRAW = [];

function fit(text, columns) {
  const letters = [...text];
  return letters.length <= columns ? text : letters.slice(0, Math.max(1, columns - 1)).join("") + "\u2026";
}

const title = (text) => svg("title", {}, text);

// One bar per row; parts are [value, class, title].
function bars(label, rows, most) {
  const shown = rows.slice(0, most);
  const step = 24;
  const greatest = Math.max(1e-9, ...shown.map((row) => row.parts.reduce((total, part) => total + part[0], 0)));
  return drawing(label, Math.max(step, shown.length * step), (width) => {
    const left = Math.min(260, width * 0.42);
    const room = width - left - 76;
    return shown.map((row, index) => {
      const y = index * step;
      let x = left;
      const parts = row.parts.filter(([value]) => value > 0).map(([value, kind, what]) => {
        const length = Math.max(1.5, (value / greatest) * room);
        const part = svg("rect", { x, y: y + 5, width: length, height: 13, rx: 2, class: kind }, title(what));
        x += length;
        return part;
      });
      return svg("g", { class: "row", onclick: row.open ?? (() => {}) },
        row.open ? svg("rect", { x: 0, y, width, height: step - 1, rx: 4, class: "hit" }) : [],
        svg("text", { x: 2, y: y + 16, class: "name" }, fit(row.name, Math.floor(left / 7.2)), title(row.name)),
        parts,
        svg("text", { x: x + 6, y: y + 16 }, row.value));
    });
  });
}

function legend(...entries) {
  return element("ul", { class: "legend" }, entries.map(([kind, text]) => element("li", {}, element("i", { class: kind }), text)));
}

// Columns: [title, cell, kind]; kind has n (number), wide (not on a telephone), text.
function table(rows, columns, open, most = 12) {
  const body = element("tbody");
  const add = (from, to) => {
    for (const row of rows.slice(from, to)) {
      const cells = columns.map(([, cell, kind]) => {
        const content = cell(row);
        return element("td", { class: kind ?? "text" }, content instanceof Node ? content : String(content ?? ""));
      });
      const line = element("tr", open ? { class: "link", onclick: () => open(row) } : {}, cells);
      if (open) {
        // The first cell is a button, so that the keyboard reaches it.
        cells[0].replaceChildren(element("button", { type: "button", class: "plain" }, ...cells[0].childNodes));
      }
      body.append(line);
    }
  };
  add(0, most);
  const head = element("tr", {}, columns.map(([name, , kind]) => element("th", { class: kind ?? "text" }, name)));
  const parts = [element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), body))];
  if (rows.length > most) {
    const button = element("button", { type: "button", class: "more", onclick: () => { add(most, rows.length); button.remove(); } },
      `Show ${rows.length - most} more`);
    parts.push(button);
  }
  return parts;
}

function toned(text, tone) {
  return element("span", { class: tone }, text);
}

// A name that breaks between its words if a column is narrow.
function breakable(name) {
  return element("span", {}, name.split(/(?<=_)/).map((part, index) => (index === 0 ? part : [element("wbr"), part])));
}

// A tool, and its server in small letters.
function toolOn(tool, server) {
  return element("span", {}, tool, " ", element("small", {}, "on " + server));
}

function perMinute(number) {
  return number >= 9.95 ? number.toFixed(0) : number >= 0.095 ? number.toFixed(1) : number >= 0.005 ? number.toFixed(2) : number > 0 ? "<0.01" : "0";
}

const errorTone = (share) => (share === null || share === 0 ? "" : share >= 0.2 ? "bad" : "warn");
