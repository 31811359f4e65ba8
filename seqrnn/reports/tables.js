"use strict";
// The leaderboard: sorts, filters and groups the rows that are in the page. Texts are set as text, never as markup.

/** Compares two cells: numbers by size, others as texts with numbers in them; an empty one comes last. */
function compareCells(one, other, direction) {
  if (one === other) return 0;
  if (one === "") return 1;
  if (other === "") return -1;
  const a = Number(one), b = Number(other);
  const order = Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other, undefined, {numeric: true}) : a - b;
  return direction * order;
}

/** Returns the median of some numbers: the mean of the middle two if there is no one in the middle. */
function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

class Board {
  /** @param changed is called after the rows that are shown, or their order, have changed. */
  constructor(section, changed) {
    this.section = section;
    this.changed = changed;
    this.table = section.querySelector(".board");
    this.heads = [...this.table.tHead.rows[0].cells];
    this.rows = [...this.table.querySelectorAll("tr.row")].map((row) => ({
      row,
      runs: row.nextElementSibling,
      number: Number(row.dataset.row),
      cells: [...row.cells].map((cell) => cell.dataset.sort ?? ""),
      search: row.dataset.search,
    }));
    this.filter = section.querySelector(".filter");
    this.group = section.querySelector(".group");
    this.status = section.querySelector(".status");
    this.reset();
    this.heads.forEach((head, column) => {
      head.querySelector("button")?.addEventListener("click", () => this.sortBy(column));
    });
    this.table.addEventListener("click", (event) => this.open(event.target.closest("button.open")));
    this.filter.addEventListener("input", () => this.show());
    this.group.addEventListener("change", () => this.show());
    section.querySelector(".reset").addEventListener("click", () => { this.reset(); this.show(); });
  }

  reset() {
    this.column = 0;
    this.direction = 1;
    this.filter.value = "";
    this.group.value = "";
  }

  sortBy(column) {
    this.direction = this.column === column ? -this.direction : 1;
    this.column = column;
    this.show();
  }

  open(button) {
    if (!button) return;
    const isOpen = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(isOpen));
    document.getElementById(button.getAttribute("aria-controls")).hidden = !isOpen;
  }

  /** Returns the rows that the filter leaves, sorted. */
  shown() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
    return this.rows
      .filter(({search}) => words.every((word) =>
        word.startsWith("-") ? !search.includes(word.slice(1)) : search.includes(word)))
      .sort((a, b) => compareCells(a.cells[this.column], b.cells[this.column], this.direction) || a.number - b.number);
  }

  show() {
    const shown = this.shown();
    this.heads.forEach((head, column) => {
      if (!head.querySelector("button")) return;
      head.setAttribute("aria-sort",
        column !== this.column ? "none" : this.direction > 0 ? "ascending" : "descending");
    });
    for (const body of [...this.table.tBodies]) body.remove();
    if (this.group.value === "") {
      this.table.append(this.body(shown));
    } else {
      const column = Number(this.group.value) + 1;
      const groups = new Map();
      for (const one of shown) {
        const value = one.cells[column];
        if (!groups.has(value)) groups.set(value, []);
        groups.get(value).push(one);
      }
      for (const [value, rows] of groups) this.table.append(this.groupBody(value, rows));
    }
    const name = this.heads[this.column].textContent.trim();
    const sorted = this.column === 0 && this.direction > 0 ? "" :
      `, sorted by ${name}, ${this.direction > 0 ? "ascending" : "descending"}`;
    this.status.textContent = shown.length === this.rows.length ?
      `${shown.length.toLocaleString("en")} conditions${sorted}` :
      `${shown.length.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} conditions${sorted}`;
    this.changed(shown.map(({number}) => number));
  }

  body(rows) {
    const body = document.createElement("tbody");
    for (const {row, runs} of rows) {
      runs.hidden = row.querySelector(".open").getAttribute("aria-expanded") !== "true";
      row.hidden = false;
      body.append(row, runs);
    }
    return body;
  }

  groupBody(value, rows) {
    const body = this.body(rows);
    const head = document.createElement("tr");
    head.className = "group";
    const cell = document.createElement("th");
    cell.scope = "rowgroup";
    cell.colSpan = this.heads.length;
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-expanded", "true");
    const inner = document.createElement("span");
    inner.className = "in";
    const wedge = document.createElement("span");
    wedge.className = "wedge";
    wedge.setAttribute("aria-hidden", "true");
    const facts = document.createElement("span");
    facts.className = "muted";
    const ranked = rows.filter(({row}) => row.dataset.mean).sort((a, b) => a.number - b.number);
    const means = ranked.map(({row}) => Number(row.dataset.mean));
    facts.textContent = `${rows.length} condition${rows.length === 1 ? "" : "s"}` + (ranked.length === 0 ? "" :
      `, best ${short(means[0])}, median ${short(median(means))}`);
    inner.append(wedge, ` ${this.heads[Number(this.group.value) + 1].textContent.trim()} = ${value || "–"}: `, facts);
    button.append(inner);
    button.addEventListener("click", () => {
      const isOpen = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(isOpen));
      for (const {row, runs} of rows) {
        row.hidden = !isOpen;
        runs.hidden = !isOpen || row.querySelector(".open").getAttribute("aria-expanded") !== "true";
      }
    });
    cell.append(button);
    head.append(cell);
    body.prepend(head);
    return body;
  }

  /** Shows the colours that conditions have in the learning curves. */
  colour(colours) {
    for (const {row, number} of this.rows) {
      row.querySelector(".swatch").style.background = colours.get(number) ?? "transparent";
    }
  }
}
