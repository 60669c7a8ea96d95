"""Bounded queues between the threads of a stream: memory stays bounded, an end or a failure reaches all."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Ended(Exception):
    """The queue was closed and everything in it is taken."""


class Aborted(Exception):
    """The stream failed, or nobody wants more: the thread that hears it ends at once."""


class _Queue:
    """What both queues share: whoever waits hears of an end and of a failure."""

    def __init__(self) -> None:
        self._closed = self._aborted = False
        self._changed = threading.Condition()

    def close(self) -> None:
        """Nothing more comes; what waits may still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Everybody who waits, or comes, gets `Aborted`."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()


class FrameQueue(_Queue, Generic[T]):
    """First in, first out. What is taken is numbered, so that `OrderedQueue` can bring it back into its order.

    Args:
        size: items that may wait.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._items: deque[T] = deque()
        self._taken = 0

    def put(self, item: T, drop_oldest: bool = False) -> int:
        """Adds an item; returns how many were dropped for it.

        Args:
            item: to add.
            drop_oldest: make room where there is none, instead of waiting for it.

        Raises:
            Aborted: nobody takes it any more.
        """
        with self._changed:
            dropped = 0
            while drop_oldest and len(self._items) >= self._size:
                self._items.popleft()
                dropped += 1
            self._changed.wait_for(lambda: len(self._items) < self._size or self._aborted or self._closed)
            if self._aborted or self._closed:
                raise Aborted
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    def get(self) -> tuple[int, T]:
        """The next item and its number, from 0. Raises Ended or Aborted where there is none to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._aborted or self._closed)
            if self._aborted:
                raise Aborted
            if not self._items:
                raise Ended
            number = self._taken
            self._taken += 1
            item = self._items.popleft()
            self._changed.notify_all()
            return number, item


class OrderedQueue(_Queue, Generic[T]):
    """Gives out items by their numbers 0, 1, 2, ..., in whatever order several threads put them in.

    Args:
        size: how far an item may be ahead of the one that is due. The due one always finds room.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._items: dict[int, T] = {}
        self._due = 0

    def put(self, number: int, item: T) -> None:
        """Adds an item; waits until it is less than `size` ahead. Raises Aborted where nobody takes it any more."""
        with self._changed:
            self._changed.wait_for(lambda: number < self._due + self._size or self._aborted)
            if self._aborted:
                raise Aborted
            self._items[number] = item
            self._changed.notify_all()

    def get(self) -> T:
        """The item that is due. Raises Ended or Aborted where it will not come."""
        with self._changed:
            self._changed.wait_for(lambda: self._due in self._items or self._aborted or self._closed)
            if self._aborted:
                raise Aborted
            if self._due not in self._items:
                raise Ended
            item = self._items.pop(self._due)
            self._due += 1
            self._changed.notify_all()
            return item
