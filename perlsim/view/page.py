"""The self-contained HTML page: scenes, player and styles in one file that needs no network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np

from perlsim import __version__
from perlsim.scenario import Scenario
from perlsim.store.tags import tags_of
from perlsim.view.pack import encode, pack_play, pack_road
from perlsim.view.sources import Key, Side
from perlsim.vocabulary import LightState

# In the order in which they are put into the page.
_MODULES = ("data", "colours", "road", "traffic", "stage", "timeline", "player", "panel", "gallery", "app")


@dataclass
class _Blobs:
    """Packed parts of scenes, each stored once however often it is used."""

    texts: list[str] = field(default_factory=list)
    number_of: dict[bytes, int] = field(default_factory=dict)

    def add(self, content: dict[str, Any]) -> int:
        """Number of the part in the page."""
        text = encode(content)
        digest = hashlib.sha256(text.encode()).digest()
        if digest not in self.number_of:
            self.number_of[digest] = len(self.texts)
            self.texts.append(text)
        return self.number_of[digest]


def build_page(
    sides: Sequence[Side],
    keys: Sequence[Key],
    notices: Sequence[str] = (),
    *,
    title: str | None = None,
    compare: bool = False,
) -> str:
    """The page as text.

    Args:
        sides: see `perlsim.view.sources.open_sides`.
        keys: scenes to show, see `perlsim.view.sources.choose`.
        notices: sentences that the page shows on top.
        title: of the page; names of the folders by default.
        compare: whether scenes open with the first two sides next to each other.

    Returns:
        HTML without any reference to another file or address.
    """
    blobs = _Blobs()
    scenes = [_scene(sides, key, blobs) for key in keys]
    folders = dict.fromkeys(side.folder.resolve().name for side in sides)
    content = {
        "title": title or " · ".join(folders),
        "version": __version__,
        "notices": list(notices),
        "sides": [
            {"label": side.label, "kind": side.kind, "folder": side.folder.resolve().name} for side in sides
        ],
        "compare": compare and len(sides) > 1,
        "scenes": scenes,
    }
    parts = {
        "title": _text(content["title"]),
        "style": _asset("style.css"),
        "index": _json_in_html(content),
        "data": "\n".join(
            f'<script type="text/plain" id="part-{number}">{text}</script>'
            for number, text in enumerate(blobs.texts)
        ),
        "script": "\n".join(
            ['(() => {\n"use strict";', *(_asset(f"{name}.js") for name in _MODULES), "})();"]
        ),
    }
    page = _asset("page.html")
    # Split first: what is put in may itself contain a mark.
    head, *rest = page.split("<!--{")
    return head + "".join(parts[mark] + tail for mark, tail in (piece.split("}-->", 1) for piece in rest))


def _scene(sides: Sequence[Side], key: Key, blobs: _Blobs) -> dict[str, Any]:
    """A scene's entry in the page's index."""
    played = [side.scenario(key) for side in sides]
    first = next(scenario for scenario in played if scenario is not None)
    return {
        "id": first.scenario_id,
        "source": first.source,
        "dataset": first.dataset,
        "place": first.place,
        "tags": list(tags_of(first)),
        "missing": list(first.missing),
        "repairs": list(first.repairs),
        "facts": facts(first),
        "road": blobs.add(pack_road(first)),
        "plays": [
            None if scenario is None else blobs.add(pack_play(scenario, side.extra(key)))
            for side, scenario in zip(sides, played, strict=True)
        ],
        "metrics": [
            {name: _number(value) for name, value in (side.extra(key).get("metrics") or {}).items()}
            for side in sides
        ],
    }


def facts(scenario: Scenario) -> dict[str, float | None]:
    """Figures of a scene and of its ego to sort a gallery by; None where there is no ego to measure."""
    tracks = scenario.tracks
    known = (scenario.lights.state != LightState.UNKNOWN).any(1).sum() if len(scenario.lights.position) else 0
    result: dict[str, float | None] = {
        "duration [s]": round(scenario.duration, 1),
        "road users": tracks.num_agents,
        "lights": int(known),
        "mean speed [m/s]": None,
        "distance [m]": None,
    }
    if scenario.has_ego and (valid := tracks.valid[scenario.ego.idx]).any():
        position = tracks.position[scenario.ego.idx, valid, :2].astype(np.float64)
        speed = np.linalg.norm(tracks.velocity[scenario.ego.idx, valid].astype(np.float64), axis=1)
        result["mean speed [m/s]"] = round(float(speed.mean()), 2)
        result["distance [m]"] = round(float(np.linalg.norm(np.diff(position, axis=0), axis=1).sum()), 1)
    return result


def _number(value: Any) -> float | None:
    """A metric for JSON: None where it is not available."""
    return None if value is None or not np.isfinite(value) else float(value)


def _asset(name: str) -> str:
    return resources.files("perlsim.view").joinpath("assets", name).read_text("utf-8")


def _json_in_html(content: dict[str, Any]) -> str:
    """JSON that may stand in a script element, whatever its strings hold."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
