"""Tables that people hand in, CSV or Parquet: read as they are, and refused in one line where they are wrong.

A CSV is read as text, so that nothing is guessed: no cell becomes a date, a missing value or a formula,
and every number keeps its last digit.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pbpk.checks import choose, meant

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".parquet")
METADATA = b"provenance"
_NAMED = 8  # columns that a line names
BLANKS = ["", "NA", "NaN", "nan", "."]
"""How R, Python and NONMEM write a number, or a race, that is missing."""

_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Table:
    """A table as it was found.

    Attributes:
        name: What messages call it: its file name.
        frame: The cells; text where it was a CSV.
        provenance: What the file says of its origin.
    """

    name: str
    frame: pd.DataFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns' names."""
        return [str(column) for column in self.frame.columns]

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.frame)

    def require(self, columns: Sequence[str]) -> None:
        """Checks that the table has these columns.

        Raises:
            ValueError: If one is missing; the message offers the one that must mean it.
        """
        present = self.columns
        missing = [column for column in columns if column not in present]
        if not missing:
            return
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        close = next((c for c in present if c not in columns and meant(c, missing[:1])), None)
        remedy = f" Rename its column {close!r}." if close else " Add the column."
        raise ValueError(f"{self.name} must have a column {missing[0]!r}{more}, but has none.{remedy}")

    def refuse_misspelt(self, known: Iterable[str]) -> None:
        """Checks that no column is a known one under another name, which would be lost without a word.

        Raises:
            ValueError: If one is, and the known one is missing.
        """
        known = list(known)
        for column in self.columns:
            name = None if column in known else meant(column, known)
            if name is not None and name not in self.columns:
                unit = column[column.index("[") :] if "[" in column else ""
                raise ValueError(
                    f"{self.name} has a column {column!r}, which would not be read. "
                    f"Name it {f'{name} {unit}'.strip()!r}, or leave it out."
                )

    def not_read(self, known: Iterable[str]) -> str:
        """Returns a line that names the columns that are none of ``known``, "" where all are."""
        known = list(known)
        left = [column for column in self.columns if column not in known]
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        return f"columns not read: {', '.join(left[:_NAMED])}{more}" if left else ""

    def text(self, column: str) -> np.ndarray:
        """Returns a column as strings, blank where the cell is empty, with shape (n,)."""
        values = self.frame[column].to_numpy(dtype=object, na_value="")
        return np.array(["" if value is None else str(value) for value in values], dtype=object)

    def numbers(self, column: str, ids: np.ndarray, blank: bool = False) -> np.ndarray:
        """Returns a column as float64 with shape (n,), NaN where the cell is empty.

        Arguments:
            column: The column's name.
            ids: The rows' names for messages, with shape (n,).
            blank: Empty cells and NaN are allowed.

        Raises:
            ValueError: If a cell is no number, or negative, infinite, or missing where it must not be.
                Missing are empty cells and :data:`BLANKS`.
        """
        values = self.frame[column]
        if values.dtype.kind in "fiu":
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        else:
            numbers = self._parsed(column, ids)
        wrong = (numbers < 0) | np.isinf(numbers) | (np.isnan(numbers) & (not blank))
        if wrong.any():
            at = int(np.argmax(wrong))
            found = "no value" if np.isnan(numbers[at]) else f"{numbers[at]:g}"
            raise ValueError(
                f"{column} must be a finite number of 0 or more, but row {ids[at]!r} of {self.name} has "
                f"{found}. Correct the cell or remove the row."
            )
        return numbers

    def _parsed(self, column: str, ids: np.ndarray) -> np.ndarray:
        text = self.text(column)
        text[np.isin(text, BLANKS)] = "nan"
        try:
            return text.astype(np.str_).astype(np.float64)
        except ValueError:
            at = next(i for i, cell in enumerate(text) if not _is_number(cell))
        remedy = "Write a number."
        if _DECIMAL_COMMA.fullmatch(text[at].strip()):
            remedy = "Write the decimal sign as a point."
        raise ValueError(
            f"{column} must hold numbers, but row {ids[at]!r} of {self.name} has {text[at]!r}. {remedy}"
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def looks_like_formula(cell: str) -> bool:
    """Tells whether a spreadsheet would execute a cell.

    >>> looks_like_formula("=HYPERLINK(1)"), looks_like_formula("-0.5"), looks_like_formula("M-1")
    (True, False, False)
    """
    return cell[:1] in ("=", "+", "-", "@") and not _is_number(cell)


def read_table(path: str | Path) -> Table:
    """Reads a CSV or a Parquet file.

    Arguments:
        path: A file whose suffix is .csv or .parquet.

    Raises:
        ValueError: If it is empty, damaged, not comma-separated, uneven, or holds formulas.
        OSError: If there is no such file, or it cannot be read.
    """
    path = Path(path)
    suffix = choose(f"the suffix of {path.name}", path.suffix.lower(), SUFFIXES)
    if not path.exists():
        raise FileNotFoundError(f"{path} must be a file, but there is none. Check the path.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} must be a file, but is a folder. Name a file in it.")
    table = _read_parquet(path) if suffix == ".parquet" else _read_csv(path)
    if not len(table):
        raise ValueError(f"{table.name} must hold at least one row, but has only a header. Add the rows.")
    return table


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        stored = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path.name} must be a Parquet file, but cannot be read as one ({reason}). Write it again."
        ) from None
    said = (stored.schema.metadata or {}).get(METADATA, b"{}")
    table = Table(path.name, stored.to_pandas(), _stored_provenance(said, path.name))
    for column in table.columns:
        if table.frame[column].dtype.kind not in "fiub":
            _refuse_formulas(table.name, [[cell] for cell in table.text(column)], [column])
    return table


