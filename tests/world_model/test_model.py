from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perlsim.geometry.numerics import rotate
from perlsim.vocabulary import AgentType
from world_model.kinematics import MAX_ACCELERATION, Body, Motion, bounded, move, move_on
from world_model.losses import loss_of
from world_model.model import EgoStep, WorldModel, WorldModelConfig, decode

KINDS = (AgentType.VEHICLE, AgentType.PEDESTRIAN, AgentType.CYCLIST, AgentType.STATIC)


def one(kind: int, speed: float) -> tuple[Motion, Body]:
    """A single road user that heads east."""
    fields = (0.0, 0.0, 1.0, 0.0, speed, 0.0)
    motion = Motion(*(jnp.full(1, value, jnp.float32) for value in fields))
    return motion, Body(*(jnp.full(1, value, jnp.float32) for value in (2.3, 0.9, kind)))


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    speed=st.floats(0.0, 25.0),
    raw=st.tuples(*[st.floats(-50.0, 50.0)] * 3),
)
def test_nobody_accelerates_by_more_than_8_metres_per_second_squared(kind, speed, raw):
    motion, body = one(kind, 0.0 if kind == AgentType.STATIC else speed)
    controls = bounded(jnp.array([raw], jnp.float32), body)
    for _ in range(5):
        after = move(motion, controls, body)
        change = np.hypot(after.vx - motion.vx, after.vy - motion.vy)[0] / 0.1
        assert change <= MAX_ACCELERATION * 1.01 + 1e-3
        motion = after


def test_full_brakes_stop_within_the_distance_of_the_closed_form():
    motion, body = one(AgentType.VEHICLE, 10.0)
    controls = bounded(jnp.array([[-1e6, 0.0, 0.0]]), body)
    for _ in range(6):
        motion = move_on(motion, controls, body)
    assert motion.vx[0] == 0.0
    np.testing.assert_allclose(motion.x[0], 10.0**2 / (2 * 8.0), atol=0.1)


def test_a_standing_car_can_learn_to_start():
    motion, body = one(AgentType.VEHICLE, 0.0)

    def end(raw):
        return move_on(motion, bounded(jnp.array([[raw, 0.0, 0.0]]), body), body).x[0]

    assert jax.grad(end)(-0.5) > 0


def test_things_stay_where_they_are():
    motion, body = one(AgentType.STATIC, 3.0)
    after = move_on(motion, bounded(jnp.ones((1, 3)), body), body)
    assert after.x[0] == 0.0 and after.vx[0] == 0.0


def turned(sample, angle: float, x: float, y: float):
    """The sample moved and turned, but for what is seen, which is in the ego frame."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def place(fields):
        new_x, new_y = rotate(fields.x, fields.y, cos, sin)
        new_cos, new_sin = rotate(fields.cos, fields.sin, cos, sin)
        return fields._replace(x=new_x + x, y=new_y + y, cos=new_cos, sin=new_sin)

    def motion(fields):
        vx, vy = rotate(fields.vx, fields.vy, cos, sin)
        return place(fields)._replace(vx=vx, vy=vy)

    dx, dy = rotate(sample.ego.dx, sample.ego.dy, cos, sin)
    ego = place(sample.ego)._replace(dx=dx, dy=dy)
    return sample._replace(motion=motion(sample.motion), ego=ego), motion


@pytest.fixture(scope="module")
def future_of(model):
    @jax.jit
    def future(params, sample):
        encoded = model.encode(params, sample.seen)
        mode = encoded.mode_logits.argmax(-1)
        return decode(model, params, encoded, mode, sample.motion, sample.body, sample.valid, sample.ego)[0]

    return future


def louder(params):
    """Parameters with which predictions differ from constant velocity."""
    head = params["params"]["control_head"]
    return {"params": {**params["params"], "control_head": {**head, "kernel": 100.0 * head["kernel"]}}}


def test_predictions_move_and_turn_with_the_scene(future_of, params, sample):
    params = louder(params)
    moved, motion = turned(sample, 2.1, 30.0, -12.0)
    before, after = future_of(params, sample), future_of(params, moved)
    straight = sample.motion.x + 3.0 * sample.motion.vx
    assert np.abs(before.x[-1] - straight)[np.asarray(sample.valid)].max() > 0.5
    for one, two in zip(motion(before), after, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-3)


def test_only_the_conditioned_variant_knows_where_the_ego_goes(model, params, sample):
    params = louder(params)
    stopped = sample._replace(ego=EgoStep(*sample.ego)._replace(dx=jnp.zeros(6), dy=jnp.zeros(6)))
    blind = WorldModel(replace(model.config, conditioned=False))
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(blind.init, jax.random.key(0)))
    assert shapes == jax.tree.map(jnp.shape, params)

    def difference(network):
        def last(sample):
            encoded = network.encode(params, sample.seen)
            mode = jnp.zeros(8, jnp.int32)
            args = (encoded, mode, sample.motion, sample.body, sample.valid, sample.ego)
            return decode(network, params, *args)[0].x[-1]

        return float(jnp.abs(jax.jit(lambda a, b: last(a) - last(b))(sample, stopped)).max())

    assert difference(model) > 1e-3
    assert difference(blind) == 0.0


def test_a_later_plan_does_not_change_earlier_steps(future_of, params, sample):
    params = louder(params)
    late = sample._replace(ego=sample.ego._replace(dx=sample.ego.dx.at[4].add(-20.0)))
    before, after = future_of(params, sample), future_of(params, late)
    np.testing.assert_array_equal(before.x[:4], after.x[:4])
    assert np.abs(before.x[5] - after.x[5]).max() > 0


def test_gradients_are_finite_where_nothing_is_valid(model, params, sample):
    zero = jax.tree.map(jnp.zeros_like, sample)
    gradient = jax.jit(jax.grad(lambda p: loss_of(model, p, zero, jax.random.key(0))[0]))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_a_configuration_survives_being_written_and_read(network):
    config = WorldModelConfig(network=network, num_modes=3, conditioned=False)
    assert WorldModelConfig.from_dict(config.as_dict()) == config
