"""Scenarios on disk: memory-mapped Arrow shards, splits, tags, duplicates."""

from perlsim.store.manifest import DuplicateRecord, ImportedFile
from perlsim.store.splits import SPLITS, SplitRule
from perlsim.store.store import ScenarioStore
from perlsim.store.summary import Summary
from perlsim.store.tags import TAGS, tags_of
from perlsim.store.writer import StoreWriter

__all__ = [
    "SPLITS",
    "TAGS",
    "DuplicateRecord",
    "ImportedFile",
    "ScenarioStore",
    "SplitRule",
    "StoreWriter",
    "Summary",
    "tags_of",
]
