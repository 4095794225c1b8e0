const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 560px)");

const barsOf = (figure) => figure.data.map((trace) => trace.colorbar || (trace.marker && trace.marker.colorbar)).filter(Boolean);

// What depends on the theme and the width; plotly cannot read CSS variables, so they are read for it. On a phone the
// legend stands above a figure and the colour bar below; one without them needs no room for them.
function look(figure) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const ink = colour("--ink"), rule = colour("--rule"), card = colour("--card");
  const small = narrow.matches;
  const bar = !figure || barsOf(figure).length > 0, legend = !figure || figure.layout.showlegend !== false;
  return {
    "font.color": ink, "font.size": small ? 11 : 13,
    "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
    "xaxis.gridcolor": rule, "yaxis.gridcolor": rule, "xaxis.linecolor": rule, "yaxis.linecolor": rule,
    "xaxis.zerolinecolor": rule, "yaxis.zerolinecolor": rule,
    "hoverlabel.bgcolor": card, "hoverlabel.font.color": ink, "hoverlabel.bordercolor": rule, "hoverlabel.align": "left",
    "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": colour("--quiet"), "modebar.activecolor": ink,
    "margin.l": small ? 52 : 70, "margin.r": small ? 8 : 20,
    "margin.t": small ? (legend ? 64 : 16) : 40, "margin.b": small && bar ? 104 : 56,
  };
}

// The colour bar: beside a wide figure, under a narrow one.
const BESIDE = { orientation: "v", x: 1.02, xanchor: "left", y: 0.5, yanchor: "middle", len: 1, thickness: 10 };
const BELOW = { orientation: "h", x: 0.5, xanchor: "center", y: -0.23, yanchor: "top", len: 1, thickness: 8 };

function show(name) {
  const figure = FIGURES[name], element = document.getElementById(name);
  const layout = figure.layout;
  delete layout.template;
  layout.legend = { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" };
  layout.hovermode = "closest";
  layout.dragmode = narrow.matches ? false : "zoom"; // a finger scrolls the page
  for (const bar of barsOf(figure)) {
    Object.assign(bar, narrow.matches ? BELOW : BESIDE);
    bar.title.side = narrow.matches ? "top" : "right";
  }
  for (const trace of figure.data) {
    if (trace.meta && trace.meta.hover === "trials" && !trace.hovertext) {
      trace.hovertext = numbers(trace.customdata).map(hoverOf);
      trace.hoverinfo = "text";
    }
  }
  const config = { // plotly's own button would send the study to its makers
    responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", displayModeBar: !narrow.matches, modeBarButtonsToRemove: ["select2d", "lasso2d"],
  };
  put(layout, { ...look(figure), ...labels(layout) }); // all at once: plotly places the legend for the margins it first sees
  return Plotly.newPlot(element, figure.data, layout, config).then(() => {
    element.on("plotly_click", (event) => clicked(event, element));
    if (name === "front") {
      const marks = document.getElementById("marks"); // they lie over what a hover says
      element.on("plotly_hover", () => marks.classList.add("faint"));
      element.on("plotly_unhover", () => marks.classList.remove("faint"));
      element.on("plotly_afterplot", ring);
      ring();
    }
  });
}

// For relayout after the theme changed; labels get the page's colours too.
function dress(name) {
  return Plotly.relayout(name, { ...look(FIGURES[name]), ...labels(FIGURES[name].layout) });
}

function labels(layout) {
  const ink = look()["font.color"], paper = getComputedStyle(document.documentElement).getPropertyValue("--paper").trim();
  const wanted = {};
  (layout.annotations || []).forEach((_, i) => {
    for (const [key, value] of [["arrowcolor", ink], ["font.color", ink], ["bgcolor", paper]]) wanted["annotations[" + i + "]." + key] = value;
  });
  return wanted;
}

// {"xaxis.gridcolor": x} set into {xaxis: {gridcolor: x}}.
function put(layout, wanted) {
  for (const [path, value] of Object.entries(wanted)) {
    const keys = path.split(/[.[\]]+/).filter(Boolean), last = keys.pop();
    keys.reduce((inner, key) => (inner[key] ??= {}), layout)[last] = value;
  }
}

// A figure's array: plain, or packed by plotly as the bytes of numbers.
const PACKED = {
  i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array,
};
function numbers(given) {
  if (!given || !given.bdata) return given || [];
  const bytes = Uint8Array.from(atob(given.bdata), (letter) => letter.charCodeAt(0));
  return Array.from(new PACKED[given.dtype](bytes.buffer));
}

// An element with text in it; what comes from outside is only ever set as text.
function make(tag, text, attributes) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  return element;
}
