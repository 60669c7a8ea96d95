"""The named ablations, with the numbers that the paper prints for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lpsnet.config import Recipe, get_recipe

METRICS = {
    "pq": "PQ",
    "pq_thing": "PQ_th",
    "pq_stuff": "PQ_st",
    "miou": "mIoU",
    "box_ap": "box AP",
    "mask_ap": "mask AP",
}
"""What a run is scored by, in percent, and how the tables spell it."""
PAPER_RECIPE = "lpsnet_r50_coco_800"
"""What the paper's ablations are made with (captions of Tables 5 and 6, Figure 7)."""
_SHORT_SIDES = (800, 882, 964)
"""Of the paper's COCO models (Table 1)."""
_CROP_MULTIPLE = 32


@dataclass(frozen=True)
class Scoring:
    """How a model is tested, beyond what its recipe says; see `lpsnet.evaluation.predictor.Predictor`.

    Attributes:
        scales: factors on the size of the network's input.
        flip: each scale mirrored as well.
        oracle: the part of the truth that the panoptic head gets.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    oracle: Literal["semantic", "boxes"] | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: as the paper spells it, where it has the line.
        overrides: fields of the recipe by their dotted names. Where they are all of `postprocess`, the row is another
            way to score a model that another row trains.
        paper: the paper's numbers by the keys of `METRICS`.
        test: how the row's model is tested.
    """

    label: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)
    test: Scoring = field(default_factory=Scoring)


@dataclass(frozen=True)
class Ablation:
    """A question put to a recipe.

    Attributes:
        title: what is compared.
        source: where the paper has it, or that it does not.
        rows: the lines of the table for a base recipe.
        paper_data: what the paper's numbers are of.
    """

    title: str
    source: str
    rows: Callable[[Recipe], Sequence[Row]]
    paper_data: str = "COCO val with ResNet-50"


def get_ablation(name: str) -> Ablation:
    """The ablation of this name. Raises ValueError, which lists the names, where there is none."""
    if name not in ABLATIONS:
        raise ValueError(f"ablation: expected one of {sorted(ABLATIONS)}, got {name!r}")
    return ABLATIONS[name]


def _fixed(*rows: Row) -> Callable[[Recipe], Sequence[Row]]:
    return lambda _: rows


def _photometric(recipe: Recipe) -> Sequence[Row]:
    names = ("brightness", "contrast", "saturation", "hue", "gamma")
    # A recipe that has none of its own is tried with that of the demo model.
    own = {name: getattr(recipe.augment, name) for name in names}
    strengths = own if any(own.values()) else asdict(get_recipe("lpsnet_lite0_camvid").augment)
    return (
        Row("without", {f"augment.{name}": 0.0 for name in names}),
        Row("with", {f"augment.{name}": strengths[name] for name in names}),
    )


def _input_size(recipe: Recipe) -> Sequence[Row]:
    papers = (
        (39.1, 43.9, 30.1, 54.5, 39.2, 26.8),
        (41.9, 46.3, 32.5, 56.1, 39.4, 29.6),
        (42.4, 48.0, 35.8, 59.8, 39.5, 31.5),
    )
    rows = []
    for side, numbers in zip(_SHORT_SIDES, papers, strict=True):
        factor = side / _SHORT_SIDES[0]
        overrides: dict[str, Any] = {
            "input.short_side": round(recipe.input.short_side * factor),
            "input.max_side": round(recipe.input.max_side * factor),
        }
        if recipe.augment.crop is not None:
            overrides["augment.crop"] = tuple(_scaled_crop(s, factor) for s in recipe.augment.crop)
        label = f"short side {overrides['input.short_side']} ({side} in the paper)"
        rows.append(Row(label, overrides, dict(zip(METRICS, numbers, strict=True))))
    return rows


def _scaled_crop(side: int, factor: float) -> int:
    return side if factor == 1 else max(1, round(side * factor / _CROP_MULTIPLE)) * _CROP_MULTIPLE


ABLATIONS: dict[str, Ablation] = {
    "context": Ablation(
        "What is added to P5",
        "Table 5, left",
        _fixed(
            Row("Global Average Pooling", {"model.context": "gap"}, {"miou": 51.2, "pq": 36.5}),
            Row("Without PPM", {"model.context": "none"}, {"miou": 50.9, "pq": 35.7}),
            Row("With PPM", {"model.context": "ppm"}, {"miou": 54.5, "pq": 39.1}),
        ),
    ),
    "positives": Ablation(
        "Positive samples",
        "Figure 7b, a plot; its caption: our positives improve on those of FCOS",
        _fixed(
            Row("inside the box (FCOS)", {"targets.positives": "box"}),
            Row("inside the mask", {"targets.positives": "mask"}),
        ),
    ),
    "borderness": Ablation(
        "Border-ness and center-ness",
        "Figure 7a, a plot; section 4.4: border-ness gains around 2 PQ at short side 800",
        _fixed(
            Row("center-ness (FCOS)", {"targets.borderness": "box"}),
            Row("border-ness", {"targets.borderness": "mask"}),
        ),
    ),
    "assignment": Ablation(
        "Who gets a pixel that several boxes of its class claim",
        "Table 5, right",
        _fixed(
            Row(
                "Smallest Area",
                {"postprocess.assignment": "smallest_area"},
                {"pq": 38.9, "pq_thing": 43.5, "pq_stuff": 30.0},
            ),
            Row(
                "Highest Confidence",
                {"postprocess.assignment": "highest_confidence"},
                {"pq": 39.0, "pq_thing": 43.6, "pq_stuff": 30.0},
            ),
            Row(
                "Closest Border-ness",
                {"postprocess.assignment": "closest_borderness"},
                {"pq": 39.1, "pq_thing": 43.9, "pq_stuff": 30.1},
            ),
        ),
    ),
    "oracle": Ablation(
        "The panoptic head with a part of the truth",
        "Table 6; box AP and mIoU are the network's own in every row",
        _fixed(
            Row("Ours", {}, {"box_ap": 39.2, "miou": 54.5, "mask_ap": 26.8, "pq": 39.1}),
            Row("Ours + SS", {}, {"box_ap": 39.2, "mask_ap": 47.0, "pq": 74.1}, Scoring(oracle="semantic")),
            Row("Ours + Box", {}, {"miou": 54.5, "mask_ap": 51.8, "pq": 53.0}, Scoring(oracle="boxes")),
        ),
    ),
    "multiscale": Ablation(
        "Testing at several scales",
        "Table 3, whose scales are not given; ours are 0.75, 1 and 1.25, mirrored as well",
        _fixed(
            Row("one scale", {}, {"pq": 59.7, "pq_thing": 54.0, "pq_stuff": 63.9, "miou": 78.1, "box_ap": 38.4}),
            Row(
                "multi-scale",
                {},
                {"pq": 60.5, "pq_thing": 53.7, "pq_stuff": 64.8, "miou": 80.8, "box_ap": 38.8, "mask_ap": 33.2},
                Scoring(scales=(0.75, 1.0, 1.25), flip=True),
            ),
        ),
        paper_data="Cityscapes val at 1024 with ResNet-50",
    ),
    "deform": Ablation(
        "Convolutions of the semantic head",
        "not in the paper, whose head is deformable (section 3.3)",
        _fixed(
            Row("plain", {"model.deform": "off"}),
            Row("deformable v1", {"model.deform": "v1"}),
            Row("deformable v2", {"model.deform": "v2"}),
        ),
    ),
    "photometric": Ablation("Photometric augmentation", "not in the paper", _photometric),
    "input_size": Ablation("Image size in training and test", "Table 1", _input_size),
}
