"""Reports: one self-contained HTML page, its figures inside."""

from __future__ import annotations

import base64
import functools
import importlib.resources
import io
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd


def picture(figure: Any, dpi: int = 110) -> str:
    """Returns a matplotlib figure as a data URI, and closes it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def figure(width: float, height: float, **keywords: Any) -> tuple[Any, Any]:
    """Makes a figure and its axes without a display, whatever the user's matplotlib settings."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained", **keywords)


def table(frame: pd.DataFrame, digits: int = 3) -> str:
    """Returns a data frame as an HTML table with rounded numbers.

    >>> "<td>0.333</td>" in table(pd.DataFrame({"a": [1 / 3]}))
    True
    """
    return frame.to_html(
        index=False, border=0, na_rep="", float_format=lambda value: f"{value:.{digits}g}", escape=True
    )


def pairs(name: str, says: str, values: Mapping[str, Any]) -> str:
    """Returns names and values as an HTML table of two columns; what is nested has a row an entry.

    >>> pairs("setting", "is", {"people": {"generator": "PCDM"}}).count("people: generator")
    1
    """
    frame = pd.DataFrame(list(_flat(values)), columns=[name, says])
    return frame.to_html(index=False, border=0, classes="text", escape=True)


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}: {inner}", text) for inner, text in _flat(value))
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            yield from _flat({f"{key} {number}": each for number, each in enumerate(value, 1)})
        elif isinstance(value, list | tuple):
            yield key, ", ".join(str(each) for each in value)
        elif isinstance(value, bool):
            yield key, "yes" if value else "no"
        elif isinstance(value, float):
            yield key, f"{value:g}"
        else:
            yield key, "not stated" if value in (None, "") else str(value)


def render(template: str, **values: Any) -> str:
    """Fills a template of ``pbpk/data``; everything but figures and tables is escaped.

    Arguments:
        template: The template's file name.
        values: Its variables.
    """
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Any:
    import jinja2

    folders = [str(importlib.resources.files(package) / "data") for package in ("pbpk", "vpop", "allometry")]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=True, undefined=jinja2.StrictUndefined
    )
