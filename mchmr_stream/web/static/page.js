// The page: what comes over the connection into its panels, and what is done in them back.

import { Stage } from "./bodies.js";
import { Chart } from "./chart.js";
import { Connection } from "./connection.js";

const byId = (id) => document.getElementById(id);
const root = document.documentElement;
const GONE_S = 2;

let sources = [], source = null, status = null, hello = null;
let shown = 0, connected = false;
const ages = new Map(); // of each source: [when, age]
const people = new Map(); // of the source shown: id -> {told, ageS, atMs}

const stage = new Stage(byId("stage"));
const chart = new Chart(byId("chart"));
const picture = byId("picture").getContext("2d");

// ---- what comes -------------------------------------------------------------------------------------------------------------

const connection = new Connection({
  opened() {
    connected = true;
    if (source !== null) connection.send({ kind: "watch", source });
    say();
  },
  lost() {
    connected = false;
    say();
  },
  hello(message) {
    hello = message;
    sources = message.sources;
    if (!sources.includes(source)) choose(sources[0]);
    else connection.send({ kind: "watch", source });
    listSources();
    for (const slider of sliders()) limit(slider, message.ranges[slider.dataset.setting]);
    byId("strength").disabled = !message.smooths;
    byId("record").disabled = false;
    byId("record-to").textContent = `to ${message.record_to}`;
    chart.historyS = message.history_s;
    chart.targetMs = message.target_age_s === null ? null : 1000 * message.target_age_s;
  },
  body(header, faces) {
    stage.setBody(header, faces);
  },
  status(message) {
    status = message;
    for (const name of sources) remember(name, message.ages[name] ?? []);
    showFigures();
    showSettings();
    showRecording();
    showPeople();
    say();
  },
  refused(message) {
    complain(message.text);
  },
  async scene(header, points, jpeg) {
    if (header.source !== source) return;
    const bitmap = await createImageBitmap(jpeg);
    await new Promise(requestAnimationFrame); // not before the page is looked at
    const { canvas } = picture;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      byId("picture-card").style.setProperty("--shape", `${bitmap.width} / ${bitmap.height}`);
    }
    picture.drawImage(bitmap, 0, 0);
    bitmap.close();
    byId("nothing").hidden = true;
    byId("size").textContent = `${header.width} × ${header.height}`;
    stage.show(header, points);
    for (const told of header.people) people.set(told.id, { told, ageS: header.age_s, atMs: performance.now() });
    showPeople();
    root.dataset.shown = String(++shown);
  },
});

function remember(name, entries) {
  const kept = ages.get(name) ?? [];
  const last = kept.length ? kept[kept.length - 1][0] : -Infinity;
  for (const entry of entries) if (entry[0] > last) kept.push(entry);
  const from = (kept.length ? kept[kept.length - 1][0] : 0) - (hello?.history_s ?? 60);
  kept.splice(0, kept.findIndex(([at]) => at >= from) > 0 ? kept.findIndex(([at]) => at >= from) : 0);
  ages.set(name, kept);
}

// ---- panels -----------------------------------------------------------------------------------------------------------------

function say() {
  const mine = status?.sources.find(({ name }) => name === source);
  const [state, text] = !connected ? ["lost", "Connection lost, trying again…"]
    : !mine ? ["connecting", "Connecting…"]
    : mine.error ? ["lost", mine.error]
    : !mine.connected ? ["connecting", "Source not connected"]
    : ["live", "Live"];
  const place = byId("state");
  if (place.textContent !== text) place.textContent = text;
  place.dataset.state = state;
}

function showFigures() {
  const mine = status.sources.find(({ name }) => name === source);
  if (!mine) return;
  const ms = (seconds) => `${Math.round(1000 * seconds)} ms`;
  byId("fps").textContent = mine.fps.toFixed(1);
  byId("age").textContent = ms(mine.age_p50_s);
  byId("age-p99").textContent = ms(mine.age_p99_s);
  byId("dropped").textContent = mine.decoded ? `${mine.dropped} (${Math.round((100 * mine.dropped) / mine.decoded)} %)` : "0";
  byId("reconnects").textContent = mine.reconnects;
  const entries = ages.get(source) ?? [];
  chart.show(entries, entries.length ? entries[entries.length - 1][0] : 0);
}

function showPeople() {
  const nowMs = performance.now();
  for (const [id, { atMs }] of people) if (nowMs - atMs > 1000 * GONE_S) people.delete(id);
  const body = byId("people").tBodies[0];
  const rows = [...people.values()].sort((a, b) => a.told.id - b.told.id);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  while (body.rows.length < rows.length) {
    const row = body.insertRow();
    row.innerHTML = '<td><span class="who"><i></i><b></b></span></td><td><span class="bar"><i></i></span><span></span></td>'
      + '<td class="number"></td><td class="number"></td>';
  }
  rows.forEach(({ told, ageS, atMs }, index) => {
    const row = body.rows[index], [who, confidence, since, age] = row.cells;
    row.className = told.interpolated ? "guessed" : "";
    row.title = told.interpolated ? "no picture evidence stands behind this" : "";
    who.querySelector("i").style.background = `rgb(${told.colour.map((part) => Math.round(255 * part)).join(" ")})`;
    who.querySelector("b").textContent = told.id;
    confidence.querySelector("i").style.width = `${Math.round(100 * told.confidence)}%`;
    confidence.lastChild.textContent = told.confidence.toFixed(2);
    since.textContent = `${told.in_view_s.toFixed(0)} s`;
    age.textContent = `${Math.round(1000 * ageS + nowMs - atMs)} ms`;
  });
  byId("people").hidden = !rows.length;
  byId("nobody").hidden = rows.length > 0;
  byId("count").textContent = rows.length ? String(rows.length) : "";
}

