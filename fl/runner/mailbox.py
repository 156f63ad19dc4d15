"""Pipes that never make the server wait: a reader and a writer thread for each client.

A client that hangs in the middle of a frame, or that does not read, blocks its own threads
only; its process is killed at the deadline, which ends them. Of each client at most one frame
is read ahead, so memory stays bounded.
"""

import queue
import threading
from collections.abc import Collection
from multiprocessing.connection import Connection
from typing import Any

from fl.runner.frames import FromClient, receive, send
from secagg.codec import Value
from secagg.errors import DecodeError


class Mailbox:
    """The frames of all clients, one slot each."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._slots: dict[Connection, Any] = {}

    def open(self, pipe: Connection) -> "Line":
        """Start reading from and writing to a client."""
        return Line(pipe, self)

    def put(self, pipe: Connection, frame: Any) -> None:
        """Called by a reader: waits until the slot is free."""
        with self._changed:
            self._changed.wait_for(lambda: pipe not in self._slots)
            self._slots[pipe] = frame
            self._changed.notify_all()

    def take(self, pipes: Collection[Connection], timeout: float) -> tuple[Connection, Any] | None:
        """One frame of one of these clients, waiting at most `timeout` seconds for it.

        One only: which client is to be heard next may depend on it.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._slots.keys().isdisjoint(pipes), timeout)
            first = next((pipe for pipe in self._slots if pipe in pipes), None)
            if first is None:
                return None
            frame = self._slots.pop(first)
            self._changed.notify_all()
        return first, frame

    def forget(self, pipe: Connection) -> None:
        """Drop what a client that is gone had sent."""
        with self._changed:
            self._slots.pop(pipe, None)
            self._changed.notify_all()


class Line:
    """One client's pipe. `ENDED` is what the mailbox gets when nobody writes any more."""

    ENDED = object()

    def __init__(self, pipe: Connection, mailbox: Mailbox) -> None:
        self.pipe = pipe
        self._mailbox = mailbox
        self._outgoing: queue.SimpleQueue[Value | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._read, self._write)
        ]
        for thread in self._threads:
            thread.start()

    def tell(self, frame: Value) -> None:
        """Send a frame, later if need be; to a client that is gone, never."""
        self._outgoing.put(frame)

    def close(self) -> None:
        """Once the process has ended: wait for the threads, close the pipe."""
        self._outgoing.put(None)
        self._mailbox.forget(self.pipe)
        reader, writer = self._threads
        while reader.is_alive():
            self._mailbox.forget(self.pipe)
            reader.join(0.01)
        writer.join()
        self._mailbox.forget(self.pipe)
        self.pipe.close()

    def _read(self) -> None:
        frame: Any = None
        while frame is not self.ENDED:
            try:
                frame = receive(self.pipe, FromClient)
            except (EOFError, OSError, DecodeError):
                frame = self.ENDED
            self._mailbox.put(self.pipe, frame)

    def _write(self) -> None:
        while (frame := self._outgoing.get()) is not None:
            try:
                send(self.pipe, frame)
            except OSError:
                return
