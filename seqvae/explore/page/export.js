"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const canvas = $("map"), place = $("place");
const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
let chosen = -1;
data.columns.forEach((c, i) => $("colour").add(new Option(c.name, i)));
data.walks.forEach((w, i) => $("walk").add(new Option(w[0].text.slice(0, 24) + " … " + w.at(-1).text.slice(0, 24), i)));
const inner = (k, part) => { // the outermost samples of the prior would shrink the map
  const sorted = data.prior_xy.map((p) => p[k]).sort((a, b) => a - b);
  return sorted[Math.round(part * (sorted.length - 1))];
};
const low = [0, 1].map((k) => Math.min(inner(k, 0.02), ...data.xy.map((p) => p[k])));
const high = [0, 1].map((k) => Math.max(inner(k, 0.98), ...data.xy.map((p) => p[k])));
function at(p) {
  const part = [0, 1].map((k) => 0.05 + 0.9 * (p[k] - low[k]) / (high[k] - low[k] || 1));
  return [part[0] * canvas.clientWidth, (1 - part[1]) * canvas.clientHeight];
}
function colours() {
  const column = data.columns[$("colour").value];
  if (column.kind === "category") {
    const names = [...new Set(column.values)].sort();
    return column.values.map((v) => HUES[names.indexOf(v) % HUES.length]);
  }
  const order = [...column.values].sort((a, b) => a - b), last = order.at(-1), first = order[0];
  return column.values.map((v) => `hsl(${220 - 180 * (v - first) / (last - first || 1)} 75% 50%)`);
}
function draw() {
  const ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
  canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
  pen.scale(ratio, ratio);
  const ink = getComputedStyle(document.body).color, wanted = $("search").value.trim().toLowerCase();
  const dot = (p, size, fill) => { pen.fillStyle = fill; pen.beginPath(); pen.arc(...at(p), size, 0, 7); pen.fill(); };
  if ($("prior").checked) data.prior_xy.forEach((p) => dot(p, 2, "#8a929c"));
  const fills = colours();
  data.xy.forEach((p, i) => {
    pen.globalAlpha = !wanted || data.texts[i].toLowerCase().includes(wanted) ? 0.9 : 0.08;
    dot(p, 3.5, fills[i]);
  });
  pen.globalAlpha = 1; pen.strokeStyle = ink; pen.lineWidth = 2;
  const walk = data.walks[$("walk").value];
  if (walk) {
    pen.beginPath(); walk.forEach((s) => pen.lineTo(...at(s.xy))); pen.stroke(); walk.forEach((s) => dot(s.xy, 4, ink));
  }
  if (chosen >= 0) { pen.beginPath(); pen.arc(...at(data.xy[chosen]), 8, 0, 7); pen.stroke(); }
}
function add(tag, text) { const made = document.createElement(tag); made.textContent = text; place.append(made); return made; }
function show(index) {
  chosen = index; place.replaceChildren();
  add("h2", data.texts[index]); add("p", "Decoded: " + data.decoded[index]); add("h3", "Nearest");
  data.near[index].forEach((n) => { add("button", data.texts[n]).onclick = () => show(n); });
  draw();
}
function showWalk() {
  const walk = data.walks[$("walk").value]; place.replaceChildren();
  if (walk) { add("h2", "Interpolation"); walk.forEach((s) => add("p", `${s.text} (log p ${s.log_prob.toFixed(1)})`)); }
  draw();
}
function nearest(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = 0, least = Infinity;
  data.xy.forEach((p, i) => { const [a, b] = at(p), d = (a - x) ** 2 + (b - y) ** 2; if (d < least) { least = d; best = i; } });
  return [best, least];
}
canvas.onclick = (event) => show(nearest(event)[0]);
canvas.onmousemove = (event) => { const [i, d] = nearest(event); canvas.title = d < 150 ? data.texts[i] : ""; };
canvas.onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (step) { event.preventDefault(); show((chosen + step + data.xy.length) % data.xy.length); }
};
$("tools").onsubmit = (event) => event.preventDefault();
$("search").oninput = $("colour").onchange = $("prior").onchange = draw;
$("walk").onchange = showWalk;
window.onresize = draw;
matchMedia("(prefers-color-scheme: dark)").onchange = draw;
draw();
