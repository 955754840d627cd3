"use strict";
// The overview: verdicts, charts and the table; and the switch to the view of one model.

const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const state = { set: data.main, verdict: null, words: [] };
let table = null;

/** Opens the view that the fragment names, also in a frame without an address of its own, such as MLflow's. */
function go(fragment) {
  try { history.pushState(null, "", fragment || "#"); } catch { /* not allowed in a sandboxed frame */ }
  route(fragment);
}

function route(fragment) {
  const wanted = new URLSearchParams(fragment.slice(1)), name = wanted.get("model");
  const place = (key) => (wanted.has(key) ? Number(wanted.get(key)) : null);
  const found = data.rows.some((row) => row.model === name && row.scores.some(Boolean));
  by("overview").hidden = found;
  by("model").hidden = !found;
  document.title = found ? `${name} – ${data.title}` : data.title;
  if (found) view.show(name, place("run"), place("set"));
  scrollTo(0, 0);
}

const view = new ModelView(data, by("model"));
const scoreOf = (row) => row.scores[state.set];
const address = (row) => `#model=${encodeURIComponent(row.model)}&run=${data.rows.indexOf(row)}&set=${state.set}`;
const open = (row) => go(address(row));
const alike = Map.groupBy ? Map.groupBy(data.rows, (row) => `${row.model} ${row.mode}`) : new Map();
const mode = (row) => (alike.get(`${row.model} ${row.mode}`)?.length > 1 ? `${row.settings}, ${row.decoder}` : row.mode);
const images = (row) => (scoreOf(row) ? `${grouped(scoreOf(row).n)}${scoreOf(row).complete ? "" : "*"}` : "");

function columns() {
  const claim = (row) => claimOf(scoreOf(row));
  const others = data.sets.map((set, s) => ({ set, s })).filter(({ s }) => s !== state.set);
  return [
    { label: "model", text: true, value: (row) => row.model, show: (row) => h("a", { href: address(row), title: row.model }, row.model) },
    { label: "mode", text: true, title: "precision and decoder; all settings where several rows share these", value: (row) => row.settings, show: (row) => h("span", { title: row.settings }, mode(row)) },
    { label: "claimed", title: "top-1 that the card claims, %", value: (row) => claim(row)?.claimed, show: (row) => fixed(claim(row)?.claimed, 2) },
    { label: "measured", title: "top-1 in %, errors count as wrong, with Wilson's 95 % interval", value: (row) => scoreOf(row)?.top1, show: (row) => (scoreOf(row) ? measured(scoreOf(row)) : "") },
    { label: "images", title: "images evaluated; * where shards are missing", value: (row) => scoreOf(row)?.n, show: (row) => images(row) },
    { label: "Δ", title: "measured minus claimed, in percentage points", value: (row) => claim(row)?.points, show: (row) => difference(claim(row)) },
    { label: "verdict", text: true, value: (row) => claim(row)?.verdict, show: (row) => chip(claim(row)?.verdict) },
    ...others.map(({ set, s }) => ({ label: set.short, title: `top-1 on ${set.title}, %`, value: (row) => row.scores[s]?.top1, show: (row) => fixed(row.scores[s]?.top1, 1) })),
    { label: "ECE", title: "expected calibration error, 15 bins", value: (row) => scoreOf(row)?.ece, show: (row) => fixed(scoreOf(row)?.ece, 3) },
    { label: "images/s", title: "of one actor, in the model alone, as last measured", value: (row) => speed(row), show: (row) => fixed(speed(row), 1) },
    { label: "GMACs", title: "multiply-accumulates per image, in billions", value: (row) => row.macs, show: (row) => (blank(row.macs) ? "" : fixed(row.macs / 1e9, 2)) },
    { label: "params", title: "in millions", value: (row) => row.params, show: (row) => (blank(row.params) ? "" : fixed(row.params / 1e6, 1)) },
    { label: "licence", text: true, title: "of the weights", value: (row) => row.licence },
  ];
}

const speed = (row) => scoreOf(row)?.speed ?? row.scores.find((score) => score?.speed)?.speed;

