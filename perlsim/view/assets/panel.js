// What stands beside the stages: metrics, events, the scene, what to draw, and what the colours mean.

const DRAWN = [
  ["route", "Route"], ["plan", "Plan"], ["log", "Logged ego"], ["other", "Other side's ego"], ["trails", "Trails"],
  ["events", "Event rings"], ["lights", "Traffic lights"], ["stops", "Stop signs"], ["lanes", "Lane centres"], ["names", "Ids and speeds"],
];
const LEGEND = [
  ["Ego", "ego"], ["Vehicle", "vehicle"], ["Bus, truck", "large"], ["Pedestrian", "pedestrian"], ["Cyclist", "cyclist"],
  ["Motorcyclist", "motorcyclist"], ["Obstacle", "static"], ["Unknown", "unknown"],
];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    name in element ? (element[name] = value) : element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A metric as text: "n/a" where it is not available.
function figure(value) {
  if (value === null || value === undefined) return "n/a";
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3);
}

const panel = {
  rebuild(player) {
    const { scene, sides } = player;
    const shown = sides.filter((side) => side >= 0);
    const sections = [
      this.metrics(scene, shown),
      this.events(player, shown),
      this.display(player),
      this.scene(scene, player),
      this.legend(player),
    ];
    $("panel").replaceChildren(...sections.filter(Boolean));
  },

  section(title, ...content) {
    return make("section", {}, make("h2", { textContent: title }), ...content);
  },

  metrics(scene, shown) {
    const names = [...new Set(shown.flatMap((side) => Object.keys(scene.metrics[side])))];
    if (!names.length) return null;
    const table = make("table", { className: "metrics" });
    if (shown.length > 1) {
      const head = table.createTHead().insertRow();
      head.append(make("th"), ...shown.map((side, i) => make("th", { textContent: index.sides[side].label.replaceAll("_", "_\u200b"), className: i ? "right-side" : "left-side" })));
    }
    const body = table.createTBody();
    for (const name of names) {
      const values = shown.map((side) => scene.metrics[side][name]);
      const row = body.insertRow();
      row.append(make("td", { textContent: metricText(name) }));
      const differs = values.length > 1 && figure(values[0]) !== figure(values[1]);
      for (const value of values)
        row.append(make("td", { textContent: figure(value), className: `figure${value === null || value === undefined ? " absent" : ""}${differs ? " differs" : ""}` }));
    }
    return this.section("Metrics", table);
  },

  events(player, shown) {
    const listed = shown.flatMap((side, i) => {
      const play = player.stages[i].play;
      return play ? play.events.map((event) => ({ ...event, row: i })) : [];
    }).sort((a, b) => a.t - b.t);
    if (!listed.length) return index.sides[shown[0]].kind === "log" ? null : this.section("Events", make("p", { className: "muted", textContent: "none" }));
    const list = make("ol", { className: "events" });
    for (const event of listed) {
      const jump = make("button", { className: "event", onclick: () => player.seek(event.t) },
        make("time", { textContent: event.t.toFixed(1) }), make("i", { className: `dot ${eventGrade(event.kind)}` }),
        make("span", { textContent: eventText(event.kind) + (event.agent === null ? "" : ` · ${event.agent}`) }));
      if (shown.length > 1) jump.append(make("em", { textContent: index.sides[shown[event.row]].label, className: event.row ? "right-side" : "left-side" }));
      list.append(make("li", {}, jump));
    }
    return this.section("Events", list);
  },

  display(player) {
    const { plays } = player;
    const useless = {
      plan: !plays.some((play) => play.plans.length), log: !plays.some((play) => play.log), other: plays.length < 2,
      route: !plays.some((play) => play.hasRoute), events: !plays.some((play) => play.events.length),
      lights: !player.stages[0].road.lights.length, stops: !player.stages[0].road.stops.length,
    };
    const boxes = DRAWN.filter(([key]) => !useless[key]).map(([key, label]) => {
      const box = make("input", { type: "checkbox", checked: player.show[key] });
      box.onchange = () => {
        player.show[key] = box.checked;
        for (const stage of player.stages) stage.layerView = null;
        player.request();
      };
      return make("label", { className: "check" }, box, label);
    });
    return this.section("Show", make("div", { className: "checks" }, ...boxes));
  },

  scene(scene, player) {
    const rows = [["id", scene.id], ["source", [scene.dataset, scene.source].filter(Boolean).join(" · ")], ["place", scene.place]];
    for (const [name, value] of Object.entries(scene.facts)) rows.push([name, value === null ? "n/a" : String(value)]);
    const list = make("dl", { className: "facts" });
    for (const [name, value] of rows) if (value !== "") list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
    const notes = [["tags", scene.tags.join(", ")], ["not given by the log", scene.missing.join(", ")], ["notes", scene.repairs.join("; ")]];
    return this.section("Scene", list, ...notes.filter(([, text]) => text).map(([name, text]) =>
      make("p", { className: "note" }, make("b", { textContent: name }), text.replaceAll("_", " "))));
  },

  legend(player) {
    const { plays } = player;
    const seen = new Set(plays.flatMap((play) => play.kinds.map((kind, i) => (i === play.ego ? "ego" : KINDS[kind][1]))));
    const items = LEGEND.filter(([, name]) => seen.has(name)).map(([label, name]) => make("span", { className: "key" }, make("i", { className: "swatch", style: `background:var(--${name})` }), label));
    const lines = [["route", "Route", (play) => play.hasRoute], ["plan", "Plan (1 s dots)", (play) => play.plans.length],
      ["ghost", "Logged ego", (play) => play.log], ["other-ego", "Other side", () => plays.length > 1]]
      .filter(([, , present]) => plays.some(present))
      .map(([name, label]) => make("span", { className: "key" }, make("i", { className: `stroke ${name}`, style: `--stroke:var(--${name})` }), label));
    return this.section("Colours", make("div", { className: "keys" }, ...items, ...lines));
  },
};
