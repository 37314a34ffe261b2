// Draws the charts of a report. What to draw comes as plain values; a colour "@name/40" is the style sheet's --k-name
// at 40 % opacity, so that charts follow light, dark and paper.
"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;
  const places = [...document.querySelectorAll("[data-chart]")];
  const drawn = new Set();
  const PAPER_PX = 690; // what A4 leaves between its margins
  const PAPER_HEIGHT = 0.74; // so that two charts fit on most pages
  let onPaper = false;

  const styleOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function colour(word) {
    const [name, percent] = word.slice(1).split("/");
    const hex = styleOf(onPaper ? `--p-${name}` : `--k-${name}`) || styleOf(`--k-${name}`);
    if (!percent) return hex;
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${red},${green},${blue},${percent / 100})`;
  }

  function coloured(value) {
    if (typeof value === "string") return /^@[\w-]+(\/\d+)?$/.test(value) ? colour(value) : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(coloured);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner)]));
  }

  const heightOf = (layout) => Math.round(layout.height * (onPaper ? PAPER_HEIGHT : 1));

  function looks(layout, width) {
    const narrow = width < 520;
    const axis = {
      color: colour("@quiet"), gridcolor: colour("@line"), linecolor: colour("@line"), zeroline: false, ticks: "outside",
      ticklen: 4, tickcolor: colour("@line"), fixedrange: coarse, tickfont: { size: 11 }, automargin: true,
    };
    const dressed = {
      ...coloured(layout), width, height: heightOf(layout), autosize: false, showlegend: false, hovermode: "closest", dragmode: coarse ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: styleOf("--text"), size: 12, color: colour("@ink") },
      margin: { l: narrow ? 40 : 52, r: narrow ? 8 : 16, t: 24, b: 46 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("@quiet"), activecolor: colour("@0") },
      hoverlabel: { bgcolor: colour("@panel"), bordercolor: colour("@line"), font: { color: colour("@ink"), size: 12 } },
    };
    for (const key of Object.keys(dressed)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      const own = dressed[key];
      dressed[key] = { ...axis, ...own };
      if (own.title) dressed[key].title = { ...own.title, standoff: 8, font: { size: 11, color: colour("@quiet") } };
    }
    return dressed;
  }

  function draw(place) {
    const { data, layout } = specs[place.dataset.chart];
    const width = onPaper ? PAPER_PX : place.clientWidth;
    const config = { displaylogo: false, displayModeBar: !coarse && !onPaper, scrollZoom: false,
                     modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
    place.style.height = `${heightOf(layout)}px`;
    place.querySelector("noscript")?.remove();
    Plotly.react(place, coloured(data), looks(layout, width), config);
    place.dataset.width = width;
    drawn.add(place);
  }

  const redraw = () => places.forEach((place) => drawn.has(place) && draw(place));

  // What is in sight first, the rest whenever there is time: a long report opens at once and prints whole.
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !drawn.has(target)) draw(target);
      if (isIntersecting) seen.unobserve(target);
    }
  }, { rootMargin: "300px" });
  places.forEach((place) => seen.observe(place));
  const later = window.requestIdleCallback ?? ((call) => setTimeout(call, 30));
  function rest() {
    const place = places.find((one) => !drawn.has(one));
    if (place) draw(place);
    if (place && !onPaper) later(rest);
    document.documentElement.dataset.drawn = String(drawn.size === places.length);
  }
  rest();

  let timer = 0;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => !onPaper && places.forEach((place) => {
      if (drawn.has(place) && Number(place.dataset.width) !== place.clientWidth) draw(place);
    }), 120);
  });
  dark.addEventListener("change", redraw);

  function paper(on) {
    if (onPaper === on) return;
    onPaper = on;
    if (on) {
      places.forEach(draw); // all of it, now: the printer does not wait
    } else {
      drawn.clear();
      rest();
    }
  }
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));

  // On a phone the contents would push the report off the screen.
  const contents = document.querySelector(".contents details");
  if (contents && matchMedia("(max-width: 70rem)").matches) contents.open = false;
})();
