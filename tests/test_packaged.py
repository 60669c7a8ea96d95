"""The models that ship with the package: the exported ones compute what the checkpoint does."""

from functools import cache

import pytest

import lpsnet.engine
from lpsnet.config import DEFAULT_ARTIFACT, DEFAULT_MODEL, PostprocessConfig
from lpsnet.engine.sample import sample_photograph
from lpsnet.packaged import packaged_file, packaged_models
from lpsnet.structures import PanopticResult

DENSE_INT8 = f"{DEFAULT_MODEL}_int8.onnx"


@cache
def photograph(model: str) -> PanopticResult:
    # Pasted down to a low score: the photograph holds no thing of the classes.
    with lpsnet.engine.load(model) as engine:
        return engine.predict(sample_photograph(), PostprocessConfig(paste_score=0.05))


def test_names():
    assert set(packaged_models()) >= {DEFAULT_MODEL, DEFAULT_ARTIFACT, DENSE_INT8}
    assert packaged_file(DEFAULT_MODEL).suffix == ".safetensors"


@pytest.mark.parametrize(("model", "agreement"), [(DEFAULT_ARTIFACT, 0.999), (DENSE_INT8, 0.95)])
def test_an_exported_model_agrees_with_the_checkpoint(model, agreement):
    expected, got = photograph(DEFAULT_MODEL), photograph(model)
    assert expected.segments
    assert got.categories == expected.categories
    assert (got.labels() == expected.labels()).mean() >= agreement
    assert {s.label for s in got.segments if s.area > 5000} == {s.label for s in expected.segments if s.area > 5000}


@pytest.mark.parametrize("model", [DEFAULT_ARTIFACT, DENSE_INT8])
def test_an_exported_model_has_the_recipe_of_the_checkpoint(model):
    with lpsnet.engine.load(model) as engine, lpsnet.engine.load(DEFAULT_MODEL) as checkpoint:
        assert engine.recipe == checkpoint.recipe
