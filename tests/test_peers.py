"""Networks of other packages. None of them is installed for the tests, as a rule."""

import sys

import numpy as np
import pytest

from lpsnet.baselines.peers import build_peer, peers
from lpsnet.inference import StageTimer

NAMES = ["mask2former_r50", "eomt_large_640", "torchvision_mask_rcnn_r50", "detectron2_panoptic_fpn_r50"]


def test_every_peer_is_named():
    assert [name for name, _ in peers()] == NAMES


def test_absent_ones_are_named_as_absent(monkeypatch, tiny_recipe):
    for package in ("transformers", "torchvision", "detectron2"):
        monkeypatch.setitem(sys.modules, package, None)
    for name, reason in peers():
        assert reason is not None
        assert "cannot be imported" in reason
        with pytest.raises(ModuleNotFoundError, match=f"{name}: .* cannot be imported"):
            build_peer(name, tiny_recipe)


def test_unknown_ones_are_an_error(tiny_recipe):
    with pytest.raises(ValueError, match=r"peer: expected one of \['detectron2.*got 'yolo'"):
        build_peer("yolo", tiny_recipe)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_those_that_are_there_run(name, tiny_recipe):
    reason = dict(peers())[name]
    if reason is not None:
        pytest.skip(reason)
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3), dtype=np.uint8)
    timer = StageTimer()
    result = build_peer(name, tiny_recipe).predict(image, timer)
    assert result.ids.shape == (90, 150)
    assert set(np.unique(result.ids)) - {0} == {s.id for s in result.segments}
    assert "network" in timer.timings
