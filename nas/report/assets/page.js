// Of many heat maps one is drawn at a time.
const choice = document.getElementById("heat-map");
if (choice) {
  FIGURES.redundancy = DATA.heat_maps[choice.value];
  choice.addEventListener("change", () => { FIGURES.redundancy = DATA.heat_maps[choice.value]; show("redundancy"); });
}

const names = Object.keys(FIGURES);
// One after another, so that the page can be used while 10,000 trials are still being drawn further down.
(async () => {
  for (const name of names) {
    await show(name);
    await new Promise((done) => setTimeout(done));
  }
  document.body.dataset.drawn = names.length;
})();
dark.addEventListener("change", () => { names.forEach(dress); });
narrow.addEventListener("change", () => names.forEach(show));
