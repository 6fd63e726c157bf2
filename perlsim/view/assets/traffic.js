// What moves in a scene, between its steps too, and how it is drawn.

const PEDESTRIAN = 2;
const TRAIL = 2; // s of the past behind each road user
const RING = 1; // s for which a ring marks an event

class Play {
  constructor(content) {
    this.dt = content.dt;
    this.steps = content.steps;
    this.duration = (content.steps - 1) * content.dt;
    this.ego = content.ego;
    this.ids = content.ids;
    this.kinds = content.kinds;
    this.sizes = content.sizes.map(([length, width]) => [length * LENGTH, width * LENGTH]);
    this.tracks = content.tracks.map((track) => spread(track, this.steps));
    this.lightStates = content.lights.map((runs) => unrun(runs, this.steps));
    this.route = new Path2D();
    trace(this.route, line(content.route));
    this.hasRoute = content.route.length >= 4;
    this.events = [...content.events].sort((a, b) => a.t - b.t);
    this.plans = content.plans.map((plan) => readPlan(plan));
    // A simulated scene may end before the log does, never after.
    this.log = content.log && spread(content.log, Math.max(this.steps, content.log.span.at(-2) + content.log.span.at(-1)));
    this.logPath = new Path2D();
    if (this.log) tracePresent(this.logPath, this.log, 0, this.log.length / 4 - 1);
  }

  // x, y, heading, speed and how visible (0 to 1) at a time; null where it is not there.
  at(track, time) {
    const exact = clamp(time / this.dt, 0, track.length / 4 - 1);
    const before = Math.floor(exact), after = Math.min(before + 1, track.length / 4 - 1), part = exact - before;
    const a = 4 * before, b = 4 * after;
    const hasA = !Number.isNaN(track[a]), hasB = !Number.isNaN(track[b]);
    if (!hasA && !hasB) return null;
    if (!hasB || part === 0) return hasA ? { x: track[a], y: track[a + 1], heading: track[a + 2], speed: track[a + 3], seen: 1 - part } : null;
    if (!hasA) return { x: track[b], y: track[b + 1], heading: track[b + 2], speed: track[b + 3], seen: part };
    const mix = (i) => track[a + i] + (track[b + i] - track[a + i]) * part;
    return { x: mix(0), y: mix(1), heading: mix(2), speed: mix(3), seen: 1 };
  }

  agent(number, time) {
    return number >= 0 ? this.at(this.tracks[number], time) : null;
  }

  // The ego, or where it was last seen.
  egoNear(time) {
    if (this.ego < 0) return null;
    const found = this.agent(this.ego, time);
    if (found) return found;
    const track = this.tracks[this.ego], step = Math.round(time / this.dt);
    for (let away = 1; away < this.steps; away++)
      for (const near of [step - away, step + away])
        if (near >= 0 && near < this.steps && !Number.isNaN(track[4 * near])) return this.at(track, near * this.dt);
    return null;
  }

  light(number, time) {
    const states = this.lightStates[number];
    return states ? states[clamp(Math.floor(time / this.dt + 1e-3), 0, this.steps - 1)] : 0;
  }

  plan(time) {
    let found = null;
    for (const plan of this.plans) if (plan.t <= time + 1e-3) found = plan;
    return found;
  }

  // Box round everywhere that the ego, or everybody where there is none, goes.
  bounds() {
    const rows = this.ego >= 0 ? [this.tracks[this.ego]] : this.tracks;
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (const row of rows)
      for (let i = 0; i < row.length; i += 4)
        if (!Number.isNaN(row[i])) {
          box[0] = Math.min(box[0], row[i]); box[1] = Math.min(box[1], row[i + 1]);
          box[2] = Math.max(box[2], row[i]); box[3] = Math.max(box[3], row[i + 1]);
        }
    return Number.isFinite(box[0]) ? box : null;
  }

