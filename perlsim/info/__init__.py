"""What a scenario store holds, and whether its numbers make sense."""

from perlsim.info.report import StoreReport, report_store
from perlsim.info.tables import print_report, print_rows

__all__ = ["StoreReport", "print_report", "print_rows", "report_store"]
