"""Networks of other packages, with random weights, behind our interface: to be timed where their package is installed.

Each is built from its package's public interface alone and none of them is needed by anything here. `peers` names those
whose package is missing. What was tried is said at each: those for transformers ran with its version 5.23; those for
torchvision and detectron2 are written from their documentation and have never run.

With random weights few or no segments come out, so the time of a peer's post-processing is a lower bound.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch

from lpsnet.baselines.heuristic_merge import merge
from lpsnet.baselines.masks import PastedMasks
from lpsnet.baselines.segments import Entry, make_segments
from lpsnet.config import InputConfig, Recipe
from lpsnet.inference import NetworkInput, StageTimer, prepare
from lpsnet.structures import PanopticResult

_EOMT_SIDE = 640
"""The square input of EoMT for COCO panoptic."""


class Peer(Protocol):
    """What every pipeline here offers."""

    def predict(self, image: np.ndarray, timer: StageTimer | None = None) -> PanopticResult:
        """The panoptic map of an image, uint8[H, W, 3] RGB, at its own size."""


def peers() -> list[tuple[str, str | None]]:
    """Every peer by name, with the reason why it is absent; None where its package can be imported."""
    return [(name, _absence(package)) for name, (package, _) in _PEERS.items()]


def build_peer(name: str, recipe: Recipe, device: str = "cpu") -> Peer:
    """The peer of this name with random weights.

    Args:
        name: of those that `peers` gives.
        recipe: one of ours, for the classes and, where the peer can be told, the input.
        device: as torch names it.

    Raises:
        ValueError: no such peer.
        ModuleNotFoundError: its package cannot be imported.
    """
    if name not in _PEERS:
        raise ValueError(f"peer: expected one of {sorted(_PEERS)}, got {name!r}")
    package, build = _PEERS[name]
    absence = _absence(package)
    if absence is not None:
        raise ModuleNotFoundError(f"{name}: {absence}")
    return build(recipe, torch.device(device))


def _absence(package: str) -> str | None:
    try:
        import_module(package)
    except Exception as error:  # a package built for another torch fails with errors of any kind
        return f"{package} cannot be imported: {error}"
    return None


def _result(ids: torch.Tensor, rows: list[tuple[int, Entry]], recipe: Recipe) -> PanopticResult:
    """Of a map of ids and, for each id, what it stands for; ids without a row are void."""
    slots = torch.full_like(ids, len(rows), dtype=torch.int64)
    for slot, (number, _) in enumerate(rows):
        slots[ids == number] = slot
    return PanopticResult(*make_segments(slots, [entry for _, entry in rows], 0), recipe.categories)


class _Transformers:
    """A universal segmentation network of transformers: its dense part and its panoptic post-processing.

    The image is prepared by our operator, and the masks are cut to it, so only the network and what follows is theirs.
    """

    def __init__(self, model: Any, postprocess: Callable[..., Any], recipe: Recipe, input: InputConfig) -> None:
        self.model, self.postprocess, self.recipe, self.input = model, postprocess, recipe, input

    def predict(self, image: np.ndarray, timer: StageTimer | None = None) -> PanopticResult:
        timer = timer or StageTimer()
        device = self.model.device
        with timer("preprocess"):
            prepared = prepare(image, self.input)
            images = torch.from_numpy(prepared.images).to(device)
        with torch.inference_mode():
            with timer("network"):
                outputs = self.model(pixel_values=images)
                _wait(device)
            with timer("postprocess"):
                found = self.postprocess(outputs, prepared)[0]
                result = self._found(found)
        return replace(result, timings=timer.timings)

    def _found(self, found: dict[str, Any]) -> PanopticResult:
        rows = []
        for segment in found["segments_info"]:
            label = segment["label_id"]
            isthing = self.recipe.categories[label].isthing
            rows.append((segment["id"], Entry(label, segment["score"] if isthing else None)))
        return _result(found["segmentation"], rows, self.recipe)


def _stuff(recipe: Recipe) -> list[int]:
    return [i for i, c in enumerate(recipe.categories) if not c.isthing]


def _mask2former(recipe: Recipe, device: torch.device) -> Peer:
    """Mask2Former with a ResNet-50, 44.0 million parameters. Ran with transformers 5.23."""
    package: Any = import_module("transformers")
    backbone = package.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config = package.Mask2FormerConfig(backbone_config=backbone, num_labels=len(recipe.categories))
    model = package.Mask2FormerForUniversalSegmentation(config).eval().to(device)
    processor = package.Mask2FormerImageProcessor()

    def postprocess(outputs: Any, prepared: NetworkInput) -> Any:
        height, width = (-(-side // 4) for side in prepared.image_size)
        outputs.masks_queries_logits = outputs.masks_queries_logits[..., :height, :width]
        sizes = [prepared.output_size]
        return processor.post_process_panoptic_segmentation(
            outputs, threshold=0.0, label_ids_to_fuse=set(_stuff(recipe)), target_sizes=sizes
        )

    return _Transformers(model, postprocess, recipe, recipe.input)


def _eomt(recipe: Recipe, device: torch.device) -> Peer:
    """EoMT with a ViT-L, 316.7 million parameters, at its own 640x640. Ran with transformers 5.23."""
    package: Any = import_module("transformers")
    config = package.EomtConfig(num_labels=len(recipe.categories), image_size=_EOMT_SIDE)
    model = package.EomtForUniversalSegmentation(config).eval().to(device)
    processor = package.EomtImageProcessor()
    input = replace(recipe.input, short_side=_EOMT_SIDE, max_side=_EOMT_SIDE, size_divisor=_EOMT_SIDE)
    edges = {"shortest_edge": _EOMT_SIDE, "longest_edge": _EOMT_SIDE}

    def postprocess(outputs: Any, prepared: NetworkInput) -> Any:
        sizes = [prepared.output_size]
        return processor.post_process_panoptic_segmentation(
            outputs, target_sizes=sizes, threshold=0.0, stuff_classes=_stuff(recipe), size=edges
        )

    return _Transformers(model, postprocess, recipe, input)


class _TorchvisionMaskRCNN:
    """torchvision's Mask R-CNN, with the heuristic merge of its instances and no stuff: it has no semantic head."""

    def __init__(self, model: Any, recipe: Recipe, device: torch.device) -> None:
        self.model, self.recipe, self.device = model, recipe, device

    def predict(self, image: np.ndarray, timer: StageTimer | None = None) -> PanopticResult:
        timer = timer or StageTimer()
        things = [i for i, c in enumerate(self.recipe.categories) if c.isthing]
        with torch.inference_mode():
            with timer("network"):
                found = self.model([torch.from_numpy(image).to(self.device).permute(2, 0, 1).float() / 255])[0]
                _wait(self.device)
            with timer("merge"):
                labels, scores = (found["labels"] - 1).tolist(), found["scores"].tolist()
                region = (0, image.shape[0], 0, image.shape[1])
                masks = PastedMasks([region] * len(labels), [m[0] - 0.5 for m in found["masks"]], labels, scores)
                stuff = torch.full(image.shape[:2], 255, dtype=torch.uint8, device=self.device)
                slots, kept = merge(stuff, 0, masks, 0.5)
                entries = [Entry(things[labels[i]], scores[i]) for i in kept]
                result = PanopticResult(*make_segments(slots, entries, 0), self.recipe.categories)
        return replace(result, timings=timer.timings)


