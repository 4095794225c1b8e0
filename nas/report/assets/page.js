// Of many heat maps one is drawn at a time.
const choice = document.getElementById("heat-map");
if (choice) {
  FIGURES.redundancy = DATA.heat_maps[choice.value];
  choice.addEventListener("change", () => { FIGURES.redundancy = DATA.heat_maps[choice.value]; show("redundancy"); });
}

const names = Object.keys(FIGURES);
Promise.all(names.map(show)).then(() => { document.body.dataset.drawn = names.length; });
dark.addEventListener("change", () => { names.forEach(dress); });
narrow.addEventListener("change", () => names.forEach(show));
