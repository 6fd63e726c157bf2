// Reads the parts of scenes that perlsim/view/pack.py wrote into this page.

const root = document.documentElement;
const $ = (id) => document.getElementById(id);

// Errors are counted where tests and users can see them.
const failures = [];
function report(error) {
  failures.push(String((error && error.stack) || error));
  root.dataset.errors = failures.length;
  root.dataset.lastError = failures[failures.length - 1];
}
addEventListener("error", (event) => report(event.error || event.message));
addEventListener("unhandledrejection", (event) => report(event.reason));
root.dataset.errors = 0;

const index = JSON.parse($("index").textContent);

const LENGTH = 0.01, HEADING = 0.001, SPEED = 0.1;
const KEPT_PARTS = 64;
const parts = new Map();

// A part's content, made by `make` from its plain data; the last few are kept.
function part(number, make) {
  let found = parts.get(number);
  parts.delete(number);
  if (!found) found = inflate(number).then(make);
  parts.set(number, found);
  if (parts.size > KEPT_PARTS) parts.delete(parts.keys().next().value);
  return found;
}

async function inflate(number) {
  if (!("DecompressionStream" in window))
    throw new Error("this browser is too old: it needs Chrome 80, Firefox 113 or Safari 16.4");
  const bytes = Uint8Array.from(atob($(`part-${number}`).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// x, y, dx, dy, … in cm as x0, y0, x1, y1, … in m.
function line(differences) {
  const points = new Float32Array(differences.length);
  for (let i = 0, x = 0, y = 0; i < differences.length; i += 2) {
    points[i] = (x += differences[i]) * LENGTH;
    points[i + 1] = (y += differences[i + 1]) * LENGTH;
  }
  return points;
}

// A track as x, y, heading, speed for each step, NaN where it was not seen.
function spread(track, steps) {
  const rows = new Float32Array(steps * 4).fill(NaN);
  let from = 0, x = 0, y = 0, h = 0, v = 0;
  for (let s = 0; s < track.span.length; s += 2) {
    for (let step = track.span[s]; step < track.span[s] + track.span[s + 1]; step++, from++) {
      x += track.x[from]; y += track.y[from]; h += track.h[from];
      if (track.v) v += track.v[from];
      rows.set([x * LENGTH, y * LENGTH, h * HEADING, v * SPEED], step * 4);
    }
  }
  return rows;
}

function unrun(runs, steps) {
  const values = new Uint8Array(steps);
  for (let i = 0, at = 0; i < runs.length; i += 2) {
    values.fill(runs[i], at, at + runs[i + 1]);
    at += runs[i + 1];
  }
  return values;
}

const roadOf = (scene) => part(scene.road, (content) => new RoadMap(content));
const playOf = (scene, side) =>
  scene.plays[side] === null ? Promise.resolve(null) : part(scene.plays[side], (content) => new Play(content));
const bySeconds = (value) => `${value.toFixed(1)} s`;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
