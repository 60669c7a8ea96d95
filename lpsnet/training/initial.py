"""The weights that a run starts from, where they are those of another run."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Transfer:
    """What `load_matching` did with the tensors of a checkpoint, by key.

    Attributes:
        taken: in both, with one shape: the model has these now.
        reshaped: in both, with different shapes; the model keeps its own.
        absent: of the model alone; it keeps its own.
        unused: of the checkpoint alone.
    """

    taken: tuple[str, ...]
    reshaped: tuple[str, ...]
    absent: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """Lines for a person: how many were taken, and each module whose tensors were not."""
        lines = [f"{len(self.taken)} tensors taken"]
        for what, keys in (
            ("not taken, of another shape", self.reshaped),
            ("not in the checkpoint", self.absent),
            ("not in the model", self.unused),
        ):
            if keys:
                modules = dict.fromkeys(key.rpartition(".")[0] or key for key in keys)
                lines.append(f"{len(keys)} {what}: {', '.join(modules)}")
        return "\n".join(lines)


def load_matching(model: nn.Module, state: dict[str, Tensor]) -> Transfer:
    """Copies the tensors of a checkpoint whose keys and shapes the model has, and leaves the others as they are.

    Classes are not compared: a classifier over as many classes is taken, whatever they are called.

    Raises:
        ValueError: not one tensor fits.
    """
    own = model.state_dict()
    transfer = Transfer(
        taken=tuple(k for k in own if k in state and state[k].shape == own[k].shape),
        reshaped=tuple(k for k in own if k in state and state[k].shape != own[k].shape),
        absent=tuple(k for k in own if k not in state),
        unused=tuple(k for k in state if k not in own),
    )
    if not transfer.taken:
        raise ValueError(
            f"init: expected a checkpoint with tensors of a {type(model).__name__}, got {len(state)} of which none fits"
        )
    model.load_state_dict({key: state[key] for key in transfer.taken}, strict=False)
    return transfer
