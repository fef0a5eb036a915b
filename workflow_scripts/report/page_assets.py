"""How the overview page looks, and what it does where scripts may run.

Nothing is fetched: colours follow the system's light or dark setting, and without scripts every
table is there whole, in the order in which it was written.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0;
  --page: #ffffff; --raised: #f6f8fa; --accent: #0a5c96; --warn: #8a3a00; --warnback: #fff1e5; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --line: #3d444d;
  --page: #0d1117; --raised: #151b23; --accent: #6cb6ff; --warn: #ffb77c; --warnback: #2d1a0b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { margin-top: 2.5rem; font-size: 1.25rem;
  border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1.1rem; margin-top: 2rem; } h4 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
a { color: var(--accent); } a:focus-visible, button:focus-visible, summary:focus-visible,
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
nav { background: var(--raised); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem 1rem; } nav ul { margin: 0; padding-left: 1.1rem; columns: 18rem; }
nav li { break-inside: avoid; } nav > ul { list-style: none; padding: 0; }
.phantom { background: var(--warnback); color: var(--warn); border-left: 4px solid;
  padding: .6rem .9rem; font-weight: 600; }
.scroll { overflow: auto; max-height: 36rem; } .soft { color: var(--soft); font-size: .875rem; }
table { border-collapse: collapse; font-size: .875rem; margin: .5rem 0;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; z-index: 1;
  background: var(--page); }
thead th { white-space: normal; vertical-align: bottom; position: sticky; top: 0; z-index: 2;
  background: var(--page); box-shadow: inset 0 -2px var(--line); min-width: 5rem; }
thead th:first-child { z-index: 3; }
table.texts td { text-align: left; white-space: normal; min-width: 6rem; vertical-align: top; }
table.texts th { text-align: left; }
tfoot td { color: var(--soft); font-style: italic; }
thead th button { all: unset; cursor: pointer; font: inherit; }
thead th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
thead th button::after { content: "\\00a0\\2195"; color: var(--soft); font-weight: 400; }
th[aria-sort="ascending"] button::after { content: "\\00a0\\25B2"; color: var(--accent); }
th[aria-sort="descending"] button::after { content: "\\00a0\\25BC"; color: var(--accent); }
label.find { font-size: .875rem; color: var(--soft); display: inline-block; margin: .3rem 0; }
input[type="search"] { font: inherit; color: var(--text); background: var(--page);
  border: 1px solid var(--line); border-radius: 6px; padding: .2rem .5rem; max-width: 100%; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; background: #fff;
  border-radius: 6px; padding: .5rem; } figcaption { font-size: .875rem; color: var(--soft); }
@media (prefers-color-scheme: dark) { img.chart { filter: invert(.93) hue-rotate(180deg); } }
.wide { max-height: none; } .wide img { min-width: 60rem; }
.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.card { background: var(--raised); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; min-width: 0; } .card h3 { margin: 0 0 .3rem; }
.card td:first-child, .card th { background: var(--raised); white-space: normal; }
.card img { width: 100%; border-radius: 6px; }
.bar { height: 4px; background: var(--accent); border-radius: 2px; margin-top: 2px; }
summary { cursor: pointer; } details { margin: .4rem 0; }
code { font-size: .8rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: .7rem; font-size: 15px; }
  th, td { padding: .25rem .4rem; }
  th:first-child, td:first-child { max-width: 40vw; white-space: normal; } }
@media print { .scroll { max-height: none; } nav, label.find { display: none; } }
"""

SCRIPT = """
"use strict";
(() => {
  // the number that a cell starts with, or null: "71.20 [68.00, 74.00]", "1,200"
  const numberIn = text => {
    const found = /^[-+]?[0-9][0-9,]*(\\.[0-9]+)?(e[-+]?[0-9]+)?/i.exec(text.trim());
    return found ? parseFloat(found[0].replaceAll(",", "")) : null;
  };
  const compare = (a, b) => {
    const x = numberIn(a), y = numberIn(b);
    return x !== null && y !== null ? x - y : a.localeCompare(b, "en", {numeric: true});
  };
  const isBlank = text => text === "" || text === "\\u2013";
  const sort = (table, column, header) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map(row => [row.cells[column]?.textContent.trim() ?? "", row]);
    keyed.sort(([a], [b]) => {  // what is undefined or was not run stays at the end
      if (isBlank(a) || isBlank(b)) return isBlank(a) - isBlank(b);
      return down ? compare(b, a) : compare(a, b);
    });
    body.append(...keyed.map(pair => pair[1]));
  };
  const find = (tables, text) => {
    const words = text.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const table of tables) for (const row of table.tBodies[0].rows) {
      const content = row.textContent.toLowerCase();
      row.hidden = !words.every(word => content.includes(word));
    }
  };
  const searchBox = (title, tables) => {
    const label = document.createElement("label"), input = document.createElement("input");
    label.className = "find";
    label.append(title + " ", input);
    input.type = "search";
    input.addEventListener("input", () => find(tables, input.value));
    return label;
  };
  const tables = [...document.querySelectorAll("table")];
  for (const table of tables) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.title = "sort by this column";
      button.addEventListener("click", () => sort(table, column, header));
      header.append(button);
    });
    const isLong = table.tBodies[0].rows.length > 7;
    if (isLong) table.parentElement.before(searchBox("Find rows", [table]));
  }
  document.querySelector("nav").after(searchBox("Find rows in every table", tables));
})();
"""