function draw() {
  const rows = data.rows.filter((row) => row.scores.some(Boolean));
  for (const row of rows) row.text = `${row.model} ${row.mode} ${row.settings} ${row.licence ?? ""} ${row.weights}`.toLowerCase();
  table = new SortedTable(columns(), rows, { sort: 3 });
  by("board").replaceChildren(table.element);
  drawCharts();
  drawVerdicts();
  filter();
}

function drawCharts() {
  const set = data.sets[state.set].title, scored = table.rows.map(({ row }) => row).filter((row) => !blank(scoreOf(row)?.top1));
  const hint = (row, more) => `${row.model}\n${row.settings}, ${row.decoder}\ntop-1 ${fixed(scoreOf(row).top1, 2)} %${more}`;
  const against = (x, unit) => scored.filter((row) => x(row) > 0).map((row) => ({ x: x(row), y: scoreOf(row).top1, row, hint: hint(row, `, ${unit(x(row))}`) }));
  const claimed = scored.filter(claimedNumber).map((row) => {
    const { claimed: x, verdict } = claimOf(scoreOf(row));
    return { x, y: scoreOf(row).top1, row, className: verdict, hint: hint(row, `, claimed ${fixed(x, 2)} %`) };
  });
  const curves = scored.map((row) => ({ bins: scoreOf(row).bins, row, hint: hint(row, `, ECE ${fixed(scoreOf(row).ece, 4)}`) }));
  by("charts").replaceChildren(
    scatter("Accuracy and speed", `${set}, with the Pareto front`, against(speed, (v) => `${fixed(v, 1)} images/s`), { xLabel: "images/s", yLabel: "top-1, %", log: true, better: 1, open }),
    scatter("Accuracy and cost", `${set}, with the Pareto front`, against((row) => row.macs / 1e9, (v) => `${fixed(v, 2)} GMACs`), { xLabel: "GMACs", yLabel: "top-1, %", log: true, better: -1, open }),
    scatter("Claimed and measured", `${set}; equal on the line`, claimed, { xLabel: "claimed, %", yLabel: "measured, %", diagonal: true, open }),
    reliabilityCurves("Reliability", `${set}; too confident below the line`, curves, { open }),
  );
}

const claimedNumber = (row) => !blank(claimOf(scoreOf(row))?.claimed);

function drawVerdicts() {
  const counts = new Map();
  for (const { row } of table.rows) {
    const verdict = claimOf(scoreOf(row))?.verdict;
    if (verdict) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  }
  by("verdicts").replaceChildren(...[...counts].sort().map(([verdict, n]) => {
    const button = h("button", { type: "button", className: `chip ${verdict.replaceAll(" ", "-")}` }, `${grouped(n)} ${verdict}`);
    button.setAttribute("aria-pressed", String(state.verdict === verdict));
    button.addEventListener("click", () => {
      state.verdict = state.verdict === verdict ? null : verdict;
      for (const other of by("verdicts").children) other.setAttribute("aria-pressed", String(other === button && state.verdict !== null));
      filter();
    });
    return button;
  }));
}

function filter() {
  state.words = by("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  table.filter((row) => state.words.every((word) => row.text.includes(word)) && (!state.verdict || claimOf(scoreOf(row))?.verdict === state.verdict));
  by("shown").textContent = `${grouped(table.shown.length)} of ${plural(table.rows.length, "row")}`;
}

function start() {
  const models = new Set(data.rows.map((row) => row.model)).size;
  by("subtitle").textContent = `${plural(models, "model")}, ${plural(data.rows.length, "run")}, ${plural(data.sets.length, "evaluation set")}`;
  by("notes").replaceChildren(...data.notes.map((note) => h("p", {}, note)));
  by("set").replaceChildren(...data.sets.map((set, s) => h("option", { value: s, selected: s === state.set }, set.title)));
  by("set").addEventListener("change", (event) => { state.set = Number(event.target.value); state.verdict = null; draw(); });
  by("filter").addEventListener("input", filter);
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link || link.classList.contains("skip") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  addEventListener("popstate", () => route(location.hash));
  addEventListener("hashchange", () => route(location.hash));
  if (data.sets.length) draw();
  if (location.hash.startsWith("#model=")) route(location.hash);
}

start();
