"""The rule for amounts of memory: a number of MiB, or a text with a unit.

GB and GiB both mean 1,024 MiB, as for Docker and in AWS's prices for Fargate. A decimal "8GB" would be 7,629 MiB,
which is no size of Fargate.
"""

from __future__ import annotations

import math
import re

from cloudknot.errors import refuse
from cloudknot.options.validators import argument, integer

UNITS = {"M": 1, "G": 1024, "T": 1024**2}
"""MiB in each unit, by its first letter."""
# A worker with boto3 and cloudpickle has 51 MiB before it calls the function.
LEAST = 64
"""MiB. Python and the worker do not fit into less."""
# A plain number above it is probably one of KiB or bytes.
MOST_PLAIN = 8 * UNITS["T"]
"""MiB up to which a number needs no unit."""
# Amazon EC2 instance types, u7inh-32tb.480xlarge: the machine with the most memory.
MOST = 32 * UNITS["T"]
"""MiB of the largest machine."""
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([MGT])(?:i?B)?", re.IGNORECASE)
_plain = integer(1, unit="MiB", cause="A text with a unit is allowed, too.", example="'8 GiB'")


def memory(name: str, value: object) -> int:
    """Return MiB from a number of MiB, or from a text such as ``"8 GiB"``, ``"8GB"`` or ``"512m"``.

    Fractions of a MiB are rounded up.

    Raises
    ------
    CloudknotInputError
        The value is no amount of memory, is too small for Python, or is larger than any machine.
    """
    if not isinstance(value, str):
        return _checked(name, value, _plain(name, value), MOST_PLAIN, "A number without a unit is MiB. ")
    found = _TEXT.fullmatch(value.strip())
    if not found:
        refuse(
            problem=f"{argument(name, value)} is not an amount of memory.",
            cause="It is a number of MiB, or a text with the unit MiB, GiB or TiB. GB means GiB.",
            fix=f"Pass for example {name}='8 GiB' or {name}=8192.",
        )
    mebibytes = math.ceil(float(found[1]) * UNITS[found[2].upper()])
    return _checked(name, value, mebibytes, MOST, "")


def _checked(name: str, value: object, mebibytes: int, most: int, about_unit: str) -> int:
    if mebibytes < LEAST:
        refuse(
            problem=f"{argument(name, value)} is {mebibytes} MiB, in which Python does not start.",
            cause=f"{about_unit}The worker itself takes about 50 MiB.",
            fix=f"Pass for example {name}='{max(mebibytes, 1)} GiB'.",
        )
    if mebibytes > most:
        refuse(
            problem=f"{argument(name, value)} is {mebibytes / UNITS['T']:,.1f} TiB.",
            cause=about_unit.strip() or f"The largest machine of AWS has {MOST // UNITS['T']} TiB.",
            fix=f"Pass the unit, for example {name}='16 GiB'.",
        )
    return mebibytes
