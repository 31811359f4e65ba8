// The plots, drawn by plotly.js. It reads a little markup in texts, so every text from a run goes through `plain`.

const PALETTE = {
  light: ["#0072b2", "#d55e00", "#00875f", "#b5478f", "#9a6f00", "#3f97d3", "#6a45b0", "#5c5c5c"],
  dark: ["#4fb0ea", "#ff8f57", "#36cd9e", "#ec9fcf", "#e3b84a", "#9bd7ff", "#b99bf5", "#c4c4c4"],
};
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];

const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (value) => value === null || value === undefined ? "–" : String(Number(Number(value).toPrecision(4)));
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const theme = () => isDark() ?
  {ink: "#e8eaef", muted: "#a0a8b6", line: "#30353f", card: "#1a1d23", accent: "#93adff", bad: "#ff9a8e", colours: PALETTE.dark} :
  {ink: "#1b1f27", muted: "#5b6472", line: "#e4e6ea", card: "#ffffff", accent: "#2f55c8", bad: "#b42318", colours: PALETTE.light};

/** Returns a colour with an opacity. */
function faded(colour, opacity) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${r},${g},${b},${opacity})`;
}

/** Returns the colour of a share between 0 (worst) and 1 (best). */
function ramp(share) {
  const ends = isDark() ? [[66, 74, 92], [147, 173, 255]] : [[205, 213, 230], [27, 58, 150]];
  const parts = [0, 1, 2].map((part) => Math.round(ends[0][part] + share * (ends[1][part] - ends[0][part])));
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

function layout(changes) {
  const look = theme();
  const axis = {
    gridcolor: look.line, showline: false, zeroline: false, ticks: "outside", tickcolor: look.line, ticklen: 4,
    automargin: true, exponentformat: "power", minexponent: 4, title: {standoff: 8},
  };
  return {
    font: {family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif", size: 12, color: look.muted},
    paper_bgcolor: look.card, plot_bgcolor: look.card, showlegend: false, hovermode: "closest",
    hoverlabel: {bgcolor: look.card, bordercolor: look.muted, font: {color: look.ink, size: 12}, align: "left"},
    margin: {l: 56, r: 16, t: 10, b: 44},
    ...changes,
    xaxis: {...axis, ...changes.xaxis},
    yaxis: {...axis, ...changes.yaxis},
  };
}

function draw(figure, traces, changes) {
  const plot = figure.querySelector(".plot");
  return Plotly.react(plot, traces, layout(changes), {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: {format: "svg"},
  });
}

/** Returns whether values are positive and spread over more than a factor. */
function spreads(values, factor = 30) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length > 0 && Math.min(...known) > 0 && Math.max(...known) > factor * Math.min(...known);
}

function baselineShape(baseline, isLog) {
  if (!baseline || (isLog && baseline.value <= 0)) return {};
  const look = theme();
  return {
    shapes: [{
      type: "line", xref: "paper", x0: 0, x1: 1, y0: baseline.value, y1: baseline.value,
      line: {color: look.bad, width: 1.2, dash: "dash"},
    }],
    annotations: [{
      xref: "paper", x: 1, xanchor: "right", y: isLog ? Math.log10(baseline.value) : baseline.value, yanchor: "bottom",
      text: plain(baseline.name), showarrow: false, font: {color: look.bad, size: 11},
    }],
  };
}

/** Returns the kind and the ticks of an axis for some values: over two orders of magnitude, ticks are powers of 10; over one, also 2 and 5. */
function scale(values, isLog = spreads(values)) {
  if (!isLog) return {type: "linear"};
  const known = values.filter((value) => value > 0);
  const orders = Math.log10(Math.max(...known) / Math.min(...known));
  if (orders >= 2) return {type: "log", dtick: Math.ceil(orders / 8)};
  return {type: "log", tickformat: "~g", ...(orders >= 1 ? {dtick: "D2"} : {})};
}

/** Returns the mean score as the y-axis of a plot. */
const scoreAxis = (data) => ({title: {text: plain(data.metric), standoff: 6}, ...scale(data.rows.map((row) => row.mean))});

const hover = (row, data) =>
  `${plain(row.label)}<br>${plain(data.metric)} ${short(row.mean)}${row.half === null ? "" : ` ± ${short(row.half)}`}`;

/** Draws the learning curves of some rows. @param styles gives colour and dash by number of the row. */
function drawCurves(figure, data, numbers, {column, title, axis, isLog, styles}) {
  const traces = [], values = [];
  for (const number of numbers) {
    const row = data.rows[number], curve = row.curves[column];
    if (!curve) continue;
    const {colour, dash} = styles.get(number), x = curve[axis];
    if (curve.low) {
      traces.push({
        x: [...x, ...[...x].reverse()], y: [...curve.high, ...[...curve.low].reverse()], fill: "toself",
        fillcolor: faded(colour, 0.14), line: {width: 0}, mode: "lines", hoverinfo: "skip",
      });
    }
    values.push(...curve.mean);
    traces.push({
      x, y: curve.mean, mode: x.length < 30 ? "lines+markers" : "lines", line: {color: colour, width: 2, dash},
      marker: {size: 4, color: colour}, hoverinfo: "text",
      text: curve.mean.map((value, place) => `${plain(row.label)}<br>${plain(axis)} ${short(x[place])}: ${short(value)}`),
    });
  }
  return draw(figure, traces, {
    xaxis: {title: {text: plain(axis)}, rangemode: "tozero"},
    yaxis: {title: {text: plain(title)}, ...scale(values, isLog)},
    ...baselineShape(data.validation[column], isLog),
  });
}

/** Draws the scores of some rows by the values of a key. */
function drawKey(figure, data, place, numbers) {
  const key = data.keys[place], look = theme();
  const rows = numbers.map((number) => data.rows[number]).filter((row) => row.mean !== null);
  const position = (row) => key.number ? Number(row.settings[place]) : key.values.indexOf(row.settings[place]);
  const xs = [...new Set(rows.map(position))].sort((a, b) => a - b);
  const medians = xs.map((x) => median(rows.filter((row) => position(row) === x).map((row) => row.mean)));
  const spread = key.number ? 0 : 0.22;
  const shift = (number) => spread * ((number * 0.618034) % 1 - 0.5);  // so that dots of one value do not hide each other
  const few = key.values.length <= 8;
  const y = scoreAxis(data);
  return draw(figure, [
    {
      x: rows.map((row, number) => position(row) + shift(number)), y: rows.map((row) => row.mean), mode: "markers",
      marker: {color: look.accent, size: rows.length > 200 ? 4 : 7, opacity: rows.length > 200 ? 0.35 : 0.6},
      hoverinfo: "text", text: rows.map((row) => hover(row, data)),
    },
    {
      x: xs, y: medians, mode: key.number ? "lines+markers" : "markers", line: {color: look.ink, width: 1.5},
      marker: {symbol: "line-ew", size: 16, line: {width: 2.5, color: look.ink}}, hoverinfo: "text",
      text: medians.map((value) => `median ${short(value)}`),
    },
  ], {
    margin: {l: 56, r: 12, t: 8, b: 40},
    xaxis: {
      title: {text: plain(key.name)},
      type: key.number && key.log ? "log" : "linear",
      ...(key.number ? (few ? {tickvals: key.values.map(Number), ticktext: key.values.map(plain)} : {}) :
        {tickvals: key.values.map((_, at) => at), ticktext: key.values.map((value) => plain(clipped(value, 18))), range: [-0.5, key.values.length - 0.5], showgrid: false}),
    },
    yaxis: y,
  });
}

const clipped = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;

/** Draws a line for each row across an axis for each key. */
function drawParallel(figure, data, numbers) {
  const look = theme();
  const rows = numbers.map((number) => ({number, row: data.rows[number]})).filter(({row}) => row.mean !== null);
  const isLog = spreads(data.rows.map((row) => row.mean));
  const scaled = (value, low, high, log) => {
    if (!(high > low)) return 0.5;
    return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  };
  const axes = data.keys.map((key, place) => {
    const amounts = key.values.map(Number);
    const low = Math.min(...amounts), high = Math.max(...amounts);
    const at = (value) => key.number ? scaled(Number(value), low, high, key.log) :
      key.values.length < 2 ? 0.5 : key.values.indexOf(value) / (key.values.length - 1);
    const step = Math.max(1, Math.ceil(key.values.length / 9));
    return {name: key.short, place: (row) => at(row.settings[place]),
      ticks: key.values.filter((_, number) => number % step === 0 || number === key.values.length - 1).map((value) => [at(value), clipped(value, 16)])};
  });
  const means = rows.map(({row}) => row.mean);
  const low = Math.min(...means), high = Math.max(...means);
  const score = (row) => scaled(row.mean, low, high, isLog);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) =>
    [share, short(isLog ? low * (high / low) ** share : low + share * (high - low))]);
  axes.push({name: data.metric, place: score, ticks: rows.length && high > low ? ticks : []});
  const BINS = 8;
  const order = [...rows].sort((a, b) => (data.higher ? -1 : 1) * (a.row.mean - b.row.mean));
  const bins = Array.from({length: BINS}, () => []);
  order.forEach((one, rank) => bins[Math.min(BINS - 1, Math.floor(rank / order.length * BINS))].push(one));
  const line = (part, style) => {
    const x = [], y = [], text = [];
    for (const {row, number} of part) {
      const shift = rows.length > 1 ? ((number * 0.618034) % 1 - 0.5) * 0.05 : 0;  // lines with the same values stay apart
      axes.forEach((axis, at) => { x.push(at); y.push(axis.place(row) + (at < axes.length - 1 ? shift : 0)); text.push(hover(row, data)); });
      x.push(null); y.push(null); text.push("");
    }
    return {x, y, text, hoverinfo: "text", mode: "lines", ...style};
  };
  const many = rows.length > 60;
  const traces = bins.map((part, bin) => line(part, {
    line: {color: ramp((1 - bin / (BINS - 1)) ** 2), width: many ? 1 : 1.6}, opacity: many ? 0.5 : 0.85,
  })).reverse();
  traces.push(line(order.slice(0, 1), {line: {color: look.accent, width: 4}}));
  figure.querySelector(".plot").style.minWidth = `${90 * axes.length}px`;
  return draw(figure, traces, {
    margin: {l: 24, r: 64, t: 34, b: 14},
    xaxis: {range: [-0.15, axes.length - 0.6], showgrid: false, showticklabels: false, ticks: "", fixedrange: true},
    yaxis: {range: [-0.06, 1.06], showgrid: false, showticklabels: false, ticks: "", fixedrange: true},
    shapes: axes.map((_, at) => ({type: "line", x0: at, x1: at, y0: -0.03, y1: 1.03, line: {color: look.muted, width: 1}})),
    annotations: axes.flatMap((axis, at) => [
      {x: at, y: 1.06, yanchor: "bottom", text: `<b>${plain(clipped(axis.name, 22))}</b>`, showarrow: false, font: {color: look.ink, size: 12}},
      ...axis.ticks.map(([y, text]) => ({
        x: at, y, xanchor: "left", xshift: 4, text: plain(text), showarrow: false, font: {color: look.ink, size: 11},
        bgcolor: faded(look.card, 0.75), borderpad: 1,
      })),
    ]),
  });
}

/** Draws the mean score of some rows against what they cost. */
function drawCost(figure, data, numbers, cost) {
  const look = theme();
  const rows = numbers.map((number) => data.rows[number]).filter((row) => row.mean !== null && row[cost] !== null);
  const y = scoreAxis(data), costs = rows.map((row) => row[cost]);
  return draw(figure, [{
    x: costs, y: rows.map((row) => row.mean), mode: "markers",
    error_y: rows.length > 60 || y.type === "log" ? {visible: false} :
      {type: "data", array: rows.map((row) => row.half ?? 0), color: faded(look.accent, 0.4), thickness: 1.2, width: 0},
    marker: {color: look.accent, size: rows.length > 200 ? 5 : 9, opacity: rows.length > 200 ? 0.4 : 0.75},
    hoverinfo: "text",
    text: rows.map((row) => `${hover(row, data)}<br>${short(row[cost])} ${cost === "seconds" ? "s of training" : "updates"}`),
  }], {
    xaxis: {title: {text: cost === "seconds" ? "seconds of training" : "updates"}, rangemode: "tozero", ...scale(costs, spreads(costs, 10))},
    yaxis: y,
    ...baselineShape(data.baseline, y.type === "log"),
  });
}

/** Draws the trials of a search in the order in which they were made. */
function drawHistory(figure, data) {
  const look = theme();
  const complete = data.trials.filter((trial) => trial.state === "complete" && trial.value !== null);
  const others = data.trials.filter((trial) => trial.state !== "complete" || trial.value === null);
  let best = null;
  const so_far = complete.map(({value}) => {
    best = best === null ? value : data.higher ? Math.max(best, value) : Math.min(best, value);
    return best;
  });
  const lowest = complete.length ? Math.min(...complete.map((trial) => trial.value)) : 1;
  return draw(figure, [
    {
      x: complete.map((trial) => trial.number), y: complete.map((trial) => trial.value), mode: "markers",
      marker: {color: look.accent, size: 7, opacity: 0.65}, hoverinfo: "text",
      text: complete.map((trial) => `trial ${trial.number}: ${short(trial.value)}<br>${plain(trial.label)}`),
    },
    {x: complete.map((trial) => trial.number), y: so_far, mode: "lines", line: {color: look.ink, width: 2, shape: "hv"}, hoverinfo: "skip"},
    {
      x: others.map((trial) => trial.number), y: others.map(() => lowest), mode: "markers",
      marker: {color: look.bad, size: 8, symbol: "x-thin", line: {width: 1.6, color: look.bad}}, hoverinfo: "text",
      text: others.map((trial) => `trial ${trial.number}: ${plain(trial.state)}<br>${plain(trial.label)}`),
    },
  ], {
    xaxis: {title: {text: "trial"}, rangemode: "tozero"},
    yaxis: {title: {text: plain(data.metric)}, ...scale(complete.map((trial) => trial.value))},
  });
}
