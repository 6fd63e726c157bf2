"""Scripts on the device before an ego that keeps its speed along its route, or stands, whatever happens."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, Scene, X, Y
from perlsim.bank_build import build_bank
from perlsim.geometry import polylines
from perlsim.geometry.boxes import Box, box_gap
from perlsim.scenario import Ego, Lights, Scenario, Tracks
from perlsim.scenario import Route as DrivenRoute
from perlsim.sim.agents import EgoFuture
from perlsim.sim.core import SimConfig, init
from perlsim.vocabulary import AgentType
from perlsim.worlds.actors.scripted import stack_scripts

EGO_SIZE = (4.9, 2.1, 1.5)
_PIECE = 100


@dataclass(frozen=True)
class Drive:
    """What happened: ``rows`` ``[T, 8, A]`` with the ego in slot 0, half sizes ``[2, A]``, ego arcs ``[T]``."""

    rows: np.ndarray
    half: np.ndarray
    arc: np.ndarray

    def gaps(self, one: int) -> np.ndarray:
        """Gap of one road user's box to each other's, ``[T, A]``; infinite to itself and to the absent."""
        box = Box(*self.rows[:, [X, Y, COS, SIN]].transpose(1, 0, 2), *self.half[:, None])
        own = Box(*(np.broadcast_to(part, self.rows[:, X].shape)[:, one, None] for part in box))
        gap = np.asarray(box_gap(own, box))
        there = (self.rows[:, VALID] > 0) & (self.rows[:, VALID, one, None] > 0)
        there[:, one] = False
        return np.where(there, gap, np.inf)

    @property
    def touches_ego(self) -> np.ndarray:
        """Actors (from 0) that the ego touches at some time."""
        return np.flatnonzero((self.gaps(0) < 0).any(0)) - 1

    @property
    def touch_each_other(self) -> list[tuple[int, int]]:
        """Pairs of actors (from 0) that touch at some time."""
        count = self.rows.shape[2]
        hits = [(one, np.flatnonzero((self.gaps(one) < 0).any(0))) for one in range(1, count)]
        return [(one - 1, int(other) - 1) for one, others in hits for other in others if other > one]

    @property
    def speed(self) -> np.ndarray:
        """``[T, A]`` m/s."""
        return np.hypot(self.rows[:, VX], self.rows[:, VY])


def scenario_of(script, line, *, lights=None, origin=None) -> Scenario:
    """One step with the ego at the start of its route."""
    count = 1 + len(script)
    valid = np.zeros((count, 1), bool)
    valid[0] = True
    pose = script.pose
    origin = np.zeros(3) if origin is None else origin
    position = np.concatenate([line[:1], pose[:, :3]])[:, None] - origin
    heading = np.concatenate([polylines.headings(line)[:1], pose[:, 3]])[:, None]
    return Scenario(
        "made",
        "route",
        STEP,
        Tracks(
            position,
            heading,
            np.zeros((count, 1, 2)),
            np.concatenate([[EGO_SIZE], script.size]),
            np.append(AgentType.VEHICLE, script.kind).astype(np.int8),
            valid,
            tuple(str(number) for number in range(count)),
        ),
        Ego(0),
        lights or Lights(),
        route=DrivenRoute(line - origin, np.full(len(line), -1, np.int32)),
        origin=origin,
    )


def drive(script, line, speed, steps=300, **kwargs) -> Drive:
    """An ego that goes along ``line`` ``[n, 3]`` at ``speed`` (a number, or one for each step)."""
    scenario = scenario_of(script, line, **kwargs)
    bank = jax.device_put(build_bank([scenario], observed_pieces=None).bank)
    agents = jax.device_put(stack_scripts([script], [scenario], bank.num_agents))
    arcs = np.cumsum(np.broadcast_to(speed, steps) * STEP)
    own = polylines.arc_lengths(line)
    beyond = line[-1] + (line[-1] - line[-2]) * 1000
    local = np.concatenate([line, beyond[None]]) - scenario.origin
    places = polylines.interpolate(local, arcs)
    segment = np.clip(np.searchsorted(own, arcs, side="right") - 1, 0, len(line) - 1)
    heading = polylines.headings(local)[segment]
    speeds = np.broadcast_to(np.asarray(speed, float), steps)
    at = [jnp.asarray(values, jnp.float32) for values in (arcs, places, heading, speeds)]
    # In pieces of one length, so that drives of all lengths share one program.
    state, rows = _begin(agents, bank), []
    for first in range(0, steps, _PIECE):
        state, piece = _run(agents, bank, state, [values[first : first + _PIECE] for values in at])
        rows.append(np.asarray(piece))
    return Drive(np.concatenate(rows), np.asarray(bank.boxes[0, :2]), arcs)


@jax.jit
def _begin(agents, bank):
    return init(SimConfig(), agents, Scene(bank, jnp.int32(0)), 0, jax.random.key(0))


@jax.jit
def _run(agents, bank, state, at):
    scene = Scene(bank, jnp.int32(0))

    def step(state, at):
        arc, place, turn, speed = at
        memory, rows = agents.act(state.memory, scene, state, EgoFuture(0.0, 0.0), state.key)
        ego = state.ego._replace(
            x=place[0],
            y=place[1],
            z=place[2],
            heading=turn,
            cos=jnp.cos(turn),
            sin=jnp.sin(turn),
            speed=speed,
        )
        state = replace(state, ego=ego, agents=rows, memory=memory, route_arc=arc, step=state.step + 1)
        one = jnp.array([*place, ego.cos, ego.sin, speed * ego.cos, speed * ego.sin, 1.0])
        return state, rows.at[:, 0].set(one)

    return jax.lax.scan(step, state, at)
