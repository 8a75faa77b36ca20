// Draws the page from its content. The text of a run reaches the page as text (textContent), never as HTML.
"use strict";
const byId = (id) => document.getElementById(id);
const LEFT = 46, TOP = 8, BOTTOM = 20, HEIGHT = 190, LINE = 13; // pixels
let latest = byId("content").textContent, content = JSON.parse(latest);
let epoch = Infinity; // the page's one cursor; Infinity is the end, also while the run goes on
let end = 2, followers = [], player = 0, drawn = 0; // end: the last epoch of the axes and of the slider

function el(name, text = "", kind = "", ...children) {
  const node = document.createElement(name);
  node.textContent = text;
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}

function svg(name, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

const letter = (i) => (content.runs.length > 1 ? "ABCDEFGH"[i] + " " : "");
const runName = (run, i) => el("b", letter(i) + run.name, "run" + (letter(i) && ` c${i}`));
const at = (list, e) => list[Math.max(0, list.findLastIndex((entry) => entry.epoch <= e))];

function table(head, rows) {
  const line = (kind, cells) => el("tr", "", "", ...cells.map((x) => (/^T[HD]$/.test(x.tagName) ? x : el(kind, "", "", x))));
  return el("table", "", "", ...(head ? [line("th", head)] : []), ...rows.map((row) => line("td", row)));
}

function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((n) => n * power >= rough);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
}

// ---- The curves

function lines(panel) { // of all runs; a cell that is empty was not measured
  return content.runs.flatMap((run, i) => Object.keys(panel.labels).map((key, k) => ({
    kind: content.runs.length > 1 ? `c${i}${k ? " dash" : ""}` : `c${k}`,
    label: letter(i) + (Object.keys(panel.labels).length > 1 ? panel.labels[key] + " " : ""),
    points: (run.columns[key] ?? []).map((text, j) => ({ epoch: Number(run.columns.epoch[j]), text, y: Number(text) }))
      .filter((point) => point.text !== ""),
  }))).filter((line) => line.points.length);
}

