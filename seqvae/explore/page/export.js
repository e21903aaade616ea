"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const canvas = $("map"), place = $("place"), hover = $("hover"), items = data.items, prior = data.prior;
const dark = matchMedia("(prefers-color-scheme: dark)");
// Viridis, without the end that is hard to see on the ground.
const RAMPS = [["#440154", "#414487", "#2a788e", "#22a884", "#7ad151"], ["#3b528b", "#21918c", "#35b779", "#8fd744", "#fde725"]];
const SHAPES = ["circle", "square", "up", "diamond", "down", "plus"], GREY = "#8a929c", MOST = data.hues.length;
let chosen = null; // ["item" or "prior", its row], or ["walk", step]
let view = { zoom: 1, x: 0.5, y: 0.5 }; // the part of the map, from 0 to 1, in the middle of the canvas

// -- what is where ---------------------------------------------------------------------------------------------------

const quantile = (numbers, part) => numbers.slice().sort((a, b) => a - b)[Math.round(part * (numbers.length - 1))];
let low, high; // the corners of the map

function fit() { // to what is shown; the outermost samples of the prior would shrink it
  const edge = (k, part) => $("prior").checked ? [quantile(prior.xy.map((p) => p[k]), part)] : [];
  low = [0, 1].map((k) => Math.min(...edge(k, 0.02), ...items.xy.map((p) => p[k])));
  high = [0, 1].map((k) => Math.max(...edge(k, 0.98), ...items.xy.map((p) => p[k])));
  view = { zoom: 1, x: 0.5, y: 0.5 };
}

function at(p) { // a position of the map, in pixels of the canvas
  const part = [0, 1].map((k) => 0.04 + 0.92 * (p[k] - low[k]) / (high[k] - low[k] || 1));
  const x = (part[0] - view.x) * view.zoom + 0.5, y = 0.5 - (part[1] - view.y) * view.zoom;
  return [x * canvas.clientWidth, y * canvas.clientHeight];
}

function everything() { // [kind, row, position] of all that can be chosen
  const found = items.xy.map((p, i) => ["item", i, p]);
  return $("prior").checked ? found.concat(prior.xy.map((p, i) => ["prior", i, p])) : found;
}

function nearest(x, y) {
  let best = null, least = Infinity;
  for (const [kind, row, p] of everything()) {
    const [a, b] = at(p), distance = Math.hypot(a - x, b - y);
    if (distance < least) { least = distance; best = [kind, row]; }
  }
  return [best, least];
}

// -- colours ---------------------------------------------------------------------------------------------------------

function mix(part) { // a colour of the ramp, part from 0 to 1
  const ramp = RAMPS[dark.matches ? 1 : 0], place = Math.min(Math.max(part, 0), 1) * (ramp.length - 1);
  const i = Math.min(Math.floor(place), ramp.length - 2);
  const channels = [1, 3, 5].map((k) => {
    const [a, b] = [ramp[i], ramp[i + 1]].map((colour) => parseInt(colour.slice(k, k + 2), 16));
    return Math.round(a + (b - a) * (place - i));
  });
  return `rgb(${channels})`;
}

function readColumn() { // colour and shape of each item, and the entries of the legend
  const column = data.columns[$("colour").value], values = column.values;
  if (column.kind === "number") {
    const first = quantile(values, 0.02), last = quantile(values, 0.98);
    const looks = values.map((v) => [mix((v - first) / (last - first || 1)), "circle"]);
    return { column, looks, range: [first, last], names: [] };
  }
  const counts = new Map();
  values.forEach((v) => counts.set(v, (counts.get(v) || 0) + 1));
  const names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, MOST);
  const look = (name) => { const i = names.indexOf(name); return i < 0 ? [GREY, "circle"] : [data.hues[i], SHAPES[i]]; };
  const entries = names.map((name) => [name || "(none)", ...look(name)]);
  if (counts.size > MOST) entries.push(["other", GREY, "circle"]);
  return { column, looks: values.map(look), range: null, names: entries };
}

