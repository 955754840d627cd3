"use strict";
// The view of one model: all its rows; for the selected one, classes, confusions, worst mistakes and errors.

/** The details of this view are compressed in the page, and unpacked when they are first shown. */
async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function measured(score) {
  if (blank(score.top1)) return "";
  return [fixed(score.top1, 2), " ", h("small", {}, `${fixed(score.low, 1)}–${fixed(score.high, 1)}`)];
}

function chip(verdict) {
  return verdict ? h("span", { className: `chip ${verdict.replaceAll(" ", "-")}` }, verdict) : "";
}

function difference(claim) {
  if (!claim || blank(claim.points)) return "";
  return h("span", { className: claim.points < 0 ? "minus" : "plus", title: `${signed(claim.images, 0)} images` }, signed(claim.points, 2));
}

/** A title that ends in an http address becomes a link; everything else stays text. */
function paper(text) {
  const [, title, href] = text.match(/^(.*?)\s*(https?:\/\/\S+)$/) || [null, text, null];
  return href ? h("a", { href, rel: "noopener noreferrer", target: "_blank" }, title || href) : title;
}

const claimOf = (score, metric = "top1") => score?.claims.find((claim) => claim.metric === metric);

class ModelView {
  constructor(data, element) {
    Object.assign(this, { data, element });
  }

  /** Draws the model called `name`; `run` and `set` are the positions of the run to show in detail. */
  async show(name, run, set) {
    const pairs = this.data.rows.flatMap((row, r) => (row.model === name ? this.scored(row, r) : []));
    const chosen = pairs.find((pair) => pair.r === run && pair.s === set) || pairs.find((pair) => pair.s === this.data.main) || pairs[0];
    const back = h("a", { className: "back", href: "#" }, "← All models");
    const details = h("div", { className: "cards" });
    this.element.replaceChildren(
      back, h("h1", {}, name), this.facts(chosen.row), this.runs(pairs, chosen), this.reasons(chosen.score), details,
    );
    const token = (this.token = {});
    const detail = await unpack(chosen.score.detail);
    if (token === this.token) details.replaceChildren(...this.panels(chosen, detail));
  }

  scored(row, r) {
    return this.data.sets.flatMap((_, s) => (row.scores[s] ? [{ row, r, s, score: row.scores[s] }] : []));
  }

