// Time, and everything that goes with it: play, scrub, the time line, the stages in step.

const SPEEDS = [0.25, 0.5, 1, 2, 4, 8];
const FIRST_VIEW = 75; // m across the shorter side of a stage

class Player {
  constructor() {
    this.scene = null;
    this.time = 0;
    this.playing = false;
    this.speed = 1;
    this.sides = [0, index.compare ? 1 : -1]; // of index.sides; −1: a single stage
    this.show = { route: true, plan: true, log: true, other: true, trails: true, events: true, lights: true, stops: true, lanes: true, names: false };
    this.marked = { slot: -1, agent: -1, pinned: false };
    this.mapsDrawn = 0;
    this.#due = false;
    this.#last = null;
    this.stages = [0, 1].map((slot) => new Stage($("stages"), this, slot));
    this.timeline = new Timeline(this);
    this.#buildControls();
    this.#buildCaptions();
  }

  #due; #last; #loading = 0; #fitted = true;

  get plays() {
    return this.stages.map((stage) => stage.play).filter(Boolean);
  }

  get duration() {
    return Math.max(0, ...this.plays.map((play) => play.duration));
  }

  // The map may be shown a fraction of a pixel off while it moves, and is drawn anew when it stands.
  get moving() {
    return this.playing;
  }

  async open(scene, time = 0) {
    const ticket = ++this.#loading;
    this.scene = scene;
    this.pause();
    const [left, right] = this.sides;
    const road = await roadOf(scene);
    const plays = await Promise.all([left, right].map((side) => (side < 0 ? null : playOf(scene, side))));
    if (ticket !== this.#loading) return; // another scene was asked for meanwhile
    this.stages.forEach((stage, slot) => {
      const side = this.sides[slot];
      stage.element.hidden = side < 0;
      if (side >= 0) stage.show(road, plays[slot], plays[1 - slot], `no rollout of ${index.sides[side].label}`);
    });
    $("stages").classList.toggle("two", right >= 0);
    this.marked = { slot: -1, agent: -1, pinned: false };
    $("tip").hidden = true;
    this.#syncCaptions();
    this.time = clamp(time, 0, this.duration);
    this.timeline.rebuild();
    panel.rebuild(this);
    this.#fitted = false;
    this.firstView();
    this.request();
    root.dataset.scene = scene.id;
  }

  // The ego with its surroundings; the whole of what moves where there is no ego.
  firstView() {
    const stage = this.stages[0], [width, height] = stage.size;
    if (!width || this.#fitted) return;
    this.#fitted = true;
    camera.shift = [0, 0];
    const play = this.plays[0];
    const ego = play && play.egoNear(this.time);
    if (ego) {
      camera.follow = true;
      camera.scale = clamp(Math.min(width, height) / FIRST_VIEW, 4, 14);
      this.#shiftForHeading();
    } else this.fit();
    this.#syncToggles();
  }

  fit() {
    const [width, height] = this.stages[0].size;
    const boxes = this.plays.map((play) => play.bounds()).filter(Boolean);
    const road = this.stages[0].road;
    if (!boxes.length && road && road.bounds) boxes.push(road.bounds);
    if (!boxes.length) return;
    const [x0, y0] = [0, 1].map((i) => Math.min(...boxes.map((box) => box[i])) - 15);
    const [x1, y1] = [2, 3].map((i) => Math.max(...boxes.map((box) => box[i])) + 15);
    camera.follow = false;
    camera.shift = [0, 0];
    [camera.x, camera.y] = [(x0 + x1) / 2, (y0 + y1) / 2];
    camera.scale = clamp(Math.min(width / (x1 - x0), height / (y1 - y0)), ...SCALE_RANGE);
    this.#syncToggles();
    this.request();
  }

  follow(on = !camera.follow) {
    if (on === camera.follow && !camera.shift.some(Boolean)) return;
    if (!on) {
      const view = this.stages[0].view();
      [camera.x, camera.y] = [view.x, view.y];
    }
    camera.follow = on;
    camera.shift = [0, 0];
    this.#shiftForHeading();
    this.#syncToggles();
    this.request();
  }

  headingUp(on = !camera.headingUp) {
    camera.headingUp = on;
    if (on && !camera.follow) this.follow(true);
    this.#shiftForHeading();
    this.#syncToggles();
    this.request();
  }

  // With the road ahead upwards, the ego stands lower.
  #shiftForHeading() {
    camera.shift = [0, camera.headingUp && camera.follow ? this.stages[0].size[1] * 0.2 : 0];
  }

  stageResized() {
    if (!this.scene) return;
    this.firstView();
    this.request();
  }

  play() {
    if (this.playing || !this.duration) return;
    if (this.time >= this.duration - 1e-6) this.seek(0);
    this.playing = true;
    this.#last = null;
    this.#syncToggles();
    this.request();
  }

  pause() {
    this.playing = false;
    this.#syncToggles();
    this.request();
  }

  toggle() {
    this.playing ? this.pause() : this.play();
  }

  seek(time) {
    this.time = clamp(time, 0, this.duration);
    this.request();
  }

  step(count) {
    this.pause();
    const dt = this.plays.length ? this.plays[0].dt : 0.1;
    this.seek((Math.round(this.time / dt) + count) * dt);
  }

  setSpeed(speed) {
    this.speed = speed;
    $("speed").value = String(speed);
  }

  nextEvent() {
    const times = this.plays.flatMap((play) => play.events.map((event) => event.t)).sort((a, b) => a - b);
    const next = times.find((time) => time > this.time + 0.05);
    if (next !== undefined || times.length) this.seek(next === undefined ? times[0] : next);
  }

  setSide(slot, side) {
    this.sides[slot] = side;
    if (slot === 0 && side === this.sides[1]) this.sides[1] = -1;
    return this.open(this.scene, this.time);
  }

  request() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame((now) => this.#frame(now));
  }

  #frame(now) {
    this.#due = false;
    if ($("player").hidden || !this.scene) return;
    if (this.playing) {
      if (this.#last !== null) this.time += Math.min((now - this.#last) / 1000, 0.25) * this.speed;
      this.#last = now;
      if (this.time >= this.duration) {
        this.time = this.duration;
        this.pause();
      }
    }
    for (const stage of this.stages) if (!stage.element.hidden) stage.draw();
    this.timeline.draw();
    $("clock").innerHTML = `<b>${this.time.toFixed(1)}</b> / ${bySeconds(this.duration)}`;
    if (!$("tip").hidden) this.#fillTip();
    root.dataset.time = this.time.toFixed(3);
    if (this.playing) this.request();
  }

  hover(stage, agent, event, pin = false) {
    if (pin) this.marked = { slot: stage.slot, agent, pinned: agent >= 0 };
    else if (this.marked.pinned) return;
    else if (this.marked.agent === agent && (agent < 0 || this.marked.slot === stage.slot)) return event && this.#placeTip(event);
    else this.marked = { slot: stage.slot, agent, pinned: false };
    $("tip").hidden = agent < 0;
    if (agent >= 0) {
      this.#fillTip();
      this.#placeTip(event);
    }
    stage.canvas.style.cursor = agent >= 0 ? "pointer" : "";
    this.request();
  }

  #fillTip() {
    const { slot, agent } = this.marked, play = slot >= 0 && this.stages[slot].play;
    const pose = play && play.agent(agent, this.time);
    const rows = play && agent >= 0
      ? [
          ["", agent === play.ego ? "ego" : KINDS[play.kinds[agent]][0]],
          ["id", play.ids[agent]],
          ["speed", pose ? `${pose.speed.toFixed(1)} m/s (${(pose.speed * 3.6).toFixed(0)} km/h)` : "not seen now"],
          ["size", play.sizes[agent].map((m) => m.toFixed(1)).join(" × ") + " m"],
        ]
      : [];
    $("tip").replaceChildren(...rows.map(([name, value], i) => {
      const row = document.createElement(i ? "div" : "strong");
      row.textContent = i ? `${name} ${value}` : value;
      return row;
    }));
  }

