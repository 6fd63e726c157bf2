"""Importing logs: finding them, reading them in several processes, writing them to a store."""

from perlsim.ingest.run import ImportOptions, ImportReport, Progress, import_logs

__all__ = ["ImportOptions", "ImportReport", "Progress", "import_logs"]