  facts(row) {
    const known = [
      ["Parameters", blank(row.params) ? "" : `${fixed(row.params / 1e6, 2)} M`],
      ["Multiply-accumulates", blank(row.macs) ? "" : `${fixed(row.macs / 1e9, 2)} G`],
      ["Input", row.input], ["Weights", row.weights + (row.published ? "" : ", not the published ones")],
      ["Licence", row.licence], ["Paper", row.paper && paper(row.paper)],
    ].filter(([, value]) => value);
    return h("dl", { className: "facts" }, ...known.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
  }

  runs(pairs, chosen) {
    const columns = [
      { label: "set", text: true, value: (p) => p.s, show: (p) => h("a", { href: this.link(p) }, this.data.sets[p.s].title) },
      { label: "settings", text: true, value: (p) => `${p.row.settings}, ${p.row.decoder}` },
      { label: "claimed", value: (p) => claimOf(p.score)?.claimed, show: (p) => fixed(claimOf(p.score)?.claimed, 2) },
      { label: "top-1", value: (p) => p.score.top1, show: (p) => measured(p.score) },
      { label: "Δ", value: (p) => claimOf(p.score)?.points, show: (p) => difference(claimOf(p.score)) },
      { label: "verdict", text: true, value: (p) => claimOf(p.score)?.verdict, show: (p) => chip(claimOf(p.score)?.verdict) },
      { label: "top-5", value: (p) => p.score.top5, show: (p) => fixed(p.score.top5, 2) },
      { label: "ECE", value: (p) => p.score.ece, show: (p) => fixed(p.score.ece, 4) },
      { label: "NLL", value: (p) => p.score.nll, show: (p) => fixed(p.score.nll, 4) },
      { label: "Brier", value: (p) => p.score.brier, show: (p) => fixed(p.score.brier, 4) },
      { label: "images", value: (p) => p.score.n, show: (p) => grouped(p.score.n) + (p.score.complete ? "" : "*") },
      { label: "errors", value: (p) => p.score.errors, show: (p) => grouped(p.score.errors) },
      { label: "images/s", value: (p) => p.score.speed, show: (p) => fixed(p.score.speed, 1) },
    ];
    const mark = (line, pair) => { if (pair === chosen) line.setAttribute("aria-current", "true"); };
    const table = new SortedTable(columns, pairs, { direction: 1, mark });
    return h("section", { className: "scroll", tabIndex: 0, "aria-label": "Runs" }, table.element);
  }

  link({ row, r, s }) {
    return `#model=${encodeURIComponent(row.model)}&run=${r}&set=${s}`;
  }

  reasons(score) {
    const lines = score.claims.map((c) => [
      `${c.metric === "top1" ? "top-1" : "top-5"} ${fixed(c.claimed, 2)} claimed: ${c.verdict || "no verdict"}`,
      ...(blank(c.points) ? [] : [`${signed(c.points, 3)} points, ${signed(c.images, 0)} images`]),
      ...c.reasons,
    ].join("; "));
    if (!score.complete) lines.push(`* incomplete: ${grouped(score.committed)} of ${plural(score.shards, "shard")}`);
    return h("ul", { className: "reasons" }, ...lines.map((line) => h("li", {}, line)));
  }

  panels({ row, score, s }, detail) {
    const names = this.data.classes[row.classes];
    const name = (c) => (names ? names[c] ?? `class ${c}` : `class ${c}`);
    const image = (r) => `${r.key}  (${r.shard}, row ${r.index})`;
    const of = `${row.mode} on ${this.data.sets[s].title}`;
    const perClass = detail.n.map((n, c) => ({ c, n, top1: detail.top1[c], top5: detail.top5[c] })).filter(({ n }) => n);
    const panels = [
      panel("Reliability", `${of}: ECE ${fixed(score.ece, 4) || "not known"}; orange: the gap to the confidence`, reliabilityBars(score.bins)),
      panel("Accuracy by class", `${plural(perClass.length, "class").replace("classs", "classes")} with images; errors count as wrong`, [
        { label: "class", text: true, className: "wrap", value: ({ c }) => name(c) },
        { label: "top-1", value: (r) => (100 * r.top1) / r.n, show: (r) => fixed((100 * r.top1) / r.n, 1) },
        { label: "top-5", value: (r) => (100 * r.top5) / r.n, show: (r) => fixed((100 * r.top5) / r.n, 1) },
        { label: "images", value: (r) => r.n, show: (r) => grouped(r.n) },
      ], perClass, { sort: 1, direction: 1 }),
      panel("Most confused", "labels, and the class predicted instead", [
        { label: "label", text: true, className: "wrap", value: ([label]) => name(label) },
        { label: "predicted", text: true, className: "wrap", value: ([, predicted]) => name(predicted) },
        { label: "images", value: ([, , n]) => n, show: ([, , n]) => grouped(n) },
      ], detail.confused, { sort: 2 }),
      panel("Worst mistakes", "the most confident wrong answers", [
        { label: "image", text: true, className: "wrap", value: image },
        { label: "label", text: true, className: "wrap", value: (r) => name(r.label), show: (r) => [name(r.label), " ", h("small", {}, fixed(r.label_probability, 3))] },
        { label: "predicted", text: true, className: "wrap", value: (r) => name(r.predicted) },
        { label: "confidence", value: (r) => r.probability, show: (r) => fixed(r.probability, 4) },
      ], detail.worst, { sort: 3 }),
    ];
    const reasons = Object.entries(score.reasons).map(([reason, n]) => `${grouped(n)} ${reason}`).join(", ");
    if (score.errors) panels.push(panel("Errors", `${reasons}; the first ${detail.errors.length}:`, [
      { label: "image", text: true, className: "wrap", value: image },
      { label: "error", text: true, className: "wrap", value: (r) => r.error || r.reason },
    ], detail.errors, { direction: 1 }));
    return panels;
  }
}

function panel(title, note, columns, rows, order) {
  const content = rows ? new SortedTable(columns, rows, order).element : columns;
  const body = rows ? h("div", { className: "scroll", tabIndex: 0, "aria-label": title }, content) : content;
  return h("section", { className: "panel" }, h("h2", {}, title), h("p", { className: "soft" }, note), body);
}