def _torchvision_mask_rcnn(recipe: Recipe, device: torch.device) -> Peer:
    """Mask R-CNN with a ResNet-50 and FPN. Never ran: written from torchvision's documentation."""
    package: Any = import_module("torchvision.models.detection")
    model = package.maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=1 + sum(c.isthing for c in recipe.categories),
        min_size=recipe.input.short_side,
        max_size=recipe.input.max_side,
        box_score_thresh=0.0,
    )
    return _TorchvisionMaskRCNN(model.eval().to(device), recipe, device)


class _Detectron2PanopticFPN:
    """detectron2's Panoptic FPN, with its own preparation and merge."""

    def __init__(self, model: Any, resize: Any, recipe: Recipe) -> None:
        self.model, self.resize, self.recipe = model, resize, recipe

    def predict(self, image: np.ndarray, timer: StageTimer | None = None) -> PanopticResult:
        timer = timer or StageTimer()
        things = [i for i, c in enumerate(self.recipe.categories) if c.isthing]
        with timer("preprocess"):
            bgr = image[:, :, ::-1]
            resized = self.resize.get_transform(bgr).apply_image(bgr)
            pixels = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1))).float()
        with torch.inference_mode():
            with timer("network"):
                inputs = {"image": pixels, "height": image.shape[0], "width": image.shape[1]}
                ids, found = self.model([inputs])[0]["panoptic_seg"]
                _wait(self.model.device)
            with timer("result"):
                rows = []
                for s in found:
                    # Its stuff classes begin with one for all things.
                    label = things[s["category_id"]] if s["isthing"] else _stuff(self.recipe)[s["category_id"] - 1]
                    rows.append((s["id"], Entry(label, s["score"] if s["isthing"] else None)))
                result = _result(ids, rows, self.recipe)
        return replace(result, timings=timer.timings)


def _detectron2_panoptic_fpn(recipe: Recipe, device: torch.device) -> Peer:
    """Panoptic FPN with a ResNet-50, detectron2's 3x configuration for COCO. Never ran: from its documentation."""
    config = import_module("detectron2.config").get_cfg()
    zoo: Any = import_module("detectron2.model_zoo")
    config.merge_from_file(zoo.get_config_file("COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.yaml"))
    config.MODEL.WEIGHTS, config.MODEL.DEVICE = "", str(device)
    config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = import_module("detectron2.modeling").build_model(config).eval()
    transforms: Any = import_module("detectron2.data.transforms")
    side = recipe.input.short_side
    return _Detectron2PanopticFPN(model, transforms.ResizeShortestEdge([side, side], recipe.input.max_side), recipe)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


_PEERS: dict[str, tuple[str, Callable[[Recipe, torch.device], Peer]]] = {
    "mask2former_r50": ("transformers", _mask2former),
    "eomt_large_640": ("transformers", _eomt),
    "torchvision_mask_rcnn_r50": ("torchvision", _torchvision_mask_rcnn),
    "detectron2_panoptic_fpn_r50": ("detectron2", _detectron2_panoptic_fpn),
}
