"""The settings of the two-stage networks; classes, backbone, norms and input are those of one of our recipes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TwoStageConfig:
    """What Mask R-CNN's part is made of.

    The numbers of proposals and of detections are exact, so that the work is defined with untrained weights too:
    nothing is dropped for a low score, and where the suppression leaves too few boxes, the best of those that it
    dropped fill up. (There are fewer only where an image is so small that it has fewer anchors.) With trained weights
    the same numbers are the usual upper limits. What the panoptic heads drop of the detections is up to them.

    Attributes:
        anchor_scale: side of a square anchor, in strides of its level: 32 .. 512 pixels on P2..P6 (FPN's paper).
        anchor_ratios: height / width of the anchors (Faster R-CNN).
        level_candidates: anchors taken from each level to the suppression (FPN's paper: 1000 in test).
        proposal_iou: of the suppression among the proposals of a level (Faster R-CNN).
        proposals: boxes that the box head gets (Mask R-CNN: 1000 with FPN).
        box_bins, mask_bins: RoIAlign's output is so many bins wide and high (Mask R-CNN: 7 and 14).
        sampling_ratio: samples per axis of a bin (Mask R-CNN: 4 samples a bin).
        canonical_level: index in P2..P5 of the level k0 = 4 of a box of canonical_size (FPN's paper).
        canonical_size: in pixels (FPN's paper: 224).
        box_channels: of the two fully connected layers (FPN's paper).
        mask_channels, mask_layers: of the mask head (Mask R-CNN).
        detection_candidates: pairs of a box and a class that go to the suppression. Ours: Mask R-CNN takes those above
            a score of 0.05.
        detection_iou: of the suppression within a class (Fast R-CNN).
        detections: boxes that the mask head gets (Mask R-CNN: 100).
        overlap_threshold: an instance is dropped when more of its mask is taken by better ones.
        stuff_area_limit: stuff segments below it become void, in pixels of the resized image (both papers: 4096 on
            COCO).
    """

    anchor_scale: float = 8.0
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    level_candidates: int = 1000
    proposal_iou: float = 0.7
    proposals: int = 1000
    box_bins: int = 7
    mask_bins: int = 14
    sampling_ratio: int = 2
    canonical_level: int = 2
    canonical_size: float = 224.0
    box_channels: int = 1024
    mask_channels: int = 256
    mask_layers: int = 4
    detection_candidates: int = 1000
    detection_iou: float = 0.5
    detections: int = 100
    overlap_threshold: float = 0.5
    stuff_area_limit: int = 4096


@dataclass(frozen=True)
class UPSNetConfig(TwoStageConfig):
    """UPSNet (Xiong et al., CVPR 2019). The widths of its semantic head are those of the recipe: they are UPSNet's.

    Attributes:
        overlap_threshold: among the instances of one class (UPSNet: 0.3).
    """

    overlap_threshold: float = 0.3


@dataclass(frozen=True)
class PanopticFPNConfig(TwoStageConfig):
    """Panoptic FPN (Kirillov et al., CVPR 2019).

    Attributes:
        overlap_threshold: among all instances (Panoptic segmentation, Kirillov et al., CVPR 2019: 0.5).
        semantic_channels: width of the semantic head (Panoptic FPN: 128).
    """

    overlap_threshold: float = 0.5
    semantic_channels: int = 128