function mark(pen, [x, y], size, colour, shape) {
  pen.fillStyle = pen.strokeStyle = colour;
  pen.beginPath();
  if (shape === "circle") pen.arc(x, y, size, 0, 7);
  else if (shape === "square") pen.rect(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8);
  else if (shape === "cross" || shape === "plus") {
    const [a, b] = shape === "cross" ? [size, size] : [size * 1.2, 0];
    pen.moveTo(x - a, y - b); pen.lineTo(x + a, y + b); pen.moveTo(x + b, y - a); pen.lineTo(x - b, y + a);
    pen.lineWidth = shape === "cross" ? 1.3 : 2.4; pen.stroke(); return;
  } else {
    const corners = { up: [[-1, 0.9], [1, 0.9], [0, -1.1]], down: [[-1, -0.9], [1, -0.9], [0, 1.1]], diamond: [[-1.2, 0], [0, 1.2], [1.2, 0], [0, -1.2]] };
    corners[shape].forEach(([a, b]) => pen.lineTo(x + a * size, y + b * size));
  }
  pen.fill();
}

// -- drawing ---------------------------------------------------------------------------------------------------------

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
  canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
  pen.scale(ratio, ratio);
  return pen;
}

function draw() {
  const pen = prepare(canvas), ink = getComputedStyle(document.body).color, found = readColumn();
  const wanted = $("search").value.trim().toLowerCase();
  pen.globalAlpha = wanted ? 0.25 : 0.8;
  if ($("prior").checked) prior.xy.forEach((p) => mark(pen, at(p), 3, GREY, "cross"));
  items.xy.forEach((p, i) => {
    const hit = items.texts[i].toLowerCase().includes(wanted);
    pen.globalAlpha = !wanted ? 0.85 : hit ? 1 : 0.12;
    mark(pen, at(p), wanted && hit ? 5 : 3.5, ...found.looks[i]);
  });
  pen.globalAlpha = 1; pen.strokeStyle = ink; pen.lineWidth = 2;
  const walk = data.walks[$("walk").value];
  if (walk) {
    pen.beginPath(); walk.forEach((step) => pen.lineTo(...at(step.xy))); pen.stroke();
    walk.forEach((step) => mark(pen, at(step.xy), 4, ink, "circle"));
  }
  const here = position();
  if (here) { pen.strokeStyle = ink; pen.lineWidth = 2.5; pen.beginPath(); pen.arc(...at(here), 9, 0, 7); pen.stroke(); }
}

function position() {
  if (!chosen) return null;
  const [kind, row] = chosen;
  return kind === "item" ? items.xy[row] : kind === "prior" ? prior.xy[row] : data.walks[$("walk").value]?.[row].xy;
}

function drawLegend() {
  const { column, range, names } = readColumn(), legend = $("legend");
  legend.replaceChildren();
  const entry = (text, paint, name = "") => {
    const span = document.createElement("span"), small = document.createElement("canvas");
    small.className = name; span.append(small, text); legend.append(span); paint(small);
  };
  const symbol = (colour, shape) => (small) => mark(prepare(small), [7, 7], 4.5, colour, shape);
  if (range) {
    legend.append(range[0].toPrecision(3));
    entry(range[1].toPrecision(3), (small) => {
      const pen = prepare(small);
      for (let x = 0; x < 120; x += 1) { pen.fillStyle = mix(x / 119); pen.fillRect(x, 0, 1.5, 10); }
    }, "ramp");
    legend.append(`${column.name}: ${column.about}`);
  }
  names.forEach(([name, colour, shape]) => entry(name, symbol(colour, shape)));
  if ($("prior").checked) entry("sample of the prior", symbol(GREY, "cross"));
}

