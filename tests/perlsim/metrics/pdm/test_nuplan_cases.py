"""nuPlan's own cases of metrics that need no map: comfort, collisions at fault, time to collision, progress."""

import json
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import Scene
from perlsim.bank_build import build_bank
from perlsim.metrics.pdm import PdmConfig, PdmScorer
from perlsim.metrics.pdm.comfort import comfort_signals
from perlsim.metrics.pdm.road import route_arc
from perlsim.scenario import Ego, Lanes, Lights, Ragged, Road, Route, Scenario, Tracks
from perlsim.vocabulary import AgentType

# nuPlan's ego: length, width, height, wheelbase, rear axle to centre [m].
LENGTH, WIDTH, HEIGHT, WHEELBASE, REAR_AXLE = 5.176, 2.297, 1.777, 3.089, 1.461
STEPS = 41
KINDS = {"vehicles": AgentType.VEHICLE, "bicycles": AgentType.CYCLIST, "pedestrians": AgentType.PEDESTRIAN}


@pytest.fixture(scope="module")
def case(real_data):
    folder = real_data / "known_answers/nuplan/planning/metrics/evaluation_metrics/common/test/json"

    def load(name):
        return json.loads((folder / name).read_text())

    return load


def states_of(case):
    """Poses ``[T, 3]``, accelerations ``[T, 2]`` and the step [s]."""
    states = [case["ego"], *case["ego_future_states"]]
    times = np.array([state["time_us"] for state in states]) * 1e-6
    poses, accelerations = (np.array([state[key] for state in states]) for key in ("pose", "acceleration"))
    return poses, accelerations, float(np.diff(times).mean())


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("ego_jerk", "jerk"),
        ("ego_lon_jerk", "longitudinal_jerk"),
        ("ego_lat_acceleration", "lateral"),
        ("ego_yaw_rate", "yaw_rate"),
        ("ego_yaw_acceleration", "yaw_acceleration"),
    ],
)
def test_comfort_signals_are_nuplans(case, name, signal):
    known = case(f"{name}/{name}.json")
    poses, accelerations, step = states_of(known)
    signals = comfort_signals(
        jnp.asarray(accelerations[:, 0]),
        jnp.asarray(accelerations[:, 1]),
        jnp.asarray(np.hypot(*accelerations.T)),
        jnp.asarray(np.unwrap(poses[:, 2])),
        step,
    )
    expected = known["expected"]["time_series"]["values"]
    np.testing.assert_allclose(getattr(signals, signal), expected, atol=0.006)


def boxes_of(world):
    return [(kind, box) for name, kind in KINDS.items() for box in world.get(name, [])]


def one_lane(cos, sin):
    """A lane along the ego's heading, all round it drivable: what the cases' map comes to."""
    nobody = Ragged.from_rows([[]], dtype=np.int32)
    lane = np.array([[-90.0, 0, 0], [90, 0, 0]]) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    ring = 100.0 * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0], [-1, -1, 0]])
    lanes = Lanes(
        centre=Ragged.from_rows([lane], width=3, dtype=np.float32),
        width=np.full(2, 4.0, np.float32),
        kind=np.ones(1, np.int8),
        speed_limit=np.full(1, np.nan, np.float32),
        in_junction=np.zeros(1, bool),
        successors=nobody,
        left=nobody,
        right=nobody,
        ids=("0",),
    )
    return Road(lanes=lanes, edges=Ragged.from_rows([ring], width=3, dtype=np.float32))


def scenario_of(case, moving):
    """The case's world round the ego's start; road users drive on at their speed, or stay."""
    x, y, heading = case["ego"]["pose"]
    cos, sin = np.cos(heading), np.sin(heading)
    others, times = boxes_of(case["world"]), 0.1 * np.arange(STEPS)
    rows = [
        (
            REAR_AXLE * cos,
            REAR_AXLE * sin,
            heading,
            case["ego"]["velocity"][0],
            LENGTH,
            WIDTH,
            AgentType.VEHICLE,
        )
    ]
    for kind, other in others:
        place, size = other["box"]["pose"], other["box"]["size"]
        rows.append((place[0] - x, place[1] - y, place[2], other["speed"], size[1], size[0], kind))
    x, y, heading, speed, length, width, kind = map(np.array, zip(*rows, strict=True))
    velocity = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    moved = velocity[:, None] * times[:, None] * moving
    place = np.stack([x, y], 1)[:, None] + moved
    count = len(rows)
    tracks = Tracks(
        position=np.concatenate([place, np.zeros((count, STEPS, 1))], 2).astype(np.float32),
        heading=np.repeat(heading[:, None], STEPS, 1).astype(np.float32),
        velocity=np.repeat(velocity[:, None], STEPS, 1).astype(np.float32),
        size=np.stack([length, width, np.full(count, HEIGHT)], 1).astype(np.float32),
        kind=kind.astype(np.int8),
        valid=np.ones((count, STEPS), bool),
        ids=tuple(str(k) for k in range(count)),
    )
    return Scenario(
        "case",
        "made",
        0.1,
        tracks,
        ego=Ego(0, WHEELBASE, REAR_AXLE),
        road=one_lane(cos, sin),
        lights=Lights(state=np.zeros((0, STEPS), np.int8)),
        route=Route(np.array([[0, 0, 0], [50 * cos, 50 * sin, 0]], np.float32), np.full(2, -1, np.int32)),
    )


