// The static map: lines in m, drawn through Path2D once for each change of scale.

const MARKING = { NONE: 0, UNKNOWN: 1, BROKEN: 2, SOLID: 3, DOUBLE_SOLID: 4, DOUBLE_BROKEN: 5, SOLID_BROKEN: 6, BROKEN_SOLID: 7 };
const BICYCLE_LANE = 3;
const DASH = [3, 4.5]; // m
const EDGE_STRIP = 3.4; // m beside an open border that is drawn as road
const ARROW_EVERY = 24; // m along a lane

class RoadMap {
  constructor(content) {
    this.lanes = content.lanes.map(line);
    this.laneKind = content.laneKind;
    this.markings = content.markings.map(line);
    this.markingKind = content.markingKind;
    this.crosswalks = content.crosswalks.map(line);
    this.lights = content.lights.map(stopLine);
    this.stops = content.stops.map(stopLine);
    const edges = content.edges.map(line);
    // Edges have the road on their left. Rings tell its whole surface; from open lines only a strip is known.
    this.surface = new Path2D();
    this.strip = new Path2D();
    this.islands = new Path2D();
    this.edges = new Path2D();
    const edgesClosed = this.closed = edges.every(isRing) && edges.some((edge) => area(edge) > 0);
    for (const edge of edges) {
      trace(this.edges, edge);
      if (!isRing(edge)) trace(this.strip, beside(edge, EDGE_STRIP / 2));
      else trace(edgesClosed || area(edge) > 0 ? this.surface : this.islands, edge);
    }
    for (const gap of content.gaps) trace(this.surface, line(gap));
    this.strips = new Map(); // lanes by width and use: "3.5|0"
    this.centres = new Path2D();
    this.arrows = new Path2D();
    this.lanes.forEach((points, i) => {
      const key = `${(content.laneWidth[i] * LENGTH).toFixed(1)}|${this.laneKind[i] === BICYCLE_LANE ? 1 : 0}`;
      if (!this.strips.has(key)) this.strips.set(key, new Path2D());
      trace(this.strips.get(key), points);
      trace(this.centres, points);
      addArrows(this.arrows, points);
    });
    this.zebras = this.crosswalks.map(zebra);
    this.bounds = boundsOf([...this.lanes, ...edges, ...this.markings]);
  }

  // Draws in the frame of `context`, whose transform takes m to pixels at `scale` pixels per m.
  draw(context, scale, show) {
    const pixel = 1 / scale;
    context.lineJoin = "round";
    context.lineCap = "round";
    context.fillStyle = context.strokeStyle = colour.road;
    context.fill(this.surface, "nonzero");
    context.lineWidth = EDGE_STRIP;
    context.stroke(this.strip);
    context.save();
    if (this.closed) context.clip(this.surface, "nonzero");
    for (const [key, path] of this.strips) {
      const [width, bicycle] = key.split("|");
      context.strokeStyle = bicycle === "1" ? colour["bike-lane"] : colour.road;
      context.lineWidth = Number(width) + 0.3;
      context.stroke(path);
    }
    context.restore();
    context.fillStyle = colour.ground;
    context.fill(this.islands);
    this.zebras.forEach((one, i) => drawZebra(context, one, this.crosswalks[i], pixel));
    context.lineCap = "butt";
    if (show.lanes && scale > 2.5) {
      context.strokeStyle = colour.lane;
      context.lineWidth = Math.max(0.06, pixel);
      context.stroke(this.centres);
      if (scale > 3.5) {
        context.lineWidth = Math.max(0.14, 1.2 * pixel);
        context.stroke(this.arrows);
      }
    }
    this.#drawMarkings(context, pixel);
    context.strokeStyle = colour.edge;
    context.lineWidth = Math.max(0.18, 1.4 * pixel);
    context.lineJoin = "round";
    context.stroke(this.edges);
    context.setLineDash([]);
  }

  #drawMarkings(context, pixel) {
    const width = Math.max(0.13, 1.1 * pixel);
    const gap = Math.max(0.16, 1.3 * pixel); // of a double line from its middle
    const solid = new Path2D(), broken = new Path2D(), faint = new Path2D(), unknown = new Path2D();
    this.markings.forEach((points, i) => {
      const left = () => beside(points, gap), right = () => beside(points, -gap);
      switch (this.markingKind[i]) {
        case MARKING.NONE: trace(faint, points); break;
        case MARKING.BROKEN: trace(broken, points); break;
        case MARKING.SOLID: trace(solid, points); break;
        case MARKING.DOUBLE_SOLID: trace(solid, left()); trace(solid, right()); break;
        case MARKING.DOUBLE_BROKEN: trace(broken, left()); trace(broken, right()); break;
        case MARKING.SOLID_BROKEN: trace(solid, left()); trace(broken, right()); break;
        case MARKING.BROKEN_SOLID: trace(broken, left()); trace(solid, right()); break;
        default: trace(unknown, points);
      }
    });
    context.strokeStyle = colour.marking;
    context.lineWidth = width;
    context.stroke(solid);
    context.setLineDash(DASH);
    context.stroke(broken);
    context.globalAlpha = 0.5;
    context.setLineDash([]);
    context.stroke(unknown);
    context.globalAlpha = 0.4;
    context.setLineDash([0.5, 1.5]);
    context.lineWidth = Math.max(0.08, 0.8 * pixel);
    if (pixel < 0.2) context.stroke(faint); // farther away it is but noise
    context.globalAlpha = 1;
    context.setLineDash([]);
  }

  // Stop lines in the colour of their lights.
  drawLights(context, scale, states, time) {
    const thick = Math.max(0.55, 3.5 / scale);
    this.lights.forEach((light, i) => {
      const state = states ? states(i) : 0;
      const dark = (state === 4 || state === 5) && time % 1 > 0.5;
      const half = light.width * 0.42;
      const [dx, dy] = [-Math.sin(light.heading) * half, Math.cos(light.heading) * half];
      context.lineCap = "round";
      const bar = (style, width) => {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(light.x - dx, light.y - dy);
        context.lineTo(light.x + dx, light.y + dy);
        context.stroke();
      };
      bar(colour["light-case"], thick + Math.max(0.25, 2 / scale));
      bar(dark ? colour["light-off"] : colour[LIGHT_COLOURS[state]], thick);
    });
    context.lineCap = "butt";
  }

  drawStops(context, scale) {
    const radius = Math.max(0.8, 4.5 / scale);
    for (const stop of this.stops) {
      context.beginPath();
      for (let corner = 0; corner < 8; corner++) {
        const angle = Math.PI / 8 + (corner * Math.PI) / 4;
        context.lineTo(stop.x + radius * Math.cos(angle), stop.y + radius * Math.sin(angle));
      }
      context.closePath();
      context.fillStyle = colour["stop-sign"];
      context.fill();
      context.strokeStyle = "#fff";
      context.lineWidth = radius * 0.22;
      context.stroke();
    }
  }
}

