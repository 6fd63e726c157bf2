import numpy as np
import pytest

from perlsim.errors import FormatError, PerlsimError
from perlsim.training.export import load_model, same_shapes, save_model

PARAMS = {"encoder": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "scale": np.float32(2.0)}


@pytest.fixture
def model(tmp_path):
    save_model(tmp_path / "model", "planner", {"network": "small", "speeds": [0.0, 1.0]}, PARAMS)
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(model):
    config, params = load_model(model, "planner")
    assert config == {"network": "small", "speeds": [0.0, 1.0]}
    np.testing.assert_array_equal(params["encoder"]["kernel"], PARAMS["encoder"]["kernel"])
    assert params["scale"] == 2.0 and params["scale"].shape == ()
    same_shapes(params, PARAMS, model)


def test_a_flipped_byte_of_the_weights_is_noticed(model):
    data = bytearray((model / "weights.safetensors").read_bytes())
    data[-3] ^= 1
    (model / "weights.safetensors").write_bytes(data)
    with pytest.raises(FormatError, match="weights are damaged"):
        load_model(model, "planner")


def test_foreign_and_missing_files_are_told_apart(model, tmp_path):
    with pytest.raises(PerlsimError, match="expected a model of kind 'world_model', found 'planner'"):
        load_model(model, "world_model")
    with pytest.raises(PerlsimError, match="no model here"):
        load_model(tmp_path, "planner")
    (model / "weights.safetensors").unlink()
    with pytest.raises(FormatError, match="weights cannot be read"):
        load_model(model, "planner")
    (model / "model.json").write_text('{"a": 1}')
    with pytest.raises(FormatError, match="not a model of perlsim"):
        load_model(model, "planner")
    (model / "model.json").write_text("{")
    with pytest.raises(FormatError, match="expected JSON"):
        load_model(model, "planner")


def test_a_newer_version_asks_for_a_newer_perlsim(model):
    path = model / "model.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(PerlsimError, match="newer perlsim"):
        load_model(model, "planner")


def test_weights_that_do_not_fit_the_network_are_named(model):
    _, params = load_model(model, "planner")
    with pytest.raises(FormatError, match="encoder/bias is missing"):
        same_shapes(params, {**PARAMS, "encoder": {**PARAMS["encoder"], "bias": np.zeros(3)}}, model)
    with pytest.raises(FormatError, match=r"encoder/kernel has shape \(2, 3\), the network expects \(3, 3\)"):
        same_shapes(params, {**PARAMS, "encoder": {"kernel": np.zeros((3, 3))}}, model)