  // Draws under the transform from m to pixels; `other` is the play on the other side, whose ego shows as a ghost,
  // `own` and `theirs` are the colours of the two egos.
  draw(context, scale, time, show, { other, marked = -1, own = colour.ego, theirs = colour["other-ego"] }) {
    if (show.route && this.hasRoute) {
      context.strokeStyle = colour.route;
      context.lineWidth = Math.max(2, 4 / scale);
      context.lineCap = context.lineJoin = "round";
      context.stroke(this.route);
    }
    if (show.trails) this.#drawTrails(context, scale, time, own);
    if (show.log && this.log) this.#drawLog(context, scale, time);
    if (show.plan) this.#drawPlan(context, scale, time);
    if (other && show.other) drawGhost(context, scale, other.agent(other.ego, time), other.sizes[other.ego], theirs);
    const order = this.tracks.map((_, i) => i).sort((a, b) => (a === this.ego) - (b === this.ego));
    for (const i of order) {
      const pose = this.agent(i, time);
      if (pose) drawAgent(context, scale, pose, this.sizes[i], this.kinds[i], i === this.ego ? own : null, i === marked);
    }
    if (show.events) this.#drawRings(context, scale, time);
  }

  #drawTrails(context, scale, time, own) {
    const last = Math.floor(time / this.dt), first = Math.max(0, Math.ceil((time - TRAIL) / this.dt));
    context.lineCap = context.lineJoin = "round";
    this.tracks.forEach((track, i) => {
      const pose = this.at(track, time);
      if (!pose) return;
      const path = new Path2D();
      tracePresent(path, track, first, last);
      if (!Number.isNaN(track[4 * last])) path.lineTo(pose.x, pose.y);
      context.strokeStyle = i === this.ego ? own : colour[KINDS[this.kinds[i]][1]];
      context.globalAlpha = 0.35;
      context.lineWidth = Math.max(this.kinds[i] === PEDESTRIAN ? 0.25 : 0.45, 1.5 / scale);
      context.stroke(path);
    });
    context.globalAlpha = 1;
  }

  #drawLog(context, scale, time) {
    context.strokeStyle = colour.ghost;
    context.lineWidth = Math.max(0.12, 1.2 / scale);
    context.setLineDash([Math.max(0.8, 5 / scale), Math.max(0.8, 5 / scale)]);
    context.stroke(this.logPath);
    context.setLineDash([]);
    drawGhost(context, scale, this.at(this.log, time), this.sizes[this.ego], colour.ghost);
  }

  #drawPlan(context, scale, time) {
    const plan = this.plan(time);
    if (!plan) return;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = colour.outline;
    context.lineWidth = Math.max(0.7, 5 / scale);
    context.stroke(plan.path);
    context.strokeStyle = colour.plan;
    context.lineWidth = Math.max(0.4, 3 / scale);
    context.stroke(plan.path);
    for (const [x, y] of plan.seconds) {
      context.beginPath();
      context.arc(x, y, Math.max(0.45, 3.2 / scale), 0, 2 * Math.PI);
      context.fillStyle = colour.outline;
      context.fill();
      context.lineWidth = Math.max(0.22, 1.6 / scale);
      context.stroke();
    }
  }

  #drawRings(context, scale, time) {
    for (const event of this.events) {
      const age = time - event.t;
      if (age < -0.05 || age > RING) continue;
      const number = event.agent === null ? this.ego : this.ids.indexOf(event.agent);
      for (const i of new Set([this.ego, number])) {
        const pose = this.agent(i, time);
        if (!pose) continue;
        const grow = 1 - Math.max(age, 0) / RING;
        context.beginPath();
        context.arc(pose.x, pose.y, this.sizes[i][0] * 0.62 + (1 - grow) * 2.5, 0, 2 * Math.PI);
        context.strokeStyle = colour[eventGrade(event.kind)] || colour.muted;
        context.globalAlpha = grow;
        context.lineWidth = Math.max(0.35, 3 / scale);
        context.stroke();
        context.globalAlpha = 1;
      }
    }
  }
}