def plan_of(case, moving):
    """A candidate that drives on at the ego's speed, or jumps from one of the case's poses to the next each second."""
    plan = np.zeros((STEPS - 1, 3), np.float32)
    if moving:
        plan[:, 0] = case["ego"]["velocity"][0] * 0.1 * np.arange(1, STEPS)
        return plan
    x, y, heading = case["ego"]["pose"]
    cos, sin = np.cos(heading), np.sin(heading)
    for second, state in enumerate(case.get("ego_future_states", []), 1):
        dx, dy = state["pose"][0] - x, state["pose"][1] - y
        plan[10 * second - 1 :] = (dx * cos + dy * sin, dy * cos - dx * sin, state["pose"][2] - heading)
    return plan


@pytest.fixture(scope="module")
def scorer():
    return PdmScorer(PdmConfig(tracker="none", extended=False))


def score(scorer, case, moving, only=None):
    # One shape of the bank, whoever moves: what moves is given.
    host = build_bank([scenario_of(case, False)], max_agents=8, observed_pieces=None)
    tracks = np.array(build_bank([scenario_of(case, moving)], max_agents=8).bank.tracks)[0]
    if only is not None:
        tracks[:, 7] *= np.arange(tracks.shape[2]) == only
    starts = SimpleNamespace(scenario_idx=np.zeros(1, np.int32), start=np.zeros(1, np.int32))
    plans = plan_of(case, moving)[None, None]
    return jax.tree.map(
        lambda leaf: np.asarray(leaf)[0, 0], scorer(scorer.put(host.bank), starts, plans, agents=tracks[None])
    )


@pytest.mark.parametrize("name", ["active_front_collision", "multiple_collisions", "no_collision"])
def test_collisions_at_fault_are_those_that_nuplan_counts(case, scorer, name):
    known = case(f"no_ego_at_fault_collision/{name}.json")
    fine, counted = known["expected"]["statistics"][0][1], known["expected"]["statistics"][1][1]
    assert score(scorer, known, False).no_at_fault_collisions == (1.0 if fine else 0.0)
    others = range(1, 1 + len(boxes_of(known["world"])))
    hit = [slot for slot in others if score(scorer, known, False, only=slot).no_at_fault_collisions == 0]
    assert len(hit) == counted


@pytest.mark.parametrize("name", ["no_collisions", "no_relevant_tracks"])
def test_nobody_is_too_close_where_nuplan_finds_an_infinite_time_to_collision(case, scorer, name):
    known = case(f"time_to_collision_within_bound/{name}.json")
    assert known["expected"]["statistics"][0][1] == np.inf
    found = score(scorer, known, True)
    assert (
        found.time_to_collision == 1 and found.no_at_fault_collisions == 1 and np.isinf(found.failure_time[4])
    )


@pytest.mark.parametrize("name", ["ego_progress_along_expert_route", "ego_drives_backward"])
def test_progress_along_the_experts_path_is_nuplans(case, name):
    known = case(f"ego_progress_along_expert_route/{name}.json")
    expert = np.array([state["pose"][:2] for state in known["expert_ego_states"]])
    ego = np.array([state["pose"][:2] for state in [known["ego"], *known["ego_future_states"]]])
    arcs = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(expert, axis=0).T))])
    every_metre = np.arange(0.0, arcs[-1] + 1e-6)
    route = np.stack([np.interp(every_metre, arcs, column) for column in (expert - expert[0]).T], 1)
    bank: Any = SimpleNamespace(route=jnp.asarray(route, jnp.float32)[None])
    places = jnp.asarray(ego[[0, -1]] - expert[0], jnp.float32)
    arc = route_arc(Scene(bank, jnp.int32(0)), places[:, 0], places[:, 1])
    (_, of_expert), (_, of_ego), (_, ratio) = known["expected"]["statistics"]
    assert arcs[-1] == pytest.approx(of_expert, abs=0.02)
    assert float(arc[1] - arc[0]) == pytest.approx(max(of_ego, 0.0), abs=0.02)
    assert max(float(arc[1] - arc[0]), 0.0) / arcs[-1] == pytest.approx(ratio, abs=0.011)
