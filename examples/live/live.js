"use strict";
// Each request lets lines or iterations run; its answer is all that the page shows. Nothing is computed here but pixels.

const $ = (id) => document.getElementById(id);
const make = (tag, text = "", fields = {}) => Object.assign(document.createElement(tag), {textContent: text}, fields);
const within = (parent, ...children) => { parent.append(...children); return parent; };
const SPEEDS = [ // the slider's positions: words; milliseconds from one picture to the next; what runs in between
  ...[1, 4, 15].map((n) => [`${n} line${n > 1 ? "s" : ""} a second`, 1000 / n, {lines: 1}]),
  ...[1, 3, 10, 30].map((n) => [`${n} iteration${n > 1 ? "s" : ""} a picture`, 25, {iterations: n}]),
];
const KEPT = 900; // points of a curve

let page = null, state = null; // the first answer of a game, with the source, bounds and situations; and the last answer
let history = [], pictures = [], running = false, busy = false, due = 0, shown = 0;

// ---- The server

async function ask(name, body) { // true if it was answered; one request at a time
  while (busy) await new Promise((done) => setTimeout(done, 5));
  busy = true;
  try {
    const answer = await fetch(name, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})
      .catch(() => { throw new Error("The server has stopped. Start it again: python examples/live.py"); });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    state = content;
    problem(state.error);
    return true;
  } catch (error) {
    problem(error.message);
  } finally {
    busy = false;
  }
}

const problem = (text) => { Object.assign($("problem"), {hidden: !text, textContent: text}); if (text) run(false); };
async function begin(settings) { // a new game
  run(false);
  $("status").textContent = "starting …";
  const before = page;
  if (!await ask("new", {settings})) return;
  [page, history] = [state, []];
  if (before) leave(before);
  else build();
  show();
}

const advance = async (what) => { if (page && await ask("step", {session: page.session, ...what})) show(); };
const leave = ({session}) => navigator.sendBeacon("close", new Blob([JSON.stringify({session})], {type: "application/json"}));
function settingsOf(fragment) { // behind the address's # are the settings that differ from the defaults
  return Object.fromEntries([...new URLSearchParams(fragment.slice(1))].map(([name, text]) => [name, text.trim() && isFinite(text) ? Number(text) : text]));
}

// ---- Controls

function build() {
  Object.entries(page.situations).forEach(([title, {settings}], i) => {
    $("situations").append(within(make("button", title + " ", {onclick: () => begin(settings)}), make("kbd", i + 1)));
  });
  for (const [name, {label, title, choices, low, high, step}] of Object.entries(page.bounds)) {
    const control = choices.length ? make("select", "", {name}) : make("input", "", {name, type: "number", min: low, max: high, step, required: true});
    control.append(...choices.map((choice) => make("option", choice)));
    $("settings").append(within(make("label", label, {title}), control));
  }
}

$("settings").onchange = ({target}) => {
  if (!target.reportValidity()) return;
  const value = target.type === "number" ? target.valueAsNumber : target.value;
  advance({settings: {...state.settings, [target.name]: value}});
};
$("settings").onsubmit = (event) => event.preventDefault();
function run(on) {
  [running, due, pictures] = [on, 0, []];
  $("run").firstChild.textContent = on ? "pause" : "run";
  $("run").setAttribute("aria-pressed", on);
  if (!on && page) show();
}

function speed(step) {
  $("speed").value = Number($("speed").value) + step;
  $("rate").textContent = SPEEDS[$("speed").value][0];
}
function theme() {
  const root = document.documentElement.style, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.colorScheme = (root.colorScheme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  recolour();
}
const one = (what) => () => { run(false); advance({[what]: 1}); };
const ACTIONS = {n: one("lines"), i: one("iterations"), p: () => run(!running), r: () => begin(state ? state.settings : {}), t: theme,
  "+": () => speed(1), "-": () => speed(-1)};
for (const [id, key] of Object.entries({line: "n", iteration: "i", run: "p", reset: "r", theme: "t"})) $(id).onclick = ACTIONS[key];
$("speed").oninput = () => speed(0); speed(0);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=number]")) return;
  if (event.key === " " && event.target.matches("button")) return; // it presses the button
  const key = {" ": "p", "=": "+"}[event.key] ?? event.key;
  const action = ACTIONS[key] ?? $("situations").children[Number(key) - 1]?.onclick;
  if (action) event.preventDefault();
  action?.();
});