// A plan's path, and where it means to be after each whole second.
function readPlan(plan) {
  const points = line(plan.path), path = new Path2D(), seconds = [];
  trace(path, points);
  let driven = 0, passed = 0, from = 0;
  plan.speed.forEach((speed, i) => {
    driven += speed * SPEED * 0.1;
    if ((i + 1) % 10) return;
    for (; from + 3 < points.length; from += 2) {
      const dx = points[from + 2] - points[from], dy = points[from + 3] - points[from + 1];
      const length = Math.hypot(dx, dy);
      if (passed + length >= driven) {
        const part = length ? (driven - passed) / length : 0;
        seconds.push([points[from] + dx * part, points[from + 1] + dy * part]);
        return;
      }
      passed += length;
    }
  });
  return { t: plan.t, path, seconds };
}

function tracePresent(path, track, first, last) {
  let drawing = false;
  for (let step = first; step <= last; step++) {
    const at = 4 * step;
    if (Number.isNaN(track[at])) { drawing = false; continue; }
    if (drawing) path.lineTo(track[at], track[at + 1]);
    else path.moveTo(track[at], track[at + 1]);
    drawing = true;
  }
}

function drawAgent(context, scale, pose, [length, width], kind, own, isMarked) {
  const l = Math.max(length, 5 / scale), w = Math.max(width, 4 / scale), pixel = 1 / scale;
  context.save();
  context.translate(pose.x, pose.y);
  context.rotate(pose.heading);
  context.globalAlpha = pose.seen;
  context.fillStyle = own || colour[KINDS[kind][1]];
  context.strokeStyle = isMarked ? colour.ink : colour.outline;
  context.lineWidth = Math.max(0.1, (isMarked ? 2.4 : 1.2) * pixel);
  const shape = new Path2D();
  const round = kind === PEDESTRIAN;
  if (round) shape.arc(0, 0, Math.max(l, w) / 2, 0, 2 * Math.PI);
  else if (kind === 7) shape.rect(-l / 2, -w / 2, l, w);
  else shape.roundRect(-l / 2, -w / 2, l, w, Math.min(l, w) * 0.28);
  if (own) {
    context.save();
    context.shadowColor = own;
    context.shadowBlur = Math.min(14, scale * 1.2) * (window.devicePixelRatio || 1);
    context.fill(shape);
    context.restore();
  }
  context.fill(shape);
  context.stroke(shape);
  if (kind !== 7) {
    // Which way it heads: a windscreen where there is room, else a tick.
    context.fillStyle = context.strokeStyle = colour.glass;
    if (!round && w * scale > 9 && l > 2.5) {
      context.beginPath();
      const front = l / 2 - Math.min(0.9, l * 0.22), back = front - Math.min(0.75, l * 0.17);
      context.moveTo(front, -w * 0.4);
      context.lineTo(front, w * 0.4);
      context.lineTo(back, w * 0.31);
      context.lineTo(back, -w * 0.31);
      context.fill();
    } else {
      context.lineWidth = Math.max(0.12, 1.4 * pixel);
      context.beginPath();
      context.moveTo(l * 0.08, 0);
      context.lineTo(round ? Math.max(l, w) / 2 : l / 2, 0);
      context.stroke();
    }
  }
  context.restore();
}

function drawGhost(context, scale, pose, size, style) {
  if (!pose || !size) return;
  const [length, width] = size;
  context.save();
  context.translate(pose.x, pose.y);
  context.rotate(pose.heading);
  context.strokeStyle = style;
  context.lineWidth = Math.max(0.14, 1.6 / scale);
  context.setLineDash([Math.max(0.45, 3.5 / scale), Math.max(0.3, 2.5 / scale)]);
  context.beginPath();
  context.roundRect(-length / 2, -width / 2, length, width, width * 0.28);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(length * 0.22, -width * 0.3);
  context.lineTo(length * 0.4, 0);
  context.lineTo(length * 0.22, width * 0.3);
  context.stroke();
  context.restore();
}
