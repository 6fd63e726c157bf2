"""PDMS and EPDMS of one candidate of one scene in plain numpy and shapely, written from the definition.

Nothing of `perlsim.metrics.pdm` is used: matrices where it has closed forms, loops over times and road users where it
has keys and minima, the whole map where it has cells. Slow; only for tests.
"""

import numpy as np
import shapely
from scipy.signal import savgol_filter

from perlsim.vocabulary import AgentType, LightState

DT, HISTORY = 0.1, 15
LEVEL = 3.0


def wrap(angle):
    return np.arctan2(np.sin(angle), np.cos(angle))


# --- the ego in the log -------------------------------------------------------------------------------------------


def ego_rows(scenario, step):
    """x, y, heading of the box centre at a step."""
    ego = scenario.ego.idx
    return np.array([*scenario.tracks.position[ego, step, :2], scenario.tracks.heading[ego, step]], float)


def speed_at(scenario, step):
    ego = scenario.ego.idx
    vx, vy = scenario.tracks.velocity[ego, step].astype(float)
    heading = float(scenario.tracks.heading[ego, step])
    return max(vx * np.cos(heading) + vy * np.sin(heading), 0.0)


def gradient(values):
    inner = (values[2:] - values[:-2]) / (2 * DT)
    return np.concatenate([[(values[1] - values[0]) / DT], inner, [(values[-1] - values[-2]) / DT]])


def history(scenario, start):
    """Motion in the 1.5 s before the start and at it: columns heading, v, a_lon, a_lat, yaw rate, yaw acc; or None."""
    steps = np.arange(start - HISTORY, start + 1)
    if steps[0] < 0 or not scenario.tracks.valid[scenario.ego.idx, steps].all():
        return None
    poses = np.array([ego_rows(scenario, step) for step in steps])
    heading = np.unwrap(wrap(poses[:, 2] - poses[-1, 2]))
    back = scenario.ego.rear_axle_to_centre
    rear = poses[:, :2] - back * np.stack([np.cos(poses[:, 2]), np.sin(poses[:, 2])], 1)
    speed = gradient(rear[:, 0]) * np.cos(poses[:, 2]) + gradient(rear[:, 1]) * np.sin(poses[:, 2])
    speed[-1] = speed_at(scenario, start)
    yaw_rate = gradient(heading)
    acceleration = savgol_filter(speed, 7, 2, deriv=1, delta=DT)
    return np.stack([heading, speed, acceleration, speed * yaw_rate, yaw_rate, gradient(yaw_rate)], 1)


# --- driving ------------------------------------------------------------------------------------------------------


def fit_profiles(poses):
    """Speeds and curvatures of a reference ``[T + 1, 3]`` by regularised least squares (nuPlan's tracker)."""
    step = np.diff(poses, axis=0)
    turn, count = wrap(step[:, 2]), len(step)
    a = np.zeros((2 * count, count))
    for i in range(count):
        direction = np.array([np.cos(poses[i, 2]), np.sin(poses[i, 2])])
        a[2 * i : 2 * i + 2, 0] = direction * DT
        for j in range(1, i + 1):
            a[2 * i : 2 * i + 2, j] = direction * DT**2
    rough = np.zeros((count - 2, count))
    for i in range(count - 2):
        # Differences of accelerations in nuPlan; NAVSIM's matrix keeps the first terms alone, but for its last row.
        rough[i, i + 1] = -1
        rough[i, i + 2] = 1 if i == count - 3 else 0
    x = np.linalg.solve(a.T @ a + 1e-4 * rough.T @ rough, a.T @ step[:, :2].ravel())
    speeds = x[0] + DT * np.concatenate([[0], np.cumsum(x[1:])])
    b = np.tri(count)
    b[:, 0] = speeds * DT
    for i in range(count):
        b[i, 1 : i + 1] = speeds[i] * DT**2
    penalty = 1e-2 * np.eye(count)
    penalty[0, 0] = 1e-10
    x = np.linalg.pinv(b.T @ b + penalty) @ b.T @ turn
    return speeds, x[0] + DT * np.concatenate([[0], np.cumsum(x[1:])])


