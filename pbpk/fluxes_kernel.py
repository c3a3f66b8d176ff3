r"""The compiled form of :mod:`pbpk.fluxes`: eight bodies walk the mesh together.

The same equations on the same mesh, each body's numbers in one lane. What the bodies share, the tables of
:mod:`pbpk.convolution`, are numbers beside the vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from pbpk.lanes import WIDTH, largest, load, magnitude, splat, store

Ints = np.ndarray
Floats = np.ndarray


class Mesh(NamedTuple):
    """The mesh as tables: I intervals, L lengths, P rates, p nodes, T outputs."""

    length: Ints  # (I) which one
    past: Floats  # (L, p + 1, P)
    inside: Floats  # (L, p + 1, p + 1, P)
    between: Floats  # (p) the polynomials at the check point
    across: Floats  # (p + 1) those that also have the beginning as a node
    output: Ints  # (I + 1) where each interval's outputs begin, and the end
    weight: Floats  # (T, p + 1) of the values at the beginning and the nodes
    newton: tuple[float, int]  # the tolerance of Newton's method, and its iterations at most


class Bodies(NamedTuple):
    """The numbers of B bodies, E fluxes, E + O outlets."""

    Vmax: Floats  # (E, B)
    Km: Floats  # (E, B)
    unbound: Floats  # (E, B)
    linear: Floats  # (E, B)
    c: Floats  # (E + O, E, P, B) the coefficients of the unit responses
    other: Floats  # (E + O, E, P, B) what the second fit adds
    driven: Floats  # (E, I (p + 1), B) the doses' part of the sources
    drift: Floats  # (E, I, B) what the second fit adds to it at the intervals' ends


_INSIDE: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_part: Any = njit(**_INSIDE)


@_part
def _gather(source, low, width, rows):
    """Copies bodies from low of (rows, B) into rows of lanes; lanes without a body repeat the last one."""
    for k in range(len(source)):
        for lane in range(WIDTH):
            rows[k, lane] = source[k, low + min(lane, width - 1)]


@_part
def _flux(enzymes, e, E, x):
    """Returns a flux and its slope."""
    Vmax, Km, u = load(enzymes, e), load(enzymes, E + e), load(enzymes, 2 * E + e)
    k = load(enzymes, 3 * E + e)
    over = 1.0 / (Km + u * magnitude(x))
    scaled = Vmax * u * over
    return (scaled - k) * x, scaled * Km * over - k


@_part
def _convolve(table, count, c, at, out, first):
    """Puts the products of a table's first rows with c, from row ``at``, into rows of ``out`` from ``first``.

    Four at a time: one sum alone would wait for its own last addition.
    """
    P = table.shape[1]
    i = 0
    while i + 4 <= count:
        one, two, three, four = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for m in range(P):
            value = load(c, at + m)
            one += table[i, m] * value
            two += table[i + 1, m] * value
            three += table[i + 2, m] * value
            four += table[i + 3, m] * value
        store(out, first + i, one)
        store(out, first + i + 1, two)
        store(out, first + i + 2, three)
        store(out, first + i + 3, four)
        i += 4
    while i < count:
        total = splat(0.0)
        for m in range(P):
            total += table[i, m] * load(c, at + m)
        store(out, first + i, total)
        i += 1


@_part
def _solve(J, r, n):
    """Solves J x = r in place."""
    for k in range(n):
        inverse = 1.0 / load(J, k * n + k)
        store(J, k * n + k, inverse)
        for i in range(k + 1, n):
            factor = load(J, i * n + k) * inverse
            for j in range(k + 1, n):
                store(J, i * n + j, load(J, i * n + j) - factor * load(J, k * n + j))
            store(r, i, load(r, i) - factor * load(r, k))
    for k in range(n - 1, -1, -1):
        total = load(r, k)
        for j in range(k + 1, n):
            total -= load(J, k * n + j) * load(r, j)
        store(r, k, total * load(J, k * n + k))


@_part
def _collocate(own, start, enzymes, E, p, x, v, slope, J, r, test, newton):
    """Solves x = start + own v(x) by Newton's method, from the fluxes v."""
    n = E * p
    for i in range(n):
        total = load(start, i)
        for j in range(n):
            total += load(own, i * n + j) * load(v, j)
        store(x, i, total)
    for _ in range(newton[1]):
        for e in range(E):
            for i in range(p):
                flux, steep = _flux(enzymes, e, E, load(x, e * p + i))
                store(v, e * p + i, flux)
                store(slope, e * p + i, steep)
        for i in range(n):
            total = load(start, i) - load(x, i)
            for j in range(n):
                weight = load(own, i * n + j)
                total += weight * load(v, j)
                store(J, i * n + j, 0.0 - weight * load(slope, j))
            store(J, i * n + i, load(J, i * n + i) + 1.0)
            store(r, i, total)
        _solve(J, r, n)
        change, size = splat(0.0), splat(0.0)
        for i in range(n):
            moved = load(x, i) + load(r, i)
            store(x, i, moved)
            change, size = largest(magnitude(load(r, i)), change), largest(magnitude(moved), size)
        store(test, 0, change)
        store(test, 1, size)
        done = True
        for lane in range(WIDTH):
            done = done and not test[0, lane] > newton[0] * test[1, lane]
        if done:
            break
    for e in range(E):
        for i in range(p):
            flux, steep = _flux(enzymes, e, E, load(x, e * p + i))
            store(v, e * p + i, flux)
            store(slope, e * p + i, steep)


