"""Train, validation and test splits by recording or place, never by window."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from perlsim.errors import PerlsimError
from perlsim.store.summary import Summary

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitRule:
    """How scenes are dealt out.

    Attributes:
        seed: other seeds deal other recordings to each split.
        fractions: expected shares of train, val and test among the groups; their sum is 1.
        by: "recording": all windows of one recording stay together; "place": all of one town or city do
            (scenes of unknown place by recording).
    """

    seed: int = 0
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    by: Literal["recording", "place"] = "recording"

    def __post_init__(self):
        if len(self.fractions) != 3 or min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise PerlsimError(
                f"expected three fractions with sum 1, found {self.fractions}", field="fractions"
            )

    def group(self, summary: Summary) -> str:
        """The group to which a scene belongs."""
        return f"place:{summary.place}" if self.by == "place" and summary.place else summary.group

    def split(self, group: str) -> str:
        """The split of a group: a deterministic function of seed and group alone."""
        digest = hashlib.sha256(f"{self.seed}\0{group}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        train, val, _ = self.fractions
        return "train" if share < train else "val" if share < train + val else "test"


def assign_splits(
    rule: SplitRule, summaries: Sequence[Summary], links: Iterable[tuple[str, str]]
) -> list[str]:
    """The split of each scene.

    Args:
        rule: how to deal.
        summaries: of all scenes of the store, in its order.
        links: pairs (group, recording group) of which scenes were found to show the same instants. Linked
            groups share the split of the one that was stored first.

    Returns:
        One of `SPLITS` for each scene.
    """
    parent: dict[str, str] = {}
    order: dict[str, int] = {}

    def root(group: str) -> str:
        while (above := parent.get(group, group)) != group:
            parent[group] = group = parent.get(above, above)
        return group

    def join(first: str, second: str) -> None:
        one, two = root(first), root(second)
        if one != two:
            early, late = sorted((one, two), key=lambda group: (order.get(group, len(order)), group))
            parent[late] = early

    for summary in summaries:
        order.setdefault(rule.group(summary), len(order))
    for first, second in links:
        join(first, second)
    for summary in summaries:  # by place: windows of a linked recording follow it
        join(rule.group(summary), summary.group)
    return [rule.split(root(rule.group(summary))) for summary in summaries]
