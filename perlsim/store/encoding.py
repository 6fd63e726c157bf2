"""A scenario made ready for a store: what a writer needs of it, computed wherever it was read."""

from __future__ import annotations

from dataclasses import dataclass

from perlsim.scenario import Scenario
from perlsim.store.columns import FINGERPRINT, Row, encode_row
from perlsim.store.fingerprint import Fingerprint, fingerprint_of
from perlsim.store.summary import Summary, summarise


@dataclass(frozen=True)
class Encoded:
    """A scenario as a row of a shard, with its summary and fingerprint."""

    row: Row
    summary: Summary
    fingerprint: Fingerprint


def encode(
    scenario: Scenario, *, source_sha256: str = "", source_size: int = 0, comparable: bool = True
) -> Encoded:
    """Encodes a scenario.

    Args:
        scenario: validated, in the scenario frame.
        source_sha256, source_size: digest and bytes of the log it was read from.
        comparable: whether to take the fingerprint by which the same scene is known again in another form.

    Raises:
        FormatError: where float64 coordinates would lose more than millimetres in float32.
    """
    fingerprint = fingerprint_of(scenario) if comparable else Fingerprint.empty(scenario.duration)
    summary = summarise(scenario, fingerprint.digest(), source_sha256=source_sha256, source_size=source_size)
    return Encoded(encode_row(scenario) | {FINGERPRINT: fingerprint.packed()}, summary, fingerprint)
