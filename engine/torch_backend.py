"""The dense network in torch on the CPU."""

from typing import TYPE_CHECKING

from lpsnet.config import RuntimeConfig
from lpsnet.inference import DenseArrays, NetworkInput

from .backend import Backend, HostPipeline

if TYPE_CHECKING:
    from lpsnet.models.lpsnet import LPSNet


def open_torch(model: "LPSNet", runtime: RuntimeConfig) -> Backend:
    """The backend of a torch network, which is copied.

    Raises:
        ValueError: a device that is not there.
    """
    if runtime.device == "cpu":
        return HostPipeline(TorchNetwork(model, runtime))
    if runtime.device.startswith("cuda"):
        from .torch_cuda import TorchCudaPipeline

        return TorchCudaPipeline(model, runtime)
    raise ValueError(f"device: expected cpu or cuda for a checkpoint, got {runtime.device}")


class TorchNetwork:
    """Runs an `LPSNet` on the CPU. See `backend.Network`.

    Args:
        model: is copied, its BatchNorm folded, and put into the precision that `runtime` names.
        runtime: threads, precision, compilation.

    Raises:
        ValueError: another device.
    """

    def __init__(self, model: "LPSNet", runtime: RuntimeConfig) -> None:
        import torch

        from .dense_network import DenseNetwork

        if runtime.device != "cpu":
            raise ValueError(f"device: expected cpu, got {runtime.device}")
        limit_threads(runtime.threads)
        self.recipe = model.recipe
        self.runs_on = f"torch {torch.__version__} on cpu, {runtime.precision}"
        self._network = DenseNetwork(model, runtime)

    def run(self, prepared: NetworkInput) -> DenseArrays:
        """The dense outputs of one image."""
        import torch

        with torch.inference_mode():
            images = torch.from_numpy(prepared.images).to(self._network.dtype, memory_format=torch.channels_last)
            return DenseArrays.of(self._network(images, prepared.image_size))

    def close(self) -> None:
        """See `backend.Network`: memory goes with the last reference."""


def limit_threads(threads: int) -> None:
    """Sets how many threads of the CPU torch and liblpsnet take, each, in this process; 0 leaves them as they are."""
    import torch

    from lpsnet.native.library import set_num_threads

    if threads:
        torch.set_num_threads(threads)
        set_num_threads(threads)
