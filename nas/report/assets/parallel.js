// Parallel coordinates: an axis for parameters and MACs, one a module, one for accuracy; a line a network.
const QUANTITY = {
  "width": (w) => w[0] + w[2] + w[4] + w[5],
  "share": (w) => (w[2] + w[4]) / (w[0] + w[2] + w[4] + w[5]),
  "1x1": (w) => w[0], "reduce 3x3": (w) => w[1], "3x3": (w) => w[2], "reduce 5x5": (w) => w[3], "5x5": (w) => w[4], "pool": (w) => w[5],
};
const BINS = 12;
const parallelQuantity = document.getElementById("parallel-quantity"), parallelWhich = document.getElementById("parallel-which");

// Where value stands between the least and the greatest: 0 to 1; in the middle where all are one.
const within = (low, high, value) => (high > low ? (value - low) / (high - low) : 0.5);
const short = (value) => (value >= 1e6 ? `${Number((value / 1e6).toPrecision(2))}M` : value >= 1000 ? `${Number((value / 1e3).toPrecision(2))}k` : `${Number(value.toPrecision(3))}`);

function mixed(scale, at) {
  const part = Math.min(1, Math.max(0, at));
  const right = Math.max(1, scale.findIndex(([place]) => part <= place)), [[from, a], [to, b]] = [scale[right - 1], scale[right]];
  const channel = (colour, k) => parseInt(colour.slice(1 + 2 * k, 3 + 2 * k), 16);
  return `rgb(${[0, 1, 2].map((k) => Math.round(channel(a, k) + (channel(b, k) - channel(a, k)) * ((part - from) / (to - from)))).join(",")})`;
}

function drawParallel() {
  const figure = FIGURES.parallel, key = figure.data[0], { cmin, cmax, colorscale } = key.marker;
  const near = new Set(DATA.parallel.near), every = DATA.parallel.drawn;
  const value = QUANTITY[parallelQuantity.value], modules = TRIALS.widths[every[0]].length / 6;
  const axes = [
    { name: "params", of: (i) => Math.log10(TRIALS.params[i]), text: (x) => short(10 ** x) },
    { name: "MACs", of: (i) => Math.log10(TRIALS.macs[i]), text: (x) => short(10 ** x) },
    ...Array.from({ length: modules }, (_, k) => ({ name: `${k + 1}`, module: true, of: (i) => value(TRIALS.widths[i].slice(6 * k, 6 * k + 6)), text: short })),
    { name: "acc.", of: (i) => TRIALS.accuracy[i], text: (x) => x.toFixed(3).replace(/^0/, "") },
  ];
  for (const axis of axes) {
    const values = every.map(axis.of);
    [axis.low, axis.high] = [Math.min(...values), Math.max(...values)];
  }
  const among = axes.filter((axis) => axis.module); // one scale, so that a line shows what grows with depth
  const low = Math.min(...among.map((axis) => axis.low)), high = Math.max(...among.map((axis) => axis.high));
  for (const axis of among) [axis.low, axis.high] = [low, high];
  const bins = Array.from({ length: BINS }, () => []), all = parallelWhich.value === "all", others = [];
  for (const i of every) {
    if (!all && !near.has(i)) others.push(i);
    else bins[Math.min(BINS - 1, Math.max(0, Math.floor(((TRIALS.accuracy[i] - cmin) / (cmax - cmin)) * BINS)))].push(i);
  }
  const thin = all && every.length > 100;
  const lines = (members, more) => ({
    type: "scatter", mode: "lines", showlegend: false,
    x: members.flatMap(() => [...axes.keys(), null]),
    y: members.flatMap((i) => [...axes.map((axis) => within(axis.low, axis.high, axis.of(i))), null]), ...more,
  });
  const coloured = bins.map((members, bin) => lines(members, {
    opacity: thin ? 0.45 : 0.85, meta: { hover: "trials" },
    line: { color: mixed(colorscale, (bin + 0.5) / BINS), width: thin ? 1 : 1.6 },
    customdata: members.flatMap((i) => [...axes.map(() => TRIALS.number[i]), null]),
  }));
  const grey = lines(others, { opacity: 0.15, line: { color: "#8d939e", width: 0.8 }, hoverinfo: "skip" });
  figure.data = [key, ...[grey, ...coloured].filter((trace) => trace.x.length)];
  const end = (axis, at, y, anchor) => ({ x: at, y, text: axis.text(y > 0.5 ? axis.high : axis.low), showarrow: false, yanchor: anchor, font: { size: 10 } });
  figure.layout.annotations = axes.flatMap((axis, at) => [end(axis, at, 1.01, "bottom"), end(axis, at, -0.01, "top")]);
  Object.assign(figure.layout.xaxis, {
    tickvals: [...axes.keys()], ticktext: axes.map((axis) => axis.name), tickangle: 0, range: [-0.4, axes.length - 0.6], tickfont: { size: narrow.matches ? 9.5 : 13 },
    title: { text: `1 to ${modules}: ${parallelQuantity.value} of each module` },
  });
}

if (parallelQuantity) {
  drawParallel();
  for (const choice of [parallelQuantity, parallelWhich]) choice.addEventListener("change", () => { drawParallel(); show("parallel"); });
}
