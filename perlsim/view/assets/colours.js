// Colours come from the style sheet, so that both themes stand in one place.

const KINDS = [
  ["unknown", "unknown"], ["vehicle", "vehicle"], ["pedestrian", "pedestrian"], ["cyclist", "cyclist"],
  ["motorcyclist", "motorcyclist"], ["bus", "large"], ["truck", "large"], ["static", "static"],
];
const LIGHT_STATES = ["unknown", "green", "yellow", "red", "flashing yellow", "flashing red", "off"];
const LIGHT_COLOURS = ["light-off", "light-green", "light-yellow", "light-red", "light-yellow", "light-red", "light-off"];
const PALETTE = [
  "ground", "road", "bike-lane", "lane", "marking", "edge", "crosswalk", "ink", "muted", "panel", "accent",
  "ego", "other-ego", "plan", "route", "ghost", "bad", "warn", "good", "outline",
  "vehicle", "large", "pedestrian", "cyclist", "motorcyclist", "static", "unknown", "glass",
  "light-off", "light-green", "light-yellow", "light-red", "light-case", "stop-sign",
];
let colour = {};

function setTheme(theme) {
  root.dataset.theme = theme;
  const style = getComputedStyle(root);
  colour = {};
  for (const name of PALETTE) colour[name] = style.getPropertyValue(`--${name}`).trim();
}

// Sentences for what perlsim.sim.types.Event names, with how grave it is.
const EVENTS = {
  COLLISION: ["collision", "bad"], AT_FAULT: ["at-fault collision", "bad"], HIT_VEHICLE: ["hit a vehicle", "bad"],
  HIT_PEDESTRIAN: ["hit a pedestrian or cyclist", "bad"], HIT_STATIC: ["hit an obstacle", "bad"],
  OFF_ROAD: ["off the drivable area", "bad"], RED_LIGHT: ["ran a red light", "bad"],
  STOP_SIGN: ["ran a stop sign", "bad"], WRONG_WAY: ["in a lane of opposite direction", "bad"],
  CROSSES_DOUBLE_SOLID: ["crosses a double solid line", "bad"], OFF_ROUTE: ["left the route", "bad"],
  BLOCKED: ["blocked", "bad"], NON_FINITE: ["numbers not finite", "bad"],
  CROSSES_SOLID: ["crosses a solid line", "warn"], DEVIATED: ["more than 2 m from the log", "warn"],
  TURNED_AWAY: ["turned by 40° from the log", "warn"], LEFT_MAP: ["left the indexed map", "warn"],
  LOOKUP_OVERFLOW: ["map lookup overflowed", "warn"], CROSSES_BROKEN: ["crosses a broken line", "calm"],
  FINISHED: ["reached the end of the log", "good"], LOG_ENDED: ["log ended", "calm"],
};
const METRICS = {
  epdms: "EPDMS", pdms: "PDMS", ade: "ADE [m]", fde: "FDE [m]", min_ttc: "least TTC [s]", route_progress: "route progress [m]",
};
const metricText = (name) => METRICS[name] || name.replaceAll("_", " ");
const eventText = (kind) => (EVENTS[kind] || [kind.toLowerCase().replaceAll("_", " ")])[0];
const eventGrade = (kind) => (EVENTS[kind] || ["", "warn"])[1];
