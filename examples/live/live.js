"use strict";
// The page asks the server to run lines or iterations, one request at a time, and draws the state that each answer holds.
// Nothing is computed here: every number shown is in the answer.

const $ = (id) => document.getElementById(id);
const element = (tag, text = "", attributes = {}) => Object.assign(document.createElement(tag), {textContent: text}, attributes);
const SPEEDS = [ // what the slider's positions are called; milliseconds from one picture to the next; what runs in between
  ["1 line a second", 1000, {lines: 1}], ["4 lines a second", 250, {lines: 1}], ["15 lines a second", 66, {lines: 1}],
  ["1 iteration a picture", 25, {iterations: 1}], ["3 iterations a picture", 25, {iterations: 3}],
  ["10 iterations a picture", 25, {iterations: 10}], ["30 iterations a picture", 25, {iterations: 30}],
];
const KEPT = 900; // points of each curve

let page = null; // the answer to "new": the session's name, the source, the settings' bounds, the situations
let state = null; // the last answer
let history = [];
let running = false, busy = false, due = 0, pictures = [];

// ---- The server

async function call(name, body) {
  let answer;
  try {
    answer = await fetch(name, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
  } catch {
    throw new Error("The server has stopped. Start it again with: python examples/live.py");
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

async function ask(name, body) { // one request at a time; true if it was answered
  if (busy) return false;
  busy = true;
  try {
    state = await call(name, body);
    problem(state.error);
    return true;
  } catch (error) {
    problem(error.message);
    return false;
  } finally {
    busy = false;
  }
}

function problem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text;
  if (text) run(false);
}

async function begin(settings) { // a new game, in a session of its own
  const before = page;
  if (!await ask("new", {settings})) return;
  if (before) call("close", {session: before.session}).catch(() => {});
  page = state;
  history = [];
  if (!before) build();
  show();
}

async function advance(what) {
  if (page && await ask("step", {session: page.session, ...what})) show();
}

// ---- The address: behind its # are the settings that differ from the defaults

function settingsOf(fragment) {
  const value = (text) => text.trim() && isFinite(text) ? Number(text) : text;
  return Object.fromEntries([...new URLSearchParams(fragment.slice(1))].map(([name, text]) => [name, value(text)]));
}

function fragmentOf(settings) {
  const other = Object.entries(settings).filter(([name, value]) => value !== page.bounds[name].default);
  return "#" + new URLSearchParams(other);
}

// ---- Controls

function build() {
  Object.entries(page.situations).forEach(([title, {settings}], i) => {
    const button = element("button", title + " ", {onclick: () => begin(settings)});
    button.append(element("kbd", i + 1));
    $("situations").append(button);
  });
  for (const [name, bound] of Object.entries(page.bounds)) {
    const label = element("label", bound.label, {title: bound.title});
    const control = bound.choices.length
      ? element("select") : element("input", "", {type: "number", min: bound.low, max: bound.high, step: bound.step});
    control.name = name;
    control.append(...bound.choices.map((choice) => element("option", choice)));
    label.append(control);
    $("settings").append(label);
  }
}

$("settings").onchange = ({target}) => {
  if (!target.reportValidity()) return;
  const value = target.type === "number" ? target.valueAsNumber : target.value;
  change({...state.settings, [target.name]: value});
};
$("settings").onsubmit = (event) => event.preventDefault();

async function change(settings) {
  while (busy) await new Promise((done) => setTimeout(done, 5));
  await advance({settings});
}

function run(on) {
  running = on;
  $("run").firstChild.textContent = on ? "pause" : "run";
  $("run").setAttribute("aria-pressed", on);
  due = 0;
  pictures = [];
}

const ACTIONS = {
  n: () => { run(false); advance({lines: 1}); },
  i: () => { run(false); advance({iterations: 1}); },
  p: () => run(!running),
  r: () => { run(false); begin(state ? state.settings : {}); },
  t: () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
      || (!document.documentElement.style.colorScheme && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.style.colorScheme = dark ? "light" : "dark";
    recolour();
  },
  "+": () => speed(1),
  "-": () => speed(-1),
};
$("line").onclick = ACTIONS.n;
$("iteration").onclick = ACTIONS.i;
$("run").onclick = ACTIONS.p;
$("reset").onclick = ACTIONS.r;
$("theme").onclick = ACTIONS.t;

function speed(step) {
  $("speed").value = Number($("speed").value) + step;
  $("rate").textContent = SPEEDS[$("speed").value][0];
  pictures = [];
}
$("speed").oninput = () => speed(0);
speed(0);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=number]")) return;
  const key = {" ": "p", "=": "+"}[event.key] ?? event.key;
  if (event.key === " " && event.target.matches("button")) return; // it presses the button
  const situation = $("situations").children[Number(key) - 1];
  if (situation) situation.click();
  else if (ACTIONS[key]) ACTIONS[key]();
  else return;
  event.preventDefault();
});

