"""The configuration of a training run, as YAML files and ``--set`` give it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from perlsim.training.config import Strict

CONFIGS = Path(__file__).parent / "configs"
"""Folder of the configurations that are shipped."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Magnitude = Annotated[float, Field(ge=0.0)]


class Part(Strict):
    """Scenes of one part of the data.

    Attributes:
        num: most scenarios.
        seed: of synthetic ones; of the choice among a store's.
        families: of synthetic ones; all by default.
    """

    num: PositiveInt = 64
    seed: int = 0
    families: tuple[str, ...] = ()


class Data(Strict):
    """Where scenes come from.

    Attributes:
        source: "synthetic": embedded logs; "store": a scenario store, whose splits are kept.
        store: folder of the store.
        train, validation, test: its parts; a store's splits train, val and test.
        max_agents: slots of road users, ego included; the nearest are kept.
        bank_gib: most memory of one bank on a device [GiB].
    """

    source: Literal["synthetic", "store"] = "synthetic"
    store: Path | None = None
    train: Part = Part()
    validation: Part = Part(num=32, seed=1)
    test: Part = Part(num=32, seed=2)
    max_agents: PositiveInt = 32
    bank_gib: PositiveFloat = 8.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.source == "store") != (self.store is not None):
            raise ValueError("a store is named where the source is a store, and only there")
        if self.source == "store" and any(part.families for part in (self.train, self.validation, self.test)):
            raise ValueError("only synthetic logs have families")
        return self


class Optimisation(Strict):
    """How a stage is trained: AdamW, whose rate rises, then falls as a cosine.

    Attributes:
        num_updates, batch_size: of `perlsim.training.stage.Stage`.
        learning_rate: its peak.
        warm_up: share of the updates in which it rises.
        weight_decay: of AdamW.
        clip: greatest norm of a gradient.
        checkpoint_every: updates between checkpoints.
        updates_per_call: updates between two looks of the host.
    """

    num_updates: PositiveInt = 2000
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    warm_up: Share = 0.05
    weight_decay: Magnitude = 1e-4
    clip: PositiveFloat = 1.0
    checkpoint_every: PositiveInt = 250
    updates_per_call: PositiveInt = 25


class Perturbed(Strict):
    """Where egos start beside the log, for planners; see `planner.scenes.Perturbation`.

    Attributes:
        share: of the samples that do.
        along, across: m, at most.
        heading: rad, at most.
        speed: m/s, at most.
    """

    share: Share = 0.5
    along: Magnitude = 2.0
    across: Magnitude = 0.8
    heading: Magnitude = 0.08
    speed: Magnitude = 2.0


class WorldModel(Optimisation):
    """The world model's stage.

    Attributes:
        num_modes: futures of each road user.
        conditioned: whether it is told where the ego goes.
        interactions: whether road users see each other's decoded state.
        departures: whether it is also trained on scenes whose ego departs from its log, among rule-based road users.
    """

    num_modes: PositiveInt = 6
    conditioned: bool = True
    interactions: bool = True
    departures: bool = True


class Network(Strict):
    """The planner's network.

    Attributes:
        size: "debug", "small" or "base"; of the world model's network too.
        paths: "perlad" or "vla", see `planner.plans.PATHS`.
        modes: paths of a scene.
        speeds: "perlad" or "motorway", see `planner.network.SPEEDS`.
        top_speed: m/s, the greatest that plans are long enough for.
        plan_steps: of 0.1 s that a plan tells speeds for.
        route_points: points of the route that are seen, every 2 m; None takes the network's own.
    """

    size: str = "small"
    paths: str = "perlad"
    modes: PositiveInt = 6
    speeds: str = "motorway"
    top_speed: PositiveFloat = 30.0
    plan_steps: PositiveInt = 20
    route_points: PositiveInt | None = 32


class Imitation(Optimisation):
    """Imitation's stage."""


class Reinforcement(Optimisation):
    """The stage of reinforcement.

    Attributes:
        mode: "samples", "exact" or "closed_loop", see `planner.reinforcement.ReinforcementConfig`.
        reward: name of the reward.
        num_samples: N of the mode "samples".
        discount: per step of 0.1 s.
        entropy: weight of the bonus.
        speed_imitation: weight of the imitation of logged speeds.
        align, react: the curricula LLA and RTS.
        agents: road users that react in RTS: "world_model" is the run's own, others by name.
        sampling: "uniform", or "variance": steps are drawn the more often the more speeds matter there.
    """

    mode: Literal["samples", "exact", "closed_loop"] = "exact"
    reward: str = "perlad"
    num_samples: PositiveInt = 4
    discount: Share = 0.98
    entropy: Magnitude = 0.01
    speed_imitation: Magnitude = 0.0
    align: bool = True
    react: bool = True
    agents: str = "world_model"
    sampling: Literal["uniform", "variance"] = "uniform"


class Validation(Strict):
    """Closed loops at checkpoints, by which the policy is chosen.

    Attributes:
        episodes: how many.
        agents: the other road users, by name.
        horizon, replan_every: steps of 0.1 s.
    """

    episodes: PositiveInt = 64
    agents: str = "idm"
    horizon: PositiveInt = 60
    replan_every: PositiveInt = 5


class Suite(Strict):
    """Examination on the routes of a benchmark.

    Attributes:
        name: "bench2drive-vector" or "dos-vector".
        routes: route file.
        maps: folder with the towns.
        lights: folder with light programmes.
    """

    name: str = "bench2drive-vector"
    routes: Path
    maps: Path
    lights: Path | None = None


class Examination(Strict):
    """What is measured at the end, on the test part.

    Attributes:
        agents: the other road users, by name; the first in the main table, "world_model" is the run's own.
        baselines: policies to compare with.
        scenes: most windows of logs.
        horizon, replan_every: steps of 0.1 s of closed loops.
        pages: scenes of each kind (best, worst, changed) on the viewer's page.
        suite: routes to drive besides.
    """

    agents: tuple[str, ...] = ("idm",)
    baselines: tuple[str, ...] = ("constant_velocity", "idm_route", "pdm_closed")
    scenes: PositiveInt | None = 100
    horizon: PositiveInt = 40
    replan_every: PositiveInt = 5
    pages: NonNegativeInt = 8
    suite: Suite | None = None


class Settings(Strict):
    """A training run: the stages that are named, one after the other.

    Attributes:
        seed: of parameters and of all draws of training.
        data: scenes.
        network: sizes.
        world_model: None leaves it out.
        perturbation: of the starts of both planners.
        imitation: always there.
        reinforcement: None leaves it out.
        validation: at checkpoints.
        examination: None leaves it out.
    """

    seed: int = 0
    data: Data = Data()
    network: Network = Network()
    world_model: WorldModel | None = None
    perturbation: Perturbed = Perturbed()
    imitation: Imitation = Imitation()
    reinforcement: Reinforcement | None = None
    validation: Validation = Validation()
    examination: Examination | None = Examination()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        asked = [] if self.examination is None else list(self.examination.agents)
        if self.reinforcement is not None and self.reinforcement.react:
            asked.append(self.reinforcement.agents)
        if self.world_model is None and "world_model" in asked:
            raise ValueError("agents: world_model is asked for, and the section world_model is left out")
        return self