def steer_rate(speeds, curvatures, state, wheelbase):
    """The constant steering rate that an LQR over 10 steps asks for, from lateral error, heading error, wheel angle."""
    a, b, g = np.eye(3), np.zeros(3), np.zeros(3)
    for v, k in zip(speeds, curvatures, strict=True):
        step = np.array([[1, v * DT, 0], [0, 1, v * DT / wheelbase], [0, 0, 1]])
        a, b = step @ a, step @ b + [0, 0, DT]
        g = step @ g + [0, -v * k * DT, 0]
    error = a @ state + g
    error[1:] = wrap(error[1:])
    q = np.diag([1.0, 10.0, 0.0])
    return -(b @ q @ error) / (b @ q @ b + 1.0)


def drive(scenario, start, plan, tracker, before):
    """Motion along a plan ``[H, 3]``: rows x, y, heading (ego frame, rear axle), v, a_lon, a_lat, yaw rate, yaw acc."""
    poses = np.concatenate([np.zeros((1, 3)), np.asarray(plan, float)])
    first = before[-1] if before is not None else [0, speed_at(scenario, start), 0, 0, 0, 0]
    count = len(poses) - 1
    if tracker == "none":
        heading = np.unwrap(poses[:, 2])
        cos, sin = np.cos(heading), np.sin(heading)
        speed = gradient(poses[:, 0]) * cos + gradient(poses[:, 1]) * sin
        speed[0] = first[1]
        rate = gradient(heading)
        return np.stack(
            [poses[:, 0], poses[:, 1], heading, speed, gradient(speed), speed * rate, rate, gradient(rate)], 1
        )
    wheelbase = scenario.ego.wheelbase
    speeds, curvatures = fit_profiles(poses)
    x, y, heading, v, acceleration, wheel, rate = 0.0, 0.0, 0.0, first[1], first[2], 0.0, 0.0
    rows = [[x, y, heading, v, acceleration, first[3], 0.0, 0.0]]
    for i in range(count):
        ahead = min(i + 10, count - 1)
        target = speeds[ahead]
        window = curvatures[[min(k, count - 1) for k in range(i, i + 10)]]
        dx, dy = x - poses[i, 0], y - poses[i, 1]
        error = -dx * np.sin(poses[i, 2]) + dy * np.cos(poses[i, 2])
        if target <= 0.2 and v <= 0.2:
            command, turn = -0.5 * (v - target), 0.0
        else:
            command = -10.0 / 11.0 * (v - target)
            along = v + command * DT * np.arange(10)
            turn = steer_rate(along, window, np.array([error, wrap(heading - poses[i, 2]), wheel]), wheelbase)
        acceleration += DT / (DT + 0.2) * (command - acceleration)
        new_wheel = wheel + DT / (DT + 0.05) * (DT * turn)
        x, y = x + DT * v * np.cos(heading), y + DT * v * np.sin(heading)
        heading += DT * v * np.tan(wheel) / wheelbase
        v += DT * acceleration
        wheel = np.clip(new_wheel, -np.pi / 3, np.pi / 3)
        new_rate = v * np.tan(wheel) / wheelbase
        rows.append([x, y, heading, v, acceleration, 0.0, new_rate, (new_rate - rate) / DT])
        rate = new_rate
    return np.array(rows)


# --- comfort ------------------------------------------------------------------------------------------------------


def comfortable(motion, back):
    """Comfort of rows heading, v, a_lon, a_lat, yaw rate, yaw acc."""
    heading, _, longitudinal, lateral, rate, spin = motion.T
    count = len(heading)

    def smooth(values):
        return savgol_filter(values, min(8, count), 2)

    def slope(values):
        return savgol_filter(values, min(15, count), 2, deriv=1, delta=DT)

    along, across = smooth(longitudinal + back * rate**2), smooth(lateral + back * spin)
    jerk = slope(smooth(np.hypot(longitudinal, lateral)))
    rates = savgol_filter(heading, 5, 2, deriv=1, delta=DT)
    spins = savgol_filter(heading, 5, 3, deriv=2, delta=DT)
    return float(
        (along > -4.05).all()
        and (along < 2.40).all()
        and (abs(across) < 4.89).all()
        and (abs(jerk) < 8.37).all()
        and (abs(slope(along)) < 4.13).all()
        and (abs(rates) < 0.95).all()
        and (abs(spins) < 1.93).all()
    )