@_part
def _respond(inside, c, E, own, check, kept):
    """Convolves the unit responses over an interval: of the fluxes' sources, and of the kept states."""
    p, P = inside.shape[0] - 1, inside.shape[2]
    n, outlets = E * p, len(c) // (E * P)
    for e in range(E):
        for f in range(E):
            at = (f * E + e) * P
            for i in range(p):
                _convolve(inside[i], p, c, at, own, (f * p + i) * n + e * p)
            _convolve(inside[p], p, c, at, check, f * n + e * p)
        for o in range(outlets - E):
            at = ((E + o) * E + e) * P
            for i in range(p + 1):
                _convolve(inside[i], p, c, at, kept, (o * (p + 1) + i) * n + e * p)


@_part
def _estimate(past, inside, sums, c, other, memory, error, drifted, missed, drift, worst):
    """Carries what an interval missed, and what the fits differ by, to the kept states."""
    p, P, E, count = inside.shape[0] - 1, inside.shape[2], len(missed), len(worst) // 2
    for o in range(count):
        begin, by_mesh, by_fit = splat(0.0), splat(0.0), splat(0.0)
        for e in range(E):
            at, lost, moved = ((E + o) * E + e) * P, load(missed, e), load(drift, e)
            for m in range(P):
                k, weight, whole = e * P + m, load(c, at + m), sums[m]
                old, decay = load(error, k), past[p - 1, m]
                begin += weight * (past[0, m] * old + inside[0, p, m] * lost)
                by_mesh += weight * (decay * old + inside[p - 1, p, m] * lost)
                by_fit += weight * (decay * load(drifted, k) + whole * moved)
                by_fit += load(other, at + m) * load(memory, k)
        by_mesh = largest(magnitude(by_mesh), magnitude(begin))
        store(worst, o, largest(by_mesh, load(worst, o)))
        store(worst, count + o, largest(magnitude(by_fit), load(worst, count + o)))


