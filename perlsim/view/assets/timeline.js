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