def plans_agree(now, then, offset):
    """Extended comfort of two motions, the second begun ``offset`` steps before."""

    def features(motion):
        acceleration = savgol_filter(np.hypot(motion[:, 2], motion[:, 3]), 8, 2)
        heading = motion[:, 0]
        return (
            acceleration,
            savgol_filter(acceleration, 15, 2, deriv=1, delta=DT),
            savgol_filter(heading, 5, 2, deriv=1, delta=DT),
            savgol_filter(heading, 5, 2, deriv=2, delta=DT),
        )

    pairs = zip(features(now[:-offset]), features(then[offset:]), (0.7, 0.5, 0.1, 0.1), strict=True)
    return float(all(np.sqrt(np.mean((a - b) ** 2)) <= limit for a, b, limit in pairs))


# --- the map ------------------------------------------------------------------------------------------------------


def pieces(lines):
    ends = [np.stack([row[:-1], row[1:]], 1) for row in lines.rows()]
    ends = np.concatenate([np.zeros((0, 2, 3)), *ends]).astype(float)
    line = np.repeat(np.arange(len(lines)), [len(row) - 1 for row in lines.rows()])
    first = np.concatenate(
        [np.zeros(0, int)]
        + [np.arange(a, b - 1) for a, b in zip(lines.offsets[:-1], lines.offsets[1:], strict=True)]
    )
    long = np.hypot(*(ends[:, 1, :2] - ends[:, 0, :2]).T) > 1e-6
    return ends[long], line[long], first[long]


class Map:
    """Distances of points to all edges and lanes of a scenario."""

    def __init__(self, scenario):
        road = scenario.road
        self.edges, _, _ = pieces(road.edges)
        self.lanes, self.lane, first = pieces(road.lanes.centre)
        self.half_width = road.lanes.width[first].astype(float) / 2
        junction = road.lanes.in_junction[self.lane] if len(self.lane) else np.zeros(0, bool)
        # The lanes of a junction count as one.
        self.junction, self.group = junction, np.where(junction, -1, self.lane)
        points = scenario.route.points[:, :2].astype(float)
        last = points[-1] - points[-2]
        self.route = shapely.LineString([*points, points[-1] + 60 * last / np.hypot(*last)])

    @staticmethod
    def _measure(ends, x, y):
        start, chord = ends[:, 0, :2], ends[:, 1, :2] - ends[:, 0, :2]
        to = np.array([x, y]) - start
        length = np.hypot(*chord.T)
        along = np.clip((to * chord).sum(1) / length**2, 0, 1)
        distance = np.hypot(*(to - along[:, None] * chord).T)
        across = (chord[:, 0] * to[:, 1] - chord[:, 1] * to[:, 0]) / length
        return distance, across, chord / length[:, None]

    def on_road(self, x, y, z):
        distance, across, _ = self._measure(self.edges, x, y)
        distance = np.where(abs(self.edges[:, :, 2].mean(1) - z) < LEVEL, distance, np.inf)
        tied = np.flatnonzero(distance <= distance.min() + 1e-6)
        return across[tied[np.argmax(abs(across[tied]))]] >= 0

    def height(self, x, y, z):
        if not len(self.lanes):
            return z
        distance, _, _ = self._measure(self.lanes, x, y)
        level = self.lanes[:, :, 2].mean(1)
        distance = np.where(abs(level - z) < LEVEL, distance, np.inf)
        nearest = distance.argmin()
        return level[nearest] if distance[nearest] < 2.0 else z

    def lanes_at(self, x, y, z):
        """Groups of lanes over a point, whether one is in a junction, and directions of the segments."""
        if not len(self.lanes):
            return set(), False, np.zeros((0, 2))
        distance, _, direction = self._measure(self.lanes, x, y)
        inside = (distance <= self.half_width) & (abs(self.lanes[:, :, 2].mean(1) - z) < LEVEL)
        return set(self.group[inside].tolist()), bool(self.junction[inside].any()), direction[inside]


# --- the score ----------------------------------------------------------------------------------------------------


def box(x, y, heading, length, width):
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (length / 2, width / 2)
    cos, sin = np.cos(heading), np.sin(heading)
    return corners @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