function drawCurve(channels) { // a series, as SVG
  const make = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    return made;
  };
  const svg = make("svg", { viewBox: "0 0 300 64", preserveAspectRatio: "none", role: "img", "aria-label": "a series" });
  const flat = channels.flat(), least = Math.min(...flat), span = Math.max(...flat) - least || 1;
  channels.forEach((channel, c) => {
    const points = channel.map((v, i) => `${300 * i / (channel.length - 1 || 1)},${60 - 56 * (v - least) / span}`);
    svg.append(make("polyline", { points: points.join(" "), fill: "none", stroke: data.hues[c % MOST], "stroke-width": 2, "vector-effect": "non-scaling-stroke" }));
  });
  return svg;
}

// -- the panel beside the map ----------------------------------------------------------------------------------------

function add(tag, content, name = "", parent = place) {
  const made = document.createElement(tag);
  made.className = name; made.append(content); parent.append(made);
  return made;
}
const content = (text, curve) => curve ? drawCurve(curve) : text || "(empty)";

function addButton(shown, number, press) {
  const button = add("button", "");
  button.type = "button"; button.onclick = press;
  add("span", shown, "", button); add("span", number, "number", button);
  return button;
}

function show(kind, row) {
  chosen = [kind, row]; place.replaceChildren();
  const from = kind === "item" ? items : prior;
  if (kind === "item") {
    add("h2", `Number ${row + 1} of ${items.xy.length} ${data.units}`); add("div", content(from.texts[row], from.curves[row]), "main-text");
    add("h2", "Decodes to"); add("div", content(from.decoded[row], from.decoded_curves[row]));
    const list = add("dl", "");
    data.columns.forEach((column) => { add("dt", column.name, "", list); add("dd", String(column.values[row]) || "(none)", "", list); });
  } else {
    add("h2", "A sample of the prior decodes to"); add("div", content(from.texts[row], from.curves[row]), "main-text");
  }
  add("h2", `Nearest ${data.units}, with distance`);
  from.near[row].forEach(([i, distance]) => addButton(content(items.texts[i], items.curves[i]), distance.toFixed(2), () => show("item", i)));
  remember(`${kind}=${row}`); draw();
}

function showWalk(step = null) {
  const walk = data.walks[$("walk").value];
  if (!walk) { clear(); return; }
  chosen = step === null ? null : ["walk", step]; place.replaceChildren();
  add("h2", "Interpolation, with log p(x|z) in nats");
  walk.forEach((one, i) => {
    const button = addButton(content(one.text, one.curve), one.log_prob.toFixed(1).replace(/^-(0\.0)$/, "$1"), () => showWalk(i));
    button.setAttribute("aria-current", String(i === step));
    if (i === step) button.focus();
  });
  remember(""); draw();
}

function search() {
  const wanted = $("search").value.trim().toLowerCase();
  if (!wanted) { clear(); return; }
  const hits = items.texts.flatMap((text, i) => text.toLowerCase().includes(wanted) ? [i] : []);
  chosen = null; place.replaceChildren();
  add("h2", `${hits.length} of ${items.texts.length} ${data.units} match`);
  hits.slice(0, 30).forEach((i) => addButton(content(items.texts[i], items.curves[i]), "", () => show("item", i)));
  draw();
}

function clear() {
  chosen = null; place.replaceChildren();
  add("h2", "How to read the map");
  add("p", `Each mark is one of the ${data.units}, where the encoder puts it; each grey cross is a sample of the prior. Where crosses lie and no marks, the prior has a hole.`);
  add("h2", "How to move");
  add("p", "Click on a mark, or move with the arrow keys. Turn the wheel or press + and − to zoom; drag to move the map.");
  remember(""); draw();
}

function remember(state) { // so that the address can be shared
  try { history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search); } catch { /* a frame has no address */ }
}

// -- mouse, touch and keys -------------------------------------------------------------------------------------------

function pixel(event) { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; }

