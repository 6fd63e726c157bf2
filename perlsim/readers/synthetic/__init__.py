"""The embedded default: driving logs of rule-based traffic on procedural maps, for use without any data.

Maps and traffic are drawn from a seed; see `generate`.
"""

from perlsim.readers.synthetic.generator import FAMILIES, SHARING, generate

__all__ = ["FAMILIES", "SHARING", "generate"]