  #placeTip(event) {
    const tip = $("tip");
    if (tip.hidden) return;
    tip.style.left = `${clamp(event.clientX + 14, 8, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${clamp(event.clientY + 14, 8, innerHeight - tip.offsetHeight - 8)}px`;
  }

  #buildControls() {
    $("play").onclick = () => this.toggle();
    $("step-back").onclick = () => this.step(-1);
    $("step-on").onclick = () => this.step(1);
    $("follow").onclick = () => this.follow();
    $("heading-up").onclick = () => this.headingUp();
    $("fit").onclick = () => this.fit();
    $("zoom-in").onclick = () => this.zoom(1.4);
    $("zoom-out").onclick = () => this.zoom(1 / 1.4);
    $("speed").replaceChildren(...SPEEDS.map((speed) => new Option(`${speed}×`, speed)));
    $("speed").value = "1";
    $("speed").onchange = () => this.setSpeed(Number($("speed").value));
  }

  zoom(factor) {
    const [width, height] = this.stages[0].size;
    this.stages[0].zoom(factor, width / 2, height / 2);
  }

  #buildCaptions() {
    this.stages.forEach((stage, slot) => {
      const choice = document.createElement("select");
      if (slot) choice.append(new Option("no comparison", -1));
      index.sides.forEach((side, i) => choice.append(new Option(side.label, i)));
      choice.setAttribute("aria-label", slot ? "Policy on the right" : "Policy on the left");
      choice.onchange = () => this.setSide(slot, Number(choice.value));
      stage.caption.append(choice);
    });
    const compare = document.createElement("button");
    compare.className = "toggle";
    compare.id = "compare";
    compare.textContent = "Compare";
    compare.title = "Put another one next to it (C)";
    compare.onclick = () => this.compare();
    this.stages[0].caption.append(compare);
    for (const stage of this.stages) stage.caption.hidden = index.sides.length < 2 && index.sides[0].kind === "log";
  }

  compare() {
    if (index.sides.length > 1) this.setSide(1, this.sides[1] < 0 ? (this.sides[0] + 1) % index.sides.length : -1);
  }

  #syncCaptions() {
    this.stages.forEach((stage, slot) => {
      const choice = stage.caption.querySelector("select");
      choice.value = String(this.sides[slot]);
      choice.disabled = index.sides.length < 2;
    });
    $("compare").hidden = index.sides.length < 2 || this.sides[1] >= 0;
  }

  #syncToggles() {
    root.dataset.playing = this.playing;
    $("play").classList.toggle("on", this.playing);
    $("play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
    $("follow").classList.toggle("on", camera.follow);
    $("heading-up").classList.toggle("on", camera.headingUp);
    const egos = this.plays.some((play) => play.ego >= 0);
    $("follow").disabled = $("heading-up").disabled = this.plays.length > 0 && !egos;
  }
}

