"""Writes pictures and films of a scene."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perlsim.errors import PerlsimError
from perlsim.scenario import Scenario
from perlsim.view.drawing import draw_map, draw_moment, palette
from perlsim.view.sources import Key, Side

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

VIEW = 80.0  # m across a picture
INCHES, DOTS = 6.0, 120  # of a picture, and dots to an inch: 720 pixels
# What is not among perlsim's own requirements: package and extra, by module.
_PACKAGES = {
    "matplotlib": ("matplotlib", "view"),
    "PIL": ("pillow", "view"),
    "imageio_ffmpeg": ("imageio-ffmpeg", "view"),
    "rerun": ("rerun-sdk", "rerun"),
}


def write_picture(path: Path, sides: Sequence[Side], key: Key, time: float | None = None) -> None:
    """Writes one moment of a scene as PNG.

    Args:
        path: of the file.
        sides: one, or several that stand next to each other.
        key: the scene.
        time: s from the start of the scene; its middle by default.

    Raises:
        PerlsimError: Matplotlib is absent, or the time lies outside the scene.
    """
    drawing = _Drawing(sides, key)
    if time is not None and not 0 <= time <= drawing.duration:
        raise PerlsimError(
            f"the scene lasts from 0 to {drawing.duration:.1f} s, asked for is {time:g}", field="--time"
        )
    image = drawing.at(drawing.duration / 2 if time is None else time)
    image.save(parent_of(path), "PNG", optimize=True)


def write_film(path: Path, sides: Sequence[Side], key: Key, fps: float = 10.0) -> None:
    """Writes a scene in real time as GIF or, where the name does not end in ``.gif``, as a film.

    Args:
        path: of the file.
        sides: one, or several that stand next to each other.
        key: the scene.
        fps: pictures a second.

    Raises:
        PerlsimError: a package is absent, or an impossible rate.
    """
    if not 0 < fps <= 50:
        raise PerlsimError(f"expected a rate above 0 and up to 50, found {fps:g}", field="--fps")
    gif = path.suffix.lower() == ".gif"
    writer = None if gif else require("imageio_ffmpeg")
    drawing = _Drawing(sides, key)
    frames = drawing.frames(fps)
    if writer is None:
        _write_gif(path, frames, round(1000 / fps))
        return
    film = None
    for frame in frames:
        if film is None:
            film = writer.write_frames(
                str(parent_of(path)), frame.size, fps=fps, quality=8, macro_block_size=2
            )
            film.send(None)
        film.send(frame.tobytes())
    if film is not None:
        film.close()


def _write_gif(path: Path, frames: Iterator[Image], milliseconds: int) -> None:
    """Writes pictures with one palette, or still parts of the scene would flicker."""
    from PIL.Image import Dither, Quantize, new

    first = next(frames)
    # The page's colours, which may first appear later, and those between them of the first picture.
    own = [int(colour[i : i + 2], 16) for colour in palette().values() for i in (1, 3, 5)]
    mixed = first.quantize(256 - len(own) // 3, Quantize.MAXCOVERAGE).getpalette() or []
    colours = new("P", (1, 1))
    colours.putpalette(own + mixed)
    images = [frame.quantize(palette=colours, dither=Dither.NONE) for frame in (first, *frames)]
    parent_of(path)
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)


def require(module: str) -> Any:
    """A package that is not among perlsim's own requirements.

    Raises:
        PerlsimError: it is absent; the remedy names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package, extra = _PACKAGES[module]
        raise PerlsimError(
            f"this needs the package {package}", remedy=f'install it with: pip install "perlsim[{extra}]"'
        ) from error


class _Drawing:
    """A figure whose map is drawn once; what moves is drawn anew for each moment."""

    def __init__(self, sides: Sequence[Side], key: Key):
        require("PIL")
        require("matplotlib")
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._figure = Figure((INCHES * len(sides), INCHES), DOTS, facecolor=palette()["ground"])
        self._canvas = FigureCanvasAgg(self._figure)
        self._plays: list[tuple[Axes, Scenario, Mapping[str, Any]]] = []
        for number, side in enumerate(sides):
            scenario = side.scenario(key)
            assert scenario is not None
            axes = self._figure.add_axes((number / len(sides), 0, 1 / len(sides), 1))
            draw_map(axes, scenario, VIEW)
            if number:
                axes.spines["left"].set(visible=True, color="white", linewidth=4)
            if len(sides) > 1 or side.kind == "rollout":
                self._caption(axes, 0.02, side.label, "left", weight="bold")
            self._plays.append((axes, scenario, side.extra(key)))
        self.duration = max(scenario.duration for _, scenario, _ in self._plays)
        self._passing: list[Any] = []

    def at(self, time: float) -> Image:
        """The picture at a time in s from the start."""
        from PIL import Image

        for artist in self._passing:
            artist.remove()
        self._passing = []
        for axes, scenario, extra in self._plays:
            step = int(np.clip(round(time / scenario.dt), 0, scenario.tracks.num_steps - 1))
            self._passing += draw_moment(axes, scenario, step, extra)
            self._passing.append(self._caption(axes, 0.98, f"{time:.1f} s", "right"))
        self._canvas.draw()
        return Image.fromarray(np.array(self._canvas.buffer_rgba())[..., :3])

    def frames(self, fps: float) -> Iterator[Image]:
        """Pictures of the whole scene, one after another."""
        for number in range(int(self.duration * fps + 1e-6) + 1):
            yield self.at(number / fps)

    @staticmethod
    def _caption(axes: Axes, x: float, text: str, align: str, **style: Any) -> Any:
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
        return axes.text(
            x, 0.98, text, transform=axes.transAxes, ha=align, va="top", fontsize=10, color=palette()["ink"],
            bbox=box, zorder=9, **style,
        )  # fmt: skip


def parent_of(path: Path) -> Path:
    """The path, in a folder that is there now.

    Raises:
        PerlsimError: the folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PerlsimError(f"cannot be written: {error.strerror}", file=path) from error
    return path