function tick(now) {
  requestAnimationFrame(tick);
  const [, pause, what] = SPEEDS[$("speed").value];
  if (!running || busy || now < due) return;
  due = Math.max(due, now - pause) + pause;
  advance(what);
}
tick(0);
setInterval(() => running || busy || document.hidden || advance({}), 4000); // so that a server that has stopped is seen

// ---- What an answer shows

const format = (value) => value === null || value === undefined ? "–" : Number.isInteger(value) ? String(value)
  : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toPrecision(4);

function show() {
  const {numbers, iteration, changed} = state, now = performance.now(), key = JSON.stringify([state.settings, state.unused]);
  if (key !== $("settings").dataset.shown) showSettings(key);
  history = [...history.filter((row) => row.iteration < iteration), {iteration, ...numbers}]; // a new game begins at 0
  if (history.length > KEPT) history = history.filter((_, i) => i % 2 === 0 || i === history.length - 1);
  if ($("numbers").dataset.game !== state.game)
    $("numbers").replaceChildren(...Object.keys(numbers).map((name) => within(make("div"), make("dt", name), make("dd"))));
  $("numbers").dataset.game = state.game;
  const whole = !running || shown++ % 4 === 0; // while it runs, the curves and the changes are drawn at every fourth picture
  draw(whole); // before the text changes: a canvas asks for its size, and that lays out the page
  $("waiting").hidden = !state.waiting;
  pictures = [...pictures.filter((time) => time > now - 2000), now];
  const rate = Math.round((pictures.length - 1) / (now - pictures[0]) * 1000);
  $("status").textContent = `iteration ${iteration}` + (running && pictures.length > 20 ? `, ${rate} pictures a second` : "");
  showCode();
  $("unit").textContent = state.unit;
  if (whole) $("changed").replaceChildren(...(changed.length ? changed.map(change) : [make("li", "nothing")]));
  Object.values(numbers).forEach((value, i) => { $("numbers").children[i].lastChild.textContent = format(value); });
}
function showSettings(key) { // in the address and the controls, and whether they are a situation's
  const {settings, unused} = state, other = Object.entries(settings).filter(([name, value]) => value !== page.bounds[name].default);
  $("settings").dataset.shown = key;
  window.history.replaceState(null, "", "#" + new URLSearchParams(other));
  for (const control of $("settings").elements) {
    control.disabled = unused.includes(control.name);
    if (control !== document.activeElement || control.tagName === "SELECT") control.value = settings[control.name];
  }
  Object.values(page.situations).forEach(({settings: its, why, section}, i) => {
    const same = Object.entries(settings).every(([name, value]) => its[name] === value);
    $("situations").children[i].setAttribute("aria-pressed", same);
    if (!same) return;
    $("why").replaceChildren(why + " ", make("cite", `examples/GUIDE.md, “${section}”`));
    $("why").hidden = false; // and stays, since it says what to change
  });
}
function showCode() {
  const [outer, step] = Object.keys(state.here), {outer: old, inner} = $("code").dataset;
  const first = outer.startsWith("Sim") ? "Simultaneous.simultaneous_step" : "GAN.discriminator_step";
  const left = state.ran && state.ran[0] !== outer ? state.ran[0] : null;
  list("outer", outer);
  list("inner", step ?? left ?? (outer === old ? inner : first));
  document.querySelectorAll("ol .ran, ol .next, ol .inside").forEach((item) => item.classList.remove("ran", "next", "inside"));
  const mark = (name, line, kind) => document.querySelector(`[data-name="${name}"] [data-line="${line}"]`)?.classList.add(kind);
  Object.entries(state.here).forEach(([name, line], i, all) => mark(name, line, i === all.length - 1 ? "next" : "inside"));
  if (state.ran) mark(...state.ran, "ran");
}
function list(id, name) { // the source of a function
  if ($(id).dataset.name === name) return;
  $(id).dataset.name = $("code").dataset[id] = name;
  let quoted = false;
  $(id).replaceChildren(...page.sources[name].lines.map((line, i) => {
    const quotes = line.split('"""').length - 1, item = within(make("li"), make("code", line.slice(4) || " "));
    item.dataset.line = page.sources[name].first + i;
    if (quoted || quotes || line.trim().startsWith("#")) item.className = "remark";
    if (quotes === 1) quoted = !quoted;
    return item;
  }));
}
function change({name, shape, norm, low, high, counts, value, text, new: isNew}) {
  const item = within(make("li"), make("code", name));
  if (!shape) return within(item, make("span", text ?? (isNew ? "= " : "moved by ") + format(value)));
  const most = Math.max(...counts, 1), bars = counts.map((count, i) => `M${i * 4} 24h3v${-24 * count / most}h-3z`).join("");
  item.append(make("span", `(${shape.join(", ")})   ${isNew ? "norm" : "moved by"} ${format(norm)}`));
  item.insertAdjacentHTML("beforeend", `<svg viewBox="0 0 96 24" role="img" aria-label="histogram"><path d="${bars}"/></svg>`);
  return within(item, make("i", `${format(low)} … ${format(high)}`));
}

