"""Checks of what a user gives: each failure names the argument, the rule, the offender and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Returns the option that is spelt most like ``name``, or None where none is close.

    >>> nearest("livr", ["liver", "lung"])
    'liver'
    """
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


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