// Speed of the ego over time, events, and where the play is.
class Timeline {
  constructor(player) {
    this.player = player;
    this.element = $("timeline");
    this.canvas = this.element.querySelector("canvas");
    this.graphs = [];
    new ResizeObserver(() => player.request()).observe(this.element);
    let resume = false;
    const seek = (event) => {
      const box = this.canvas.getBoundingClientRect();
      player.seek(((event.clientX - box.left) / box.width) * player.duration);
    };
    this.element.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      this.element.setPointerCapture(event.pointerId);
      resume = player.playing;
      player.pause();
      seek(event);
    });
    this.element.addEventListener("pointermove", (event) => {
      if (this.element.hasPointerCapture(event.pointerId)) seek(event);
    });
    this.element.addEventListener("pointerup", (event) => {
      if (this.element.hasPointerCapture(event.pointerId) && resume) player.play();
      resume = false;
    });
  }

  rebuild() {
    const { player } = this, { plays, duration } = player;
    this.graphs = plays.map((play) => play.ego < 0 ? [] : Array.from({ length: play.steps }, (_, i) => play.tracks[play.ego][4 * i + 3]));
    this.fastest = Math.max(5, ...this.graphs.flat().filter((speed) => !Number.isNaN(speed)));
    this.element.setAttribute("aria-valuemax", duration.toFixed(1));
    $("marks").replaceChildren(...plays.flatMap((play, row) =>
      play.events.map((event) => {
        const mark = document.createElement("button");
        mark.className = "mark";
        mark.dataset.grade = eventGrade(event.kind);
        mark.dataset.row = plays.length > 1 ? row : "";
        mark.style.left = `${duration ? (100 * event.t) / duration : 0}%`;
        mark.title = mark.ariaLabel = `${event.t.toFixed(1)} s: ${eventText(event.kind)}${event.agent === null ? "" : ` (${event.agent})`}`;
        mark.onclick = () => player.seek(event.t);
        return mark;
      })));
  }

  draw() {
    const { canvas, player } = this, ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d"), { duration, time } = player;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const base = height - 15, x = (t) => (duration ? (t / duration) * width : 0);
    context.font = "10px ui-sans-serif, system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "bottom";
    context.lineWidth = 1;
    const every = [0.2, 0.5, 1, 2, 5, 10, 20, 60].find((s) => x(s) >= 46) || 120;
    for (let t = 0; t <= duration + 1e-6; t += every) {
      context.strokeStyle = colour.lane;
      context.beginPath();
      context.moveTo(x(t), 4);
      context.lineTo(x(t), base);
      context.stroke();
      context.fillStyle = colour.muted;
      context.fillText(`${+t.toFixed(1)}`, clamp(x(t), 5, width - 8), height);
    }
    this.graphs.forEach((speeds, n) => this.#drawGraph(context, speeds, n, x, base));
    context.fillStyle = colour.accent;
    context.fillRect(0, base - 1, x(time), 2);
    context.fillRect(clamp(x(time) - 1, 0, width - 2), 0, 2, base + 1);
    context.beginPath();
    context.arc(clamp(x(time), 5, width - 5), base, 5, 0, 2 * Math.PI);
    context.fill();
    this.element.setAttribute("aria-valuenow", time.toFixed(1));
  }

  #drawGraph(context, speeds, number, x, base) {
    const { dt } = this.player.plays[number];
    const y = (speed) => base - (speed / this.fastest) * (base - 8);
    const path = new Path2D();
    let open = false;
    speeds.forEach((speed, i) => {
      if (Number.isNaN(speed)) open = false;
      else {
        open ? path.lineTo(x(i * dt), y(speed)) : path.moveTo(x(i * dt), y(speed));
        open = true;
      }
    });
    context.strokeStyle = number ? colour["other-ego"] : colour.ego;
    context.lineWidth = 1.6;
    context.globalAlpha = 0.85;
    context.stroke(path);
    if (!number && speeds.every((speed) => !Number.isNaN(speed)) && speeds.length) {
      path.lineTo(x((speeds.length - 1) * dt), base);
      path.lineTo(0, base);
      context.globalAlpha = 0.12;
      context.fillStyle = colour.ego;
      context.fill(path);
    }
    context.globalAlpha = 1;
  }
}