const sliders = () => [...document.querySelectorAll("[data-setting]")];
const fromSlider = (slider) => ("log" in slider.dataset ? Number((10 ** slider.valueAsNumber).toPrecision(2)) : slider.valueAsNumber);
const output = (slider) => document.querySelector(`output[for="${slider.id}"]`);
const dragged = new Map(); // slider -> when it was last moved

function limit(slider, [low, high]) {
  const scale = "log" in slider.dataset ? Math.log10 : Number;
  slider.min = scale(low);
  slider.max = scale(high);
  slider.disabled = low === high;
}

function showSettings() {
  for (const slider of sliders()) {
    if (performance.now() - (dragged.get(slider) ?? -Infinity) < 1000) continue;
    const value = status.chosen[slider.dataset.setting];
    slider.value = "log" in slider.dataset ? Math.log10(value) : value;
    output(slider).textContent = String(value);
  }
  const { chosen, now } = status;
  const eased = chosen["crops.views"] !== now["crops.views"] || chosen["detector.interval"] !== now["detector.interval"];
  byId("relief").hidden = !eased;
  byId("relief").textContent = `To keep the target age: ${now["crops.views"]} crops, detector on each ${now["detector.interval"]}. picture`;
}

for (const slider of sliders()) {
  let waiting = null;
  slider.addEventListener("input", () => {
    dragged.set(slider, performance.now());
    output(slider).textContent = String(fromSlider(slider));
    clearTimeout(waiting);
    waiting = setTimeout(() => connection.send({ kind: "change", name: slider.dataset.setting, value: fromSlider(slider) }), 60);
  });
}

function showRecording() {
  const { active, seconds, left_out: leftOut, files, error } = status.recording;
  const button = byId("record");
  button.setAttribute("aria-pressed", String(active));
  const clock = `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  byId("record-text").textContent = active ? `Stop · ${clock}` : "Record";
  for (const id of ["record-npz", "record-overlay"]) byId(id).disabled = active;
  const nothing = !active && seconds > 0 && !files.length && !error;
  const lines = [...files.slice(-4), ...(nothing ? ["no result came while it was recording"] : []),
    ...(leftOut ? [`${leftOut} pictures left out for want of time`] : []), ...(error ? [error] : [])];
  const list = byId("recorded");
  if (list.textContent !== lines.join("")) {
    list.replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
}

byId("record").addEventListener("click", () => {
  if (status?.recording.active) connection.send({ kind: "stop" });
  else connection.send({ kind: "record", npz: byId("record-npz").checked, overlay: byId("record-overlay").checked });
});

function listSources() {
  byId("sources").replaceChildren(...(sources.length < 2 ? [] : sources).map((name) => {
    const label = document.createElement("label"), input = document.createElement("input"), text = document.createElement("span");
    Object.assign(input, { type: "radio", name: "source", checked: name === source });
    input.addEventListener("change", () => choose(name));
    text.textContent = text.title = name;
    label.append(input, text);
    return label;
  }));
  document.title = sources.length === 1 ? `${sources[0]} · mchmr live` : "mchmr live";
}

function choose(name) {
  source = name;
  people.clear();
  stage.clear();
  stage.framed = false;
  byId("nothing").hidden = false;
  byId("size").textContent = "";
  connection.send({ kind: "watch", source });
  if (status) {
    showFigures();
    showPeople();
    say();
  }
}

let complaint = null;
function complain(text) {
  const place = byId("message");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(complaint);
  complaint = setTimeout(() => { place.hidden = true; }, 6000);
}

// ---- view and theme ---------------------------------------------------------------------------------------------------------

for (const input of document.querySelectorAll('input[name="mode"]')) input.addEventListener("change", () => stage.setMode(input.value));
byId("from-camera").addEventListener("click", () => stage.lookFromCamera());
byId("reset-view").addEventListener("click", () => stage.reset());

const light = matchMedia("(prefers-color-scheme: light)");
function setTheme(theme) {
  root.dataset.theme = theme;
  stage.recolour();
  chart.build();
}
const stored = () => {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // storage may be forbidden
  }
};
setTheme(stored() ?? (light.matches ? "light" : "dark"));
light.addEventListener("change", () => { if (!stored()) setTheme(light.matches ? "light" : "dark"); });
byId("theme").addEventListener("click", () => {
  const theme = root.dataset.theme === "light" ? "dark" : "light";
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // it holds until the page is loaded again
  }
  setTheme(theme);
});
