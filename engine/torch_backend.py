"""The dense network in torch."""

from typing import TYPE_CHECKING

from lpsnet.inference import DenseArrays, NetworkInput

if TYPE_CHECKING:
    from lpsnet.models.lpsnet import LPSNet


class TorchBackend:
    """Runs an `LPSNet` on a device.

    Raises:
        ValueError: a device that torch does not have here.
    """

    def __init__(self, model: "LPSNet", device: str) -> None:
        import torch

        if device not in ("cpu", "cuda"):
            raise ValueError(f"device: expected cpu or cuda, got {device!r}")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: expected one that is there, got cuda, and torch finds no CUDA device")
        self._device = torch.device(device)
        model.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._model = model

    def run(self, prepared: NetworkInput) -> DenseArrays:
        """The dense outputs of one image."""
        import torch

        with torch.inference_mode():
            images = torch.from_numpy(prepared.images).to(self._device, memory_format=torch.channels_last)
            return DenseArrays.of(self._model(images, prepared.image_size))
