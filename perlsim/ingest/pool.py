"""Reading processes whose death costs one log, never the import.

`concurrent.futures` gives up the whole pool when one process dies, and does not say over which task; here
each process has a pipe of its own, so the log it was reading is known and a new process takes over. A pipe
also holds a fast reader back until the writer has caught up, which bounds the memory.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from perlsim.ingest.sources import LogPath
from perlsim.ingest.worker import Done, Failed, Message, Reading, Ready, read_logs
from perlsim.store.encoding import Encoded

READ_AHEAD = 64  # scenarios kept so that logs arrive in order
POLL = 0.25  # s between looks at whether to stop


def read_all(
    logs: Sequence[LogPath], reading: Reading, num_workers: int, stopped: Callable[[], bool]
) -> Iterator[tuple[int, Message]]:
    """Reads logs in several processes.

    Args:
        logs: what to read.
        reading: how.
        num_workers: number of processes.
        stopped: asked several times a second; once it holds, the generator ends.

    Yields:
        Index of the log and a message; the last message of each log is `Done` or `Failed`. Logs come in
        order as long as no more than `READ_AHEAD` scenarios wait for an earlier log; then they interleave.
    """
    waiting: dict[int, list[Message]] = {}
    current = ahead = 0
    for idx, message in _as_they_come(logs, reading, num_workers, stopped):
        if idx > current and ahead < READ_AHEAD:
            waiting.setdefault(idx, []).append(message)
            ahead += isinstance(message, Encoded)
            continue
        if idx > current:  # too many wait: this log goes on out of order
            for early in waiting.pop(idx, ()):
                ahead -= isinstance(early, Encoded)
                yield idx, early
        yield idx, message
        if isinstance(message, Encoded):
            continue
        if idx > current:
            waiting[idx] = []  # complete: nothing more to come
            continue
        current += 1
        while current in waiting:
            messages = waiting.pop(current)
            for early in messages:
                ahead -= isinstance(early, Encoded)
                yield current, early
            if messages and isinstance(messages[-1], Encoded):
                break  # still being read
            current += 1


def _as_they_come(
    logs: Sequence[LogPath], reading: Reading, num_workers: int, stopped: Callable[[], bool]
) -> Iterator[tuple[int, Message]]:
    todo = deque(range(len(logs)))
    workers: dict[object, _Worker] = {}  # by connection

    def start() -> _Worker:
        worker = _Worker(reading)
        workers[worker.connection] = worker
        return worker

    def replace(worker: _Worker) -> None:
        del workers[worker.connection]
        if todo:
            start().give(todo, logs)

    try:
        for _ in range(min(num_workers, len(logs))):
            start()
        for worker in workers.values():
            worker.give(todo, logs)
        while workers and not stopped():
            for connection in wait([worker.connection for worker in workers.values()], timeout=POLL):
                worker = workers[connection]
                message = worker.receive()
                if message is None:
                    if worker.log >= 0:
                        path = logs[worker.log].path
                        yield worker.log, Failed(f"{path}: {worker.cause_of_death()}")
                    replace(worker)
                    continue
                if isinstance(message, Ready):
                    continue
                yield worker.log, message
                if isinstance(message, Done | Failed) and not worker.give(todo, logs):
                    del workers[connection]
                    worker.end()
            for worker in [worker for worker in workers.values() if worker.is_late(reading.time_limit)]:
                worker.end()
                reason = f"no scene in {reading.time_limit:g} s: given up (--timeout sets this limit)"
                yield worker.log, Failed(f"{logs[worker.log].path}: {reason}")
                replace(worker)
    finally:
        for worker in workers.values():
            worker.end()


class _Worker:
    """A reading process and the log it is at (−1: none)."""

    def __init__(self, reading: Reading):
        # Fork would copy threads' locks; a fork server starts as fast as fork does and knows only the
        # readers.
        context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
        if sys.platform != "win32":
            context.set_forkserver_preload(["perlsim.ingest.worker"])
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=read_logs, args=(theirs, reading), daemon=True)
        self.process.start()
        theirs.close()
        self.log = -1
        self._heard = math.inf  # time of the last message; the start of a process is not the log's time

    def give(self, todo: deque[int], logs: Sequence[LogPath]) -> bool:
        """Hands over the next log; False where there is none."""
        if not todo:
            self.log = -1
            return False
        self.log = todo.popleft()
        if math.isfinite(self._heard):
            self._heard = time.monotonic()
        log = logs[self.log]
        with contextlib.suppress(OSError):  # it died; receive() will tell
            self.connection.send((log.path, log.size))
        return True

    def receive(self) -> Message | Ready | None:
        """The next message, or None where the process is gone."""
        try:
            message = self.connection.recv()
            self._heard = time.monotonic()
            return message
        except (EOFError, OSError):
            return None

    def is_late(self, time_limit: float) -> bool:
        """Whether nothing has come for ``time_limit`` s, and nothing waits in the pipe."""
        late = self.log >= 0 and time.monotonic() - self._heard > time_limit
        return late and not self.connection.poll()

    def cause_of_death(self) -> str:
        """What became of the process, in a sentence."""
        self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
            return f"its reading process was ended by {name}{hint}"
        return f"its reading process ended with exit code {code}"

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self.connection.close()
        self.process.terminate()
        self.process.join()
