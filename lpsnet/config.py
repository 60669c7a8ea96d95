"""Every default of the project. What the paper leaves open says here where its value is from. The named recipes, which
say what differs from the defaults, are made in `lpsnet.recipes` and can be had from here too.

Nothing here imports torch. A recipe is made of frozen dataclasses, so the command lines are made from it and a
checkpoint carries it as JSON.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lpsnet.categories import Category, categories
from lpsnet.fields import from_dict

if TYPE_CHECKING:
    from lpsnet.recipes import RECIPES as RECIPES
    from lpsnet.recipes import get_recipe as get_recipe

Backbone = Literal["resnet50", "resnet101", "efficientnet_lite0", "efficientnet_lite2"]
Assignment = Literal["closest_borderness", "highest_confidence", "smallest_area"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
BOX_STRIDES = (8, 16, 32, 64, 128)
"""P3..P7 (paper, section 3.2; FCOS)."""
SEMANTIC_STRIDE = 4
"""The semantic logits are at 1/4 of the input (paper, section 3.3)."""
DEFAULT_MODEL = "lpsnet_lite0_camvid"
"""The packaged checkpoint that commands take unless another is named."""
DEFAULT_ARTIFACT = f"{DEFAULT_MODEL}.onnx"
"""The packaged model that lpsnet-predict takes: the same network, run without torch."""


@dataclass(frozen=True)
class ModelConfig:
    """The dense network.

    Attributes:
        backbone: paper: resnet50, resnet101; the EfficientNet-Lites are for the edge.
        fpn_channels: width of P2..P7 (paper: 256).
        context: what is added to P5: pyramid pooling, global average pooling or nothing (Table 5's ablation).
        ppm_bins: side lengths of the pooled grids (PSPNet; the paper does not say).
        ppm_channels: width of each pooled branch (PSPNet, UPerNet).
        norm: of FPN context and heads: GroupNorm (FCOS) or BatchNorm, which folds away at deployment.
        norm_groups: groups of GroupNorm (FCOS).
        freeze_backbone_norm: keep the statistics and affine parameters of the backbone's BatchNorm (FCOS).
        box_channels: width of the box tower (paper: 256).
        box_layers: depth of the box tower (paper: 4).
        semantic_channels: width of each layer of the semantic head (UPSNet's paper: 256-128-128 on COCO, 128-128 on
            Cityscapes).
        deform: deformable convolution in the semantic head, v1 (UPSNet's paper), v2 (with masks), or plain.
    """

    backbone: Backbone = "resnet50"
    fpn_channels: int = 256
    context: Literal["ppm", "gap", "none"] = "ppm"
    ppm_bins: tuple[int, ...] = (1, 2, 3, 6)
    ppm_channels: int = 512
    norm: Literal["gn", "bn"] = "gn"
    norm_groups: int = 32
    freeze_backbone_norm: bool = True
    box_channels: int = 256
    box_layers: int = 4
    semantic_channels: tuple[int, ...] = (256, 128, 128)
    deform: Literal["v1", "v2", "off"] = "v1"


@dataclass(frozen=True)
class InputConfig:
    """How an image becomes the network's input.

    Attributes:
        short_side: length of the image's shorter side after the resize, in pixels (paper: 800, 882, 964 on COCO).
        max_side: no side gets longer than this; the short side gives way.
        mean, std: of R, G, B in units of 0..255.
        size_divisor: the input is padded at the bottom and at the right to a multiple of this, the stride of C5.
    """

    short_side: int = 800
    max_side: int = 1333
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    size_divisor: int = 32

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image of this size after the resize, in its own proportions."""
        scale = min(self.short_side / min(height, width), self.max_side / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for a resized image of this size."""
        return tuple(-(-side // self.size_divisor) * self.size_divisor for side in (height, width))  # type: ignore[return-value]


@dataclass(frozen=True)
class PostprocessConfig:
    """From the dense outputs to the panoptic map.

    Attributes:
        score_threshold: a class at a point is a candidate when its probability is above this (FCOS).
        topk: candidates kept per level (FCOS).
        score_fusion: score of a box from class probability p and border-ness b: p * b (paper) or sqrt(p * b).
        iou_threshold: of the NMS within a class (FCOS).
        max_detections: boxes kept after NMS (FCOS).
        paste_score: boxes below it are not pasted; not in the paper, tuned on validation data.
        overlap_threshold: a box is discarded when more of its mask is occupied (paper: 0.3).
        assignment: who gets a pixel that several boxes claim (paper: closest_borderness).
        stuff_area_limit: stuff segments below it become void, in pixels of the resized image (UPSNet's paper: 4096 on
            COCO, 2048 on Cityscapes).
        fill_stuff: thing pixels that no box claims take the best stuff class instead of void.
    """

    score_threshold: float = 0.05
    topk: int = 1000
    score_fusion: Literal["product", "sqrt"] = "product"
    iou_threshold: float = 0.6
    max_detections: int = 100
    paste_score: float = 0.2
    overlap_threshold: float = 0.3
    assignment: Assignment = "closest_borderness"
    stuff_area_limit: int = 4096
    fill_stuff: bool = False


@dataclass(frozen=True)
class RuntimeConfig:
    """What a network runs on; not part of a recipe.

    Attributes:
        device: cpu, cuda or cuda:N; for .onnx files also tensorrt or tensorrt:N, the provider of ONNX Runtime.
        threads: of the CPU, for the whole process; 0 leaves the choice to the runtime.
        precision: of a dense network in torch; an exported one has its own. Offsets, softmax, boxes and border-ness are
            float32 in any case.
        compile: run the dense network through torch.compile, once per shape.
        graph: on CUDA, a frame whose shape and settings came before is the replay of a CUDA graph.
        max_graphs: graphs kept per stream; one more takes the place of that which was not used for longest.
        streams: on CUDA, so many frames may run at the same time.

    Raises:
        ValueError: a value out of its range.
    """

    device: str = "cpu"
    threads: int = 0
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    compile: bool = False
    graph: bool = True
    max_graphs: int = 4
    streams: int = 1

    def __post_init__(self) -> None:
        if re.fullmatch(r"cpu|(cuda|tensorrt)(:\d+)?", self.device) is None:
            raise ValueError(f"device: expected cpu, cuda, cuda:N, tensorrt or tensorrt:N, got {self.device!r}")
        if self.precision not in ("fp32", "fp16", "bf16"):
            raise ValueError(f"precision: expected fp32, fp16 or bf16, got {self.precision!r}")
        for name, least in (("threads", 0), ("max_graphs", 1), ("streams", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class ExportBounds:
    """What must hold of an exported model beside its checkpoint before it counts.

    Attributes:
        relative_error: of each dense output, its greatest difference over its greatest magnitude.
        agreement: the share of pixels in the same segment, mean over the images.
        pq_loss: points of panoptic quality.
    """

    relative_error: float
    agreement: float
    pq_loss: float


EXPORT_BOUNDS = {
    "fp32": ExportBounds(1e-3, 0.999, 0.1),
    "fp16": ExportBounds(5e-2, 0.98, 0.5),
    "int8": ExportBounds(float("inf"), 0.85, 1.0),
}
"""By precision. Ours: float32 sums in another order, half precision rounds, and what int8 may cost is up to the PQ."""
EXPORT_IMAGES = 20
"""So many images an exported model is compared on unless more are asked for."""


@dataclass(frozen=True)
class TargetConfig:
    """What each point of the box head learns.

    Attributes:
        positives: a point is positive inside the mask of an object (paper, Figure 3) or inside its box (FCOS).
        borderness: distances to the border of the mask (paper, equation 1) or of the box (FCOS' centre-ness).
        level_bounds: a point of level i learns an object when max(l, t, r, b) is in (bounds[i], bounds[i + 1]] (FCOS).
    """

    positives: Literal["mask", "box"] = "mask"
    borderness: Literal["mask", "box"] = "mask"
    level_bounds: tuple[float, ...] = (0, 64, 128, 256, 512, float("inf"))


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (paper: semantic 0.7 on COCO, 1.0 on Cityscapes; the rest from FCOS).

    Attributes:
        semantic: of the pixel-wise cross entropy.
        giou: of the GIoU loss of the boxes, itself weighted by the border-ness target.
        borderness: of the binary cross entropy of border-ness.
        dice: of the soft Dice loss of the classes (not in the paper), for classes of few pixels.
    """

    semantic: float = 0.7
    giou: float = 1.0
    borderness: float = 1.0
    dice: float = 0.0


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a training image.

    Attributes:
        crop: (height, width) of the training crop in pixels; None trains on whole resized images.
        long_side: range of the random length of the longer side, in pixels; None takes the size that `InputConfig`
            asks for (paper: 500 to 2200 on Mapillary Vistas, with crops of 400 x 800).
        scale: range of the random factor on that size.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation: greatest relative change. hue: greatest change in degrees.
        gamma: greatest change of log2 of the exponent, for scenes darker or lighter than those seen.
    """

    crop: tuple[int, int] | None = None
    long_side: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """The schedule (paper, section 4) and the machinery around it.

    Attributes:
        iterations: optimiser steps in all.
        batch_size: images per step, over all processes.
        accumulate: parts, one after the other, that a process learns its share of a batch in: less memory, the same
            gradients, but for BatchNorm, whose statistics are over such a part.
        optimizer: sgd (paper: momentum 0.9) or adamw.
        learning_rate: its highest value.
        backbone_learning_rate: factor on it for the backbone.
        schedule: `steps` divides it by 10 at each of `steps` (paper); `cosine` lets it fall to 0 along a cosine.
        steps: see schedule.
        warmup: steps during which it rises linearly from a thousandth (FCOS).
        weight_decay: not on biases and norms.
        momentum: of SGD.
        clip_norm: greatest norm of the gradient; 0 does not clip.
        amp: autocast to bfloat16, to float16 with loss scaling, or not.
        compile: run the network through torch.compile.
        sync_bn: BatchNorm's statistics are over all processes; else each has its own, and the first one's are kept.
        explosion: training stops when the loss is so many times the median of the last 100 steps, or of 1 where that
            is less; 0 does not stop it. Ours: sound losses stay below 10. A loss that is not finite always stops it.
        ema: decay of the moving average of the weights; 0 keeps none. Ramped up over the first steps.
        seed: of initialisation, order and augmentation.
        workers: processes that load data.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
    """

    iterations: int = 90_000
    batch_size: int = 16
    accumulate: int = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    backbone_learning_rate: float = 1.0
    schedule: Literal["steps", "cosine"] = "steps"
    steps: tuple[int, ...] = (60_000, 80_000)
    warmup: int = 500
    weight_decay: float = 1e-4
    momentum: float = 0.9
    clip_norm: float = 0.0
    amp: Literal["off", "bf16", "fp16"] = "off"
    compile: bool = False
    sync_bn: bool = True
    explosion: float = 20.0
    ema: float = 0.0
    seed: int = 0
    workers: int = 2
    checkpoint_every: int = 1000
    log_every: int = 20


@dataclass(frozen=True)
class StreamConfig:
    """How videos and live sources are run.

    Attributes:
        track: give each object a number and a colour that it keeps from frame to frame.
        frames: write the ids of every frame too, in COCO panoptic format.
        every: take one frame of so many.
        max_frames: end each source after so many taken frames.
        workers: frames that the engine works on at a time.
        queue_size: frames that may wait between two stages.
        timeout: seconds without a frame after which a camera or a network address counts as lost.
        reconnects: attempts in a row to get a lost one back.
        backoff: seconds before the first of them, doubled before each further one, up to 8.
        track_iou: an object keeps its number when its masks, or else its boxes, in two frames have at least this IoU.
        track_patience: frames for which a lost object keeps its number.
        codec: of the overlay video: MPEG-4 Part 2, H.264, VP9 or AV1, where OpenCV has it.
        frame_rate: of the overlay video where the source does not tell, in frames per second.
        report_every: seconds between lines of progress where there is no terminal.

    Raises:
        ValueError: a value out of its range.
    """

    track: bool = False
    frames: bool = False
    every: int = 1
    max_frames: int | None = None
    workers: int = 2
    queue_size: int = 2
    timeout: float = 10.0
    reconnects: int = 5
    backoff: float = 0.5
    track_iou: float = 0.2
    track_patience: int = 15
    codec: Literal["mp4v", "avc1", "vp09", "av01"] = "mp4v"
    frame_rate: float = 25.0
    report_every: float = 10.0

    def __post_init__(self) -> None:
        for name in ("every", "max_frames", "workers", "queue_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("timeout", "frame_rate", "report_every"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        for name in ("reconnects", "backoff", "track_patience"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0 < self.track_iou <= 1:
            raise ValueError(f"track_iou: expected a number in (0, 1], got {self.track_iou}")


@dataclass(frozen=True)
class Recipe:
    """All that makes one model: the network, its data, its training and its post-processing.

    Attributes:
        name: of the recipe.
        dataset: name of the data set.
        classes: of a data set of the user's own, which a checkpoint thus brings with it; none for a packaged data set.
    """

    name: str
    dataset: str
    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    classes: tuple[Category, ...] = ()

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes in the order of the semantic logits."""
        return self.classes or categories(self.dataset)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Recipe":
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            ValueError: a field that no recipe has, or a value of another type, by its name.
        """
        return from_dict(cls, data)


def __getattr__(name: str) -> Any:
    # The recipes are made of the classes above, so their module can be imported only once this one is.
    if name in ("RECIPES", "get_recipe"):
        from lpsnet import recipes

        return getattr(recipes, name)
    raise AttributeError(f"module 'lpsnet.config' has no attribute {name!r}")