class Others:
    """The other road users of a scenario: polygons, places and speeds by step."""

    def __init__(self, scenario, start, count):
        tracks = scenario.tracks
        self.rows = [k for k in range(tracks.num_agents) if k != scenario.ego.idx]
        self.kind = {k: int(tracks.kind[k]) for k in self.rows}
        self.at = []
        for step in range(start, start + count):
            now = {}
            for k in self.rows:
                if step < tracks.num_steps and tracks.valid[k, step]:
                    place = tracks.position[k, step].astype(float)
                    heading = float(tracks.heading[k, step])
                    shape = shapely.Polygon(box(*place[:2], heading, *tracks.size[k, :2].astype(float)))
                    now[k] = (shape, place, float(np.hypot(*tracks.velocity[k, step])))
            self.at.append(now)


def bearing(rear, heading, place):
    """Angle [rad] between the heading and the direction from the rear axle to a place."""
    to = np.asarray(place[:2]) - rear
    cos = (to @ [np.cos(heading), np.sin(heading)]) / np.hypot(*to)
    return np.arccos(np.clip(cos, -1, 1))


def reference_score(scenario, start, plan, *, tracker="lqr", reference=np.nan, previous=None, others=None):
    """Sub-scores of a plan by name, None where unknown, and the time of the first collision at fault."""
    ego = scenario.ego
    length, width = scenario.tracks.size[ego.idx, :2].astype(float)
    back = ego.rear_axle_to_centre
    before = history(scenario, start)
    motion = drive(scenario, start, plan, tracker, before)
    pose = ego_rows(scenario, start)
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    origin = pose[:2] - back * np.array([cos, sin])
    rear = origin + motion[:, :2] @ np.array([[cos, sin], [-sin, cos]])
    heading = motion[:, 2] + pose[2]
    centre = rear + back * np.stack([np.cos(heading), np.sin(heading)], 1)
    speed, count = motion[:, 3], len(motion)
    corners = [box(*centre[t], heading[t], length, width) for t in range(count)]
    shapes = [shapely.Polygon(c) for c in corners]
    world = Map(scenario)
    others = others or Others(scenario, start, count)
    z = [float(scenario.tracks.position[ego.idx, start, 2])]
    for t in range(1, count):
        z.append(world.height(*centre[t], z[-1]))

    has_edges, has_lanes = len(world.edges) > 0, len(world.lanes) > 0
    off = [has_edges and not all(world.on_road(*c, z[t]) for c in corners[t]) for t in range(count)]
    at_centre = [world.lanes_at(*centre[t], z[t]) for t in range(count)]
    junction = [found[1] for found in at_centre]

    def exposed(t):
        at = [world.lanes_at(*c, z[t])[0] for c in corners[t]]
        several = len(set.union(*at)) > 1 and not set.intersection(*at)
        return off[t] or several

    # No at-fault collisions.
    collision, when, ignored = 1.0, np.inf, set()
    for t in range(count):
        for k, (shape, place, other_speed) in others.at[t].items():
            if k in ignored or abs(place[2] - z[t]) >= LEVEL or not shape.intersects(shapes[t]):
                continue
            front = shapely.LineString([corners[t][0], corners[t][3]])
            angle = bearing(rear[t], heading[t], place)
            fixed = others.kind[k] == AgentType.STATIC
            if abs(speed[t]) <= 0.05:
                fault = False
            elif fixed or other_speed <= 0.05:
                fault = True
            elif angle > np.deg2rad(150):
                fault = False
            else:
                fault = front.intersects(shape) or exposed(t)
            if fault:
                collision, when = min(collision, 0.5 if fixed else 0.0), min(when, t * DT)
            else:
                ignored.add(k)

    # Time to collision.
    closing, ignored = 1.0, set()
    for t in range(count - 9):
        for ahead in (0, 3, 6, 9):
            shift = speed[t] * ahead * DT * np.array([np.cos(heading[t]), np.sin(heading[t])])
            projected = shapely.Polygon(corners[t] + shift)
            for k, (shape, place, _) in others.at[t + ahead].items():
                level = abs(place[2] - z[t]) < LEVEL
                if k in ignored or speed[t] < 0.005 or not level or not shape.intersects(projected):
                    continue
                angle = bearing(rear[t], heading[t], place)
                beside = angle <= np.deg2rad(150) and (exposed(t) or world.lanes_at(*rear[t], z[t])[1])
                if angle < np.deg2rad(30) or beside:
                    closing = 0.0
                else:
                    ignored.add(k)

    # Driving direction.
    against = np.zeros(count)
    for t in range(1, count):
        groups, crossing, direction = at_centre[t]
        with_it = (direction @ [np.cos(heading[t]), np.sin(heading[t])] > 0).any()
        if groups and not with_it and not crossing:
            against[t] = np.hypot(*(centre[t] - centre[t - 1]))
    worst = max(against[max(0, t - 10) : t + 1].sum() for t in range(count))
    direction = 1.0 if worst < 2 else 0.5 if worst < 6 else 0.0

    # Traffic lights.
    lights, light = scenario.lights, 1.0
    for k in range(len(lights.position)):
        place, toward = lights.position[k, :2].astype(float), float(lights.heading[k])
        along = np.array([np.cos(toward), np.sin(toward)])
        lane = lights.lane_idx[k]
        half = 1.75
        if lane >= 0:
            lanes = scenario.road.lanes
            first, last = lanes.centre.offsets[lane], lanes.centre.offsets[lane + 1]
            near = np.hypot(*(lanes.centre.values[first:last, :2] - place).T).argmin()
            half = float(lanes.width[first + near]) / 2
        for t in range(1, count):
            front = centre[t - 1 : t + 1] + length / 2 * np.stack(
                [np.cos(heading[t - 1 : t + 1]), np.sin(heading[t - 1 : t + 1])], 1
            )
            ahead = (front - place) @ along
            aside = (front[1] - place) @ [-along[1], along[0]]
            aligned = np.cos(heading[t] - toward) > 0.5
            step = min(start + t, lights.state.shape[1] - 1)
            if (
                ahead[0] < 0 <= ahead[1]
                and aligned
                and abs(aside) < half
                and abs(lights.position[k, 2] - z[t]) < LEVEL
                and lights.state[k, step] == LightState.RED
            ):
                light = 0.0

    # Lane keeping.
    away, keeping = 0, 1.0
    for t in range(count):
        if junction[t]:
            continue
        away = away + 1 if world.route.distance(shapely.Point(centre[t])) > 0.5 else 0
        keeping = 0.0 if away >= 20 else keeping

    arcs = [world.route.project(shapely.Point(p)) for p in (centre[0], centre[-1])]
    progress = max(arcs[1] - arcs[0], 0.0)
    columns = motion[:, 2:]
    values = {
        "no_at_fault_collisions": collision,
        "drivable_area_compliance": float(not any(off)) if has_edges else None,
        "driving_direction_compliance": direction if has_lanes else None,
        "traffic_light_compliance": light if len(lights.position) else None,
        "time_to_collision": closing,
        "lane_keeping": keeping if has_lanes else None,
        "comfort": comfortable(columns, back),
        "history_comfort": None
        if before is None
        else comfortable(np.concatenate([before[:-1], columns]), back),
        "progress": progress,
    }
    if previous is not None:
        then_start, then_plan = previous
        then = drive(scenario, then_start, then_plan, tracker, history(scenario, then_start))
        values["extended_comfort"] = plans_agree(columns, then[:, 2:], start - then_start)

    def share(names):
        parts = [values[name] for name in names]
        if any(part is None for part in parts):
            return None, None
        multiplier = float(np.prod(parts))
        most = np.nanmax([progress * multiplier, reference])
        return multiplier, (min(progress / most, 1.0) if most > 5 else 1.0)

    first = ["no_at_fault_collisions", "drivable_area_compliance"]
    multiplier, values["ego_progress"] = share(first)
    values["pdms"] = values["epdms"] = None
    if multiplier is not None:
        total = 5 * values["ego_progress"] + 5 * closing + 2 * values["comfort"]
        values["pdms"] = multiplier * total / 12
    multiplier, extended = share([*first, "driving_direction_compliance", "traffic_light_compliance"])
    if multiplier is not None and values["history_comfort"] is not None and keeping is not None:
        total = 5 * extended + 5 * closing + 2 * keeping + 2 * values["history_comfort"]
        values["epdms"] = multiplier * total / 14
        if previous is not None:
            values["epdms"] = multiplier * (total + 2 * values["extended_comfort"]) / 16
    return values, when