// ---- Drawing

let colours = {};
function colour(name) { // of the style sheet, in the present theme
  if (!colours[name]) $("probe").style.color = `var(--${name})`;
  return colours[name] ??= getComputedStyle($("probe")).color;
}
const recolour = () => { colours = {}; if (state) draw(); };
matchMedia("(prefers-color-scheme: dark)").onchange = onresize = recolour;

class Axes {
  constructor(canvas, [x0, x1], [y0, y1], {right = 62, left = 36, bottom = 18, top = 8} = {}) {
    const scale = devicePixelRatio, w = canvas.clientWidth, h = canvas.clientHeight, pen = canvas.getContext("2d");
    if (canvas.width !== Math.round(w * scale) || canvas.height !== Math.round(h * scale))
      Object.assign(canvas, {width: Math.round(w * scale), height: Math.round(h * scale)});
    Object.assign(pen, {font: "12px system-ui, sans-serif", textBaseline: "middle"}).setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, w, h);
    Object.assign(this, {pen, w, h, x0, x1, right, left, ends: []});
    this.X = (x) => left + (x - x0) / (x1 - x0) * (w - left - right);
    this.Y = (y) => top + (y1 - y) / (y1 - y0) * (h - top - bottom);
  }
  path(points, name, {dash = [], width = 1} = {}) { // with gaps where there is no number
    let drawn = false;
    this.pen.beginPath();
    for (const [x, y] of points) {
      if (y !== null) this.pen[drawn ? "lineTo" : "moveTo"](this.X(x), this.Y(y));
      drawn = y !== null;
    }
    Object.assign(this.pen, {strokeStyle: colour(name), lineWidth: width}).setLineDash(dash);
    this.pen.stroke();
    this.pen.setLineDash([]);
  }
  text(words, x, y, name = "quiet", align = "left") {
    Object.assign(this.pen, {fillStyle: colour(name), textAlign: align}).fillText(words, x, y);
  }
  rule(y, words) {
    this.path([[this.x0, y], [this.x1, y]], "rule");
    this.text(words, this.left - 6, this.Y(y), "quiet", "right");
  }
  arrow(xa, ya, xb, yb, name, head = 4, width = 1) {
    const [x, y, u, v] = [this.X(xa), this.Y(ya), this.X(xb), this.Y(yb)], angle = Math.atan2(v - y, u - x);
    const wing = (turn) => [u + head * Math.cos(angle + turn), v + head * Math.sin(angle + turn)];
    this.pen.beginPath(); this.pen.moveTo(x, y);
    for (const point of [[u, v], wing(2.6), [u, v], wing(-2.6)]) this.pen.lineTo(...point);
    Object.assign(this.pen, {strokeStyle: colour(name), lineWidth: width}).stroke();
  }
  disc(x, y, radius, fill, stroke) {
    this.pen.beginPath();
    this.pen.arc(this.X(x), this.Y(y), radius, 0, 7);
    if (fill) Object.assign(this.pen, {fillStyle: colour(fill)}).fill();
    Object.assign(this.pen, {strokeStyle: colour(stroke), lineWidth: 1}).stroke();
  }
  curve(points, words, name, style) { // with its name at its right end
    this.path(points, name, {width: 2, ...style});
    const last = points.findLast(([, y]) => y !== null);
    if (last) this.ends.push([this.Y(last[1]), words, name]);
  }
  names() { // of the curves, pushed apart
    this.ends.sort((a, b) => a[0] - b[0]).forEach((end, i, all) => { if (i) end[0] = Math.max(end[0], all[i - 1][0] + 14); });
    let floor = this.h - 6;
    for (const end of this.ends.toReversed()) floor = (end[0] = Math.min(end[0], floor)) - 14;
    for (const [y, words, name] of this.ends) this.text(words, this.w - this.right + 6, y, name);
  }
}
function overTime(id, curves, range = null, log = false) {
  const height = (value) => value === null || value === undefined || (log && value <= 0) ? null : log ? Math.log10(value) : value;
  const lines = curves.map(([key]) => history.map((row) => [row.iteration, height(row[key])]));
  const values = lines.flat().map(([, y]) => y).filter((y) => y !== null);
  let [low, high] = range ?? (values.length ? [Math.min(...values), Math.max(...values)] : [0, 1]);
  if (log) [low, high] = [Math.floor(low), Math.ceil(high)];
  if (high - low < 1e-6) [low, high] = [low - 1, high + 1];
  const start = history[0].iteration, last = Math.max(history.at(-1).iteration, start + 10);
  const a = new Axes($(id), [start, last], [low, high]);
  for (const y of [low, (low + high) / 2, high]) if (!log || y % 1 === 0) a.rule(y, log ? `1e${y}` : +y.toPrecision(2));
  a.text(start, a.X(start), a.h - 7); a.text(`iteration ${last}`, a.X(last), a.h - 7, "quiet", "right");
  curves.forEach(([, words, name, dash], i) => a.curve(lines[i], words, name, {dash}));
  a.names();
}
function draw(whole = true) {
  const caption = PICTURES[state.game](state.picture);
  if ($("caption").dataset.game !== state.game)
    $("caption").replaceChildren(...caption.map((part) => typeof part === "string" ? part : make("b", part[0], {className: part[1]})));
  $("caption").dataset.game = state.game;
  if (!whole) return;
  overTime("costs", [["V", "V", "ink"], ["J(D)", "J(D)", "d", [6, 3]], ["J(G)", "J(G)", "g", [2, 2]]]);
  overTime("opinions", [["D(x)", "D(x)", "ink"], ["D(G(z))", "D(G(z))", "g", [2, 2]]], [0, 1]);
  overTime("gradients", [["‖∇J(D)‖", "D", "d", [6, 3]], ["‖∇J(G)‖", "G", "g"]], null, true);
  overTime("velocities", [["‖v_d‖", "D", "d", [6, 3]], ["‖v_g‖", "G", "g"]], null, true);
}