def _read_csv(path: Path) -> Table:
    import pandas as pd

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} must be UTF-8 text, but is not. Save it as CSV UTF-8.") from None
    comments, rest = _comments(text)
    if not rest.strip():
        raise ValueError(f"{path.name} must hold a header and rows, but is empty.")
    first = rest.split("\n", 1)[0]
    for sign, called in ((";", "semicolons, often with decimal commas"), ("\t", "tabs")):
        if first.count(sign) > first.count(","):
            raise ValueError(
                f"{path.name} must separate columns by commas and decimals by points, but has {called}. "
                "Export it again as comma-separated CSV."
            )
    header, rows = _cells(path.name, rest, line=len(comments) + 1)
    return Table(path.name, pd.DataFrame(rows, columns=header, dtype=object), _provenance(comments))


def _comments(text: str) -> tuple[list[str], str]:
    """Parts the lines that begin with # from what follows them."""
    comments = []
    while text.startswith("#"):
        line, _, text = text.partition("\n")
        comments.append(line.rstrip("\r"))
    return comments, text


def _cells(name: str, text: str, line: int) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows, checked to be even and free of formulas."""
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise ValueError(f"{name} must be a CSV, but cannot be read as one ({error}).") from None
    rows = [row for row in rows if row]
    repeated = {column for column in header if header.count(column) > 1}
    if repeated:
        raise ValueError(f"{name} must name each column once, but repeats {min(repeated)!r}.")
    for number, row in enumerate(rows, start=line + 1):
        if len(row) != len(header):
            raise ValueError(
                f"{name} must have {len(header)} cells in each row, but line {number} has {len(row)}. "
                "Look for a decimal comma or a missing quote."
            )
    _refuse_formulas(name, [header, *rows], header)
    return header, rows


def _refuse_formulas(name: str, rows: list[list[str]], header: list[str]) -> None:
    for row in rows:
        for column, cell in zip(header, row, strict=True):
            if cell[:1] in ("=", "+", "-", "@") and looks_like_formula(cell):
                raise ValueError(
                    f"{name} must hold values, but column {column!r} has the formula {cell[:40]!r}. "
                    "Export the values instead."
                )


def provenance_lines(provenance: Mapping[str, Any]) -> list[str]:
    """Returns the lines ``# key: value`` above a CSV; a value is JSON.

    Raises:
        ValueError: If a key could not be read back.

    >>> provenance_lines({"seed": 7, "generator": "vpop"})
    ['# seed: 7', '# generator: "vpop"']
    """
    for key in provenance:
        if not key.isprintable() or ":" in key or key != key.strip() or not key:
            raise ValueError(f"a provenance key must be a plain word without a colon, but is {key!r}.")
    return [f"# {key}: {as_json(value)}" for key, value in provenance.items()]


def as_json(value: Any) -> str:
    """Returns a value as one line of JSON; numpy numbers become plain, other objects text."""
    return json.dumps(value, default=lambda other: other.item() if hasattr(other, "item") else str(other))


def _stored_provenance(said: bytes, name: str) -> dict[str, Any]:
    try:
        provenance = json.loads(said)
    except (ValueError, RecursionError):
        provenance = None
    if not isinstance(provenance, dict):
        raise ValueError(
            f"{name} must state its provenance as a JSON object, but it is damaged. Write it again."
        )
    return provenance


def _provenance(lines: list[str]) -> dict[str, Any]:
    pairs = [line.lstrip("#").strip().partition(": ") for line in lines]
    return {key: _json_or_text(value) for key, colon, value in pairs if colon}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
