"""Panoptic FPN (Kirillov et al., CVPR 2019), from its paper and, for the merge, from Panoptic segmentation's.

Norms, boxes, resampling and the size of the output are those of our networks: only the designs differ. The number of
detections is fixed (`TwoStageConfig`); the paper goes on with those above a score.

Costs of the ResNet-50 network for COCO at 800x1344, counted by `lpsnet.models.macs`:

* 46.03 million parameters; about 46 million is what is commonly given for this network.
* 299.7 GMAC: backbone 87.6, feature pyramid 60.9, region proposals 53.2, box head 14.3 (1000 boxes), mask head 51.4
  (100 boxes), semantic head 32.4.
"""

from lpsnet.baselines.config import PanopticFPNConfig
from lpsnet.baselines.heuristic_merge import merge
from lpsnet.baselines.pipeline import logit_scale, panoptic_result, pasted, stuff_classes
from lpsnet.baselines.semantic_fpn import SemanticFPNHead
from lpsnet.baselines.two_stage import Stages, TwoStageNetwork, TwoStageOutputs, untimed
from lpsnet.config import Recipe
from lpsnet.inference import NetworkInput
from lpsnet.ops.upsample_argmax import upsample_argmax
from lpsnet.structures import PanopticResult


class PanopticFPN(TwoStageNetwork):
    """Mask R-CNN with a semantic head of plain convolutions and a heuristic merge of their outputs.

    The semantic head knows the stuff classes and, last, one class for all things.

    Args:
        recipe: one of ours, for backbone, norms, classes and input.
        config: of what ours does not have.
    """

    def __init__(self, recipe: Recipe, config: PanopticFPNConfig | None = None) -> None:
        config = config or PanopticFPNConfig()
        num_stuff = len(stuff_classes(recipe.categories))
        super().__init__(recipe, config, SemanticFPNHead(recipe.model, config.semantic_channels, num_stuff + 1))
        self.num_stuff = num_stuff

    def panoptic(self, outputs: TwoStageOutputs, prepared: NetworkInput, stages: Stages = untimed) -> PanopticResult:
        """The panoptic map, at the image's own size."""
        with stages("paste_masks"):
            masks = pasted(outputs, prepared)
        with stages("upsample_argmax"):
            stuff = upsample_argmax(outputs.logits, prepared.output_size, logit_scale(prepared), None)
        with stages("merge"):
            slots, kept = merge(stuff, self.num_stuff, masks, self.config.overlap_threshold)
        with stages("result"):
            return panoptic_result(slots, masks.take(kept), self, outputs, prepared)