const square = (half) => { // axes whose units are as wide as they are high
  const wide = half * $("picture").clientWidth / $("picture").clientHeight;
  return new Axes($("picture"), [-wide, wide], [-half, half], {left: 0, right: 0, top: 0, bottom: 0});
};

const PICTURES = { // each draws its game, and returns the caption
  line({x, p_data, p_g, D, D_star, from, to}) {
    const end = 4 + state.settings.distance, a = new Axes($("picture"), [-4, end], [-0.5, 1.05], {right: 76});
    const on = (y, times = 1) => x.map((each, i) => [each, y[i] === null ? null : y[i] * times]).filter(([each]) => each > -4 && each < end);
    for (const [y, words] of [[0, "0"], [0.5, "½"], [1, "1"], [-0.16, "x"], [-0.46, "z"]]) a.rule(y, words);
    const reach = 3.6 / Math.max(1.74, ...from.map(Math.abs));
    from.forEach((z, i) => a.arrow(z * reach, -0.46, to[i], -0.16, "quiet"));
    a.curve(on(D_star), "D* of Eq. 2", "star", {width: 1.5});
    a.curve(on(p_data, 2), "p_data", "ink", {dash: [2, 3]});
    a.curve(on(p_g, 2), "p_g", "g"); a.curve(on(D), "D", "d", {dash: [7, 4]}); a.names();
    return [["D", "d"], " says how likely x is from the data; ", ["D*", "star"], " is the best D against this G. ", ["p_data", "ink"],
      " and ", ["p_g", "g"], " are drawn at twice their height. Arrows lead from z to x = G(z)."];
  },
  ring({samples, shade, at, slope}) {
    const a = square(3.4), n = Math.sqrt(shade.length), small = make("canvas", "", {width: n, height: n}), image = new ImageData(n, n);
    const [data, sample, paper] = ["star", "d", "paper"].map((name) => colour(name).match(/[\d.]+/g).map(Number));
    shade.forEach((value, i) => {
      const end = value > 127 ? data : sample, part = Math.abs(value / 127.5 - 1) * 0.75, pixel = 4 * ((n - 1 - Math.floor(i / n)) * n + i % n);
      for (const c of [0, 1, 2]) image.data[pixel + c] = paper[c] + (end[c] - paper[c]) * part;
      image.data[pixel + 3] = 255;
    });
    small.getContext("2d").putImageData(image, 0, 0);
    a.pen.drawImage(small, a.X(-3.4), a.Y(3.4), a.X(3.4) - a.X(-3.4), a.Y(-3.4) - a.Y(3.4));
    for (let mode = 0; mode < 8; mode++)
      a.disc(2 * Math.cos(mode * Math.PI / 4), 2 * Math.sin(mode * Math.PI / 4), a.X(0.45) - a.X(0), null, "ink");
    const most = Math.max(...slope.map(([x, y]) => Math.hypot(x, y)), 1e-12);
    slope.forEach(([dx, dy], i) => {
      const length = Math.hypot(dx, dy), size = 0.5 / Math.sqrt(length * most), [x, y] = at[i];
      if (length > most / 400) a.arrow(x, y, x + dx * size, y + dy * size, "quiet", 3);
    });
    for (const [x, y] of samples) a.disc(x, y, 2.6, "g", "paper");
    return [["Dots", "g"], " are samples of G, and circles hold the eight Gaussians of the data. ", ["Orange", "star"], ": D says data. ",
      ["Blue", "d"], ": D says sample. Arrows lead to where D rises."];
  },
  bilinear({orbit}) {
    const reach = 1.25 * Math.max(0.5, ...orbit.flat().map(Math.abs)), a = square(reach), [x, y] = orbit.at(-1);
    for (const end of [[9 * reach, 0], [0, reach]]) a.path([end.map((each) => -each), end], "rule");
    a.path(orbit, "ink", {width: 1.5});
    a.arrow(x, y, x - 0.3 * y, y, "g", 7, 2.5);
    a.arrow(x, y, x, y + 0.3 * x, "d", 7, 2.5);
    a.text("x, of G", a.w - 8, a.Y(0) - 10, "g", "right"); a.text("y, of D", a.X(0) + 8, 10, "d");
    return ["V = xy. ", ["G", "g"], " has only the number x, and makes V small. ", ["D", "d"],
      " has only y, and makes V large. The thick arrows are what each wants now. Only at (0, 0) would both rest."];
  },
};

onhashchange = () => begin(settingsOf(location.hash));
onpagehide = () => page && leave(page);
onpageshow = (event) => event.persisted && location.reload(); // its game was closed
begin(settingsOf(location.hash)).then(() => {
  const refused = $("problem").textContent;
  if (!page) begin({}).then(() => problem(refused));
});