const stopLine = ([x, y, heading, width]) =>
  ({ x: x * LENGTH, y: y * LENGTH, heading: heading * HEADING, width: width * LENGTH });

function trace(path, points) {
  if (points.length < 4) return;
  path.moveTo(points[0], points[1]);
  for (let i = 2; i < points.length; i += 2) path.lineTo(points[i], points[i + 1]);
}

function isRing(points) {
  const last = points.length - 2;
  return last >= 6 && Math.hypot(points[0] - points[last], points[1] - points[last + 1]) < 0.05;
}

// Twice the area of a ring, positive where it runs counter-clockwise.
function area(points) {
  let sum = 0;
  for (let i = 0; i + 3 < points.length; i += 2) sum += points[i] * points[i + 3] - points[i + 2] * points[i + 1];
  return sum;
}

// A line beside another, `distance` m to its left.
function beside(points, distance) {
  const shifted = new Float32Array(points.length);
  const last = points.length - 2;
  for (let i = 0; i <= last; i += 2) {
    const a = Math.max(i - 2, 0), b = Math.min(i + 2, last);
    const dx = points[b] - points[a], dy = points[b + 1] - points[a + 1];
    const length = Math.hypot(dx, dy) || 1;
    shifted[i] = points[i] - (dy / length) * distance;
    shifted[i + 1] = points[i + 1] + (dx / length) * distance;
  }
  return shifted;
}

function addArrows(path, points) {
  let left = ARROW_EVERY / 2;
  for (let i = 0; i + 3 < points.length; i += 2) {
    const dx = points[i + 2] - points[i], dy = points[i + 3] - points[i + 1];
    const length = Math.hypot(dx, dy);
    for (; left < length; left += ARROW_EVERY) {
      const [c, s] = [dx / length, dy / length];
      const [x, y] = [points[i] + c * left, points[i + 1] + s * left];
      path.moveTo(x - 0.8 * c - 0.6 * s, y - 0.8 * s + 0.6 * c);
      path.lineTo(x, y);
      path.lineTo(x - 0.8 * c + 0.6 * s, y - 0.8 * s - 0.6 * c);
    }
    left -= length;
  }
}

// Axis of a crosswalk: the way that people walk is its long side.
function zebra(points) {
  let angle = 0, longest = 0;
  const count = points.length / 2;
  for (let i = 0; i < count; i++) {
    const j = (i + 1) % count;
    const dx = points[2 * j] - points[2 * i], dy = points[2 * j + 1] - points[2 * i + 1];
    const length = Math.hypot(dx, dy);
    if (length > longest) [longest, angle] = [length, Math.atan2(dy, dx)];
  }
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const along = [Infinity, -Infinity], across = [Infinity, -Infinity];
  for (let i = 0; i < points.length; i += 2) {
    const u = points[i] * c + points[i + 1] * s, v = points[i + 1] * c - points[i] * s;
    along[0] = Math.min(along[0], u); along[1] = Math.max(along[1], u);
    across[0] = Math.min(across[0], v); across[1] = Math.max(across[1], v);
  }
  const outline = new Path2D();
  trace(outline, points);
  outline.closePath();
  return { angle, along, across, outline };
}

function drawZebra(context, one, points, pixel) {
  context.save();
  context.clip(one.outline);
  context.rotate(one.angle);
  const middle = (one.across[0] + one.across[1]) / 2;
  context.beginPath();
  context.moveTo(one.along[0] + 0.3, middle);
  context.lineTo(one.along[1], middle);
  context.lineCap = "butt";
  context.lineWidth = one.across[1] - one.across[0];
  context.strokeStyle = colour.crosswalk;
  // Too far away for stripes: an even tone.
  if (pixel < 0.4) context.setLineDash([0.6, 0.6]);
  else context.globalAlpha = 0.5;
  context.stroke();
  context.restore();
}

function boundsOf(lines) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const points of lines)
    for (let i = 0; i < points.length; i += 2) {
      box[0] = Math.min(box[0], points[i]); box[1] = Math.min(box[1], points[i + 1]);
      box[2] = Math.max(box[2], points[i]); box[3] = Math.max(box[3], points[i + 1]);
    }
  return Number.isFinite(box[0]) ? box : null;
}
