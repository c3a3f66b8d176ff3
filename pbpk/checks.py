"""Checks of what a user gives: each failure names the argument, the rule, the offender and the remedy."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from numbers import Integral


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Returns the option that ``name`` means or is spelt most like, or None where none is close.

    >>> nearest("livr", ["liver", "lung"]), nearest("weight", ["height", "BW"])
    ('liver', 'BW')
    """
    by_lower = {option.lower(): option for option in options}
    called = by_lower.get(_CALLED.get(str(name).lower(), "").lower())
    found = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return called or (by_lower[found[0]] if found else None)


def choose(argument: str, name: str, options: Iterable[str]) -> str:
    """Returns ``name`` if it is one of ``options``.

    Raises:
        ValueError: If it is not; the message offers the nearest option, or else any.

    >>> choose("organ", "livr", ["liver", "lung"])
    Traceback (most recent call last):
    ValueError: organ must be one of liver, lung, but is 'livr'. Did you mean 'liver'?
    """
    options = list(options)
    if name in options:
        return name
    close = nearest(name, options)
    remedy = f" Did you mean {close!r}?" if close else " Name one of these."
    raise ValueError(f"{argument} must be one of {', '.join(options)}, but is {name!r}.{remedy}")


def check_whole(argument: str, value: object, least: int, most: float = math.inf) -> None:
    """Refuses what is no whole number of at least ``least``, or is more than ``most``.

    >>> check_whole("n", 2.5, 1)
    Traceback (most recent call last):
    ValueError: n must be a whole number of at least 1, but is 2.5.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{argument} must be a whole number of at least {least}, but is {value!r}.")
    if int(value) > most:
        raise ValueError(f"{argument} must be at most {most:,}, but is {int(value):,}.")


_UNIT = re.compile(
    r"[\s_]*[\[(].*|[\s_]+(cm|m|mm|in|ft|kg|g|lbs?|years?|yrs?|y|h|hours?|mg[/_]?d?l|pct|%)$", re.IGNORECASE
)
_CALLED = {
    **dict.fromkeys(("weight", "wt", "body weight"), "BW"),
    **dict.fromkeys(("stature", "ht"), "height"),
    **dict.fromkeys(("creatinine", "serum creatinine"), "SCR"),
    **dict.fromkeys(("haematocrit", "hematocrit"), "HCT"),
    **{"male": "M", "man": "M", "female": "F", "woman": "F"},
    **{"white": "Non-Hispanic White", "black": "Non-Hispanic Black", "asian": "Other"},
    **{"gender": "sex", "ethnicity": "race", "fup": "fu", "conc": "concentration", "dv": "concentration"},
}
_SAME = 0.8  # [ours] of the letters: 'heigth' is 'height', 'site' is not 'size'


def meant(name: str, known: Iterable[str]) -> str | None:
    """Returns which of ``known`` names a heading must mean that is none of them; None where none does.

    >>> meant("Height (cm)", ["height", "BW"]), meant("weight_kg", ["height", "BW"])
    ('height', 'BW')
    >>> meant("heigth", ["height", "BW"]), meant("visit", ["height", "BW"])
    ('height', None)
    """
    plain = _UNIT.sub("", name.strip()).lower()
    by_lower = {option.lower(): option for option in known}
    words = " ".join(plain.replace("_", " ").split())
    if words in _CALLED:
        return by_lower.get(_CALLED[words].lower())
    longer = [option for option in by_lower if len(option) > 3]
    close = difflib.get_close_matches(plain, longer, n=1, cutoff=_SAME)
    return by_lower.get(plain) or (by_lower[close[0]] if close else None)
