"""Tables of boxes, one row for each object in each frame, made into tracks at a constant time step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.readers.resampling import TimeGrid
from perlsim.readers.windows import select
from perlsim.scenario import Array, Tracks
from perlsim.vocabulary import AgentType


@dataclass(frozen=True)
class Boxes:
    """Boxes in the world frame, one row each.

    Attributes:
        frame: int ``[R]``, index of the frame.
        ids: ``[R]`` names of the objects.
        centre: ``[R, 3]`` m.
        heading: ``[R]`` rad.
        size: ``[R, 3]`` m: length, width, height.
        kind: int8 ``[R]``, `AgentType`.
        velocity: ``[R, 2]`` m/s, or None where the format has none.
    """

    frame: Array
    ids: list[str]
    centre: Array
    heading: Array
    size: Array
    kind: Array
    velocity: Array | None = None

    def select(self, rows: Array, frame: Array) -> Boxes:
        """The boxes in ``rows``, with other indices of their frames."""
        return Boxes(
            frame=frame,
            ids=[self.ids[row] for row in rows.tolist()],
            centre=self.centre[rows],
            heading=self.heading[rows],
            size=self.size[rows],
            kind=self.kind[rows],
            velocity=None if self.velocity is None else self.velocity[rows],
        )

    def between(self, first: int, last: int) -> Boxes:
        """The boxes of the frames from ``first`` to before ``last``, which become 0, 1, …"""
        rows = np.flatnonzero((self.frame >= first) & (self.frame < last))
        return self.select(rows, self.frame[rows] - first)


def tracks_on_grid(boxes: Boxes, grid: TimeGrid, repairs: list[str]) -> Tracks:
    """Gathers the boxes of each object and interpolates them at the steps of a grid.

    Sizes and kinds are those of the object's first box (medians for sizes); the ground contact is the box
    centre less half the height. Of two boxes of one object in a frame the first is kept. Objects in
    no step are left out.

    Args:
        boxes: as logged.
        grid: of the frames that `Boxes.frame` counts.
        repairs: gets what was mended.
    """
    names, first, agent = np.unique(np.array(boxes.ids, str), return_index=True, return_inverse=True)
    count, frames = len(names), len(grid.stamps)
    row_of = np.full((count, frames), -1)
    order = np.arange(len(agent))[::-1]  # the first of repeated boxes is written last, and stays
    row_of[agent[order], boxes.frame[order]] = order
    valid = row_of >= 0
    note_repeated(len(agent) - np.count_nonzero(valid), "first", repairs)
    size = np.array([np.median(boxes.size[agent == i], axis=0) for i in range(count)]).reshape(count, 3)
    columns = [boxes.centre, np.cos(boxes.heading)[:, None], np.sin(boxes.heading)[:, None]]
    if boxes.velocity is not None:
        columns.append(boxes.velocity)
    table = np.concatenate(columns, axis=1)
    values = table[np.maximum(row_of, 0)] if count else np.zeros((0, frames, table.shape[1]))
    finite: Array = np.all(np.isfinite(values[..., :3]), axis=-1)
    note_unplaced(np.count_nonzero(valid & ~finite), repairs)
    values, valid = grid.resample(np.where(finite[..., None], values, 0.0), valid & finite)
    position = values[..., :3].copy()
    position[..., 2] -= 0.5 * np.nan_to_num(size[:, None, 2])
    unknown = np.full((*valid.shape, 2), np.nan)
    tracks = Tracks(
        position=position,
        heading=np.arctan2(values[..., 4], values[..., 3]),
        velocity=values[..., 5:7] if boxes.velocity is not None else unknown,
        size=size,
        kind=boxes.kind[first].astype(np.int8),
        valid=valid,
        ids=tuple(names.tolist()),
    )
    return select(tracks, np.any(valid, axis=1))


def note_repeated(count: int | np.integer, kept: str, repairs: list[str]) -> None:
    """Notes ``count`` boxes of objects that have one in the frame already; ``kept``: "first" or "last"."""
    if count:
        repairs.append(f"{count} boxes repeated an object within a frame: the {kept} of each was kept")


def note_unplaced(count: int | np.integer, repairs: list[str]) -> None:
    """Notes ``count`` boxes that a reader had to leave out for want of a place."""
    if count:
        repairs.append(
            f"{count} boxes had positions that are not finite: left out, or bridged where the gap is short"
        )


def ego_track(name: str, centre: Array, heading: Array, size: Array, grid: TimeGrid) -> Tracks:
    """A car that is present in all frames.

    Args:
        name: its id.
        centre: ``[N, 3]`` m, box centres in the frames of the grid.
        heading: ``[N]`` rad.
        size: ``[3]`` m.
        grid: time steps.
    """
    frames = len(heading)
    rows = Boxes(
        frame=np.arange(frames),
        ids=[name] * frames,
        centre=centre,
        heading=heading,
        size=np.tile(np.asarray(size, np.float64), (frames, 1)),
        kind=np.full(frames, AgentType.VEHICLE, np.int8),
    )
    return tracks_on_grid(rows, grid, [])


def with_first(one: Tracks, others: Tracks) -> Tracks:
    """The tracks of ``one`` followed by those of ``others``."""
    joined = {
        name: np.concatenate([getattr(one, name), getattr(others, name)])
        for name in ("position", "heading", "velocity", "size", "kind", "valid")
    }
    return Tracks(**joined, ids=(*one.ids, *others.ids))
