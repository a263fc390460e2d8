"""Note the modules that the pickles of inputs name."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MetModules:
    """The modules that pickles have named so far, so that each is looked at once and not once for each element.

    Attributes
    ----------
    importable : set of str
        A job imports these.
    by_value : set of str
        Functions and classes of these travel by value.
    plain : set of type
        Types whose instances need nothing but `pickle`. Their modules have been met.
    """

    importable: set[str] = field(default_factory=set)
    by_value: set[str] = field(default_factory=set)
    plain: set[type] = field(default_factory=set)
