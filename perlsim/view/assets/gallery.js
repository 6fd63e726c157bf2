// All scenes as cards: search, filter, sort; a card's picture is drawn when it comes into sight.

const CARD_VIEW = 72; // m across a card's picture

class Gallery {
  constructor(open) {
    this.open = open;
    this.down = false; // direction of sorting
    this.measures = this.#measures();
    this.cards = index.scenes.map((scene, number) => this.#card(scene, number));
    this.#queue = [];
    this.#busy = false;
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.#paintLater(Number(entry.target.dataset.number));
    }, { rootMargin: "200px" });
    for (const card of this.cards) this.seen.observe(card);
    this.#buildFilters();
    this.update();
  }

  #queue; #busy;

  // Everything that scenes can be sorted and filtered by.
  #measures() {
    const measures = [];
    index.sides.forEach((side, i) => {
      const names = [...new Set(index.scenes.flatMap((scene) => Object.keys(scene.metrics[i])))];
      for (const name of names)
        measures.push({ group: side.label, label: metricText(name), of: (scene) => scene.metrics[i][name] ?? null });
    });
    if (index.sides.length === 2) {
      const names = Object.keys(Object.assign({}, ...index.scenes.map((scene) => scene.metrics[0])));
      for (const name of names)
        measures.push({ group: "difference", label: metricText(name), of: (scene) => {
          const [a, b] = scene.metrics.map((metrics) => metrics[name] ?? null);
          return a === null || b === null ? null : b - a;
        } });
    }
    for (const name of Object.keys(index.scenes[0].facts))
      measures.push({ group: "scene", label: name, of: (scene) => scene.facts[name] });
    return measures;
  }

  #options(select, first) {
    select.replaceChildren(...first.map(([label, value]) => new Option(label, value)));
    for (const group of new Set(this.measures.map((measure) => measure.group))) {
      const section = make("optgroup", { label: group });
      this.measures.forEach((measure, i) => measure.group === group && section.append(new Option(measure.label, i)));
      select.append(section);
    }
  }

  #buildFilters() {
    const kinds = (label, values) => [new Option(label, ""), ...[...new Set(values)].filter(Boolean).sort().map((value) => new Option(value.replaceAll("_", " "), value))];
    $("source").replaceChildren(...kinds("All sources", index.scenes.map(sourceOf)));
    $("tag").replaceChildren(...kinds("All tags", index.scenes.flatMap((scene) => scene.tags)));
    this.#options($("sort"), [["as stored", "stored"], ["name", "name"]]);
    this.#options($("measure"), [["any figure", ""]]);
    for (const id of ["search", "source", "tag", "sort", "measure", "relation", "bound"]) $(id).addEventListener("input", () => this.update());
    $("direction").onclick = () => {
      this.down = !this.down;
      this.update();
    };
    $("clear").onclick = () => {
      for (const id of ["search", "source", "tag", "measure", "bound"]) $(id).value = "";
      this.update();
    };
  }

  // Numbers of the scenes that pass the filters, in order.
  chosen() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const measure = $("measure").value === "" ? null : this.measures[$("measure").value];
    const bound = $("bound").value === "" ? null : Number($("bound").value), relation = $("relation").value;
    const passes = (scene) => {
      const text = `${scene.id} ${scene.place} ${sourceOf(scene)} ${scene.tags.join(" ")}`.toLowerCase();
      if (!words.every((word) => text.includes(word))) return false;
      if ($("source").value && sourceOf(scene) !== $("source").value) return false;
      if ($("tag").value && !scene.tags.includes($("tag").value)) return false;
      if (!measure) return true;
      const value = measure.of(scene);
      if (relation === "na") return value === null;
      if (bound === null) return true;
      return value !== null && (relation === "ge" ? value >= bound : value <= bound);
    };
    const numbers = index.scenes.map((_, i) => i).filter((i) => passes(index.scenes[i]));
    const by = $("sort").value;
    if (by !== "stored") {
      const key = by === "name" ? (i) => index.scenes[i].id : (i) => this.measures[by].of(index.scenes[i]);
      // Scenes without the figure come last in both directions.
      numbers.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        const order = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
        return this.down ? -order : order;
      });
    } else if (this.down) numbers.reverse();
    return numbers;
  }

  update() {
    const numbers = this.order = this.chosen();
    $("cards").replaceChildren(...numbers.map((number) => this.cards[number]));
    $("count").textContent = numbers.length === index.scenes.length ? `${numbers.length} scenes` : `${numbers.length} of ${index.scenes.length} scenes`;
    $("nothing").hidden = numbers.length > 0;
    const needless = $("relation").value === "na" || $("measure").value === "";
    $("bound").hidden = needless;
    $("relation").hidden = $("measure").value === "";
    $("direction").classList.toggle("on", this.down);
    const by = $("sort").value, measure = this.measures[by] || this.measures[$("measure").value];
    numbers.forEach((number) => {
      const badge = this.cards[number].querySelector(".badge");
      badge.hidden = !measure;
      if (measure) badge.textContent = `${measure.label} ${figure(measure.of(index.scenes[number]))}`;
    });
  }

  #card(scene, number) {
    const canvas = make("canvas");
    const facts = [bySeconds(scene.facts["duration [s]"]), `${scene.facts["road users"]} road users`];
    const card = make("button", { className: "card", onclick: () => this.open(number) },
      make("div", { className: "picture" }, canvas, make("span", { className: "badge", hidden: true })),
      make("strong", { textContent: scene.id, title: scene.id }),
      make("span", { className: "muted", textContent: [scene.dataset || scene.source, ...facts].join(" · ") }));
    card.dataset.number = number;
    const figures = headline(scene);
    if (figures) card.append(figures);
    return card;
  }

  #paintLater(number) {
    if (this.cards[number].dataset.painted || this.#queue.includes(number)) return;
    this.#queue.push(number);
    if (!this.#busy) this.#paintAll();
  }

  async #paintAll() {
    this.#busy = true;
    while (this.#queue.length) {
      const number = this.#queue.shift(), card = this.cards[number];
      await paintCard(card.querySelector("canvas"), index.scenes[number]);
      card.dataset.painted = 1;
      await new Promise((done) => requestAnimationFrame(done));
    }
    this.#busy = false;
  }

  // After a change of theme.
  repaint() {
    for (const card of this.cards) {
      delete card.dataset.painted;
      this.seen.unobserve(card);
      this.seen.observe(card);
    }
  }
}

