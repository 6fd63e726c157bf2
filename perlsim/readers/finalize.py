"""The last step of every reader: a raw scenario becomes a checked one in the scenario frame.

What can be mended is mended and stated in `Scenario.repairs`, one sentence for each kind; what the format
does not give is named in `Scenario.missing`; the rest is refused. The steps:

1. Steps with positions that are not finite, or that only a speed over 100 m/s would reach, are masked;
   headings that are not finite come from other steps; agents never valid are dropped.
2. Missing sizes come from `perlsim.vocabulary.DEFAULT_SIZE`, missing velocities from central differences.
3. The origin (the ego's first valid position, else the mean of all positions, else of the map) is
   subtracted in float64; only then are numbers rounded to float32, so that a map far from its own origin
   loses nothing.
4. Points that repeat or are not finite leave the map, then lines without length, and the lane graph is
   renumbered.
5. The ego's route is built where the reader gave none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perlsim import route as routes
from perlsim.errors import FormatError
from perlsim.readers.mend_road import gaps, mend_lights, mend_road, shifted_route, to_frame, wrapped32
from perlsim.readers.mend_tracks import Notes, mend_tracks
from perlsim.scenario import Array, Road, Scenario, Tracks


def finalize(raw: Scenario) -> Scenario:
    """Moves a raw scenario into the scenario frame, mends what can be mended and checks the rest.

    Args:
        raw: as a reader understood the log: world frame, float64, possibly with NaN, repeats and empty lines.

    Returns:
        The scenario in the scenario frame: float32 (origin float64), values at invalid steps 0, with
        `repairs` and `missing` completed and the route built.

    Raises:
        FormatError: what cannot be mended: dt outside (0, 10] s, no step, an ego without a valid step,
            positions
            over 10,000 km apart, nothing left at all.
    """
    _check_time(raw)
    notes = Notes()
    tracks, ego, lacking = mend_tracks(raw, notes)
    origin = _origin(raw, tracks, ego.idx)
    mended = mend_road(raw.road, origin, notes)
    lights = mend_lights(raw.lights, origin, mended, tracks.num_steps, notes)
    tracks = _local(tracks, origin)
    lacking |= gaps(mended.road, raw.road, lights) | ({"ego"} if ego.idx < 0 else set())
    if not tracks.num_agents and not len(mended.road.lanes) and not len(mended.road.edges):
        raise FormatError(
            f"scenario {raw.scenario_id}: nothing usable is left, neither road users nor a map",
            file=raw.source_file,
            remedy="the file is damaged or empty",
        )
    scenario = replace(
        raw,
        dt=float(raw.dt),
        tracks=tracks,
        ego=ego,
        lights=lights,
        road=mended.road,
        route=shifted_route(raw.route, origin, mended.lane_map),
        origin=np.asarray(raw.origin, np.float64) + origin,
        repairs=(*raw.repairs, *notes.sentences()),
        missing=tuple(sorted({*raw.missing, *lacking})),
    )
    if len(scenario.route.points) < 2:
        scenario = replace(scenario, route=routes.build_route(scenario))
    return scenario.validate()


def _check_time(raw: Scenario) -> None:
    if not (np.isfinite(raw.dt) and 0 < raw.dt <= 10):
        raise FormatError(
            f"scenario {raw.scenario_id}: expected 0 < dt <= 10 s, found {raw.dt}",
            file=raw.source_file,
            field="dt",
            remedy="time stamps are damaged",
        )
    position = np.shape(raw.tracks.position)
    if len(position) != 3 or position[1] < 1:
        raise FormatError(
            f"scenario {raw.scenario_id}: expected positions [A, T, 3] with T >= 1, found {position}",
            file=raw.source_file,
            field="tracks.position",
            remedy="the log has no steps",
        )


def _origin(raw: Scenario, tracks: Tracks, ego: int) -> Array:
    """The ego's first valid position, else the mean of valid positions, else the mean of the map."""
    if ego >= 0:
        return tracks.position[ego, int(np.argmax(tracks.valid[ego]))].copy()
    if tracks.valid.any():
        return tracks.position[tracks.valid].mean(0)
    return _map_centre(raw.road)


def _map_centre(road: Road) -> Array:
    values = [rows.values for rows in (road.lanes.centre, road.edges, road.markings.line)]
    points = np.concatenate([np.asarray(v, np.float64).reshape(-1, 3) for v in values])
    points = points[np.isfinite(points).all(1) & (np.abs(np.nan_to_num(points)) < 1e9).all(1)]
    # The median, not the mean: one damaged point must not move the origin.
    return np.median(points, axis=0) if len(points) else np.zeros(3)


def _local(tracks: Tracks, origin: Array) -> Tracks:
    valid = tracks.valid
    return Tracks(
        position=np.where(valid[..., None], to_frame(tracks.position, origin), np.float32(0)),
        heading=wrapped32(tracks.heading),
        velocity=tracks.velocity.astype(np.float32),
        size=tracks.size.astype(np.float32),
        kind=tracks.kind.astype(np.int8),
        valid=valid,
        ids=tracks.ids,
    )
