// One view of a scene: a canvas with the map behind and the traffic in front, panned and zoomed with the camera
// that all stages share.

const LAYER_MARGIN = 1.35, LAYER_LARGEST = 4096; // size of the map's own canvas against the view's, and in pixels
const SCALE_RANGE = [0.4, 80]; // px per m

const camera = { x: 0, y: 0, scale: 8, follow: true, headingUp: false, shift: [0, 0] };

class Stage {
  constructor(host, player, slot) {
    this.player = player;
    this.slot = slot; // 0 left, 1 right
    this.element = document.createElement("figure");
    this.element.className = "stage";
    this.element.innerHTML =
      '<canvas tabindex="-1"></canvas><figcaption></figcaption><div class="hud"><b></b><span></span></div>' +
      '<div class="flash" hidden></div><div class="empty" hidden></div>';
    [this.canvas, this.caption, this.hud, this.flash, this.empty] = this.element.children;
    host.append(this.element);
    this.context = this.canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.layerView = null;
    this.road = this.play = this.other = null;
    new ResizeObserver(() => this.#resize()).observe(this.element);
    this.#listen();
  }

  show(road, play, other, message) {
    Object.assign(this, { road, play, other, layerView: null });
    this.empty.hidden = Boolean(play);
    this.empty.textContent = message || "";
  }

  get size() {
    return [this.element.clientWidth, this.element.clientHeight];
  }

  #resize() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = this.size.map((length) => Math.max(1, Math.round(length * ratio)));
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.layerView = null;
    this.player.stageResized();
  }

  // Where the camera stands for this stage: the point in the middle of the canvas, the turn and the scale.
  view(time = this.player.time) {
    const followed = camera.follow && this.play ? this.play.egoNear(time) : null;
    const { scale } = camera;
    const turn = camera.headingUp && followed ? Math.PI / 2 - followed.heading : 0;
    if (!followed) return { x: camera.x, y: camera.y, turn, scale };
    const [c, s] = [Math.cos(turn), Math.sin(turn)];
    const [right, up] = [-camera.shift[0] / scale, camera.shift[1] / scale];
    return { x: followed.x + c * right + s * up, y: followed.y - s * right + c * up, turn, scale };
  }

  // a to f of setTransform, from m to canvas pixels.
  matrix(view, width, height, ratio) {
    const scale = view.scale * ratio, c = scale * Math.cos(view.turn), s = scale * Math.sin(view.turn);
    return [c, -s, -s, -c, width / 2 - c * view.x + s * view.y, height / 2 + s * view.x + c * view.y];
  }

  toWorld(px, py, view = this.view()) {
    const [width, height] = this.size;
    const right = (px - width / 2) / view.scale, up = (height / 2 - py) / view.scale;
    const [c, s] = [Math.cos(view.turn), Math.sin(view.turn)];
    return [view.x + c * right + s * up, view.y - s * right + c * up];
  }

  toScreen(x, y, view = this.view()) {
    const [width, height] = this.size;
    const dx = x - view.x, dy = y - view.y, c = Math.cos(view.turn), s = Math.sin(view.turn);
    return [width / 2 + (c * dx - s * dy) * view.scale, height / 2 - (s * dx + c * dy) * view.scale];
  }

  draw() {
    const { context, canvas, player } = this, { time, show } = player;
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = colour.ground;
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.road) return;
    const view = this.view(), scale = view.scale;
    this.#drawMap(view, ratio);
    context.setTransform(...this.matrix(view, canvas.width, canvas.height, ratio));
    if (show.stops) this.road.drawStops(context, scale);
    const play = this.play;
    if (show.lights) this.road.drawLights(context, scale, play && ((i) => play.light(i, time)), time);
    if (play) {
      const [own, theirs] = this.slot ? [colour["other-ego"], colour.ego] : [colour.ego, colour["other-ego"]];
      const marked = this.slot === player.marked.slot ? player.marked.agent : -1;
      play.draw(context, scale, time, show, { other: this.other, marked, own, theirs });
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (play && show.names) this.#drawNames(view);
    this.#drawScaleBar(scale);
    this.#showFigures();
  }

