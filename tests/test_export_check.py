"""What the check of an exported model counts and which bounds it finds broken."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lpsnet.artifact import ArtifactInfo
from lpsnet.config import ExportBounds
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import Engine
from lpsnet.export.agreement import agreement
from lpsnet.export.check import OutputError, check
from lpsnet.structures import PanopticResult, Segment

LOOSE = ExportBounds(relative_error=1e9, agreement=0.0, pq_loss=1e9)


def result(ids, labels, categories) -> PanopticResult:
    ids = np.array(ids, np.int32)
    segments = tuple(
        Segment(i + 1, label, 1.0, int((ids == i + 1).sum()), (0, 0, 1, 1)) for i, label in enumerate(labels)
    )
    return PanopticResult(ids, segments, categories)


def test_agreement(tiny_recipe):
    c = tiny_recipe.categories
    a = result([[1, 1, 2, 0]], [0, 1], c)
    assert agreement(a, a) == 1
    assert agreement(a, result([[2, 2, 1, 0]], [1, 0], c)) == 1  # numbered otherwise
    assert agreement(a, result([[1, 1, 2, 0]], [0, 2], c)) == 0.75  # another class
    assert agreement(a, result([[1, 1, 2, 2]], [0, 1], c)) == 0.75  # void no more
    assert agreement(a, result([[1, 2, 3, 0]], [0, 0, 1], c)) == 0.75  # torn in two
    assert agreement(result([[1, 2, 3, 0]], [0, 0, 1], c), a) == 0.75  # two made one
    assert agreement(result([[0, 0]], [], c), result([[0, 0]], [], c)) == 1
    with pytest.raises(ValueError, match=r"ids: expected \[1, 4\], got \[1, 2\]"):
        agreement(a, result([[0, 0]], [], c))


def test_output_errors():
    error = OutputError("logits")
    error.update(np.array([1.0, -4.0]), np.array([1.5, -4.0]))
    error.update(np.array([1.0, np.inf]), np.array([np.nan, np.inf]))
    assert error.absolute == 0.5
    assert error.relative == 0.125
    assert error.not_finite == 1
    error.update(np.zeros(2), np.array([0.0, 0.25]))
    assert error.relative == 0.25  # nothing to be relative to
    error.update(np.zeros(0), np.zeros(0))


class Slow:
    """A backend that gives what it is told to."""

    def __init__(self, recipe, change=lambda ids: ids):
        self.recipe, self.runs_on, self._change = recipe, "a test", change

    def predict(self, image, config, timer, profile):
        ids = self._change((image[..., 0] // 128).astype(np.int32))
        return result(ids, [0], self.recipe.categories)

    def close(self):
        pass


class Outputs:
    """A network of constant outputs."""

    runs_on = "a test"

    def __init__(self, recipe, value):
        self.recipe, self._value = recipe, value

    def run(self, prepared):
        from lpsnet.inference import DenseArrays

        maps = [np.full((2, 2), self._value, np.float32)] * 5
        return DenseArrays(np.full((3, 2, 2), self._value, np.float32), [np.zeros((4, 2, 2), np.float32)] * 5, maps)

    def close(self):
        pass


def run_check(recipe, bounds, change=lambda ids: ids, values=None):
    info = ArtifactInfo(recipe, "dense" if values else "panoptic", "fp16", "none")
    engines = {"artifact": Engine(Slow(recipe, change)), "checkpoint": Engine(Slow(recipe))}
    networks = tuple(Outputs(recipe, v) for v in values) if values else None
    images = [SyntheticScenes(2)[i].image for i in range(2)]
    return check(Path("x.onnx"), info, engines, images, bounds, networks)


def test_bounds(tiny_recipe):
    good = run_check(tiny_recipe, ExportBounds(0, 1, 0))
    assert (good.broken, good.images, good.identical, good.agreement) == ([], 2, 2, 1)
    assert set(good.milliseconds) == {"artifact", "checkpoint"}

    def void_corner(ids):
        ids[:10, :10] = 0
        return ids

    worse = run_check(tiny_recipe, dataclasses.replace(LOOSE, agreement=1.0), void_corner)
    assert worse.agreement < 1
    assert worse.broken[0].startswith("ids: expected 100.00% of the pixels to agree, got 9")
    assert run_check(tiny_recipe, LOOSE, void_corner).broken == []

    off = run_check(tiny_recipe, dataclasses.replace(LOOSE, relative_error=0.1), values=(1.5, 1.0))
    assert off.broken[0] == "logits: expected a relative error of at most 0.1, got 0.5"
    assert len(off.broken) == 6  # logits and border-ness; the distances are equal
    lost = run_check(tiny_recipe, LOOSE, values=(float("nan"), 1.0))
    assert lost.broken[0] == "logits: expected finite values, got 24 that are not"
    overflow = run_check(tiny_recipe, LOOSE, values=(float("inf"), 1.0))
    assert "expected finite values" in overflow.broken[0]
