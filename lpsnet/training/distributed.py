"""The processes that train together: who they are, and what they tell each other. Made for ``torchrun``."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist


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
    store, rank, world = next(dist.rendezvous("env://"))
    # torchrun's store outlives a restart, and with it the addresses of the processes that were there before.
    store = dist.PrefixStore(agree_on_name(store, rank, world), store)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    try:
        yield Ranks(rank, world, place)
    finally:
        dist.destroy_process_group()


def agree_on_name(store: dist.Store, rank: int, world: int, timeout: timedelta = dist.default_pg_timeout) -> str:
    """A name that these processes share, and that no processes before them had.

    The first one makes it up. What another reads may be left from before: only the living answers to a name that this
    one made up itself.

    Args:
        store: of all processes, perhaps with what earlier ones left in it.
        rank, world: this process and how many there are.
        timeout: how long to wait for the others.

    Raises:
        RuntimeError: they did not come.
    """
    mine, key = uuid.uuid4().hex, "lpsnet/name"
    if rank == 0:
        store.set(key, mine)
        for other in range(1, world):
            store.wait([f"{key}/{mine}/{other}"], timeout)
            store.set(f"{key}/{mine}/{store.get(f'{key}/{mine}/{other}').decode()}", "")
        return mine
    begin, name = time.monotonic(), ""
    while not name or not store.check([f"{key}/{name}/{mine}"]):
        if store.check([key]) and (current := store.get(key).decode()) != name:
            name = current
            store.set(f"{key}/{name}/{rank}", mine)
        if time.monotonic() - begin > timeout.total_seconds():
            raise RuntimeError(f"expected {world} processes within {timeout}, waited in vain for the first one")
        time.sleep(0.05)
    return name


def was_restarted() -> bool:
    """Whether ``torchrun`` started this process in the place of one that failed (``--max-restarts``).

    On several machines not all may say so.
    """
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
