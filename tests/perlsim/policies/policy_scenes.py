"""Scenes for policies, in one bank so that they share one compiled program, and how to drive them."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from made_scenes import CAR, lanes_of, light, line, mover, road_of, scene

from perlsim.bank import STEP, VALID, Scene
from perlsim.bank_build import build_bank
from perlsim.geometry.boxes import Box, box_gap
from perlsim.policies import PrivilegedView
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init, step
from perlsim.vocabulary import AgentType, LightState

STEPS = 181
GREEN_FROM = 110
LINE = 60.0
RADIUS = 15.0


def car(x=0.0, y=0.0, heading=0.0, speed=0.0, **options):
    return mover(x, y, heading, speed, steps=STEPS, **options)


def limited(limit):
    lanes = lanes_of(line(-40, 0, 160, 0))
    return road_of(replace(lanes, speed_limit=np.full(1, limit, np.float32)))


def turn():
    """A route: 30 m straight, a left turn by 90°, then straight."""
    angle = np.linspace(0, np.pi / 2, 25)[1:]
    arc = np.column_stack([30 + RADIUS * np.sin(angle), RADIUS * (1 - np.cos(angle)), 0 * angle])
    return np.concatenate([line(0, 0, 30, 0), arc, [[30 + RADIUS, RADIUS + 80, 0]]])


def red_then_green():
    lights = light(LightState.RED, x=LINE, steps=STEPS)
    lights.state[0, GREEN_FROM:] = int(LightState.GREEN)
    return lights


def walker(x, y, speed):
    return car(x, y, np.pi / 2, speed, kind=AgentType.PEDESTRIAN, size=(0.6, 0.6, 1.7))


def scenes():
    fast = car(speed=10.0)
    return {
        "free": scene("free", car(speed=4.0), road=limited(8.0)),
        "too fast": scene("too fast", car(speed=12.0), road=limited(8.0)),
        "standing": scene("standing", fast, car(70, 0)),
        "slow": scene("slow", fast, car(30, 0, 0, 5.0)),
        "light": scene("light", fast, lights=red_then_green()),
        "sign": scene("sign", fast, road=road_of(signs=[(LINE, 0.0)])),
        "turn": scene("turn", fast, road=road_of(lanes_of(turn())), route=turn()),
        "beside": scene("beside", car(0, 2.5, 0, 8.0)),
        "askew": scene("askew", car(0, 1.0, 0.25, 8.0)),
        "crossing": scene("crossing", fast, walker(35, -6.0, 1.5)),
        "cut in": scene("cut in", fast, car(12, 3.5, 0, drift=(7.0, -0.9))),
        "parked beside": scene(
            "parked beside", car(speed=4.0), car(40, 2.6), car(30, -2.6), road=limited(8.0)
        ),
        "chased": scene("chased", car(speed=4.0), car(-40, 0, 0, 9.0), road=limited(8.0)),
        "half in": scene("half in", fast, car(45, -2.0)),
        "sudden": scene("sudden", fast, car(30.5, 0)),
    }


def built():
    made = scenes()
    return list(made), build_bank(list(made.values()), observed_pieces=None)


@jax.jit
def _drive(policy, bank, idx):
    here = Scene(bank, idx)
    config, agents, start = SimConfig(), LogAgents(), jnp.int32(0)
    state = init(config, agents, here, start, jax.random.key(0))
    carry = policy.init(here, start, jax.random.key(1))

    def plan_and_drive(loop, number):
        state, carry = loop
        carry, plan = policy.act(
            carry, PrivilegedView(here, state), jax.random.fold_in(jax.random.key(1), number)
        )
        plan, state = plan.anchored(state.ego), replace(state, plan_age=jnp.int32(0))

        def drive(state, _):
            state, _ = step(config, agents, here, state, plan)
            return state, (state.ego, state.agents, state.events)

        state, made = jax.lax.scan(drive, state, None, length=5)
        return (state, carry), made

    _, made = jax.lax.scan(plan_and_drive, (state, carry), jnp.arange(30))
    return jax.tree.map(lambda leaf: leaf.reshape(150, *leaf.shape[2:]), made)


def driven(policy, host, names):
    """What each scene becomes under a policy: x, y, heading, speed, events and least gap to anyone, per step."""
    bank = jax.device_put(host.bank)
    many = jax.vmap(partial(_drive, policy), (None, 0))(bank, jnp.arange(len(names)))
    ego, agents, events = jax.tree.map(np.asarray, many)
    sizes = np.asarray(host.bank.boxes)
    found = {}
    for row, name in enumerate(names):
        own = Box(*(part[row][:, None] for part in (ego.x, ego.y, ego.cos, ego.sin)), CAR[0] / 2, CAR[1] / 2)
        x, y, _, cos, sin = agents[row, :, :5, 1:].transpose(1, 0, 2)
        gap = np.asarray(box_gap(own, Box(x, y, cos, sin, *sizes[row, :2, 1:])))
        gap = np.where(agents[row, :, VALID, 1:] > 0, gap, np.inf).min(1)
        found[name] = SimpleNamespace(
            x=ego.x[row],
            y=ego.y[row],
            heading=ego.heading[row],
            speed=ego.speed[row],
            events=events[row],
            gap=gap,
        )
    return found


def changed_future(host, start):
    """The bank with another future: everything that the log says about the steps after ``start`` is scrambled."""
    random, bank = np.random.default_rng(0), host.bank
    later = np.arange(bank.tracks.shape[1]) > start
    tracks = np.where(later[:, None, None], bank.tracks + random.normal(0, 3, bank.tracks.shape), bank.tracks)
    tracks[:, :, VALID] = np.where(later[:, None], random.random(tracks[:, :, VALID].shape) < 0.5, 1)
    state = np.where(later[:, None], random.integers(0, 5, bank.light_state.shape), bank.light_state)
    return replace(
        bank,
        tracks=tracks.astype(np.float32),
        light_state=state.astype(np.int8),
        log_speed=np.where(later, 3.0, bank.log_speed).astype(np.float32),
        log_arc=np.where(later, 0.0, bank.log_arc).astype(np.float32),
        log_path=(bank.log_path + random.normal(0, 5, bank.log_path.shape)).astype(np.float32),
        goal_arc=(0 * np.nan_to_num(bank.goal_arc, posinf=1.0)).astype(np.float32),
    )


SECOND = round(1 / STEP)


def proposed(policy):
    """A function of a bank, a number of scenes and a start: plans and proposals of all."""

    @jax.jit
    def of(bank, idx, start):
        here = Scene(bank, idx)
        state = init(SimConfig(), LogAgents(), here, start, jax.random.key(0))
        carry = policy.init(here, start, jax.random.key(1))
        _, plan = policy.act(carry, PrivilegedView(here, state), jax.random.key(1))
        return plan.path, plan.target_speed, policy.propose(here, state, jax.random.key(1))

    def all_of(bank, count, start):
        return jax.vmap(of, (None, 0, None))(bank, jnp.arange(count), jnp.int32(start))

    return all_of