const sourceOf = (scene) => [scene.dataset, scene.source].filter(Boolean).join(" · ");

// The most telling figure, on each card for each side: of those below the one that most scenes have.
const HEADLINES = ["epdms", "pdms", "driving_score", "score"];
const headlineName = (() => {
  const known = (name) => index.scenes.flatMap((scene) => scene.metrics).filter((metrics) => metrics[name] != null).length;
  const [best] = HEADLINES.map((name) => [name, known(name)]).sort((a, b) => b[1] - a[1]);
  return best[1] ? best[0] : null;
})();
function headline(scene) {
  const name = headlineName;
  if (!name) return null;
  return make("span", { className: "scores" }, make("span", { className: "muted", textContent: metricText(name) }), ...scene.metrics.map((metrics, i) => {
    const value = metrics[name] ?? null;
    const bar = make("i", { style: `width:${value === null ? 0 : 100 * clamp(value, 0, 1)}%` });
    return make("span", { className: "score", title: `${index.sides[i].label}: ${name} ${figure(value)}` },
      make("span", { textContent: index.sides[i].label }), make("span", { className: "meter" }, bar), make("b", { textContent: figure(value) }));
  }));
}

async function paintCard(canvas, scene) {
  const road = await roadOf(scene);
  const side = scene.plays.findIndex((play) => play !== null);
  const play = await playOf(scene, side);
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || 280, height = canvas.clientHeight || 170;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d"), time = play.duration / 2;
  context.fillStyle = colour.ground;
  context.fillRect(0, 0, canvas.width, canvas.height);
  const ego = play.egoNear(time), box = play.bounds() || road.bounds || [-30, -30, 30, 30];
  const [x, y] = ego ? [ego.x, ego.y] : [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  const across = ego ? CARD_VIEW : clamp(Math.max(box[2] - box[0], box[3] - box[1]) + 20, CARD_VIEW, 200);
  const scale = width / across, k = scale * ratio;
  context.setTransform(k, 0, 0, -k, canvas.width / 2 - k * x, canvas.height / 2 + k * y);
  const show = { route: true, trails: true, plan: true, log: false, other: false, events: false, lanes: false };
  road.draw(context, scale, show);
  road.drawLights(context, scale, (i) => play.light(i, time), 0);
  play.draw(context, scale, time, show, {});
}
