import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logit_cases import check_decoded
from op_cases import op_cases

from lpsnet import native, ops
from lpsnet.native import library
from lpsnet.native.decode import DecodeParams
from lpsnet.native.library import Levels

Arguments = dict[str, Any]


def scene(seed: int = 0, num_classes: int = 5, size: tuple[int, int] = (50, 70), levels: int = 3) -> Arguments:
    """Random dense outputs of a network whose padded input is `size` times 4 or a little less."""
    g = torch.Generator().manual_seed(seed)
    strides = [8 * 2**i for i in range(levels)]
    sizes = [(-(-size[0] * 4 // s), -(-size[1] * 4 // s)) for s in strides]
    return {
        "logits": torch.randn(num_classes, *size, generator=g) * 3,
        "is_thing": (torch.arange(num_classes) % 3 != 2).to(torch.uint8),
        "ltrb": [torch.rand(4, *s, generator=g) * 120 for s in sizes],
        "borderness": [torch.rand(*s, generator=g) for s in sizes],
        "strides": strides,
        "image_size": [size[0] * 4 - 9, size[1] * 4 - 14],
        "score_threshold": 0.3,
        "topk": 50,
        "score_fusion": "product",
        "logits_stride": 4,
    }


def check(arguments: Arguments) -> int:
    """Compares both layers with the reference. Returns the number of candidates."""
    outputs = ops.decode(**arguments)
    n = check_decoded(arguments, outputs)
    for mine, theirs in zip(native.decode(**as_numpy(arguments)), outputs, strict=False):
        np.testing.assert_array_equal(mine, theirs[:n].numpy())
    return n


def as_numpy(arguments: Arguments) -> Arguments:
    arrays = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    return arrays | {k: [m.numpy() for m in arguments[k]] for k in ("ltrb", "borderness")}


@pytest.mark.parametrize("score_fusion", ["product", "sqrt"])
@pytest.mark.parametrize("topk", [0, 1, 50, 10_000])
@pytest.mark.parametrize("score_threshold", [0.0, 0.05, 0.7])
def test_equals_reference(score_fusion, topk, score_threshold):
    arguments = scene() | {"score_fusion": score_fusion, "topk": topk, "score_threshold": score_threshold}
    n = check(arguments)
    assert (n > 0) == (topk > 0)


def test_many_classes_on_a_wide_map():
    """More than one tile of locations in a row, and more candidates than the topk that a task holds."""
    assert check(scene(1, num_classes=40, size=(12, 300), levels=2) | {"score_threshold": 0.02, "topk": 20}) == 40


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.data())
def test_generated(data):
    draw = data.draw
    size = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    arguments = scene(draw(st.integers(0, 1000)), draw(st.integers(1, 6)), size, draw(st.integers(1, 4)))
    arguments["image_size"] = [draw(st.integers(1, 90)), draw(st.integers(1, 170))]
    arguments["logits_stride"] = draw(st.sampled_from([1, 2, 4, 8]))
    arguments["topk"] = draw(st.integers(0, 60))
    arguments["score_threshold"] = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    for poison in draw(st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), max_size=3)):
        plane = draw(st.sampled_from([arguments["logits"], *arguments["ltrb"], *arguments["borderness"]]))
        plane.view(-1)[draw(st.integers(0, plane.numel() - 1))] = poison
    check(arguments)


def test_equal_scores_by_location_then_class():
    arguments = scene() | {"logits": torch.zeros(5, 50, 70), "score_threshold": 0.1, "topk": 7}
    arguments["borderness"] = [torch.full_like(b, 0.5) for b in arguments["borderness"]]
    boxes, scores, labels, _, _ = ops.decode(**arguments)
    assert labels[:7].tolist() == [0, 1, 3, 4, 0, 1, 3]
    assert (scores == scores[0]).all()
    assert torch.equal(boxes[0], boxes[3])
    assert not torch.equal(boxes[3], boxes[4])


def test_points_in_the_padding_give_nothing():
    arguments = scene() | {"score_threshold": 0.0, "topk": 10_000, "image_size": [12, 20]}
    # Of the level of stride 8 the points at 4, 12 across (20 is outside) and 4 down (12 is outside), four things each;
    # of stride 16 the one at (8, 8); none of stride 32, whose first point lies at (16, 16).
    assert ops.decode(**arguments)[3].tolist()[:13] == [0] * 8 + [1] * 4 + [-1]
    assert (ops.decode(**arguments)[0] <= torch.tensor([20.0, 12, 20, 12])).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["borderness", "ltrb"])
