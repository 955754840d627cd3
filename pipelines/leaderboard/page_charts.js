"use strict";
// Small charts in SVG, in the page's colours: a chart library would be fifty times the size of the page.

const WIDTH = 340, HEIGHT = 240, LEFT = 40, RIGHT = 10, TOP = 20, BOTTOM = 34, NEAR = 14;

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Maps values to pixels, with ticks at round numbers: { at(value), ticks }. */
function scale(values, from, to, { log = false, exact = false } = {}) {
  const turn = log ? Math.log10 : (v) => v;
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 1, high + 1];
  const pad = exact ? 0 : (turn(high) - turn(low)) * 0.06;
  const start = turn(low) - pad, end = turn(high) + pad;
  const at = (value) => from + ((turn(value) - start) / (end - start)) * (to - from);
  const marks = log ? logTicks(10 ** start, 10 ** end) : linearTicks(start, end);
  return { at, ticks: marks };
}

function linearTicks(low, high) {
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => +((first + i) * step).toPrecision(10));
}

function logTicks(low, high) {
  const found = [];
  const steps = high / low > 30 ? [1] : high / low > 6 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const m of steps) if (m * 10 ** power >= low && m * 10 ** power <= high) found.push(+(m * 10 ** power).toPrecision(6));
  }
  return found;
}

function frame(x, y, xLabel, yLabel, label) {
  const bottom = HEIGHT - BOTTOM, drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const tick of y.ticks) {
    const at = y.at(tick);
    drawing.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }));
    drawing.append(svg("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, `${tick}`));
  }
  for (const tick of x.ticks) drawing.append(svg("text", { x: x.at(tick), y: bottom + 14, "text-anchor": "middle" }, grouped(tick)));
  drawing.append(svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, xLabel));
  drawing.append(svg("text", { x: 0, y: 8 }, yLabel));
  return drawing;
}

/** Points that no other point exceeds in both x and y: `better` is 1 where more of x is better, -1 where less is. */
function paretoFront(points, better) {
  const sorted = [...points].sort((a, b) => better * (b.x - a.x) || b.y - a.y);
  let best = -Infinity;
  return sorted.filter((point) => point.y > best && ((best = point.y), true));
}

/** points: { x, y, row, hint, className }. Options: log, better (draws the Pareto front), diagonal. */
function scatter(title, note, points, { xLabel, yLabel, log, better, diagonal, open }) {
  if (!points.length) return empty(title, note);
  const both = diagonal && points.flatMap((p) => [p.x, p.y]);
  const x = scale(both || points.map((p) => p.x), LEFT, WIDTH - RIGHT, { log });
  const y = scale(both || points.map((p) => p.y), HEIGHT - BOTTOM, TOP + 6);
  const drawing = frame(x, y, xLabel, yLabel, `${title}: ${plural(points.length, "point")}`);
  if (diagonal) {
    const [low, high] = [Math.min(...both), Math.max(...both)];
    drawing.append(svg("line", { class: "ideal", x1: x.at(low), y1: y.at(low), x2: x.at(high), y2: y.at(high) }));
  }
  const front = better ? paretoFront(points, better) : [];
  if (front.length > 1) drawing.append(svg("polyline", { class: "front-line", points: front.map((p) => `${x.at(p.x)},${y.at(p.y)}`).join(" ") }));
  const dots = points.map((p) => {
    const kind = front.includes(p) ? "front" : p.className || "";
    return { ...p, at: [x.at(p.x), y.at(p.y)], element: svg("circle", { class: `dot ${kind}`, cx: x.at(p.x), cy: y.at(p.y), r: 4 }) };
  });
  drawing.append(...dots.map((dot) => dot.element));
  followPointer(drawing, (px, py) => {
    const near = dots.map((dot) => [Math.hypot(dot.at[0] - px, dot.at[1] - py), dot]).reduce((a, b) => (b[0] < a[0] ? b : a));
    return near[0] < NEAR ? near[1] : null;
  }, open);
  return h("figure", {}, h("h2", {}, title), h("figcaption", {}, note), drawing);
}

