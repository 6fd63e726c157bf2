// Puts the page together: gallery or player, theme, keys, and the address that names what is shown.

const KEYS = [
  ["Space", "play or pause"], ["← →", "a step back or on (with Shift: a second)"], ["Home End", "first or last step"],
  ["[ ]", "slower or faster"], ["E", "next event"], ["F", "follow the ego"], ["H", "heading up"], ["+ −", "zoom"],
  ["0", "fit the scene"], ["L", "ids and speeds"], ["C", "compare"], ["N P", "next or previous scene"], ["G Esc", "gallery"], ["T", "light or dark"],
];

const stored = { get: (key) => { try { return localStorage.getItem(key); } catch { return null; } }, set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* no storage here */ } } };
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
setTheme(stored.get("perlsim-theme") || (prefersDark.matches ? "dark" : "light"));

const many = index.scenes.length > 1;
const player = new Player();
const gallery = many ? new Gallery((number) => go(number)) : null;
let current = -1;

function go(number, time = 0) {
  location.hash = number < 0 ? "" : `scene=${number}${time ? `&t=${time}` : ""}`;
}

async function route() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const number = wanted.has("scene") ? Number(wanted.get("scene")) : many ? -1 : 0;
  const scene = index.scenes[number];
  current = scene ? number : many ? -1 : 0;
  const playing = current >= 0;
  $("gallery").hidden = playing;
  $("player").hidden = !playing;
  for (const id of ["back", "previous", "next", "position"]) $(id).hidden = !playing || !many;
  root.dataset.view = playing ? "player" : "gallery";
  if (!playing) {
    player.pause();
    $("tip").hidden = true;
    $("heading").textContent = index.title;
    $("subheading").textContent = index.sides.map((side) => side.label).join(", ");
    return;
  }
  const shown = index.scenes[current];
  $("heading").textContent = shown.id;
  $("subheading").textContent = sourceOf(shown);
  if (many) {
    const order = gallery.order.includes(current) ? gallery.order : index.scenes.map((_, i) => i);
    $("position").textContent = `${order.indexOf(current) + 1} / ${order.length}`;
  }
  await player.open(shown, Number(wanted.get("t")) || 0);
}

function neighbour(step) {
  if (!many || current < 0) return;
  const order = gallery.order.includes(current) ? gallery.order : index.scenes.map((_, i) => i);
  go(order[(order.indexOf(current) + step + order.length) % order.length]);
}

function changeTheme() {
  setTheme(root.dataset.theme === "dark" ? "light" : "dark");
  stored.set("perlsim-theme", root.dataset.theme);
  repaint();
}

function repaint() {
  for (const stage of player.stages) stage.layerView = null;
  player.request();
  if (gallery) gallery.repaint();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target.closest("input, select, textarea")) return;
  const speedBy = (step) => player.setSpeed(SPEEDS[clamp(SPEEDS.indexOf(player.speed) + step, 0, SPEEDS.length - 1)]);
  const stepBy = (step) => (event.shiftKey ? (player.pause(), player.seek(player.time + step)) : player.step(step));
  const anywhere = { t: changeTheme, "?": () => $("help").showModal() };
  const watching = {
    " ": () => player.toggle(), ArrowLeft: () => stepBy(-1), ArrowRight: () => stepBy(1),
    Home: () => player.seek(0), End: () => player.seek(player.duration), "[": () => speedBy(-1), "]": () => speedBy(1),
    e: () => player.nextEvent(), f: () => player.follow(), h: () => player.headingUp(), "+": () => player.zoom(1.25), "=": () => player.zoom(1.25),
    "-": () => player.zoom(0.8), 0: () => player.fit(), c: () => player.compare(), n: () => neighbour(1), p: () => neighbour(-1),
    l: () => { player.show.names = !player.show.names; panel.rebuild(player); player.request(); },
    g: () => many && go(-1), Escape: () => many && go(-1),
  };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = anywhere[key] || (current >= 0 && watching[key]);
  if (!action) return;
  event.preventDefault();
  action();
}

$("notices").replaceChildren(...index.notices.map((text) => make("p", { textContent: text })));
$("back").onclick = () => go(-1);
$("previous").onclick = () => neighbour(-1);
$("next").onclick = () => neighbour(1);
$("theme").onclick = changeTheme;
$("help-open").onclick = () => $("help").showModal();
$("help").querySelector("dl").append(...KEYS.flatMap(([keys, what]) => [make("dt", { textContent: keys }), make("dd", { textContent: what })]));
prefersDark.addEventListener("change", () => {
  if (stored.get("perlsim-theme")) return;
  setTheme(prefersDark.matches ? "dark" : "light");
  repaint();
});
addEventListener("keydown", onKey);
addEventListener("hashchange", route);
// What scripts may ask of this page.
window.perlsim = { index, player, camera, gallery, failures, go };
route().then(() => { root.dataset.ready = 1; });