function tick(now) {
  requestAnimationFrame(tick);
  if (!running || busy || now < due) return;
  const [, pause, what] = SPEEDS[$("speed").value];
  due = Math.max(due, now - pause) + pause;
  advance(what);
}
requestAnimationFrame(tick);
setInterval(() => running || document.hidden || advance({}), 4000); // a server that has stopped is seen, and the game is kept

// ---- What an answer shows

const format = (value) => value === null || value === undefined ? "–"
  : Number.isInteger(value) ? String(value) : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3
    ? value.toExponential(2) : value.toPrecision(4);

function show() {
  const {settings, numbers} = state;
  window.history.replaceState(null, "", fragmentOf(settings));
  if (history.at(-1)?.iteration === state.iteration) history.pop();
  history.push({iteration: state.iteration, ...numbers});
  if (history.length > KEPT) history = history.filter((_, i) => i % 2 === 0 || i === history.length - 1);
  for (const control of $("settings").elements)
    if (control !== document.activeElement || control.type !== "number") control.value = settings[control.name];
  const same = (situation) => Object.entries(settings).every(([name, value]) => situation.settings[name] === value);
  let shown = null;
  Object.values(page.situations).forEach((situation, i) => {
    const pressed = same(situation);
    if (pressed) shown = situation;
    $("situations").children[i].setAttribute("aria-pressed", pressed);
  });
  if (shown) {
    $("why").hidden = false;
    $("why").children[0].textContent = shown.why;
    $("why").children[1].textContent = `examples/GUIDE.md, “${shown.section}”`;
  }
  $("waiting").hidden = !state.waiting;
  pictures = [...pictures.filter((time) => time > performance.now() - 2000), performance.now()];
  const rate = running && pictures.length > 20 ? `, ${Math.round((pictures.length - 1) / (pictures.at(-1) - pictures[0]) * 1000)} pictures a second` : "";
  $("status").textContent = `iteration ${state.iteration}${rate}`;
  showCode();
  $("unit").textContent = state.unit;
  $("changed").replaceChildren(...(state.changed.length ? state.changed.map(changed) : [element("li", "nothing")]));
  $("numbers").replaceChildren(...Object.entries(numbers).map(([name, value]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", format(value)));
    return pair;
  }));
  draw();
}

function showCode() {
  const names = Object.keys(state.here), last = names.at(-1);
  list($("outer"), names[0]);
  const inner = names[1] ?? (state.ran && state.ran[0] !== names[0] ? state.ran[0] : null);
  const first = names[0] === "Simultaneous.iteration" ? "Simultaneous.simultaneous_step" : "GAN.discriminator_step";
  list($("inner"), inner ?? (history.length > 1 && $("inner").dataset.outer === names[0] ? $("inner").dataset.name : first));
  $("inner").dataset.outer = names[0];
  document.querySelectorAll("li.ran, li.next, li.inside").forEach((item) => item.classList.remove("ran", "next", "inside"));
  const mark = (name, line, kind) => document.querySelector(`[data-name="${name}"] [data-line="${line}"]`)?.classList.add(kind);
  for (const name of names) mark(name, state.here[name], name === last ? "next" : "inside");
  if (state.ran) mark(...state.ran, "ran");
}

