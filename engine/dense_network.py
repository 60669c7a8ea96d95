"""The dense network as it is deployed: BatchNorm folded, in the wanted precision, maybe compiled."""

import threading

import torch
from torch import Tensor

from lpsnet.config import RuntimeConfig
from lpsnet.models.context import PyramidPooling, Size
from lpsnet.models.fold import fold_batch_norms
from lpsnet.models.lpsnet import STRIDE, LPSNet
from lpsnet.models.precision import cast_network
from lpsnet.structures import DenseOutputs

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class DenseNetwork:
    """Runs a copy of an `LPSNet` on a device.

    Args:
        model: stays as it is.
        runtime: device, precision, compilation.
        half_logits: logits in the precision of the network, as the operators read them, not in float32.

    Attributes:
        device: that it is on.
        dtype: of its input.
    """

    def __init__(self, model: LPSNet, runtime: RuntimeConfig, half_logits: bool = False) -> None:
        self.device = torch.empty(0, device=runtime.device).device  # with its index
        self.dtype = DTYPES[runtime.precision]
        folded = fold_batch_norms(model)
        cast_network(folded, self.dtype)
        if half_logits:
            folded.semantic_head.logits_dtype = self.dtype
        folded.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._context = folded.fpn.context
        self._network = torch.compile(folded, dynamic=False, fullgraph=True) if runtime.compile else folded
        self._sizes: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self._finish()

    def __call__(self, images: Tensor, image_size: Size) -> DenseOutputs:
        """As `LPSNet.forward`, of images on the device, of `dtype`, best in channels-last memory. Waits for nothing
        where an input of these sizes came before."""
        valid = -(-image_size[0] // STRIDE), -(-image_size[1] // STRIDE)
        if isinstance(self._context, PyramidPooling):
            self._make_matrices(self._context, images, valid)
        # The network looks at whole cells of C5 alone; so images of some sizes share what is compiled.
        return self._network(images, (valid[0] * STRIDE, valid[1] * STRIDE))

    def _make_matrices(self, context: PyramidPooling, images: Tensor, valid: Size) -> None:
        """Before they are needed: a CUDA graph could not copy them from the host, a compiled one would bake them in."""
        cells = [side // STRIDE for side in images.shape[2:]]
        with self._lock:
            if (*cells, *valid) not in self._sizes:
                context.matrices(images.new_empty(1, 1, *cells), valid)
                self._finish()
                self._sizes.add((*cells, *valid))

    def _finish(self) -> None:
        """Waits for what was made on this stream and is read on others too."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
