"""The stages of a training run, one after the other: world model, imitation, reinforcement, and the examination.

::

    RUN/STAGE/checkpoints/…   of `perlsim.training.checkpoints`
    RUN/STAGE/log.jsonl       figures by update
    RUN/STAGE/model/          what the stage made, once it is finished
    RUN/tensorboard/STAGE/    the same figures
    RUN/policy/               the planner chosen on the validation part
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console

from perlsim.bank import HostBank
from perlsim.output import plain
from perlsim.scenario import Scenario
from perlsim.sim.agents import AgentModel, agents_of
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import RolloutConfig
from perlsim.training.data import bank_within, stored_scenarios, synthetic_scenarios
from perlsim.training.distributed import wait_for_all
from perlsim.training.export import MODEL
from perlsim.training.loop import train_stage
from perlsim.training.run_log import JsonLines, Logs, TensorBoard, read_lines
from planner.anchors import as_tuple
from planner.check import ClosedLoopCheck
from planner.curricula import Curricula
from planner.imitation import ImitationConfig, ImitationStage
from planner.network import SPEEDS, PlannerConfig
from planner.plans import PATHS
from planner.policy import Planner, load_policy, save_policy
from planner.reinforcement import ReinforcementConfig, ReinforcementStage
from planner.sampling import reward_spread
from planner.scenes import Perturbation, anchors_of, training_data
from planner.settings import Optimisation, Settings
from world_model.agents import load_agents, save_agents
from world_model.departures import departed
from world_model.encoder import NetworkConfig, network_of
from world_model.model import WorldModelConfig
from world_model.stage import WorldModelSettings, WorldModelStage

# Names of the stages, and of the world model among agents.
WORLD_MODEL, IMITATION, REINFORCEMENT = "world_model", "imitation", "reinforcement"
POLICY = "policy"
LOG = "log.jsonl"
# Streams of a run's seed.
_WORLD_MODEL, _IMITATION, _REINFORCEMENT, _DEPARTURES = range(4)
# Share of the mean spread of rewards with which every step is drawn [S].
_LEAST_SHARE = 0.3


class Pipeline:
    """Trains what is configured; each part is made when it is first asked for.

    Args:
        settings: the configuration.
        folder: of the run.
        console: to report on; None is silent.
    """

    def __init__(self, settings: Settings, folder: Path, console: Console | None):
        self.settings, self.folder, self.console = settings, Path(folder), console

    def train(self) -> None:
        """Runs all stages to their ends, and chooses the policy."""
        if self.settings.world_model is not None:
            self.world_model  # noqa: B018
        for stage in self.policies:
            self._say(f"{stage}: finished")
        self._choose()

    @cached_property
    def world_model(self) -> Any:
        """The trained agent model."""
        folder = self.folder / WORLD_MODEL / "model"
        config = self.settings.world_model
        assert config is not None
        if not self._is_made(folder):
            network = WorldModelConfig(
                self.network, config.num_modes, config.conditioned, config.interactions
            )
            host = self._bank("train", agent_paths=config.departures)
            banks = [host.bank]
            if config.departures:
                self._say("world_model: driving the scenes again with egos that depart from their logs")
                banks.append(departed(host, agents_of("idm"), self._seed(_DEPARTURES)))
            choices = WorldModelSettings(
                config.num_updates,
                config.batch_size,
                config.learning_rate,
                config.weight_decay,
                config.clip,
                self._seed(_WORLD_MODEL),
            )
            stage = WorldModelStage(network, banks, choices, self._bank("validation").bank, WORLD_MODEL)
            params = self._train(stage, config, _WORLD_MODEL)
            self._make(folder, lambda place: save_agents(place, network, params))
        return load_agents(folder)

    @cached_property
    def policies(self) -> dict[str, Planner]:
        """The trained planners by stage."""
        made = {IMITATION: self._imitation()}
        if self.settings.reinforcement is not None:
            made[REINFORCEMENT] = self._reinforcement(made[IMITATION])
        return made

    @cached_property
    def network(self) -> NetworkConfig:
        """Sizes of the networks."""
        network, points = network_of(self.settings.network.size), self.settings.network.route_points
        if points is None:
            return network
        return replace(network, observation=replace(network.observation, route_points=points))

    def agents(self, name: str) -> AgentModel:
        """Road users of a name; ``world_model`` is the run's own."""
        return self.world_model if name == WORLD_MODEL else agents_of(name)

    def scenarios(self, part: str) -> list[Scenario]:
        """Scenarios of a part of the data: train, validation or test."""
        data, chosen = self.settings.data, getattr(self.settings.data, part)
        if data.store is None:
            return synthetic_scenarios(chosen.num, chosen.seed, chosen.families)
        split = {"validation": "val"}.get(part, part)
        return stored_scenarios(data.store, split, chosen.num, chosen.seed)

    def best_score(self, stage: str) -> float:
        """The highest score that a stage had on the validation part."""
        lines = read_lines(self.folder / stage / LOG)
        return max((line.get("validation/score", -jnp.inf) for line in lines), default=-jnp.inf)

    def _imitation(self) -> Planner:
        folder, config = self.folder / IMITATION / "model", self.settings.imitation
        if not self._is_made(folder):
            planner, host = self._planner_config(), self._bank("train")
            data = training_data(host, planner.shape.steps, self._key(_IMITATION))
            stage = ImitationStage(
                planner,
                data,
                config.num_updates,
                config.batch_size,
                _optimiser(config),
                ImitationConfig(perturbation=self._perturbation),
                self._check(planner),
            )
            params = self._train(stage, config, _IMITATION)
            self._make(folder, lambda place: save_policy(place, Planner(params, planner)))
        return load_policy(folder)

    def _reinforcement(self, start: Planner) -> Planner:
        folder, config = self.folder / REINFORCEMENT / "model", self.settings.reinforcement
        assert config is not None
        if not self._is_made(folder):
            agents = self._reacting(config.agents) if config.react else None
            host = self._bank("train", agent_paths=agents is not None and agents.requires_paths)
            steps, key, weights = (
                start.config.shape.steps,
                self._key(_REINFORCEMENT),
                reward_of(config.reward),
            )
            data = training_data(host, steps, key)
            choices = ReinforcementConfig(
                mode=config.mode,
                perturbation=self._perturbation,
                discount=config.discount,
                num_samples=config.num_samples,
                entropy=config.entropy,
                speed_imitation=config.speed_imitation,
                curricula=Curricula(align=config.align, react=config.react),
            )
            if config.sampling == "variance":
                spread = reward_spread(start.config, data, weights, choices)
                # Steps at which speeds do not matter are drawn now and then too.
                data = training_data(host, steps, key, _LEAST_SHARE * spread.mean() + spread)
            stage = ReinforcementStage(
                start.config,
                data,
                weights,
                start.params,
                config.num_updates,
                config.batch_size,
                _optimiser(config),
                choices,
                agents,
                self._check(start.config),
            )
            params = self._train(stage, config, _REINFORCEMENT)
            self._make(folder, lambda place: save_policy(place, Planner(params, start.config)))
        return load_policy(folder)

    def _reacting(self, name: str) -> AgentModel:
        """Road users of plan rollouts: a world model looks at a scene once, for all its candidates."""
        if name != WORLD_MODEL:
            return agents_of(name)
        return replace(self.world_model, reencode_every=0)

    @property
    def _perturbation(self) -> Perturbation:
        return Perturbation(**self.settings.perturbation.model_dump())

    def _planner_config(self) -> PlannerConfig:
        """Sizes of the planner, with anchors clustered from the paths of the training part."""
        network, reinforcement = self.settings.network, self.settings.reinforcement
        shape = replace(PATHS[network.paths], top_speed=network.top_speed, steps=network.plan_steps)
        anchors = anchors_of(self._bank("train"), shape, network.modes, self._seed(_IMITATION))
        value = reinforcement is not None and reinforcement.mode == "closed_loop"
        return PlannerConfig(self.network, shape, as_tuple(anchors), SPEEDS[network.speeds], value).validate()

    def _check(self, planner: PlannerConfig) -> ClosedLoopCheck:
        """Closed loops on the validation part, judged by the reward of the run."""
        config, reinforcement = self.settings.validation, self.settings.reinforcement
        agents = self.agents(config.agents)
        host = self._bank("validation", agent_paths=agents.requires_paths)
        weights = reward_of("perlad" if reinforcement is None else reinforcement.reward)
        rollout = RolloutConfig(horizon=config.horizon, replan_every=config.replan_every)
        return ClosedLoopCheck(planner, host, agents, weights, rollout, config.episodes, self.settings.seed)

    def _choose(self) -> None:
        """Puts the planner that did best on the validation part into its folder."""
        scores = {name: self.best_score(name) for name in self.policies}
        best = max(scores, key=lambda name: scores[name])
        shown = ", ".join(f"{name} {score:.4g}" for name, score in scores.items())
        self._say(f"policy: {best}, by the score on the validation part ({shown})")
        self._make(self.folder / POLICY, lambda place: save_policy(place, self.policies[best]))

    def _bank(self, part: str, *, agent_paths: bool = False) -> HostBank:
        """The bank of a part; kept, for the stages that follow."""
        have = self._banks.get(part)
        if have is None or (agent_paths and not have.bank.has_agent_paths):
            # Paths cost little beside the rest: a part that needs them at all is built with them at once.
            paths = agent_paths or part in self._parts_with_paths
            data = self.settings.data
            self._say(f"{part}: making and loading scenes")
            have = bank_within(
                self.scenarios(part),
                data.bank_gib,
                max_agents=data.max_agents,
                observed_pieces=self.network.observed_pieces,
                agent_paths=paths,
            )
            self._banks[part] = have
        return have

    @cached_property
    def _banks(self) -> dict[str, HostBank]:
        return {}

    @cached_property
    def _parts_with_paths(self) -> set[str]:
        """Parts of the data on which some stage has road users that follow lanes."""
        settings = self.settings
        parts = set()
        if settings.world_model is not None and settings.world_model.departures:
            parts.add("train")
        reinforcement = settings.reinforcement
        if reinforcement is not None and reinforcement.react and reinforcement.agents != WORLD_MODEL:
            parts.add("train")
        if settings.validation.agents != WORLD_MODEL and agents_of(settings.validation.agents).requires_paths:
            parts.add("validation")
        return parts

    def _train(self, stage: Any, config: Optimisation, stream: int) -> Any:
        """Trains one stage, with its logs."""
        folder = self.folder / stage.name
        logs = []
        if jax.process_index() == 0:
            logs = [JsonLines(folder / LOG), TensorBoard(self.folder / "tensorboard" / stage.name)]
        log = Logs(logs)
        try:
            return train_stage(
                stage,
                folder,
                log,
                seed=self._seed(stream),
                updates_per_call=config.updates_per_call,
                checkpoint_every=config.checkpoint_every,
                console=self.console,
            )
        finally:
            log.close()

    def _is_made(self, folder: Path) -> bool:
        return (folder / MODEL).is_file()

    def _make(self, folder: Path, save: Any) -> None:
        """Writes a model into its folder, whole or not at all; one of several processes does."""
        if jax.process_index() == 0:
            fresh = folder.with_name(f"{folder.name}.tmp")
            shutil.rmtree(fresh, ignore_errors=True)
            save(fresh)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        wait_for_all(str(folder))

    def _seed(self, stream: int) -> int:
        """Seed of a stream, far from that of others."""
        return 1000 * self.settings.seed + stream

    def _key(self, stream: int) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.settings.seed), stream)

    def _say(self, text: str) -> None:
        if self.console is not None:
            plain(self.console, text)


def _optimiser(config: Optimisation) -> optax.GradientTransformation:
    """AdamW with clipped gradients; its rate rises, then falls as a cosine."""
    warm_up = max(1, round(config.warm_up * config.num_updates))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warm_up, max(config.num_updates, warm_up + 1)
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip), optax.adamw(schedule, weight_decay=config.weight_decay)
    )