function list(target, name) { // the source of a function
  if (target.dataset.name === name) return;
  target.dataset.name = name;
  const {first, lines} = page.sources[name];
  let quoted = false;
  target.replaceChildren(...lines.map((line, i) => {
    const quotes = line.split('"""').length - 1;
    const item = element("li", "", {className: quoted || quotes || line.trim().startsWith("#") ? "remark" : ""});
    if (quotes === 1) quoted = !quoted;
    item.dataset.line = first + i;
    item.append(element("code", line.slice(4) || " "));
    return item;
  }));
}

function changed({name, shape, norm, low, high, counts, value, text, new: isNew}) {
  const item = element("li");
  item.append(element("code", name));
  if (shape) {
    item.append(element("span", `(${shape.join(", ")})`));
    item.append(element("span", isNew ? `norm ${format(norm)}` : `moved by ${format(norm)}`));
    const most = Math.max(...counts, 1);
    const bars = counts.map((count, i) => `M${i * 4} 24h3v${-24 * count / most}h-3z`).join("");
    item.insertAdjacentHTML("beforeend", `<svg viewBox="0 0 96 24" role="img"><path d="${bars}"/></svg>`);
    item.append(element("i", `${format(low)} … ${format(high)}`));
  } else item.append(element("span", text ?? `= ${format(value)}`));
  return item;
}

// ---- Drawing

let colours = {};
const probe = document.body.appendChild(element("i", "", {hidden: true}));
function colour(name) { // of the style sheet, in the present theme
  if (!colours[name]) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  return colours[name];
}
function recolour() {
  colours = {};
  if (state) draw();
}
matchMedia("(prefers-color-scheme: dark)").onchange = recolour;
addEventListener("resize", () => state && draw());

function axes(canvas, [x0, x1], [y0, y1], {right = 70, left = 38, bottom = 20, top = 8} = {}) {
  const scale = devicePixelRatio, w = canvas.clientWidth, h = canvas.clientHeight, context = canvas.getContext("2d");
  if (canvas.width !== Math.round(w * scale) || canvas.height !== Math.round(h * scale))
    [canvas.width, canvas.height] = [Math.round(w * scale), Math.round(h * scale)];
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, w, h);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  const X = (x) => left + (x - x0) / (x1 - x0) * (w - left - right);
  const Y = (y) => top + (y1 - y) / (y1 - y0) * (h - top - bottom);
  const ends = [];
  const path = (points, name, {dash = [], width = 2} = {}) => {
    context.beginPath();
    let drawn = false;
    for (const [x, y] of points) {
      if (y === null || y === undefined || !isFinite(y)) drawn = false;
      else if (drawn) context.lineTo(X(x), Y(y));
      else { context.moveTo(X(x), Y(y)); drawn = true; }
    }
    context.strokeStyle = colour(name);
    context.lineWidth = width;
    context.setLineDash(dash);
    context.stroke();
    context.setLineDash([]);
  };
  const text = (words, x, y, name = "quiet", align = "left") => {
    context.fillStyle = colour(name);
    context.textAlign = align;
    context.fillText(words, x, y);
  };
  const arrow = (xa, ya, xb, yb, name, head = 4) => { // in pixels
    const angle = Math.atan2(yb - ya, xb - xa);
    context.strokeStyle = colour(name);
    context.beginPath();
    context.moveTo(xa, ya);
    context.lineTo(xb, yb);
    for (const turn of [2.6, -2.6]) {
      context.moveTo(xb, yb);
      context.lineTo(xb + head * Math.cos(angle + turn), yb + head * Math.sin(angle + turn));
    }
    context.stroke();
  };
  return {
    context, X, Y, path, text, arrow, w, h,
    curve(points, words, name, style) { // with its name at its right end
      path(points, name, style);
      const last = points.findLast(([, y]) => y !== null && y !== undefined && isFinite(y));
      if (last) ends.push([Y(last[1]), words, name]);
    },
    name() { // the names at the right ends, pushed apart
      ends.sort((a, b) => a[0] - b[0]);
      ends.forEach((end, i) => { if (i) end[0] = Math.max(end[0], ends[i - 1][0] + 14); });
      for (let i = ends.length - 1, floor = h - 8; i >= 0; floor = ends[i][0] - 14, i--) ends[i][0] = Math.min(ends[i][0], floor);
      for (const [y, words, name] of ends) text(words, w - right + 6, y, name);
    },
    rule(y, words) {
      path([[x0, y], [x1, y]], "rule", {width: 1});
      text(words, left - 6, Y(y), "quiet", "right");
    },
  };
}

