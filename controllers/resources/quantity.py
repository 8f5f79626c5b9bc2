"""Kubernetes quantities: parsed as far as comparing them needs. Pure."""

import re
from decimal import Decimal

_FORM = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?\d+))?$")
_BINARY: dict[str, int] = {f"{letter}i": 1024 ** (index + 1) for index, letter in enumerate("KMGTPE")}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def parse(value: object) -> Decimal | None:
    """The amount that `value` ("500m", "2Gi", 4) stands for; None if it is not a quantity."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if not isinstance(value, str):
        return None
    match = _FORM.match(value.strip())
    if match is None:
        return None
    digits, suffix, exponent = match.groups()
    amount = Decimal(digits)
    if suffix in _BINARY:
        return amount * _BINARY[suffix]
    power = _DECIMAL[suffix] if suffix else int(exponent or 0)
    return amount.scaleb(power) if abs(power) < 100 else None


def equal(one: object, other: object) -> bool:
    """True if both are the same amount, however each is written."""
    first, second = parse(one), parse(other)
    return first is not None and first == second