/** curves: { bins: [[rows, accuracy, confidence]], row, hint }. */
function reliabilityCurves(title, note, curves, { open }) {
  const filled = curves.filter(({ bins }) => bins.some(([rows]) => rows));
  if (!filled.length) return empty(title, note);
  const x = scale([0, 1], LEFT, WIDTH - RIGHT, { exact: true }), y = scale([0, 1], HEIGHT - BOTTOM, TOP + 6, { exact: true });
  const drawing = frame(x, y, "confidence", "accuracy", `${title}: ${plural(filled.length, "curve")}`);
  drawing.append(svg("line", { class: "ideal", x1: x.at(0), y1: y.at(0), x2: x.at(1), y2: y.at(1) }));
  const drawn = filled.map((curve) => {
    const at = curve.bins.filter(([rows]) => rows).map(([, accuracy, confidence]) => [x.at(confidence), y.at(accuracy)]);
    return { ...curve, at, element: svg("polyline", { class: "curve", points: at.map((p) => p.join(",")).join(" ") }) };
  });
  drawing.append(...drawn.map((curve) => curve.element));
  followPointer(drawing, (px, py) => {
    const far = (curve) => Math.min(...curve.at.map((p) => Math.hypot(p[0] - px, p[1] - py)));
    const near = drawn.map((curve) => [far(curve), curve]).reduce((a, b) => (b[0] < a[0] ? b : a));
    return near[0] < NEAR ? near[1] : null;
  }, open);
  return h("figure", {}, h("h2", {}, title), h("figcaption", {}, note), drawing);
}

/** The reliability diagram of one model: accuracy by confidence, and the gap between the two. */
function reliabilityBars(bins) {
  const x = scale([0, 1], LEFT, WIDTH - RIGHT, { exact: true }), y = scale([0, 1], HEIGHT - BOTTOM, TOP + 6, { exact: true });
  const drawing = frame(x, y, "confidence", "accuracy", "Reliability diagram");
  const width = (x.at(1) - x.at(0)) / bins.length;
  const box = (kind, i, low, high) => svg("rect", { class: kind, x: x.at(i / bins.length) + 1, width: width - 2, y: y.at(high), height: y.at(low) - y.at(high) });
  bins.forEach(([rows, accuracy, confidence], i) => {
    if (!rows) return;
    const bar = svg("g", {}, box("bar", i, 0, Math.min(accuracy, confidence)), box("gap", i, Math.min(accuracy, confidence), Math.max(accuracy, confidence)));
    bar.append(svg("title", {}, `${plural(rows, "image")}: accuracy ${fixed(100 * accuracy, 1)} %, confidence ${fixed(100 * confidence, 1)} %`));
    drawing.append(bar);
  });
  drawing.append(svg("line", { class: "ideal", x1: x.at(0), y1: y.at(0), x2: x.at(1), y2: y.at(1) }));
  return drawing;
}

function empty(title, note) {
  return h("figure", {}, h("h2", {}, title), h("figcaption", {}, note), h("p", { className: "soft" }, "Nothing to draw."));
}

/** Shows the hint of the mark that `nearest(x, y)` returns, and opens its row on a click. */
function followPointer(drawing, nearest, open) {
  const hint = document.getElementById("hint");
  let lit = null;
  const leave = () => { lit?.element.classList.remove("lit"); lit = null; hint.hidden = true; };
  drawing.addEventListener("pointerleave", leave);
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect(), zoom = WIDTH / box.width;
    const found = nearest((event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom);
    if (found !== lit) leave();
    if (!found) return;
    lit = found;
    found.element.classList.add("lit");
    hint.textContent = found.hint;
    hint.hidden = false;
    hint.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - hint.offsetWidth - 8))}px`;
    hint.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - hint.offsetHeight - 8))}px`;
  });
  drawing.addEventListener("click", () => { if (lit) { const row = lit.row; leave(); open(row); } });
}