function zoom(factor, [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2]) {
  const before = view.zoom;
  view.zoom = Math.min(Math.max(before * factor, 1), 60);
  const shift = 1 / before - 1 / view.zoom;
  view.x += (x / canvas.clientWidth - 0.5) * shift; view.y -= (y / canvas.clientHeight - 0.5) * shift;
  if (view.zoom === 1) view = { zoom: 1, x: 0.5, y: 0.5 };
  draw();
}

function showHover(event) {
  const [x, y] = pixel(event), [best, distance] = nearest(x, y);
  hover.hidden = distance > 14;
  if (hover.hidden) return;
  const from = best[0] === "item" ? items : prior;
  hover.replaceChildren((best[0] === "item" ? "" : "sample of the prior: ") + (from.texts[best[1]] || "(empty)"));
  hover.style.left = `${Math.min(x + 14, Math.max(0, canvas.clientWidth - hover.offsetWidth - 6))}px`;
  hover.style.top = `${y > canvas.clientHeight - 70 ? y - hover.offsetHeight - 10 : y + 14}px`;
}

let drag = null;
canvas.onpointerdown = (event) => { drag = { start: pixel(event), x: view.x, y: view.y, moved: false }; };
canvas.onpointermove = (event) => {
  if (!drag || event.pointerType === "touch") { showHover(event); return; }
  const [x, y] = pixel(event), by = [x - drag.start[0], y - drag.start[1]];
  drag.moved ||= Math.hypot(...by) > 4;
  if (!drag.moved || view.zoom === 1) return;
  hover.hidden = true;
  view.x = drag.x - by[0] / canvas.clientWidth / view.zoom; view.y = drag.y + by[1] / canvas.clientHeight / view.zoom;
  draw();
};
window.addEventListener("pointerup", () => { setTimeout(() => { drag = null; }); });
canvas.onpointerleave = () => { hover.hidden = true; };
canvas.onclick = (event) => { if (!drag?.moved) { const [best] = nearest(...pixel(event)); show(...best); } };
canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), pixel(event)); }, { passive: false });

function step(dx, dy) { // to the nearest mark in a direction, its distance across counting twice
  const [x, y] = at(position() || [0, 1].map((k) => (low[k] + high[k]) / 2));
  let best = null, least = Infinity;
  for (const [kind, row, p] of everything()) {
    const [a, b] = at(p), along = (a - x) * dx + (b - y) * dy, across = Math.abs((a - x) * dy - (b - y) * dx);
    const cost = along + 2 * across;
    if (along > 0.5 && across <= along && cost < least) { least = cost; best = [kind, row]; }
  }
  if (best) show(...best);
}
canvas.onkeydown = (event) => {
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
  const factor = { "+": 1.4, "=": 1.4, "-": 1 / 1.4 }[event.key];
  if (way) step(...way); else if (factor) zoom(factor, position() ? at(position()) : undefined); else if (event.key === "Escape") clear(); else return;
  event.preventDefault();
};

data.columns.forEach((column, i) => $("colour").add(new Option(column.name, i)));
const name = (step) => (step.text || "(empty)").slice(0, 22);
data.walks.forEach((walk, i) => $("walk").add(new Option(walk[0].curve ? `path ${i + 1}` : `${name(walk[0])} … ${name(walk.at(-1))}`, i)));
$("tools").onsubmit = (event) => event.preventDefault();
$("search").oninput = search;
$("colour").onchange = () => { drawLegend(); draw(); };
$("prior").onchange = () => { if (chosen?.[0] === "prior") clear(); fit(); drawLegend(); draw(); };
$("walk").onchange = () => showWalk();
$("whole").onclick = () => { fit(); draw(); };
new ResizeObserver(draw).observe(canvas);
dark.onchange = () => { drawLegend(); draw(); };
const [kind, row] = location.hash.slice(1).split("="), rows = { item: items, prior }[kind];
$("search").parentNode.hidden = data.series;
fit();
drawLegend();
if (rows?.xy[row]) show(kind, Number(row)); else clear();
