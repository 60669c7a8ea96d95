"""The dense network in torch."""

from typing import TYPE_CHECKING

from lpsnet.inference import DenseArrays, NetworkInput

if TYPE_CHECKING:
    from lpsnet.models.lpsnet import LPSNet


class TorchNetwork:
    """Runs an `LPSNet` on a device. See `backend.Network`.

    Args:
        model: the network; it is put into evaluation mode.
        device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: a device that torch does not have here.
    """

    def __init__(self, model: "LPSNet", device: str) -> None:
        import torch

        if device not in ("cpu", "cuda"):
            raise ValueError(f"device: expected cpu or cuda, got {device!r}")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: expected one that is there, got cuda, and torch finds no CUDA device")
        self.recipe = model.recipe
        self.runs_on = f"torch {torch.__version__} on {device}"
        self._device = torch.device(device)
        self._model = model.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, prepared: NetworkInput) -> DenseArrays:
        """The dense outputs of one image."""
        import torch

        with torch.inference_mode():
            images = torch.from_numpy(prepared.images).to(self._device, memory_format=torch.channels_last)
            return DenseArrays.of(self._model(images, prepared.image_size))

    def close(self) -> None:
        """See `backend.Network`: the model is the caller's."""
