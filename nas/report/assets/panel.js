// The side panel: one trial, fixed by a click on any of its points or on a button that names it.
const panel = document.getElementById("panel");
let fixed = null, opener = null;

// Every figure gets room for the panel beside it.
for (const figure of document.querySelectorAll(".figure")) {
  if (figure.closest(".beside")) continue;
  const beside = make("div", null, { class: "beside" }), stay = make("div", null, { class: "stay" });
  figure.replaceWith(beside);
  beside.append(stay);
  stay.append(figure);
}

function clicked(event, element) {
  const data = event.points[0].customdata, number = Array.isArray(data) ? data[0] : data;
  if (PLACE.has(number)) openPanel(number, element, element);
}

function openPanel(number, element, from) {
  const before = panel.parentElement, beside = element.closest(".beside");
  opener = from;
  fixed = number;
  if (before !== beside) before.classList.remove("open");
  beside.append(panel);
  beside.classList.add("open");
  panel.hidden = false;
  fill(number);
  const room = Promise.all([before, beside].map(resized));
  ring();
  document.getElementById("panel-title").focus({ preventScroll: true });
  const box = panel.getBoundingClientRect();
  if (box.top > innerHeight - 120 || box.bottom < 120) panel.scrollIntoView({ block: narrow.matches ? "start" : "center" });
  return room;
}

function closePanel() {
  if (panel.hidden) return;
  const beside = panel.parentElement;
  panel.hidden = true;
  fixed = null;
  beside.classList.remove("open");
  resized(beside);
  ring();
  const back = opener.matches("button") && opener.isConnected ? opener : beside.querySelector(".figure");
  if (!back.matches("button")) back.tabIndex = -1;
  back.focus({ preventScroll: true });
}

function resized(beside) {
  const drawn = [...beside.querySelectorAll(":scope > .stay .figure")].filter((figure) => figure.data);
  return Promise.all(drawn.map(async (figure) => {
    const top = figure._fullLayout._size.t;
    await Plotly.Plots.resize(figure);
    if (figure._fullLayout._size.t !== top) await Plotly.redraw(figure); // the legend's lines changed: the colour bar lags
  }));
}

function fill(number) {
  const i = PLACE.get(number), state = TRIALS.state[i], modules = modulesOf(i), full = DATA.full[number];
  document.getElementById("panel-title").textContent = `Trial ${number}, ${state}`;
  const body = document.getElementById("panel-body"), facts = make("dl");
  const add = (name, value) => facts.append(make("dt", name), make("dd", value));
  add("parameters", said(TRIALS.params[i]));
  add("MACs", said(TRIALS.macs[i]));
  if (DATA.latency[number]) add("latency", `${DATA.latency[number].toPrecision(3)} ms an image`);
  const epoch = lastEpoch(i);
  add(`validation ${DATA.metric}`, epoch === null ? "no reading" : `${TRIALS.accuracy[i].toFixed(4)} at epoch ${epoch}`);
  if (full) add("in full", full.words);
  add("trained for", `${TRIALS.seconds[i].toFixed(1)} s`);
  if (TRIALS.reason[i]) add(state === "failed" ? "failed because" : "stopped because", TRIALS.reason[i]);
  const [words, commands] = takeAway(number), away = make("div", null, { class: "take-away" });
  away.append(make("p", words), ...commands.map(commandLine));
  body.replaceChildren(
    facts, away, make("h4", "Modules"), moduleTable(modules),
    make("h4", "Share of 3x3 and 5x5 by depth"), make("div", null, { id: "panel-shares", class: "small" }),
    make("h4", "Learning curve"), make("div", null, { id: "panel-curve", class: "small" }),
  );
  drawSmall(i, modules, full);
}

function moduleTable(modules) {
  const table = make("table", null, { class: "modules" }), head = make("tr"), body = make("tbody");
  for (const name of ["", "reads", ...WIDTHS, "out", "share"]) head.append(make("th", name, { scope: "col" }));
  modules.forEach((one, k) => {
    const line = make("tr");
    line.append(make("th", k + 1, { scope: "row" }));
    for (const cell of [`${one.channels}x${one.height}x${one.width}`, ...one.widths, one.out, one.share.toFixed(3)]) line.append(make("td", cell));
    body.append(line);
  });
  const top = make("thead"), scroll = make("div", null, { class: "scroll", tabindex: "0", role: "region", "aria-label": "Widths of the modules" });
  top.append(head);
  table.append(top, body);
  scroll.append(table);
  return scroll;
}

function drawSmall(i, modules, full) {
  const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  const line = (x, y, more) => ({ x, y, mode: "lines+markers", line: { color: accent, width: 2 }, marker: { size: 5 }, showlegend: false, ...more });
  const layout = (x, y, more) => {
    const made = { xaxis: { title: { text: x } }, yaxis: { title: { text: y }, ...more }, hovermode: "closest", dragmode: false };
    put(made, look());
    made.font.size = 11;
    made.margin = { l: 52, r: 10, t: 8, b: 38 };
    return made;
  };
  const draw = (name, traces, wanted) => Plotly.newPlot(name, traces, wanted, { responsive: true, displayModeBar: false });
  const depth = layout("module, from the input", "share", { range: [0, 1] });
  depth.xaxis.dtick = modules.length > 12 ? undefined : 1;
  draw("panel-shares", [line(modules.map((_, k) => k + 1), modules.map((one) => one.share), { hovertemplate: "module %{x}: %{y:.3f}<extra></extra>" })], depth);
  const named = "epoch %{x}: %{y:.4f}<extra></extra>";
  const traces = ((full && full.curves) || []).map((curve) => line(curve.map(([epoch]) => epoch), curve.map(([, value]) => value), {
    mode: "lines", line: { color: "#8d939e", width: 1 }, hovertemplate: "full training, " + named,
  }));
  if (TRIALS.curve[i].length) traces.push(line(epochsOf(i), TRIALS.curve[i], { hovertemplate: "search, " + named }));
  if (traces.length) draw("panel-curve", traces, layout("epoch", `validation ${DATA.metric}`));
  else document.getElementById("panel-curve").replaceWith(make("p", "It failed before its first reading, so it has none."));
}

// A command with a button that copies it.
function commandLine(text) {
  const line = make("div", null, { class: "command" }), button = make("button", "Copy", { type: "button", "aria-label": `Copy the command ${text}` });
  button.addEventListener("click", () => copy(text).then((done) => {
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }));
  const code = make("code"); // no line breaks within a word, such as after its hyphens
  text.split(" ").forEach((word, i) => code.append(i ? " " : "", make("span", word)));
  line.append(code, button);
  return line;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // no clipboard for a page from disk in some browsers: the old way
    const area = make("textarea", null, { class: "aside" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

for (const code of document.querySelectorAll("code.command")) code.replaceWith(commandLine(code.textContent));
document.getElementById("panel-close").addEventListener("click", closePanel);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") closePanel(); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-trial]");
  const number = button && Number(button.dataset.trial);
  if (button && PLACE.has(number)) openPanel(number, document.getElementById("front"), button);
});
dark.addEventListener("change", () => { if (fixed !== null) fill(fixed); });
