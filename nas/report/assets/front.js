// The front's figure: the cost that it stands over, and what a budget buys.
const axisNow = () => (document.querySelector("input[name=axis]:checked") || { value: DATA.front.cost }).value;

function costOf(number, axis) {
  if (axis === "latency") return DATA.latency[number] ?? null;
  return TRIALS[axis][PLACE.get(number)];
}

// Moves every mark of the figure to another cost; what was not measured there is not drawn.
function stand(axis) {
  const figure = FIGURES.front, over = DATA.front.axes[axis];
  for (const trace of figure.data) {
    const meta = trace.meta || {};
    if (meta.line) Object.assign(trace, over[meta.line]);
    else if (meta.x) trace.x = meta.x[axis] || trace.y.map(() => null);
    else if (trace.customdata) trace.x = numbers(trace.customdata).map((number) => costOf(number, axis));
  }
  figure.layout.annotations = over.labels.map((label) => ({ ...label }));
  Object.assign(figure.layout.xaxis, { title: { text: over.title }, dtick: over.dtick, autorange: true });
  delete figure.layout.xaxis.range;
  document.getElementById("knee").textContent = over.knee;
  const measured = document.getElementById("measured");
  if (measured) measured.hidden = axis !== "latency";
}

// The budget's line, a ring about what it buys, and one about the trial in the panel: laid over the figure, since
// plotly would draw 10,000 points anew whenever the slider moves.
function ring() {
  const front = document.getElementById("front"), marks = document.getElementById("marks");
  if (!front || !front._fullLayout) return;
  const { xaxis, yaxis } = front._fullLayout, axis = axisNow(), made = [];
  const inside = (x, y) => x >= 0 && x <= xaxis._length && y >= 0 && y <= yaxis._length;
  const circle = (number, accuracy, name) => {
    const cost = costOf(number, axis);
    if (cost === null || accuracy === null) return;
    const x = xaxis.d2p(cost), y = yaxis.d2p(accuracy);
    if (!inside(x, y)) return;
    made.push(make("div", null, { class: name, style: `left:${xaxis._offset + x}px;top:${yaxis._offset + y}px` }));
  };
  if (DATA.budget) {
    const x = xaxis.d2p(limit()), step = bought(limit());
    if (axis === DATA.front.cost && inside(x, 0)) {
      made.push(make("div", null, { class: "limit", style: `left:${xaxis._offset + x}px;top:${yaxis._offset}px;height:${yaxis._length}px` }));
    }
    circle(step.trial, step.accuracy, "ring");
  }
  if (fixed !== null) circle(fixed, (DATA.full[fixed] || {}).mean ?? TRIALS.accuracy[PLACE.get(fixed)], "ring fixed");
  marks.replaceChildren(...made);
}

const slider = document.getElementById("budget");
const STEPS = 1000;

// The slider's place as a cost: a whole number of three digits, and exact at both ends.
function limit() {
  const { low, high } = DATA.budget, part = Number(slider.value) / STEPS;
  if (part <= 0) return low;
  if (part >= 1) return high;
  return Math.min(high, Math.max(low, Math.round(Number((low * (high / low) ** part).toPrecision(3)))));
}

// What `nas export --pick under:N` takes: the last step that costs no more. The slider begins at the first one.
function bought(most) {
  return DATA.budget.steps.filter((step) => step.cost <= most).pop();
}

function tell() {
  const most = limit(), step = bought(most), { study, options } = DATA.commands;
  slider.setAttribute("aria-valuetext", `${said(most)} ${DATA.budget.unit}: trial ${step.trial}`);
  document.getElementById("most").textContent = `${said(most)} ${DATA.budget.unit}`;
  const button = make("button", `trial ${step.trial}`, { type: "button", "data-trial": step.trial, class: "trial" });
  const words = make("span", ` of ${said(step.cost)} ${DATA.budget.unit}; validation ${DATA.metric} ${step.words}`);
  document.getElementById("bought").replaceChildren("buys ", button, words);
  document.getElementById("buy").replaceChildren(commandLine(`nas export ${study} --pick under:${most}${options}`));
}

if (DATA.front) {
  stand(DATA.front.cost);
  if (DATA.budget) {
    const { low, high, at } = DATA.budget;
    slider.max = STEPS;
    slider.value = high > low ? Math.ceil((STEPS * Math.log(at / low)) / Math.log(high / low)) : STEPS;
    while (limit() < at) slider.value = Number(slider.value) + 1; // three digits may round below it
    slider.addEventListener("input", () => { tell(); ring(); });
    tell();
  }
  for (const choice of document.querySelectorAll("input[name=axis]")) {
    choice.addEventListener("change", () => {
      stand(choice.value);
      show("front");
    });
  }
  const zoom = document.getElementById("zoom");
  zoom.hidden = DATA.zoom === null;
  zoom.addEventListener("click", () => {
    const near = zoom.dataset.near === "yes";
    zoom.dataset.near = near ? "no" : "yes";
    zoom.textContent = near ? "Zoom to the front" : "Show every network";
    Plotly.relayout("front", near ? { "yaxis.autorange": true } : { "yaxis.range": DATA.zoom });
  });
}
