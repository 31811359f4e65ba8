// Ties the page together: theme, copying, and plots that follow the leaderboards.

const root = document.documentElement;
const stored = (key, value) => {  // a browser may refuse to store anything for a file
  try {
    return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value);
  } catch {
    return null;
  }
};

/** Figures that are drawn when they come into view, and again when what they show has changed. */
class Figures {
  constructor() {
    this.drawings = new Map();
    this.dirty = new Set();
    this.visible = new Set();
    this.ready = false;
    this.observer = new IntersectionObserver((entries) => {
      for (const {target, isIntersecting} of entries) {
        isIntersecting ? this.visible.add(target) : this.visible.delete(target);
      }
      this.drawVisible();
    }, {rootMargin: "300px"});
  }

  add(figure, drawing) {
    this.drawings.set(figure, drawing);
    this.dirty.add(figure);
    this.observer.observe(figure);
  }

  /** Has figures drawn again; all of them without an argument. */
  change(figures = this.drawings.keys()) {
    for (const figure of figures) this.dirty.add(figure);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.drawVisible(); });
  }

  drawVisible() {
    if (!this.ready) return;
    for (const figure of this.visible) {
      if (!this.dirty.delete(figure)) continue;
      this.drawings.get(figure)();
    }
  }

  drawAll() {
    this.visible = new Set(this.drawings.keys());
    this.drawVisible();
  }
}

const figures = new Figures();

function setUpTheme() {
  const button = document.getElementById("theme");
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  const chosen = stored("seqrnn-report-theme");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  show();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored("seqrnn-report-theme", root.dataset.theme);
    show();
    figures.change();
    for (const ranking of rankings) ranking.colour();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    show();
    figures.change();
    for (const ranking of rankings) ranking.colour();
  });
}

function setUpCopying() {
  const status = document.getElementById("copied");
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // no clipboard for files here: select the text, so that Ctrl-C copies it
      getSelection().selectAllChildren(code);
      status.textContent = "Selected: press Ctrl-C to copy";
      button.textContent = "Ctrl-C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
      return;
    }
    status.textContent = "Copied";
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; status.textContent = ""; }, 1500);
  });
}

/** A ranking: its leaderboard, and the plots of the rows that it shows. */
class Ranking {
  constructor(section) {
    this.section = section;
    this.data = JSON.parse(section.querySelector("script.data").textContent);
    this.order = this.data.rows.map((_, number) => number);
    this.hidden = new Set();
    this.find = (name) => section.querySelector(name);
    this.column = this.find("select.column");
    for (const option of [...this.column.options]) {
      if (!this.data.rows.some((row) => row.curves[option.value])) option.remove();
    }
    if (!this.column.options.length) {
      this.column.append(new Option("nothing"));
      this.find("figure.curves figcaption").textContent = "No run has recorded metrics.";
    }
    this.logarithmic = this.find("input.log");
    this.chooseScale();
    this.legend = this.find(".legend");
    this.board = new Board(section, (order) => { this.order = order; this.update(); });
    this.column.addEventListener("change", () => { this.chooseScale(); this.update(); });
    for (const control of [".axis", ".count", "input.log"]) {
      this.find(control).addEventListener("change", () => this.update());
    }
    const cost = this.find("select.cost");
    cost.addEventListener("change", () => figures.change([this.find("figure.cost")]));
    figures.add(this.find("figure.curves"), () => drawCurves(this.find("figure.curves"), this.data,
      this.curves().filter((number) => !this.hidden.has(number)),
      {column: this.column.value, title: this.column.selectedOptions[0].text, axis: this.find("select.axis").value, isLog: this.logarithmic.checked, styles: this.styles()}));
    figures.add(this.find("figure.cost"), () => drawCost(this.find("figure.cost"), this.data, this.order, cost.value));
    const parallel = this.find("figure.parallel");
    if (parallel) figures.add(parallel, () => drawParallel(parallel, this.data, this.order));
    section.querySelectorAll("figure.marginal").forEach((figure, place) => {
      figures.add(figure, () => drawKey(figure, this.data, place, this.order));
    });
    this.update();
  }

  chooseScale() {
    const values = this.data.rows.slice(0, 40).flatMap((row) => row.curves[this.column.value]?.mean ?? []);
    this.logarithmic.checked = values.length > 0 && values.every((value) => value > 0) && spreads(values);
  }

  /** Returns the rows whose curves are drawn: the first ones that have any. */
  curves() {
    return this.order.filter((number) => this.data.rows[number].curves[this.column.value])
      .slice(0, Number(this.find("select.count").value));
  }

  styles() {
    const {colours} = theme();
    return new Map(this.curves().map((number, place) => [number, {
      colour: colours[place % colours.length], dash: DASHES[Math.floor(place / colours.length) % DASHES.length],
    }]));
  }

  update() {
    this.colour();
    figures.change([...this.section.querySelectorAll("figure")].filter((figure) => figures.drawings.has(figure)));
  }

  /** Shows the colours of the curves in the legend and in the leaderboard. */
  colour() {
    const styles = this.styles();
    this.board.colour(new Map([...styles].map(([number, {colour}]) => [number, colour])));
    this.legend.replaceChildren(...[...styles].map(([number, {colour}]) => {
      const item = document.createElement("li"), button = document.createElement("button");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = colour;
      button.type = "button";
      button.dataset.row = number;
      button.setAttribute("aria-pressed", String(!this.hidden.has(number)));
      button.append(swatch, this.data.rows[number].label);
      button.addEventListener("click", () => {
        this.hidden.has(number) ? this.hidden.delete(number) : this.hidden.add(number);
        button.setAttribute("aria-pressed", String(!this.hidden.has(number)));
        figures.change([this.find("figure.curves")]);
      });
      item.append(button);
      return item;
    }));
  }
}

/** Unpacks and runs the plotting library; the policy of the page allows it by its digest. */
async function loadPlotly() {
  const packed = document.getElementById("plotly");
  const bytes = Uint8Array.from(atob(packed.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  packed.remove();
  figures.ready = true;
  figures.drawVisible();
}

const rankings = [];
setUpTheme();
setUpCopying();
for (const section of document.querySelectorAll("section.ranking")) {
  if (section.querySelector("script.data")) rankings.push(new Ranking(section));
  else new Board(section, () => {});  // no run of it has a result
}
for (const section of document.querySelectorAll("section.search")) {
  const data = JSON.parse(section.querySelector("script.data").textContent);
  const figure = section.querySelector("figure.history");
  figures.add(figure, () => drawHistory(figure, data));
}
addEventListener("beforeprint", () => figures.drawAll());
requestAnimationFrame(() => setTimeout(() => loadPlotly().catch((error) => {
  for (const plot of document.querySelectorAll(".plot")) plot.textContent = `This browser cannot draw plots: ${error.message}`;
})));
