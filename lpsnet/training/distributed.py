"""The processes that train together: who they are, and what they tell each other. Made for ``torchrun``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. Every method is to be called by all of them.

    Attributes:
        rank: of this process, from 0.
        world: number of processes.
        device: of this process.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes and shows things."""
        return self.rank == 0

    def gather(self, *values: float) -> torch.Tensor:
        """The numbers of every process, float64[world, len(values)]."""
        mine = torch.tensor(values, dtype=torch.float64)
        if self.world == 1:
            return mine[None]
        rows = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(rows, mine)
        return torch.stack(rows)

    def gather_objects(self, value: Any) -> list[Any]:
        """The object of every process."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """The object of the main process; what the others give is ignored."""
        values = [value]
        if self.world > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Returns when every process is here."""
        self.gather(0.0)


@contextmanager
def join(device: str) -> Iterator[Ranks]:
    """Joins the processes that ``torchrun`` started; alone where it started none.

    NCCL carries what lies on GPUs, gloo the rest.

    Args:
        device: cpu, cuda (the GPU of this process's number on its machine), or a GPU by its index.

    Raises:
        ValueError: no such device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device(device)
    if place.type == "cuda":
        count = torch.cuda.device_count()
        place = torch.device("cuda", place.index if place.index is not None else local)
        if place.index is None or place.index >= count:
            raise ValueError(f"device: expected one of {count} GPUs, got {place}")
        torch.cuda.set_device(place)
    if world == 1:
        yield Ranks(device=place)
        return
    _meet("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), world, place)
    finally:
        dist.destroy_process_group()


def _meet(backend: str) -> None:
    # torchrun keeps one store for all attempts, and a restarted process may find there the address of one that died.
    # Every attempt gets keys of its own. Machines count attempts apart from each other, so only where there is one.
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or os.environ.get("GROUP_WORLD_SIZE") != "1":
        dist.init_process_group(backend)
        return
    store, rank, world = next(rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        backend, store=dist.PrefixStore(f"lpsnet/attempt_{attempt}", store), rank=rank, world_size=world
    )


def was_restarted() -> bool:
    """Whether ``torchrun`` started this process in the place of one that failed (``--max-restarts``)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