function draw() {
  PICTURES[state.game](state.picture);
  overTime($("costs"), [["V", "V", "ink"], ["J(D)", "J(D)", "d", [6, 3]], ["J(G)", "J(G)", "g", [2, 2]]]);
  overTime($("opinions"), [["D(x)", "D(x)", "data"], ["D(G(z))", "D(G(z))", "g", [2, 2]]], [0, 1]);
  overTime($("gradients"), [["‖∇J(D)‖", "D", "d", [6, 3]], ["‖∇J(G)‖", "G", "g"]]);
  overTime($("velocities"), [["‖v_d‖", "D", "d", [6, 3]], ["‖v_g‖", "G", "g"]]);
}

function overTime(canvas, curves, range = null) {
  const log = canvas.id === "gradients" || canvas.id === "velocities";
  const height = (value) => value === null || value === undefined || (log && value <= 0) ? null : log ? Math.log10(value) : value;
  const values = history.flatMap((row) => curves.map(([key]) => height(row[key]))).filter((value) => value !== null);
  let [low, high] = range ?? [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
  if (!values.length) [low, high] = range ?? [0, 1];
  if (log) [low, high] = [Math.floor(low), Math.ceil(high)];
  if (high - low < 1e-6) [low, high] = [low - 1, high + 1];
  const last = Math.max(history.at(-1).iteration, 10), a = axes(canvas, [0, last], [low, high]);
  for (const y of [low, (low + high) / 2, high]) a.rule(y, log ? `1e${+y.toFixed(1)}` : +y.toPrecision(2));
  a.text("0", a.X(0), a.h - 8, "quiet", "center");
  a.text(`iteration ${last}`, a.X(last), a.h - 8, "quiet", "right");
  for (const [key, words, name, dash] of curves) a.curve(history.map((row) => [row.iteration, height(row[key])]), words, name, {dash});
  a.name();
}

const legend = (...parts) => {
  $("caption").replaceChildren(...parts.map((part) => typeof part === "string" ? part : element("b", part[0], {className: part[1]})));
};

const PICTURES = {
  line({x, p_data, p_g, D, D_star, from, to}) {
    const a = axes($("picture"), [-4, 4], [-0.5, 1.05], {right: 60, left: 30}), zip = (y, times = 1) =>
      x.map((each, i) => [each, y[i] === null ? null : y[i] * times]).filter(([each]) => Math.abs(each) <= 4);
    a.rule(0, "0"); a.rule(0.5, "½"); a.rule(1, "1");
    for (const [y, words] of [[-0.16, "x"], [-0.46, "z"]]) { a.rule(y, words); a.path([[-4, y], [4, y]], "quiet", {width: 1}); }
    a.context.lineWidth = 1;
    const reach = Math.max(1.74, ...from.map(Math.abs));
    from.forEach((z, i) => a.arrow(a.X(z / reach * 3.6), a.Y(-0.46), a.X(to[i]), a.Y(-0.16), "quiet"));
    a.curve(zip(D_star), "D* (Eq. 2)", "star", {width: 1.5});
    a.curve(zip(p_data, 2), "p_data", "data", {dash: [2, 3]});
    a.curve(zip(p_g, 2), "p_g", "g");
    a.curve(zip(D), "D", "d", {dash: [7, 4]});
    a.name();
    legend("Figure 1. ", ["dotted", "data"], ": p_data; ", ["solid", "g"], ": p_g (both at twice their height); ", ["dashed", "d"],
      ": D(x); ", ["thin", "star"], ": D*, the best D against this G. Arrows lead from z to x = G(z).");
  },
  ring({samples, shade, at, slope}) {
    const canvas = $("picture"), half = 3.4, wide = half * canvas.clientWidth / canvas.clientHeight;
    const a = axes(canvas, [-wide, wide], [-half, half], {left: 0, right: 0, top: 0, bottom: 0}), n = Math.sqrt(shade.length);
    const [data, sample, paper] = ["star", "d", "paper"].map((name) => colour(name).match(/[\d.]+/g).map(Number));
    const small = element("canvas", "", {width: n, height: n}), image = new ImageData(n, n);
    shade.forEach((value, i) => {
      const D = value / 255, end = D > 0.5 ? data : sample, part = Math.abs(2 * D - 1) * 0.75, at = 4 * ((n - 1 - Math.floor(i / n)) * n + i % n);
      for (const c of [0, 1, 2]) image.data[at + c] = paper[c] + (end[c] - paper[c]) * part;
      image.data[at + 3] = 255;
    });
    small.getContext("2d").putImageData(image, 0, 0);
    a.context.drawImage(small, a.X(-half), a.Y(half), a.X(half) - a.X(-half), a.Y(-half) - a.Y(half));
    a.context.lineWidth = 1;
    for (let mode = 0; mode < 8; mode++) {
      a.context.beginPath();
      a.context.arc(a.X(2 * Math.cos(mode * Math.PI / 4)), a.Y(2 * Math.sin(mode * Math.PI / 4)), a.X(0.45) - a.X(0), 0, 7);
      a.context.strokeStyle = colour("ink");
      a.context.stroke();
    }
    const most = Math.max(...slope.map(([x, y]) => Math.hypot(x, y)), 1e-12);
    slope.forEach(([dx, dy], i) => {
      const length = Math.hypot(dx, dy), size = 0.5 * Math.sqrt(length / most) / Math.max(length, 1e-12), [x, y] = at[i];
      if (length > most / 400) a.arrow(a.X(x), a.Y(y), a.X(x + dx * size), a.Y(y + dy * size), "quiet", 3);
    });
    a.context.fillStyle = colour("g");
    a.context.strokeStyle = colour("paper");
    for (const [x, y] of samples) {
      a.context.beginPath();
      a.context.arc(a.X(x), a.Y(y), 2.6, 0, 7);
      a.context.fill();
      a.context.stroke();
    }
    legend(["dots", "g"], ": samples of G; circles: the eight Gaussians of the data, 3σ; ", ["orange", "star"], ": D says data; ",
      ["blue", "d"], ": D says sample. Arrows lead where D rises.");
  },
  bilinear({orbit}) {
    const canvas = $("picture"), reach = 1.25 * Math.max(0.5, ...orbit.flat().map(Math.abs));
    const wide = reach * canvas.clientWidth / canvas.clientHeight, a = axes(canvas, [-wide, wide], [-reach, reach], {left: 0, right: 0, top: 0, bottom: 0});
    a.path([[-wide, 0], [wide, 0]], "rule", {width: 1});
    a.path([[0, -reach], [0, reach]], "rule", {width: 1});
    a.context.lineWidth = 1;
    for (let i = -4; i <= 4; i++) for (let j = -4; j <= 4; j++) {
      const [x, y] = [i * reach / 4.5, j * reach / 4.5];
      a.arrow(a.X(x), a.Y(y), a.X(x - 0.12 * y), a.Y(y + 0.12 * x), "rule", 3);
    }
    a.path(orbit, "ink", {width: 1.5});
    const [x, y] = orbit.at(-1);
    a.context.lineWidth = 2.5;
    a.arrow(a.X(x), a.Y(y), a.X(x - 0.3 * y), a.Y(y), "g", 7);
    a.arrow(a.X(x), a.Y(y), a.X(x), a.Y(y + 0.3 * x), "d", 7);
    a.text("x, G’s number", a.w - 8, a.Y(0) - 10, "g", "right");
    a.text("y, D’s number", a.X(0) + 8, 12, "d");
    legend("V = xy. ", ["G", "g"], " has the number x alone and makes V small, ", ["D", "d"],
      " has y alone and makes V large. The two thick arrows are what each wants now. The only point at rest is (0, 0).");
  },
};

begin(settingsOf(location.hash)).then(() => page || begin({}));
addEventListener("hashchange", () => begin(settingsOf(location.hash)));
addEventListener("pagehide", () => page && navigator.sendBeacon(
  "close", new Blob([JSON.stringify({session: page.session})], {type: "application/json"})));
addEventListener("pageshow", (event) => event.persisted && location.reload()); // back to a page whose game was closed