def test_a_location_that_is_not_finite_is_dropped(where, poison):
    arguments = scene() | {"score_threshold": 0.0, "topk": 10_000}
    whole = check(arguments)
    arguments[where][1].view(-1)[3] = poison
    assert check(arguments) == whole - 4


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_logit_that_is_not_finite_drops_what_reads_it(poison):
    arguments = scene() | {"score_threshold": 0.0, "topk": 10_000}
    whole = check(arguments)
    arguments["logits"][2, 24, 24] = poison  # a stuff class; read only by the location (12, 12) of stride 8
    assert check(arguments) == whole - 4
    arguments["logits"].fill_(poison)
    assert check(arguments) == 0


def test_probabilities_are_those_of_softmax():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(133, 8, 8, generator=g) * 10
    arguments = scene(num_classes=133, size=(8, 8), levels=1) | {
        "logits": logits,
        "is_thing": torch.ones(133, dtype=torch.bool),
        "ltrb": [torch.ones(4, 8, 8)],
        "borderness": [torch.ones(8, 8)],
        "strides": [4],
        "image_size": [32, 32],
        "score_threshold": 1e-6,
        "topk": 10_000,
    }
    scores = ops.decode(**arguments)[1]
    exact = logits.double().softmax(0).flatten().sort(descending=True).values
    exact = exact[exact > 1e-6]
    torch.testing.assert_close(scores[: len(exact)].double(), exact, rtol=1e-6, atol=0)


def test_strided_inputs():
    arguments = scene()
    expected = ops.decode(**arguments)
    arguments["logits"] = arguments["logits"].transpose(1, 2).contiguous().transpose(1, 2)
    arguments["ltrb"] = [m.permute(1, 2, 0).contiguous().permute(2, 0, 1) for m in arguments["ltrb"]]
    arguments["borderness"] = [m.t().contiguous().t() for m in arguments["borderness"]]
    arguments["is_thing"] = torch.stack([arguments["is_thing"]] * 2, 1)[:, 0].bool()
    for got, want in zip(ops.decode(**arguments), expected, strict=True):
        assert torch.equal(got, want)
    for got, want in zip(native.decode(**as_numpy(arguments)), expected, strict=False):
        np.testing.assert_array_equal(got, want[: expected[4].item()].numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_threshold": -0.1}, r"score_threshold: expected a number in \[0, 1\], got -0.1"),
        ({"score_threshold": math.nan}, r"score_threshold: expected a number in \[0, 1\], got -?nan"),
        ({"topk": -1}, "topk: expected 0 to"),
        ({"score_fusion": "sum"}, r"score_fusion: expected one of \['product', 'sqrt'\], got 'sum'"),
        ({"logits_stride": 0}, "logits_stride: expected at least 1, got 0"),
        ({"image_size": [0, 5]}, "image_height: expected at least 1, got 0"),
        ({"image_size": [5]}, r"image_size: expected \(height, width\), got \(5,\)"),
        ({"strides": [8, 16]}, "one of each per level, got 3, 3, 2"),
        ({"strides": [8, 16, 0]}, "levels.stride: expected at least 1, got 0"),
        ({"logits": torch.zeros(5, 4)}, r"logits: expected torch.float32 \[C, h, w\], got torch.float32 \[5, 4\]"),
        ({"is_thing": torch.ones(4).bool()}, r"is_thing: expected torch.bool \[5\], got torch.bool \[4\]"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ops.decode(**(scene() | change))


def test_bad_maps_are_named():
    arguments = scene()
    arguments["ltrb"][1] = arguments["ltrb"][0]
    with pytest.raises(ValueError, match=r"ltrb\[1\]: expected torch.float32 \[4, 13, 18\], got torch.float32 \[4, 25"):
        ops.decode(**arguments)
    with pytest.raises(ValueError, match="ltrb, borderness: expected"):
        native.decode(**as_numpy(arguments))
    with pytest.raises(ValueError, match="logits, is_thing: expected"):
        native.decode(**(as_numpy(scene()) | {"is_thing": np.ones(3)}))


def test_null_pointers_and_too_many_pairs_are_named():
    params = DecodeParams.of((2, 1, 1), 4, [(1, 1)], [8], (8, 8), 0.5, 1, "product")
    with pytest.raises(ValueError, match="decode: logits: expected a pointer, got null"):
        library.call("decode", params, *[None] * 9)
    params.levels = Levels.of([(40_000, 40_000)], [8])
    with pytest.raises(ValueError, match="levels: expected fewer than"):
        library.call("decode", params, *[None] * 9)


def test_opcheck_and_compile():
    arguments = scene()
    torch.library.opcheck(torch.ops.lpsnet.decode.default, tuple(arguments.values()))
    compiled = torch.compile(ops.decode, fullgraph=True, backend="aot_eager")
    for got, want in zip(compiled(**arguments), ops.decode(**arguments), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("case", op_cases("decode"))
def test_every_dtype_and_layout(case):
    case.verify()
