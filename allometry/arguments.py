"""What the flags of ``allometry`` accept, and errors in the words of the command line."""

from __future__ import annotations

import argparse
import functools
import math

from pbpk.command import Action

_FLAGS = {
    "to": "TO",
    "species": "SPECIES",
    "n": "-n",
    **{
        name: f"--{name}"
        for name in ("BW", "adult", "clade", "given", "samples", "model", "method", "level", "dose")
    },
}


def kilograms(text: str) -> float:
    """Returns a body weight [kg].

    >>> kilograms("0.25")
    0.25
    """
    value = _number(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number of kg, such as 0.25, but is {text!r}")
    return value


def kilogram_range(text: str) -> tuple[float, float]:
    """Reads ``LOW:HIGH`` [kg], or one weight for all.

    >>> kilogram_range("0.2:0.35"), kilogram_range("0.3")
    ((0.2, 0.35), (0.3, 0.3))
    """
    first, _, last = text.partition(":")
    low, high = _number(first), _number(last or first)
    if not (0.0 < low < math.inf and 0.0 < high < math.inf):
        raise argparse.ArgumentTypeError(f"must be LOW:HIGH in kg, such as 0.2:0.35, but is {text!r}")
    if low > high:
        raise argparse.ArgumentTypeError(
            f"must be LOW:HIGH in kg, the lighter first, but is {text!r}. Write {last}:{first}"
        )
    return low, high


def measured(text: str) -> dict[str, float]:
    """Reads ``"M_brain=1.4,CO=390"``.

    >>> measured("M_brain=1.4, CO=390")
    {'M_brain': 1.4, 'CO': 390.0}
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        number = _number(value)
        if math.isnan(number):
            raise argparse.ArgumentTypeError(
                f"must read NAME=VALUE,NAME=VALUE, such as M_brain=1.4,CO=390, but has {part.strip()!r}"
            )
        if name in found:
            raise argparse.ArgumentTypeError(f"must name each quantity once, but has {name} twice")
        found[name] = number
    return found


def _number(text: str) -> float:
    """Returns a number, NaN where the text is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def in_flags(action: Action) -> Action:
    """Returns the action with errors that name a flag where the library names an argument.

    ``BW must be ...`` becomes ``--BW must be ...``.
    """

    @functools.wraps(action)
    def told(arguments: argparse.Namespace) -> int:
        try:
            return action(arguments)
        except ValueError as error:
            name, space, rest = str(error).partition(" ")
            raise ValueError(f"{_FLAGS.get(name, name)}{space}{rest}") from error

    return told
