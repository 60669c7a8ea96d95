"""The panoptic head in ONNX beside liblpsnet: the same bits, whatever the dense outputs are."""

import dataclasses
from functools import cache

import cv2
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnxscript import GraphBuilder

from lpsnet import native
from lpsnet.artifact import SETTINGS
from lpsnet.categories import Category, categories
from lpsnet.config import BOX_STRIDES, PostprocessConfig
from lpsnet.export.graph import FLOAT, INT64, OPSET
from lpsnet.export.panoptic import DenseValues, panoptic_head, setting_inputs
from lpsnet.export.preprocess import Sizes
from lpsnet.inference import prepare
from lpsnet.models.lpsnet import LPSNet

SIZES = ("output_height", "output_width", "image_height", "image_width")
KINDS = ("noise", "smooth", "ties", "constant", "not finite", "crowd", "huge", "negative borders")


@cache
def head(
    dataset: str, assignment: str = "closest_borderness", score_fusion: str = "product", fill_stuff: bool = False
) -> onnxruntime.InferenceSession:
    """The head alone: sizes, dense outputs and settings in, segments and boxes out."""
    config = PostprocessConfig(assignment=assignment, score_fusion=score_fusion, fill_stuff=fill_stuff)
    classes = categories(dataset)
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="head")
    builder = GraphBuilder(graph)
    logits = builder.input("logits", FLOAT, [1, len(classes), "h", "w"])
    levels = range(len(BOX_STRIDES))
    ltrb = [builder.input(f"ltrb{i}", FLOAT, [1, 4, f"h{i}", f"w{i}"]) for i in levels]
    borderness = [builder.input(f"borderness{i}", FLOAT, [1, f"h{i}", f"w{i}"]) for i in levels]
    sizes = Sizes(*(builder.input(name, INT64, []) for name in SIZES))
    settings = setting_inputs(builder.op, config)
    dense = DenseValues(logits, ltrb, borderness)
    segments, boxes = panoptic_head(builder.op, dense, sizes, classes, config, settings)
    for name, value in {**segments._asdict(), **{f"box_{k}": v for k, v in boxes._asdict().items()}}.items():
        builder.add_output(value, f"out_{name}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return onnxruntime.InferenceSession(model, options)


@dataclasses.dataclass
class Case:
    logits: np.ndarray
    ltrb: list[np.ndarray]
    borderness: list[np.ndarray]
    image_size: tuple[int, int]
    output_size: tuple[int, int]


def make_case(rng: np.random.Generator, num_classes: int, kind: str) -> Case:
    image_size = tuple(int(s) for s in rng.integers(1, 200, 2))
    output_size = image_size if rng.random() < 0.3 else tuple(int(s) for s in rng.integers(1, 260, 2))
    height, width = (-(-side // 32) * 32 for side in image_size)
    logits = rng.normal(size=(num_classes, height // 4, width // 4)) * rng.choice([0.1, 1.0, 5.0])
    if kind in ("smooth", "crowd", "negative borders"):
        coarse = rng.normal(size=(num_classes, 3, 3)) * 8
        logits = np.stack([cv2.resize(c, (width // 4, height // 4), interpolation=cv2.INTER_CUBIC) for c in coarse])
    if kind == "ties":
        logits = np.round(logits)
    if kind == "constant":
        logits[:] = 0
    if kind == "huge":
        logits *= 1e37
    ltrb, borderness = [], []
    height, width = height // 8, width // 8
    for _ in BOX_STRIDES:
        distances = rng.gamma(1.5, 40, (4, height, width))
        border = rng.random((height, width))
        if kind == "crowd":  # large boxes of one class on top of each other
            distances = rng.uniform(20, 200, (4, height, width))
        if kind == "ties":
            distances = np.round(distances / 16) * 16
        if kind in ("ties", "constant"):
            border = np.round(border * 4) / 4
        if kind == "negative borders":
            border = border - 0.5
        if kind == "not finite":
            distances[rng.random(distances.shape) < 0.05] = np.nan
            distances[rng.random(distances.shape) < 0.05] = np.inf
            border[rng.random(border.shape) < 0.05] = np.nan
        ltrb.append(distances.astype(np.float32))
        borderness.append(border.astype(np.float32))
        height, width = -(-height // 2), -(-width // 2)
    logits = logits.astype(np.float32)
    if kind == "not finite":
        dice = rng.random(logits.shape)
        logits[dice < 0.02] = np.nan
        logits[(dice > 0.02) & (dice < 0.04)] = np.inf
        logits[(dice > 0.04) & (dice < 0.2)] = -np.inf
    return Case(logits, ltrb, borderness, image_size, output_size)


def random_settings(rng: np.random.Generator, base: PostprocessConfig) -> PostprocessConfig:
    def one_of(*values):
        return values[rng.integers(len(values))]

    return dataclasses.replace(
        base,
        score_threshold=one_of(0.0, 0.05, 0.1, 0.3),
        topk=one_of(0, 1, 20, 1000),
        iou_threshold=one_of(0.0, 0.3, 0.5, 0.6, 1.0),
        max_detections=one_of(0, 1, 10, 100),
        paste_score=one_of(0.0, 0.05, 0.2),
        overlap_threshold=one_of(0.0, 0.3, 0.5, 1.0),
        stuff_area_limit=one_of(0, 1, 64, 256, 100_000),
    )


def check(case: Case, classes: tuple[Category, ...], config: PostprocessConfig, session) -> int:
    """Runs both; returns the number of segments."""
    feeds = {"logits": case.logits[None]}
    feeds |= {f"ltrb{i}": t[None] for i, t in enumerate(case.ltrb)}
    feeds |= {f"borderness{i}": b[None] for i, b in enumerate(case.borderness)}
    feeds |= {n: np.array(v) for n, v in zip(SIZES, (*case.output_size, *case.image_size), strict=True)}
    feeds |= {name: np.array(getattr(config, name), dtype) for name, dtype in SETTINGS.items()}
    ids, labels, scores, areas, boxes, *found = session.run(None, feeds)

    is_thing = np.array([c.isthing for c in classes], np.uint8)
    (want_boxes, want_scores, want_labels), want_ids, table = native.postprocess(
        case.logits, is_thing, case.ltrb, case.borderness, case.image_size, case.output_size, config
    )
    segments = table.segments()
    np.testing.assert_array_equal(ids, want_ids)
    assert labels.tolist() == [s.label for s in segments]
    assert scores.tolist() == [s.score for s in segments]
    assert areas.tolist() == [s.area for s in segments]
    assert boxes.tolist() == [list(s.box) for s in segments]
    scale = np.array([i / o for i, o in zip(case.image_size, case.output_size, strict=True)] * 2)[::-1]
    np.testing.assert_array_equal(found[0], want_boxes / scale.astype(np.float32))
    np.testing.assert_array_equal(found[1], want_scores)
    np.testing.assert_array_equal(found[2], want_labels)
    return len(segments)


@pytest.mark.parametrize("fill_stuff", [False, True])
@pytest.mark.parametrize("score_fusion", ["product", "sqrt"])
@pytest.mark.parametrize("assignment", ["closest_borderness", "highest_confidence", "smallest_area"])
def test_equals_liblpsnet(assignment, score_fusion, fill_stuff):
    rng = np.random.default_rng([len(assignment), len(score_fusion), fill_stuff])
    classes = categories("camvid")
    base = PostprocessConfig(assignment=assignment, score_fusion=score_fusion, fill_stuff=fill_stuff)
    session = head("camvid", assignment, score_fusion, fill_stuff)
    segments = 0
    for kind in KINDS:
        for _ in range(5):
            case = make_case(rng, len(classes), kind)
            segments += check(case, classes, random_settings(rng, base), session)
            segments += check(case, classes, base, session)
    assert segments > 200  # so the cases were about something


def test_many_classes_equal_too():
    rng = np.random.default_rng(0)
    classes = categories("coco")
    for kind in ("noise", "smooth", "ties", "not finite"):
        check(make_case(rng, len(classes), kind), classes, PostprocessConfig(stuff_area_limit=50), head("coco"))


def test_dense_outputs_of_photographs(shared_data):
    """A network on photographs, its sizes those of real use."""
    model = LPSNet.from_pretrained("lpsnet_lite0_camvid")
    classes, config = model.recipe.categories, model.recipe.postprocess
    session = head("camvid")
    paths = sorted((shared_data / "camvid" / "images" / "test").iterdir())[::6]
    assert len(paths) >= 10
    for path in paths:
        prepared = prepare(cv2.imread(str(path))[..., ::-1].copy(), model.recipe.input)
        with torch.inference_mode():
            outputs = model(torch.from_numpy(prepared.images), prepared.image_size)
        case = Case(
            outputs.logits[0].numpy(),
            [t[0].numpy() for t in outputs.ltrb],
            [b[0].numpy() for b in outputs.borderness],
            prepared.image_size,
            prepared.output_size,
        )
        assert check(case, classes, config, session) > 3
