"use strict";
// Elements and sortable tables. Text is always inserted as text: names, keys and errors are untrusted input.

/** An element: `h("td", { className: "num" }, "81.0", h("small", {}, "±0.3"))`. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const blank = (value) => value === null || value === undefined;
const fixed = (value, digits) => (blank(value) ? "" : value.toFixed(digits));
const signed = (value, digits) => (blank(value) ? "" : (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits));
const grouped = (value) => (blank(value) ? "" : value.toLocaleString("en"));
const plural = (n, noun) => `${grouped(n)} ${noun}${n === 1 ? "" : "s"}`;
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Blanks come last in either direction; equal values keep their order. */
function compare(a, b, direction) {
  if (blank(a) || blank(b)) return blank(a) - blank(b);
  return direction * (typeof a === "number" ? a - b : collator.compare(a, b));
}

const AT_ONCE = 120; // rows that are laid out at once; more follow when the last one is near

/**
 * A table that sorts by a click on a heading.
 * columns: { label, value(row), show(row) -> text or nodes, text: true where it is not a number, title }.
 * Rows are created once; sorting and filtering move them. Rows far below are not laid out until they are near.
 */
class SortedTable {
  constructor(columns, rows, { sort = 0, direction = -1, mark } = {}) {
    this.columns = columns;
    this.rows = rows.map((row) => ({ row, element: this.line(row, mark) }));
    this.shown = this.rows;
    this.headings = columns.map((column, place) => this.heading(column, place));
    this.body = h("tbody");
    this.nearEnd = new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting)) this.more(); });
    this.element = h("table", {}, h("thead", {}, h("tr", {}, ...this.headings)), this.body);
    this.sort(sort, direction);
  }

  heading(column, place) {
    const button = h("button", { type: "button", title: column.title || "" }, column.label);
    button.addEventListener("click", () => {
      const first = column.text ? 1 : -1;
      this.sort(place, this.place === place ? -this.direction : first);
    });
    return h("th", { scope: "col", className: column.text ? "" : "num" }, button);
  }

  line(row, mark) {
    const cells = this.columns.map((column) => {
      const shown = column.show ? column.show(row) : (column.value(row) ?? "");
      const className = (column.text ? "" : "num ") + (column.className || "");
      return h("td", { className }, ...(Array.isArray(shown) ? shown : [shown]));
    });
    const line = h("tr", {}, ...cells);
    if (mark) mark(line, row);
    return line;
  }

  sort(place, direction) {
    [this.place, this.direction] = [place, direction];
    const value = this.columns[place].value;
    const keyed = this.rows.map((entry) => [value(entry.row), entry]);
    keyed.sort((a, b) => compare(a[0], b[0], direction));
    this.rows = keyed.map(([, entry]) => entry);
    this.headings.forEach((heading, i) => {
      if (i === place) heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    });
    this.filter(this.accepts);
  }

  filter(accepts = () => true) {
    this.accepts = accepts;
    this.shown = this.rows.filter(({ row }) => accepts(row));
    this.body.replaceChildren();
    this.more();
  }

  more() {
    const there = this.body.childElementCount;
    this.body.append(...this.shown.slice(there, there + AT_ONCE).map(({ element }) => element));
    this.nearEnd.disconnect();
    if (this.body.childElementCount < this.shown.length) this.nearEnd.observe(this.body.lastElementChild);
  }
}
