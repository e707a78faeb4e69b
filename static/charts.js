// Draws every chart of a page from the specification that the server put beside it.
import vegaEmbed from "./vendor/vega.js";

const drawn = new Map();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function themeConfig() {
  const text = colour("text"), muted = colour("muted"), line = colour("line");
  const series = [1, 2, 3, 4, 5, 6, 7, 8].map((at) => colour(`series-${at}`));
  const font = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
  return {
    background: "transparent",
    font,
    padding: { left: 2, right: 8, top: 4, bottom: 4 },
    view: { stroke: null },
    axis: {
      labelColor: muted, titleColor: muted, domainColor: line, tickColor: line, gridColor: line, gridOpacity: 0.6,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
    },
    axisX: { grid: false },
    legend: { labelColor: text, titleColor: muted, labelFontSize: 12, columns: innerWidth < 620 ? 1 : 3, rowPadding: 2 },
    range: { category: series },
    mark: { color: series[0] },
    line: { color: series[0] },
    area: { color: series[0] },
    style: {
      "marker-rule": { color: colour("bad") },
      "marker-text": { color: colour("bad"), font, fontSize: 12, fontWeight: 600 },
      "value-text": { color: text, font, fontSize: 12 },
    },
  };
}

async function draw(holder) {
  const spec = JSON.parse(document.getElementById(holder.dataset.spec).textContent);
  drawn.get(holder)?.finalize();
  // ast: expressions are walked, not compiled, so that no eval is needed
  const result = await vegaEmbed(holder, spec, {
    ast: true, actions: false, defaultStyle: false, renderer: "svg", config: themeConfig(),
    tooltip: { disableDefaultStyle: true },
  });
  drawn.set(holder, result);
  holder.dataset.drawn = document.documentElement.dataset.theme;
}

function drawAll() {
  for (const holder of document.querySelectorAll("[data-spec]")) {
    draw(holder).catch((error) => {
      holder.textContent = "The chart could not be drawn; its table is below.";
      console.error(error);
    });
  }
}

drawAll();
document.addEventListener("themechange", drawAll);
