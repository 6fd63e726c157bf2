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
    // At once: a canvas of a new size is empty, and the next frame would show that.
    this.#draw();
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
    this.#draw();
    $("clock").innerHTML = `<b>${this.time.toFixed(1)}</b> / ${bySeconds(this.duration)}`;
    if (!$("tip").hidden) this.#fillTip();
    root.dataset.time = this.time.toFixed(3);
    if (this.playing) this.request();
  }

  #draw() {
    for (const stage of this.stages) if (!stage.element.hidden) stage.draw();
    this.timeline.draw();
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
