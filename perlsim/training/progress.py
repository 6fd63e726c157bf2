"""How a training shows what it does: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from perlsim.output import plain

LINE_SECONDS = 10.0  # between lines in a pipe
# Mean number of simulated steps of one sample, which a stage's metrics may hold.
SIMULATED_STEPS = "simulated_steps"


class Progress:
    """Progress of one stage, used as a context; silent without a console.

    Args:
        console: where to; None says nothing.
        name: of the stage.
        num_updates: in all.
        batch_size: samples of an update.
    """

    def __init__(self, console: Console | None, name: str, num_updates: int, batch_size: int):
        self._console, self._name, self._total, self._batch = console, name, num_updates, batch_size
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=console is None or not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=num_updates, text="compiling")
        self._clock: tuple[float, int] | None = None
        self._next_line = 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._console is not None:
            plain(self._console, f"{self._name}: {text}")

    def show(self, update: int, figures: Mapping[str, float]) -> dict[str, float]:
        """Moves the bar, or prints a line now and then.

        Args:
            update: number of updates done.
            figures: means since the last call.

        Returns:
            Speed since the first call, which compiled: ``speed/updates``, ``speed/samples`` and, where the
            stage tells them, ``speed/simulated_steps`` a second.
        """
        now = time.monotonic()
        if self._clock is None:
            self._clock = (now, update)
        begin, first = self._clock
        speed: dict[str, float] = {}
        if update > first:
            rate = (update - first) / (now - begin)
            speed = {"speed/updates": rate, "speed/samples": rate * self._batch}
            if SIMULATED_STEPS in figures:
                speed["speed/simulated_steps"] = rate * self._batch * figures[SIMULATED_STEPS]
        text = self._text(update, figures, speed)
        self._bar.update(self._task, completed=update, text=text)
        last = update >= self._total
        if self._console is not None and not self._console.is_terminal and (now >= self._next_line or last):
            self._next_line = now + LINE_SECONDS
            self.say(f"update {update} of {self._total}, {text}")
        return speed

    def paused(self, seconds: float) -> None:
        """Does not count time that went into something else, such as validation.

        Args:
            seconds: of it.
        """
        if self._clock is not None:
            self._clock = (self._clock[0] + seconds, self._clock[1])

    def _text(self, update: int, figures: Mapping[str, float], speed: Mapping[str, float]) -> str:
        parts = [f"loss {figures['loss']:.4g}"]
        if speed:
            parts.append(f"{speed['speed/samples']:,.0f} samples/s")
            if "speed/simulated_steps" in speed:
                parts.append(f"{speed['speed/simulated_steps']:,.0f} simulated steps/s")
            parts.append(f"{duration((self._total - update) / speed['speed/updates'])} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as people say it: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