  // The map from its own canvas, which is drawn anew only when the view leaves it, zooms, or stands still.
  #drawMap(view, ratio) {
    const { width, height } = this.canvas;
    const radius = Math.hypot(width, height) / 2;
    let drawn = this.layerView;
    const fits = (drawn) => {
      if (!drawn || drawn.scale !== view.scale) return false;
      const away = Math.hypot(view.x - drawn.x, view.y - drawn.y) * view.scale * ratio;
      if (away + radius > this.layer.width / 2) return false;
      return this.player.moving || (away === 0 && view.turn === drawn.turn);
    };
    if (!fits(drawn)) {
      const size = Math.ceil(Math.min(2 * radius * LAYER_MARGIN, Math.max(LAYER_LARGEST, 2 * radius + 2)));
      if (this.layer.width !== size) this.layer.width = this.layer.height = size;
      const layer = this.layer.getContext("2d");
      layer.setTransform(1, 0, 0, 1, 0, 0);
      layer.fillStyle = colour.ground;
      layer.fillRect(0, 0, size, size);
      // An even difference of sizes keeps the two canvases' pixels in line.
      drawn = this.layerView = { ...view };
      layer.setTransform(...this.matrix(view, width + 2 * Math.round((size - width) / 2), height + 2 * Math.round((size - height) / 2), ratio));
      this.road.draw(layer, view.scale * 1, this.player.show);
      this.player.mapsDrawn++;
    }
    const size = this.layer.width, context = this.context;
    const pad = [Math.round((size - width) / 2), Math.round((size - height) / 2)];
    const turn = view.turn - drawn.turn;
    const [dx, dy] = [drawn.x - view.x, drawn.y - view.y].map((d) => d * view.scale * ratio);
    const [c, s] = [Math.cos(view.turn), Math.sin(view.turn)];
    context.setTransform(1, 0, 0, 1, width / 2 + c * dx - s * dy, height / 2 - s * dx - c * dy);
    context.rotate(-turn);
    context.drawImage(this.layer, -width / 2 - pad[0], -height / 2 - pad[1]);
  }

  #drawNames(view) {
    const { context, play, player } = this, [width, height] = this.size;
    context.font = "600 10.5px ui-sans-serif, system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "bottom";
    context.lineJoin = "round";
    context.lineWidth = 3;
    play.tracks.forEach((_, i) => {
      const pose = play.agent(i, player.time);
      if (!pose) return;
      const [x, y] = this.toScreen(pose.x, pose.y, view);
      if (x < -20 || y < -20 || x > width + 20 || y > height + 20) return;
      const text = `${play.ids[i].slice(0, 10)}  ${pose.speed.toFixed(1)}`;
      const above = y - Math.max(play.sizes[i][1] * view.scale * 0.6, 6) - 2;
      context.strokeStyle = colour.outline;
      context.strokeText(text, x, above);
      context.fillStyle = colour.ink;
      context.fillText(text, x, above);
    });
  }

  #drawScaleBar(scale) {
    const { context } = this, [, height] = this.size;
    const length = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((m) => m * scale >= 56) || 500;
    const [x, y] = [14, height - 14];
    context.strokeStyle = context.fillStyle = colour.muted;
    context.lineWidth = 1.5;
    context.lineCap = "butt";
    context.beginPath();
    context.moveTo(x, y - 4); context.lineTo(x, y); context.lineTo(x + length * scale, y); context.lineTo(x + length * scale, y - 4);
    context.stroke();
    context.font = "11px ui-sans-serif, system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "bottom";
    context.fillText(`${length} m`, x + 5, y - 3);
  }

  #showFigures() {
    const { play, player } = this;
    const pose = play && play.agent(play.ego, player.time);
    this.hud.hidden = !pose;
    if (pose) {
      this.hud.firstChild.textContent = pose.speed.toFixed(1);
      this.hud.lastChild.textContent = `m/s · ${(pose.speed * 3.6).toFixed(0)} km/h`;
    }
    const events = play ? play.events.filter((event) => Math.abs(player.time - event.t - RING / 2) <= RING / 2 + 0.05) : [];
    this.flash.hidden = !events.length;
    if (events.length) {
      const worst = events.find((event) => eventGrade(event.kind) === "bad") || events[events.length - 1];
      this.flash.textContent = eventText(worst.kind);
      this.flash.dataset.grade = eventGrade(worst.kind);
    }
  }

  // The road user nearest to a point of the screen, −1 where none is near.
  agentAt(px, py) {
    if (!this.play) return -1;
    const [x, y] = this.toWorld(px, py);
    let found = -1, nearest = Infinity;
    this.play.tracks.forEach((_, i) => {
      const pose = this.play.agent(i, this.player.time);
      if (!pose) return;
      const distance = Math.hypot(pose.x - x, pose.y - y);
      const reach = this.play.sizes[i][0] / 2 + 8 / camera.scale;
      if (distance < reach && distance < nearest) [found, nearest] = [i, distance];
    });
    return found;
  }

  #listen() {
    const pointers = new Map();
    let pinch = 0, travelled = 0;
    const place = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, place(event));
      travelled = 0;
      pinch = 0;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const now = place(event);
      if (!pointers.has(event.pointerId)) {
        this.player.hover(this, this.agentAt(...now), event);
        return;
      }
      const before = pointers.get(event.pointerId);
      pointers.set(event.pointerId, now);
      travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()];
        const spread = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (pinch) this.zoom(spread / pinch, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
        pinch = spread;
      }
      this.pan((now[0] - before[0]) / pointers.size, (now[1] - before[1]) / pointers.size);
    });
    const end = (event) => {
      const wasDown = pointers.delete(event.pointerId);
      pinch = 0;
      if (wasDown && event.type === "pointerup" && travelled < 6) this.player.hover(this, this.agentAt(...place(event)), event, true);
    };
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, end);
    this.canvas.addEventListener("pointerleave", () => this.player.hover(this, -1));
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-clamp(event.deltaY, -120, 120) * 0.0022), ...place(event));
    }, { passive: false });
    this.canvas.addEventListener("dblclick", (event) => this.zoom(1.8, ...place(event)));
  }

  pan(dx, dy) {
    if (camera.follow && this.play && this.play.egoNear(this.player.time)) {
      camera.shift = [camera.shift[0] + dx, camera.shift[1] + dy];
    } else {
      camera.x -= dx / camera.scale;
      camera.y += dy / camera.scale;
    }
    this.player.request();
  }

  zoom(factor, px, py) {
    const scale = clamp(camera.scale * factor, ...SCALE_RANGE);
    const following = camera.follow && this.play && this.play.egoNear(this.player.time);
    if (following) {
      camera.shift = camera.shift.map((d) => (d * scale) / camera.scale);
      camera.scale = scale;
    } else {
      const [x, y] = this.toWorld(px, py);
      camera.scale = scale;
      const [nowX, nowY] = this.toWorld(px, py);
      camera.x += x - nowX;
      camera.y += y - nowY;
    }
    this.player.request();
  }
}
