"""What a run scored, as a file: written once, whole or not at all."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from lpsnet import atomic
from lpsnet.ablation.catalogue import METRICS, Scoring
from lpsnet.config import Recipe
from lpsnet.evaluation.evaluate import Scores
from lpsnet.fields import differences, from_dict


@dataclass(frozen=True)
class Setting:
    """All that decides a run's scores.

    Attributes:
        recipe: that is scored; its `train.seed` is the run's.
        split: of the data that is scored.
        limit: score the first so many samples only.
        train_limit: train on the first so many samples only.
        pretrained: the backbone started from ImageNet weights.
        backbone_weights: name of the file that they came from; None: an installed package.
        test: how the model is tested.
    """

    recipe: Recipe
    split: str
    limit: int | None
    train_limit: int | None
    pretrained: bool
    backbone_weights: str | None = None
    test: Scoring = field(default_factory=Scoring)


@dataclass(frozen=True)
class Result:
    """What a run scored.

    Attributes:
        metrics: in percent by the keys of `METRICS`; NaN where a score is not defined.
        per_class: PQ and IoU in percent by the name of the class, likewise.
        images: number of images scored.
        train_seconds: that this run trained; 0 where another row had trained the model.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    images: int
    train_seconds: float

    @classmethod
    def of(cls, scores: Scores, train_seconds: float) -> "Result":
        """From the scores of an evaluation."""
        metrics = {
            "pq": scores.panoptic.pq,
            "pq_thing": scores.panoptic.pq_thing,
            "pq_stuff": scores.panoptic.pq_stuff,
            "miou": scores.semantic.miou,
            "box_ap": scores.box.ap,
            "mask_ap": scores.mask.ap,
        }
        per_class = {
            name: {"pq": quality.pq, "iou": scores.semantic.per_class[name]}
            for name, quality in scores.panoptic.per_class.items()
        }
        return cls(metrics, per_class, scores.panoptic.images, train_seconds)


def write_result(path: Path, setting: Setting, result: Result) -> None:
    """Writes the JSON file of a run. Raises OSError where the folder cannot be written to."""
    data = {
        "metrics": _null_for_nan(result.metrics),
        "images": result.images,
        "train_seconds": round(result.train_seconds, 1),
        "per_class": {name: _null_for_nan(values) for name, values in result.per_class.items()},
        **dataclasses.asdict(setting),
    }
    atomic.write_bytes(path, (json.dumps(data, indent=2) + "\n").encode())


def read_result(path: Path, setting: Setting) -> Result | None:
    """The result in this file; None where there is no file.

    Raises:
        ValueError: a file that is none of these, or one of another setting, with what differs.
    """
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        result = Result(
            dict.fromkeys(METRICS, math.nan) | _nan_for_null(data["metrics"]),
            {name: _nan_for_null(values) for name, values in data["per_class"].items()},
            data["images"],
            data["train_seconds"],
        )
        known = {f.name for f in dataclasses.fields(Setting)}
        differing = differences(setting, from_dict(Setting, {key: data[key] for key in data.keys() & known}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"output: expected the result of a run, got {path}: {error!r}") from None
    if differing:
        raise ValueError(
            f"output: expected {path} to be a result of the same settings, got one that differs in {differing}; "
            "take another folder"
        )
    return result


def _null_for_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def _nan_for_null(values: dict[str, float | None]) -> dict[str, float]:
    return {key: math.nan if value is None else float(value) for key, value in values.items()}