function chart(panel, figure) {
  const all = lines(panel);
  if (!all.length) return figure.append(el("p", "not measured yet", "soft"));
  const longest = Math.max(...all.map((line) => line.label.length + Math.max(...line.points.map((p) => p.text.length))));
  const width = Math.max(240, figure.clientWidth), right = width - 6.4 * longest - 12, bottom = HEIGHT - BOTTOM;
  const x = (e) => LEFT + (right - LEFT) * (e / end);
  const y = (v) => TOP + (bottom - TOP) * Math.min(1e4, Math.max(-1e4, (panel.high - v) / (panel.high - panel.low)));
  const inside = (v) => v >= panel.low && v <= panel.high;
  const root = svg("svg", { width, height: HEIGHT, role: "img" });
  for (const v of ticks(panel.low, panel.high, 5)) {
    root.append(svg("path", { class: "grid", d: `M${LEFT} ${y(v)}H${right}` }));
    root.append(svg("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, v));
  }
  for (const e of ticks(0, end, Math.max(2, Math.min(end, (right - LEFT) / 50))).filter(Number.isInteger)) {
    root.append(svg("text", { x: x(e), y: HEIGHT - 4, "text-anchor": "middle" }, e));
  }
  if (panel.equal !== null) root.append(svg("path", { class: "equal", d: `M${LEFT} ${y(panel.equal)}H${right}` }));
  const clip = svg("svg", { class: "clip", width: right + 3, height: bottom }), cursor = svg("path", { class: "cursor" });
  root.append(cursor, clip);
  let outside = 0;
  for (const line of all) {
    let d = "", pen = "M";
    for (const point of line.points) { // a number that is not finite is a gap
      if (Number.isFinite(point.y)) d += `${pen}${x(point.epoch).toFixed(1)} ${y(point.y).toFixed(1)}`;
      pen = Number.isFinite(point.y) ? "L" : "M";
      outside += !inside(point.y);
    }
    clip.append(svg("path", { class: line.kind, d }));
    for (const p of line.points.length < 60 ? line.points.filter((point) => inside(point.y)) : []) {
      clip.append(svg("circle", { class: line.kind, r: 2, cx: x(p.epoch), cy: y(p.y) }));
    }
    line.dot = svg("circle", { class: line.kind, r: 4 });
    line.text = svg("text", { class: `label ${line.kind}`, x: right + 8 });
    line.end = Math.min(bottom, Math.max(TOP, y(line.points.findLast((p) => Number.isFinite(p.y))?.y ?? panel.low)));
    root.append(line.dot, line.text);
  }
  const sorted = [...all].sort((a, b) => a.end - b.end);
  sorted.forEach((line, i) => { line.end = Math.max(line.end, i ? sorted[i - 1].end + LINE : TOP + LINE / 2); });
  const over = Math.max(0, sorted.at(-1).end - bottom);
  for (const line of sorted) line.text.setAttribute("y", line.end - over + 4);
  if (outside) root.append(svg("text", { x: LEFT + 4, y: bottom - 4 }, `${outside} point${outside > 1 ? "s" : ""} outside`));

  followers.push(() => {
    const e = Math.min(epoch, end);
    cursor.setAttribute("d", `M${x(e)} ${TOP}V${bottom}`);
    for (const line of all) {
      const point = at(line.points, e), seen = point.epoch <= e;
      line.text.textContent = line.label + (seen ? point.text : "");
      line.dot.setAttribute("cx", x(point.epoch));
      line.dot.setAttribute("cy", y(point.y) || 0);
      line.dot.setAttribute("visibility", seen && inside(point.y) ? "visible" : "hidden");
    }
    root.setAttribute("aria-label", `${panel.title}, epoch ${e}: ${all.map((line) => line.text.textContent).join(", ")}`);
  });
  for (const kind of ["pointermove", "pointerdown"]) root.addEventListener(kind, (event) => {
    move(Math.round((end * (event.clientX - root.getBoundingClientRect().left - LEFT)) / (right - LEFT)));
  });
  figure.append(root);
}

// ---- The samples, and how D judges them

function histogram(root, counts, rows) {
  const width = root.getBoundingClientRect().width, top = 18, half = 44, most = Math.max(1, ...counts.flat()), bar = width / counts[0].length;
  root.replaceChildren(svg("path", { class: "grid", d: `M0 ${top + half}H${width}` }));
  counts.forEach((list, k) => list.forEach((count, i) => {
    const height = (half * count) / most;
    const rect = svg("rect", { class: `c${k}`, x: i * bar + 0.5, y: top + half - (k ? 0 : height), width: Math.max(1, bar - 1), height });
    rect.append(svg("title", {}, `D from ${i / list.length} to ${(i + 1) / list.length}: ${count} of ${rows} ${k ? "samples" : "data"}`));
    root.append(rect);
  }));
  ["start", "middle", "end"].forEach((anchor, i) => root.append(
    svg("text", { class: `label c${i / 2}`, x: (i * width) / 2, y: 10, "text-anchor": anchor }, ["data, up", "", "samples, down"][i]),
    svg("text", { x: (i * width) / 2, y: top + 2 * half + 14, "text-anchor": anchor }, ["D = 0", "½", "1"][i])));
}

function samples(run, i) {
  const figure = el("figure"), image = el("img"), box = el("div", "", "picture", image), caption = el("figcaption");
  const root = svg("svg", { height: 124, role: "img", "aria-label": "D of data, above the line, and of samples" }), [first, last] = [run.pictures[0], run.pictures.at(-1)];
  figure.append(...(letter(i) ? [runName(run, i)] : []), box, caption, root);
  byId("samples").append(figure);
  if (!last) return figure.append(el("p", "There are no pictures of its samples.", "soft"));
  const data = Object.assign(el("img"), { src: first.source, alt: "images of the data" });
  const beside = el("details", "", "", el("summary", "the data"), el("div", "", "picture data", data));
  figure.append(beside);
  beside.hidden = true; // unless the first picture has the data on its left
  const ends = [first, last].map((picture) => Object.assign(new Image(), { src: picture.source }));
  Promise.all(ends.map((picture) => picture.decode())).then(() => {
    const [a, b] = ends.map((picture) => picture.naturalWidth / picture.naturalHeight);
    for (const each of figure.querySelectorAll(".picture")) each.style.aspectRatio = b;
    beside.hidden = a < 1.5 * b;
  }, () => {}); // a picture that cannot be drawn has its text
  followers.push(() => {
    const picture = at(run.pictures, epoch), { distinct, verdict, counts } = picture;
    if (image.getAttribute("src") !== picture.source) image.src = picture.source;
    image.alt = `samples after epoch ${picture.epoch}`;
    const different = distinct && `${distinct} of ${run.rows} distinct (data: ${run.distinct_data})`;
    caption.textContent = [`Epoch ${picture.epoch}`, verdict, different].filter(Boolean).join(" · ");
    root.style.display = counts.every((list) => list.length) ? "" : "none";
    if (!root.style.display) histogram(root, counts, run.rows);
  });
}

// ---- The whole page

function move(to) { // the cursor of the slider, of the curves and of the samples
  epoch = to < end ? Math.max(0, to) : Infinity;
  byId("now").textContent = byId("epoch").value = Math.min(epoch, end);
  for (const follow of followers) follow();
}

function fill(id, rows, head) { // a section with nothing to show is hidden
  byId(id).hidden = !rows.length;
  byId(id).querySelector(".wide").replaceChildren(table(head, rows));
}

function compare(id) { // a table of the runs' values by name, and what departs from the recipe
  const { runs } = content, names = [...new Set(runs.flatMap((run) => Object.keys(run[id])))];
  fill(id, names.map((name) => [el("th", name), ...runs.map((run) => {
    const departs = id === "settings" && Object.hasOwn(run.departures ?? {}, name);
    const cell = el("td", Object.hasOwn(run[id], name) ? run[id][name] : "–", departs ? "departs" : "");
    if (departs) cell.append(el("small", `recipe: ${run.departures[name]}`));
    return cell;
  })]), runs.length > 1 && ["", ...runs.map(runName)]);
}

function draw() {
  const { runs } = content, open = [...document.querySelectorAll("details")].map((each) => each.open);
  followers = [];
  for (const id of ["runs", "samples", "curves"]) byId(id).replaceChildren();
  document.body.className = runs.length > 1 ? "" : "one";
  runs.forEach((run, i) => byId("runs").append(
    el("article", "", "", el("h1", "", "", runName(run, i)), el("small", run.state), el("p", run.reading || (run.pictures.findLast((each) => each.verdict)?.verdict ?? "")))));
  byId("epoch").max = end = Math.max(2, ...runs.flatMap((run) => [run.columns.epoch?.at(-1) ?? 0, run.pictures.at(-1)?.epoch ?? 0]));
  runs.forEach(samples);
  const figures = content.panels.map((panel) => el("figure", "", "", el("b", panel.title)));
  byId("curves").append(...figures); // all of them first: then each has its width
  content.panels.forEach((panel, i) => chart(panel, figures[i]));
  const nearest = runs.map((run, i) => run.nearest && el("figure", "", "", runName(run, i),
    Object.assign(el("img"), { src: run.nearest, alt: "samples, and training images nearest to some" }))).filter(Boolean);
  byId("nearest").hidden = !nearest.length;
  byId("nearest").querySelector(".row").replaceChildren(...nearest);
  fill("parzen", runs.flatMap((run, i) => run.parzen.map((score) => [runName(run, i), ...score.line])),
    ["run", "grid of σ", "σ", "log-likelihood, nats", "samples", "validation images", "test images"]);
  byId("parzen").querySelector(".wide").append(...runs.flatMap((run, i) => run.parzen.map((score) => el("details", "", "",
    el("summary", `${letter(i)}${score.line[0]}: what σ was chosen from`), table(["σ", "validation, nats"], score.chosen)))));
  const cautions = runs.map((run) => [...new Set(run.parzen.flatMap((score) => score.warnings).concat(run.cautions))]);
  byId("cautions").replaceChildren(...cautions.flatMap((texts, i) => texts.map((text) => el("li", letter(i) + text))));
  compare("settings");
  compare("environment");
  byId("departures").replaceChildren(...runs.map((run, i) => el("p", letter(i) + (run.departures === null
    ? "This run did not write its recipe, so what departs from it is not known."
    : `Departures from the recipe: ${Object.keys(run.departures).join(", ") || "none"}.`))));
  const uses = ["repeat it, in a new folder", "resume it; with --epochs, to more epochs"];
  byId("commands").replaceChildren(el("h2", "Commands"), ...runs.flatMap((run, i) => run.commands.flatMap((command, k) => [
    el("div", letter(i) + uses[k]), el("pre", command)])));
  byId("commands").hidden = !runs.some((run) => run.commands.length);
  byId("missing").hidden = !runs.some((run) => run.missing.length);
  byId("missing").querySelector("ul").replaceChildren(...runs.flatMap((run, i) => run.missing.map((text) => el("li", letter(i) + text))));
  document.querySelectorAll("details").forEach((each, i) => { each.open = open[i] ?? false; });
  move(epoch);
}

function play() { // from the start if it is at the end; or stop
  if (!player && epoch === Infinity) move(0);
  player = player ? clearInterval(player) : setInterval(() => (epoch < end ? move(epoch + Math.ceil(end / 100)) : play()), 100);
  byId("play").textContent = player ? "stop" : "play";
}

async function poll() {
  try {
    const text = await (await fetch("data")).text();
    byId("live").textContent = `live, looked at ${new Date().toLocaleTimeString()}`;
    if (text !== latest) { content = JSON.parse(latest = text); draw(); }
  } catch {
    byId("live").textContent = "The server has stopped: the page stays as it was.";
  }
}

byId("epoch").addEventListener("input", (event) => move(Number(event.target.value)));
byId("play").addEventListener("click", play);
new ResizeObserver(([body]) => { if (drawn !== body.contentRect.width) { drawn = body.contentRect.width; draw(); } }).observe(document.body);
if (content.live) setInterval(poll, 2000);
