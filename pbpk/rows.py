"""One row a body: who it is, what is inside it, and what the drug does in it; and its form on disk.

On disk a number is in single precision, its bytes split by significance and packed with zstd, without a
dictionary; what is not known is null, never NaN, so that no average can step on it.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pbpk import laplace
from pbpk.nca import UNITS
from pbpk.physiology import RACES, SEXES, Cohort, Physiology
from pbpk.regimen import ROUTES
from pbpk.simulation import EXACT, SOLVED, STATUS, Simulation

if TYPE_CHECKING:
    import pyarrow

EXPOSURE = ("Cmax", "tmax", "AUC", "AUCinf", "t_half", "CL", "F")
"""What is kept of a body's exposure in plasma, in the units of :data:`pbpk.nca.UNITS`."""

OF_METABOLITES = ("Cmax", "tmax", "AUC", "AUCinf", "t_half")
"""What is kept of each metabolite, as ``M1:Cmax``."""

_WHO = ("age", "height", "BW", "BMI", "HCT", "SCR", "GFR", "CO", "FAT")
_MASSES = ("adipose", "brain", "kidney", "liver", "muscle")
_FLOWS = ("kidney", "liver")
_TEXT = ("sex", "race", "reason")


def exposures(metabolites: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of what is kept of a body's exposure.

    >>> exposures(["M1"])[-2:]
    ('M1:AUCinf', 'M1:t_half')
    """
    return (*EXPOSURE, *(f"{name}:{quantity}" for name in metabolites for quantity in OF_METABOLITES))


def labelled(name: str) -> str:
    """Returns the name of an exposure with its unit.

    >>> labelled("M1:Cmax")
    'M1:Cmax [mg/L]'
    """
    return f"{name} [{UNITS[name.rpartition(':')[2]]}]"


def counted(n: int) -> str:
    """Returns how many bodies there are in words.

    >>> counted(1), counted(2000)
    ('1 body', '2,000 bodies')
    """
    return f"{n:,} {'body' if n == 1 else 'bodies'}"


def rows(cohort: Cohort, simulation: Simulation) -> dict[str, np.ndarray]:
    """Returns the columns of a cohort's table, each with shape (n): text, numbers, and the status.

    Arguments:
        cohort: The bodies.
        simulation: What a drug did in them; the venous blood must be kept.
    """
    status = simulation.status.numpy()
    numbers = who(cohort.physiology) | exposure(simulation)
    return {
        "id": cohort.id,
        **_labels(cohort.physiology),
        **{name: np.asarray(value, dtype=np.float32) for name, value in numbers.items()},
        "error": simulation.error.numpy().astype(np.float32),
        "status": status.astype(np.uint8),
        "reason": _reasons(simulation),
    }


def _reasons(simulation: Simulation) -> np.ndarray:
    """Returns why each body was not solved, blank where it was."""
    status = simulation.status.numpy()
    reason = np.array([STATUS[k] if k != SOLVED else "" for k in STATUS], dtype=object)[status]
    for fault, mask in reversed(simulation.system.fault.items()):  # the first one that applies stays
        reason[mask.numpy() & (status != SOLVED)] = fault
    return reason


def who(body: Physiology) -> dict[str, np.ndarray]:
    """Returns the numbers that say who a body is and what matters most inside it."""
    found = {name: getattr(body, name) for name in _WHO}
    found |= {f"M_{organ}": body.mass(organ) for organ in _MASSES}
    found |= {f"Q_{organ}": body.flow(organ) for organ in _FLOWS}
    return {name: value.numpy() for name, value in found.items() if value is not None}


def _labels(body: Physiology) -> dict[str, np.ndarray]:
    letters = {value: letter for letter, value in SEXES.items()}
    labels = {"sex": np.array([letters[value] for value in body.sex.tolist()], dtype=object)}
    if body.race is not None:
        labels["race"] = np.array([*RACES, ""], dtype=object)[body.race.numpy()]  # -1, unknown, is the last
    return labels


def exposure(simulation: Simulation) -> dict[str, np.ndarray]:
    """Returns what was given in all and the exposure in plasma, shapes (n), NaN where it cannot be had.

    Cmax, tmax, AUC and t_half are those of the samples. For linear kinetics AUCinf, CL and F are exact;
    otherwise they are extrapolated, and F is not known.
    """
    each = [_exposure(part) for part in slices(simulation)]
    return {name: np.concatenate([part[name] for part in each]) for name in each[0]}


def _exposure(simulation: Simulation) -> dict[str, np.ndarray]:
    given = simulation.given[:, -1]
    found = {"dose": given.sum(-1).numpy()}
    unsolved = (simulation.status != SOLVED).numpy()
    for drug in simulation.system.drugs:
        names, output = (OF_METABOLITES if drug.name else EXPOSURE), f"{drug.prefix}plasma"
        table = simulation.nca(output, method="classical").reindex(columns=names)
        if simulation.engine in EXACT:
            exact = _areas(simulation, given, output)
            table = table.assign(**{name: exact[name].numpy() for name in names if name in exact})
        table[unsolved] = np.nan
        found |= {drug.prefix + name: table[name].to_numpy() for name in names}
    return found


def slices(simulation: Simulation, size: int = 2048) -> Iterator[Simulation]:
    """Yields the simulations of some bodies after the other: what is computed from them stays small."""
    names = ("amount", "status", "system", "dose", "bolus_amount", "id", "error")
    for start in range(0, len(simulation.status), size):
        part = slice(start, start + size)
        yield dataclasses.replace(simulation, **{name: getattr(simulation, name)[part] for name in names})


def _areas(simulation: Simulation, given: Tensor, output: str) -> dict[str, Tensor]:
    """Returns what follows from the area of ``output`` after a unit dose, each with shape (n)."""
    system, doses = simulation.system, simulation.regimen.doses
    state, per_mg = system.states.index(system.state_of(output)), system.per_mg(output)
    area = {route: laplace.moments(system, state, route)[0] * per_mg for route in ROUTES}
    each = [amount * area[dose.route] for dose, amount in zip(doses, given.unbind(-1), strict=True)]
    return {"AUCinf": torch.stack(each).sum(0), "CL": 1.0 / area["iv"], "F": area["po"] / area["iv"]}


def pack(columns: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Returns a table as the bytes of a Parquet file; the same table gives the same bytes.

    Arguments:
        columns: Arrays of shape (n), or (n, T) for a profile, which becomes a list a row.
        metadata: What the file says of itself.
    """
    import pyarrow
    import pyarrow.parquet

    arrays = {name: _array(values) for name, values in columns.items()}
    table = pyarrow.table(arrays).replace_schema_metadata(dict(metadata or {}))
    floats = [_leaf(name, a) for name, a in arrays.items() if _leaf_type(a) == pyarrow.float32()]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=[name for name in _TEXT if name in columns],
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT")
        | ({"id": "DELTA_BYTE_ARRAY"} if "id" in columns else {}),
        write_statistics=[name for name, a in arrays.items() if a.type == pyarrow.float32()],
    )
    return buffer.getvalue()


def _array(values: np.ndarray) -> pyarrow.Array:
    import pyarrow

    if values.ndim == 1:
        return pyarrow.array(values, from_pandas=True)
    flat = pyarrow.array(np.ascontiguousarray(values).reshape(-1), from_pandas=True)
    return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _leaf(name: str, array: pyarrow.Array) -> str:
    return name if array.type.num_fields == 0 else f"{name}.list.element"


def _leaf_type(array: pyarrow.Array) -> Any:
    return array.type if array.type.num_fields == 0 else array.type.value_type


def unpack(path: Any, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Returns columns of a Parquet file by name; null numbers become NaN."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path, columns=columns)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
