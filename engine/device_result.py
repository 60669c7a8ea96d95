"""A panoptic map that stays on the device until it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lpsnet.categories import Category
from lpsnet.structures import PanopticResult

from .result_layout import ResultFields, ResultLayout, panoptic_result
from .streams import Mark, Stream


@dataclass(frozen=True, eq=False)
class DevicePanopticResult:
    """The panoptic map of one image, maybe still being computed.

    Attributes:
        block: int32[layout.words], the memory of the result.
        layout: of the block.
        categories: the classes that labels count.
        scale: (y, x), pixels of the network's input per pixel of the image.
        mark: the point of the stream at which the result is there.
        stream: that it is computed on.
    """

    block: Tensor
    layout: ResultLayout
    categories: Sequence[Category]
    scale: tuple[float, float]
    mark: Mark
    stream: Stream

    def tensors(self) -> ResultFields:
        """The result where it lies; work on torch's current stream from here on finds it finished. Waits for nothing.

        What is read on a stream that becomes current later needs another call.
        """
        self.stream.hand_over(self.block, self.mark)
        return self.layout.tensors(self.block)

    def to_host(self) -> PanopticResult:
        """Waits for the result and copies it to the host, in one copy, past frames that were submitted after it."""
        fields = self.layout.arrays(self.stream.download(self.block, self.mark))
        return panoptic_result(fields, self.categories, self.scale)
