"""Sparse LU of a batch against dense LU."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.graph import GRAPHS
from pbpk.sparse_lu import SparseLU
from pbpk.topology import assemble


@given(st.data(), st.integers(1, 9), st.integers(1, 3))
def test_a_diagonally_dominant_system_of_any_pattern_is_solved_as_densely(data, n, B):
    places = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=4 * n))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    off = torch.rand(len(places), B, generator=generator, dtype=torch.float64) - 0.5
    rows, columns = [i for i, _ in places] + [*range(n)], [j for _, j in places] + [*range(n)]
    values = torch.cat([off, torch.full((n, B), 1.0 + len(places), dtype=torch.float64)])
    dense = torch.zeros(B, n * n, dtype=torch.float64)
    dense.index_add_(1, torch.tensor([i * n + j for i, j in zip(rows, columns, strict=True)]), values.T)
    b = torch.rand(n, B, generator=generator, dtype=torch.float64)
    lu = SparseLU(n, rows, columns)
    x = lu.solve(lu.factor(lu.gather(values)), b)
    torch.testing.assert_close(x.T, torch.linalg.solve(dense.reshape(B, n, n), b.T), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name, fill", [("whole-body", 5), ("lumped", 3)])
def test_the_circulation_is_factored_with_hardly_any_fill_in(name, fill, man, drug):
    system = assemble(GRAPHS[name], man, drug)
    rows, columns, _ = system.entries()
    n = len(system.states)
    given_places = {*zip(rows.tolist(), columns.tolist(), strict=True), *((i, i) for i in range(n))}
    lu = SparseLU(n, rows.tolist(), columns.tolist())
    assert len(lu.gather(torch.ones(len(rows), 1))) - len(given_places) <= fill


def test_the_solution_is_differentiable_in_the_matrix_and_the_right_hand_side():
    lu = SparseLU(3, [0, 1, 2, 0, 1, 2, 2], [0, 1, 2, 1, 2, 0, 1])
    values = torch.tensor([4.0, 5.0, 6.0, 1.0, -1.0, 2.0, 0.5], dtype=torch.float64).unsqueeze(-1)
    b = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)

    def solve(values, b):
        return lu.solve(lu.factor(lu.gather(values)), b)

    assert torch.autograd.gradcheck(solve, (values.requires_grad_(), b.requires_grad_()))