@njit(cache=True, nogil=True)
def march(mesh, bodies, x_out, off_mesh, off_fit):
    """Adds the fluxes' part to the outputs (O, T, B), and fills both errors (O, B)."""
    outlets, E, P, B = bodies.c.shape
    count, p = outlets - E, len(mesh.between)
    n, L = E * p, len(mesh.past)
    c, other = np.zeros((outlets * E * P, WIDTH)), np.zeros((outlets * E * P, WIDTH))
    enzymes = np.zeros((4 * E, WIDTH))
    memory, error, drifted = np.zeros((E * P, WIDTH)), np.zeros((E * P, WIDTH)), np.zeros((E * P, WIDTH))
    sums = mesh.inside[:, p - 1, :p].sum(1)
    total = np.zeros((outlets * P, WIDTH))
    own, check = np.zeros((L, n * n, WIDTH)), np.zeros((L, E * n, WIDTH))
    kept = np.zeros((L, count * (p + 1) * n, WIDTH))
    start, x, v, slope = (
        np.zeros((n, WIDTH)),
        np.zeros((n, WIDTH)),
        np.zeros((n, WIDTH)),
        np.zeros((n, WIDTH)),
    )
    J, r, test = np.zeros((n * n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((2, WIDTH))
    values, missed = np.zeros((count * (p + 1), WIDTH)), np.zeros((E, WIDTH))
    here = np.zeros((p + 1, WIDTH))
    driven, drift = np.zeros((p + 1, WIDTH)), np.zeros((E, WIDTH))
    worst = np.zeros((2 * count, WIDTH))
    made = np.zeros(L, np.bool_)
    for low in range(0, B, WIDTH):
        width = min(WIDTH, B - low)
        for o in range(outlets):
            for e in range(E):
                at = (o * E + e) * P
                _gather(bodies.c[o, e], low, width, c[at : at + P])
                _gather(bodies.other[o, e], low, width, other[at : at + P])
        _gather(bodies.Vmax, low, width, enzymes[:E])
        _gather(bodies.Km, low, width, enzymes[E : 2 * E])
        _gather(bodies.unbound, low, width, enzymes[2 * E : 3 * E])
        _gather(bodies.linear, low, width, enzymes[3 * E :])
        memory[:], error[:], drifted[:], worst[:] = 0.0, 0.0, 0.0, 0.0
        values[:], v[:], made[:] = 0.0, 0.0, False
        for number in range(len(mesh.length)):
            length = mesh.length[number]
            past, inside = mesh.past[length], mesh.inside[length]
            if not made[length]:
                made[length] = True
                _respond(inside, c, E, own[length], check[length], kept[length])
            for o in range(outlets):
                for m in range(P):
                    sum_ = splat(0.0)
                    for e in range(E):
                        sum_ += load(c, (o * E + e) * P + m) * load(memory, e * P + m)
                    store(total, o * P + m, sum_)
            for f in range(E):
                first = number * (p + 1)
                _gather(bodies.driven[f, first : first + p + 1], low, width, driven)
                _convolve(past, p + 1, total, f * P, here, 0)
                for i in range(p):
                    store(start, f * p + i, load(driven, i) + load(here, i))
                store(missed, f, load(driven, p) + load(here, p))
            for e in range(E):
                for i in range(p):
                    store(v, e * p + i, load(v, e * p + p - 1))
            _collocate(own[length], start, enzymes, E, p, x, v, slope, J, r, test, mesh.newton)
            for f in range(E):
                between, smooth = load(missed, f), splat(0.0)
                for j in range(n):
                    between += load(check[length], f * n + j) * load(v, j)
                for j in range(p):
                    smooth += mesh.between[j] * load(v, f * p + j)
                flux, _ = _flux(enzymes, f, E, between)
                store(missed, f, flux - smooth)
            for o in range(count):
                store(values, o * (p + 1), load(values, o * (p + 1) + p))
                _convolve(past, p + 1, total, (E + o) * P, here, 0)
                apart = mesh.across[0] * load(values, o * (p + 1))
                for i in range(p + 1):
                    sum_ = load(here, i)
                    for j in range(n):
                        sum_ += load(kept[length], (o * (p + 1) + i) * n + j) * load(v, j)
                    if i < p:
                        store(values, o * (p + 1) + 1 + i, sum_)
                        apart += mesh.across[i + 1] * sum_
                    else:
                        apart -= sum_
                store(worst, o, largest(magnitude(apart), load(worst, o)))
                for out in range(mesh.output[number], mesh.output[number + 1]):
                    sum_ = splat(0.0)
                    for i in range(p + 1):
                        sum_ += mesh.weight[out, i] * load(values, o * (p + 1) + i)
                    store(test, 0, sum_)
                    for lane in range(width):
                        x_out[o, out, low + lane] += test[0, lane]
            for e in range(E):
                for m in range(P):
                    sum_ = past[p - 1, m] * load(memory, e * P + m)
                    for j in range(p):
                        sum_ += inside[p - 1, j, m] * load(v, e * p + j)
                    store(memory, e * P + m, sum_)
            _gather(bodies.drift[:, number], low, width, drift)
            for f in range(E):
                sum_ = load(drift, f)
                for e in range(E):
                    for m in range(P):
                        sum_ += load(other, (f * E + e) * P + m) * load(memory, e * P + m)
                store(drift, f, sum_ * load(slope, f * p + p - 1))
            _estimate(past, inside, sums[length], c, other, memory, error, drifted, missed, drift, worst)
            for e in range(E):
                lost, moved = load(missed, e), load(drift, e)
                for m in range(P):
                    k, decay = e * P + m, past[p - 1, m]
                    store(error, k, decay * load(error, k) + inside[p - 1, p, m] * lost)
                    store(drifted, k, decay * load(drifted, k) + sums[length, m] * moved)
        for o in range(count):
            for lane in range(width):
                off_mesh[o, low + lane] = worst[o, lane]
                off_fit[o, low + lane] = worst[count + o, lane]
