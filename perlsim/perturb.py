"""``perlsim perturb``: starts of the second stage of NAVSIM v2's score, around where the log is 4 s later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import Scene
from perlsim.errors import FormatError, PerlsimError
from perlsim.evaluation.scenes import Bucket, EvalScene

if TYPE_CHECKING:
    from perlsim.cli import Perturb as Arguments
    from perlsim.evaluation.navsim import StageTwo

KIND, SCHEMA_VERSION = "stage2_starts", 1
# Steps of 0.1 s from the start of the first stage to that of the second, and from there to its end.
LATER, LASTING = 40, 40
# Largest perturbations [S]: along and across the heading [m], heading [rad], share of the speed. They stay within what
# a policy may well do in 4 s, and the nearest start decides most of the score anyway.
ALONG, ACROSS, TURN, SPEED_SHARE = 2.0, 1.0, 0.1, 0.2
# Draws for each start that is asked for.
DRAWS = 12


@dataclass(frozen=True)
class Starts:
    """A file of starts.

    Attributes:
        store: folder that they were made from; None for embedded logs.
        seed, num_logs: of the embedded logs.
        scenes: (source, scenario_id, start) of each scene.
        stages: of each scene.
    """

    store: str | None
    seed: int
    num_logs: int | None
    scenes: list[tuple[str, str, int]]
    stages: list[StageTwo]

    def of_scenes(self, scenes: Sequence[EvalScene]) -> dict[str, StageTwo]:
        """The starts by name of the scene."""
        by_key = dict(zip(self.scenes, self.stages, strict=True))
        return {
            scene.scene_id: by_key[scene.scenario.source, scene.scenario.scenario_id, scene.start]
            for scene in scenes
        }


def run(args: Arguments) -> int:
    """Makes the file.

    Returns:
        Exit code: 0, or 1 where some scene has fewer starts than asked for.
    """
    from rich.console import Console

    from perlsim import backend

    backend.setup()
    from perlsim.evaluation.scenes import choose_scenes, into_buckets, logs_of
    from perlsim.output import plain, write_json

    console = Console()
    logs = logs_of(args.store, args.scenes, args.seed, args.split)
    selection = choose_scenes(
        logs, LATER + LASTING, count=args.scenes, seed=args.seed, include_standing=args.include_standing
    )
    if not selection.scenes:
        raise PerlsimError(
            "no ego is logged over 8 s, as two stages need" + "".join(f"; {n}" for n in selection.notes),
            file=args.store,
        )
    found: dict[int, np.ndarray] = {}
    for bucket in into_buckets(selection.scenes, args.max_agents, False):
        poses = perturbed(bucket, args.per_scene, args.seed)
        found |= dict(zip(bucket.numbers.tolist(), poses, strict=True))
    entries = [
        {
            "scene_id": scene.scene_id,
            "source": scene.scenario.source,
            "scenario_id": scene.scenario.scenario_id,
            "start": scene.start,
            "step": scene.start + LATER,
            "poses": np.round(found[number].astype(np.float64), 4).tolist(),
        }
        for number, scene in enumerate(selection.scenes)
    ]
    content = {
        "schema": SCHEMA_VERSION,
        "kind": KIND,
        "store": None if args.store is None else str(args.store),
        "num_logs": args.scenes,
        "seed": args.seed,
        "per_scene": args.per_scene,
        "pose": ["x [m]", "y [m]", "heading [rad]", "speed [m/s]"],
        "scenes": entries,
    }
    write_json(args.out, content)
    for note in selection.notes:
        plain(console, f"note: {note}")
    fewer = sum(len(entry["poses"]) < args.per_scene for entry in entries)
    total = sum(len(entry["poses"]) for entry in entries)
    plain(
        console, f"{total} starts for {len(entries)} scenes; {fewer} scenes have fewer than {args.per_scene}"
    )
    return int(fewer > 0)


def perturbed(bucket: Bucket, per_scene: int, seed: int) -> list[np.ndarray]:
    """Poses around the log's, 4 s after the starts of scenes: on the road where it is known, apart from others.

    Args:
        bucket: the scenes.
        per_scene: most starts of each.
        seed: of the draws, with each scene's number.

    Returns:
        ``[M, 4]`` each, M ≤ ``per_scene``: x, y [m] of the box centre, heading [rad], speed [m/s].
    """
    from perlsim.trace import OverEpisodes

    compiled = OverEpisodes(partial(_drawn, per_scene * DRAWS))
    bank = compiled.put(bucket.host.bank)
    poses, usable = compiled((bank, jax.random.key(seed)), tuple(bucket.episodes))
    return [of_scene[fits][:per_scene] for of_scene, fits in zip(poses, usable, strict=True)]


def _drawn(count: int, constants: Any, episode: Any) -> tuple[jax.Array, jax.Array]:
    """Poses ``[count, 4]`` drawn for one scene, and which of them may be used."""
    from perlsim.geometry.boxes import Box
    from perlsim.sim.core import logged_pose
    from perlsim.sim.outcomes import overlapping, road_outcome
    from perlsim.sim.types import Event, Pose, has

    bank, key = constants
    idx, start, number = episode
    scene, step = Scene(bank, idx), start + LATER
    logged, rows = logged_pose(scene, step), scene.agents_at(step)
    sizes = bank.boxes[idx]
    draws = jax.random.uniform(jax.random.fold_in(key, number), (4, count), minval=-1.0, maxval=1.0)
    along, across, turn, faster = draws * jnp.array([ALONG, ACROSS, TURN, SPEED_SHARE])[:, None]

    def one(along, across, turn, faster):
        x = logged.x + along * logged.cos - across * logged.sin
        y = logged.y + along * logged.sin + across * logged.cos
        heading, speed = logged.heading + turn, logged.speed * (1 + faster)
        pose = Pose(x, y, logged.z, heading, jnp.cos(heading), jnp.sin(heading), speed)
        box = Box(x, y, pose.cos, pose.sin, sizes[0, 0], sizes[1, 0])
        off_road = has(road_outcome(scene, pose, sizes[0, 0], sizes[1, 0]).events, Event.OFF_ROAD)
        hits = overlapping(rows, scene.agent_boxes(rows), box, pose.z, 0).any()
        return jnp.stack([x, y, heading, speed]), ~off_road & ~hits

    return jax.vmap(one)(along, across, turn, faster)


def read_starts(path: Path) -> Starts:
    """Reads a file of starts.

    Raises:
        PerlsimError: where it cannot be read or is of a newer version.
        FormatError: where it is no such file.
    """
    from perlsim.evaluation.navsim import StageTwo
    from perlsim.runs import read_json

    content = read_json(path)
    if content.get("kind") != KIND:
        raise FormatError(
            f"expected starts of a second stage, found kind {content.get('kind')!r}",
            file=path,
            field="kind",
            remedy="make them with perlsim perturb",
        )
    if content.get("schema", 0) > SCHEMA_VERSION:
        raise PerlsimError("the starts are of a newer version", file=path, remedy="install a newer perlsim")
    scenes, stages = [], []
    try:
        for entry in content["scenes"]:
            poses = np.asarray(entry["poses"], np.float32).reshape(-1, 4)
            if not np.isfinite(poses).all():
                raise ValueError(f"scene {entry['scene_id']}: poses that are not finite")
            scenes.append((str(entry["source"]), str(entry["scenario_id"]), int(entry["start"])))
            stages.append(StageTwo(int(entry["step"]), poses))
        return Starts(content["store"], int(content["seed"]), content["num_logs"], scenes, stages)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"damaged: {error!r}", file=path, field="scenes") from error
