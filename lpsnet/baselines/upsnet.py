"""UPSNet (Xiong et al., CVPR 2019), from its paper.

As its paper has it, apart from these:

* Context, norms, boxes, resampling and the size of the output are those of our networks: only the designs differ.
* The number of detections is fixed (`TwoStageConfig`); the paper goes on with those above a score of 0.6.

Costs of the ResNet-50 network for COCO at 800x1344, counted by `lpsnet.models.macs`:

* 45.60 million parameters. Published: 45.05 million (UPSNet). The paper does not say which layers it counts; with two
  layers in the semantic head (128-128), as it has them for Cityscapes, there are 44.97 million here.
* 370.2 GMAC: backbone 87.6, feature pyramid 60.9, region proposals 53.2, box head 14.3 (1000 boxes), mask head 51.4
  (100 boxes), semantic head 102.9, of which 92.1 are deformable convolutions and 9.2 find their offsets. Published, by
  LPSNet's Table 1: 259 G, without a word on how it was counted. A counter that does not know deformable convolutions
  comes to 278.1 here. The same counter comes to 222.7 for LPSNet, which has 314.8 GMAC and is published with 139 G.
"""

import torch

from lpsnet.baselines.config import UPSNetConfig
from lpsnet.baselines.masks import keep_visible
from lpsnet.baselines.pipeline import logit_scale, panoptic_result, pasted
from lpsnet.baselines.two_stage import Stages, TwoStageNetwork, TwoStageOutputs, untimed
from lpsnet.baselines.upsnet_panoptic_head import panoptic_logits
from lpsnet.config import Recipe
from lpsnet.inference import NetworkInput
from lpsnet.models.semantic_head import SemanticHead
from lpsnet.ops.upsample_argmax import upsample_argmax
from lpsnet.structures import PanopticResult

_MAX_PLANES = 255


class UPSNet(TwoStageNetwork):
    """Mask R-CNN with a deformable semantic head, which is the same as ours, and a panoptic head without parameters.

    Args:
        recipe: one of ours, for backbone, norms, classes, input and the widths of the semantic head.
        config: of what ours does not have.

    Raises:
        ValueError: more than 255 stuff classes and detections together.
    """

    def __init__(self, recipe: Recipe, config: UPSNetConfig | None = None) -> None:
        config = config or UPSNetConfig()
        super().__init__(recipe, config, SemanticHead(recipe.model, len(recipe.categories)))
        planes = len(recipe.categories) - len(self.things) + config.detections + 1
        if planes > _MAX_PLANES:
            raise ValueError(f"detections: expected at most {_MAX_PLANES} panoptic logits a pixel, got {planes}")

    def panoptic(self, outputs: TwoStageOutputs, prepared: NetworkInput, stages: Stages = untimed) -> PanopticResult:
        """The panoptic map, at the image's own size.

        Instances that others of their class cover by more than `overlap_threshold` are dropped; the volume of logits is
        made of the others and the best of each pixel is taken. Pixels of the unknown class and small stuff are void.
        """
        with stages("paste_masks"):
            masks = pasted(outputs, prepared)
            visible = keep_visible(masks, prepared.output_size, self.config.overlap_threshold, per_class=True)
            masks = masks.take(visible)
        with stages("panoptic_logits"):
            volume = panoptic_logits(outputs.logits, self.things, masks, logit_scale(prepared), prepared.output_size)
        with stages("panoptic_argmax"):
            # The best plane of a volume that has the size of the output already.
            slots = upsample_argmax(volume, prepared.output_size, (1.0, 1.0), None).to(torch.int64)
            slots = slots.clamp_(max=len(volume) - 1)
        with stages("result"):
            return panoptic_result(slots, masks, self, outputs, prepared)
