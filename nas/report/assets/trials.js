// What the page knows of a trial. Every text is set as text, or escaped where plotly reads tags.
const TRIALS = DATA.trials || { number: [] };
const PLACE = new Map(TRIALS.number.map((number, i) => [number, i]));
const WIDTHS = ["1x1", "reduce 3x3", "3x3", "reduce 5x5", "5x5", "pool"];

const said = (value) => value.toLocaleString("en-US");
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// Of each module: its input's channels and side, its six widths, all that it puts out, its share of 3x3 and 5x5.
function modulesOf(i) {
  const widths = TRIALS.widths[i], sides = DATA.sides[TRIALS.sides[i]];
  let channels = TRIALS.stem[i];
  return sides.map(([height, width], k) => {
    const w = widths.slice(6 * k, 6 * k + 6), out = w[0] + w[2] + w[4] + (w[5] || channels);
    const found = { channels, height, width, widths: w, out, share: (w[2] + w[4]) / out };
    channels = out;
    return found;
  });
}

// A text in lines of about so many letters, so that a hover stays narrow.
function lines(text, letters) {
  const found = [""];
  for (const word of text.split(/\s+/)) {
    if (found[found.length - 1].length + word.length > letters) found.push("");
    found[found.length - 1] += (found[found.length - 1] ? " " : "") + word.slice(0, 2 * letters);
  }
  return found.slice(0, 4);
}

const hovers = new Map();
function hoverOf(number) {
  const i = PLACE.get(number);
  if (i === undefined) return "";
  if (!hovers.has(number)) hovers.set(number, hoverText(number, i));
  return hovers.get(number);
}

function hoverText(number, i) {
  const full = DATA.full[number], epoch = lastEpoch(i);
  const text = [
    `<b>trial ${number}</b>, ${TRIALS.state[i]}`,
    `${said(TRIALS.params[i])} parameters, ${said(TRIALS.macs[i])} MACs`,
    epoch === null ? "no reading" : `validation ${DATA.metric} ${TRIALS.accuracy[i].toFixed(4)} at epoch ${epoch}`,
  ];
  if (full) text.push(escaped(full.words));
  if (DATA.latency[number]) text.push(`${DATA.latency[number].toPrecision(3)} ms an image`);
  text.push(`${TRIALS.seconds[i].toFixed(1)} s`, "1x1 · reduce→3x3 · reduce→5x5 · pool: share");
  for (const { widths: w, share } of modulesOf(i)) {
    text.push(`${w[0]} · ${w[1]}→${w[2]} · ${w[3]}→${w[4]} · ${w[5]}: ${share.toFixed(2)}`);
  }
  if (TRIALS.reason[i]) text.push(...lines(TRIALS.reason[i], 46).map(escaped));
  return text.join("<br>");
}

function epochsOf(i) {
  return TRIALS.epochs[i] || TRIALS.curve[i].map((_, k) => k + 1);
}

function lastEpoch(i) {
  return TRIALS.accuracy[i] === null || !TRIALS.curve[i].length ? null : epochsOf(i)[TRIALS.curve[i].length - 1];
}

// How a trial's network is taken away, or why not: words, and commands in their order.
function takeAway(number) {
  const { study, options, front } = DATA.commands, i = PLACE.get(number), state = TRIALS.state[i];
  const pick = `--pick trial:${number}`, plain = `nas export ${study} ${pick}${options}`;
  if (state === "paused") return ["It is paused, so it has no final network. The search goes on with it where its accuracy gives it a chance.", []];
  if (state !== "complete") return [`It is ${state}, so it has no final network and cannot be exported.`, []];
  if (DATA.full[number]) return ["The median one of its full trainings:", [plain]];
  if (front.includes(number)) {
    const trained = Object.keys(DATA.full).length > 0;
    return ["The network with the weights of the search:", [plain + (trained ? " --as-is" : "")]];
  }
  return [
    "A search keeps the weights of its front only, and this network is not on it. To train it in full, then export it:",
    [`nas refine ${study} ${pick}${options}`, plain],
  ];
}
