"""Banks of routes and their road users, padded."""

import jax
import numpy as np
import pytest
from small_town import case_with

from perlsim.geometry.cells import lookup, nearest_on_segment, segments_of_cell
from perlsim.vocabulary import AgentType
from perlsim.worlds.actors import Script
from perlsim.worlds.actors.script import Actor, standing
from perlsim.worlds.actors.scripted import stack_scripts
from perlsim.worlds.suite.padding import Sizes, padded
from perlsim.worlds.suite.scene import bank_of

TABLES = ("edges", "markings", "lanes", "lane_pieces", "boundary_pieces")


def made(case):
    host = bank_of([case])
    return host, stack_scripts([case.script], [case.scenario], host.info.num_agents)


@pytest.fixture(scope="module")
def long_and_short(tmp_path_factory):
    path = np.array([[20.0, -1.75, 0.0], [120.0, -1.75, 0.0]])
    drives = Actor(AgentType.VEHICLE, (4.6, 1.9, 1.6), path)
    stands = standing(AgentType.STATIC, (1.0, 1.0, 1.0), np.array([60.0, -4.75, 0.0, 0.0]))
    long = case_with(tmp_path_factory.mktemp("long"), Script((drives,)), 500.0)
    return made(long), made(case_with(tmp_path_factory.mktemp("short"), Script((stands,)), 80.0))


def shapes(tree):
    leaves, structure = jax.tree.flatten(tree)
    return [np.shape(leaf) for leaf in leaves], structure


def test_a_smaller_batch_after_a_larger_one_has_its_shapes(long_and_short):
    sizes = Sizes()
    (host, agents), (other, others) = (padded(*one, sizes) for one in long_and_short)
    assert shapes(host.bank) == shapes(other.bank)
    assert shapes(agents) == shapes(others)
    plain, few = long_and_short[1]
    assert shapes(plain.bank) != shapes(other.bank) and shapes(few) != shapes(others)


def test_what_is_looked_up_stays_the_same(long_and_short):
    sizes = Sizes()
    padded(*long_and_short[0], sizes)
    plain, _ = long_and_short[1]
    larger, _ = padded(*long_and_short[1], sizes)
    rng = np.random.default_rng(0)
    for name in TABLES:
        one, two = getattr(plain.bank, name), getattr(larger.bank, name)
        for x, y in rng.uniform((-20.0, -20.0), (110.0, 20.0), (40, 2)).astype(np.float32):
            nearest, count = [], []
            for table in (one, two):
                columns, own = segments_of_cell(table, lookup(table, 0, x, y))
                squared, _ = nearest_on_segment(x, y, columns)
                nearest.append(float(np.where(own, squared, np.inf).min()))
                count.append(int(np.asarray(own).sum()))
            assert nearest[0] == nearest[1] and count[0] == count[1]


def test_paths_go_on_straight_and_lines_stay_apart(long_and_short):
    sizes = Sizes()
    padded(*long_and_short[0], sizes)
    plain, few = long_and_short[1]
    larger, more = padded(*long_and_short[1], sizes)
    known = plain.bank.route.shape[1]
    np.testing.assert_array_equal(larger.bank.route[:, :known], plain.bank.route)
    np.testing.assert_allclose(
        np.diff(larger.bank.route[0], axis=0), [[1.0, 0.0]] * (larger.bank.route.shape[1] - 1), atol=1e-3
    )
    known = few.paths.shape[2]
    np.testing.assert_array_equal(more.paths[:, :, :known], few.paths)
    assert (np.diff(more.paths[0, 1, known - 1 :, 0]) > 0).all()
    np.testing.assert_array_equal(more.paths[0, 1, known:, 2], more.paths[0, 1, known - 1, 2])
    assert (more.stops[:, :, few.stops.shape[2] :] == -1).all()
    assert (larger.bank.route_stops[:, plain.bank.route_stops.shape[1] :] == -1).all()


def test_sizes_grow_in_steps_and_never_shrink():
    sizes = Sizes()
    assert sizes.at_least("a", 1) == 1
    first = sizes.at_least("b", 1000)
    assert 1000 <= first <= 1250
    assert sizes.at_least("b", 10) == first == sizes.at_least("b", first)
    assert sizes.at_least("b", first + 1) > first and sizes.at_least("a", 1) == 1
