"""What an exported model says of itself, and under which names: shared by those who write one and those who run it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np

import lpsnet
from lpsnet.config import BOX_STRIDES, Recipe

Profile = Literal["panoptic", "dense"]
Precision = Literal["fp32", "fp16", "int8"]

FORMAT = "1"
"""Of the metadata and of the names below."""

SETTINGS: dict[str, type[np.generic]] = {
    "score_threshold": np.float32,
    "topk": np.int64,
    "iou_threshold": np.float32,
    "max_detections": np.int64,
    "paste_score": np.float32,
    "overlap_threshold": np.float32,
    "stuff_area_limit": np.int64,
}
"""The fields of `PostprocessConfig` that are inputs of a panoptic artifact, scalars, and their types."""
BUILT_IN = ("score_fusion", "assignment", "fill_stuff")
"""The fields of `PostprocessConfig` that a panoptic artifact was built with."""

IMAGE_INPUT = "image"
"""Of a panoptic artifact: uint8[H, W, 3], RGB."""
PANOPTIC_OUTPUTS = (
    "ids",  # int32[H, W], 0 is void
    "segment_ids",  # int32[S], 1 .. S
    "segment_labels",  # int32[S], index of the class
    "segment_scores",  # float32[S], 1 for stuff
    "segment_areas",  # int32[S], pixels
    "segment_boxes",  # int32[S, 4], tight x1, y1, x2, y2, x2 and y2 exclusive
    "boxes",  # float32[K, 4], xyxy in pixels of the image: the detections before they are pasted
    "scores",  # float32[K]
    "labels",  # int32[K]
)
"""Of a panoptic artifact, in their order."""

DENSE_INPUT = "images"
"""Of a dense artifact: float32[N, 3, H, W], normalised, H and W multiples of 32."""


def dense_outputs() -> list[str]:
    """The outputs of a dense artifact, in their order: those of `lpsnet.models.lpsnet.FlatLPSNet`, float32."""
    levels = [f"p{i + 3}" for i in range(len(BOX_STRIDES))]
    return ["logits", *(f"ltrb_{level}" for level in levels), *(f"borderness_{level}" for level in levels)]


@dataclass(frozen=True)
class ArtifactInfo:
    """What an artifact was made from.

    Attributes:
        recipe: of the network.
        profile: panoptic, from an image to its panoptic map, or dense, the network alone.
        precision: of the dense network.
        deform_conv: the form of deformable convolutions; none where the network has none.
        version: of the package that wrote the artifact.
    """

    recipe: Recipe
    profile: Profile
    precision: Precision
    deform_conv: Literal["standard", "gridsample", "none"]
    version: str = lpsnet.__version__

    def to_metadata(self) -> dict[str, str]:
        """Text by key, for any format that keeps such. Classes and normalisation stand by themselves too, for those who
        read nothing else."""
        config = self.recipe.input
        return {
            "lpsnet.format": FORMAT,
            "lpsnet.version": self.version,
            "lpsnet.profile": self.profile,
            "lpsnet.precision": self.precision,
            "lpsnet.deform_conv": self.deform_conv,
            "lpsnet.recipe": json.dumps(self.recipe.to_dict()),
            "classes": json.dumps([asdict(c) for c in self.recipe.categories]),
            "normalization": json.dumps({"mean": config.mean, "std": config.std, "channels": "RGB", "range": "0..255"}),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ArtifactInfo":
        """The inverse of `to_metadata`.

        Raises:
            ValueError: metadata of another format, or that do not read.
        """
        if "lpsnet.format" not in metadata:
            raise ValueError("expected a model that lpsnet-export wrote, got one without its metadata")
        if metadata["lpsnet.format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT} of the metadata, got {metadata['lpsnet.format']!r}")
        try:
            values = {name: metadata[f"lpsnet.{name}"] for name in ("profile", "precision", "deform_conv", "version")}
            recipe = Recipe.from_dict(json.loads(metadata["lpsnet.recipe"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"metadata that do not read: {error}") from None
        for name, allowed in (("profile", get_args(Profile)), ("precision", get_args(Precision))):
            if values[name] not in allowed:
                raise ValueError(f"metadata: {name}: expected one of {list(allowed)}, got {values[name]!r}")
        return cls(recipe, **values)  # type: ignore[arg-type]
