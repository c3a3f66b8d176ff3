r"""The hierarchical power law: species and quantities lend each other strength, relatives most.

For quantity :math:`q` of species :math:`s`, with :math:`x = \ln BW` less the mean over the species known,

.. math:: \ln X_{sq} = a_q + b_q x_s + u_{sq} + \lambda_{qk} z_{sk} + \epsilon_{sq}

- :math:`a_q` is free; :math:`b_q \sim N(\beta_q, \tau_k^2)` around the fixed exponents, :math:`k` the kind of
  quantity (mass, flow, rate, haematocrit): partial pooling.
- :math:`u` is what the power law misses: :math:`\mathrm{cov}(u_{sq}, u_{s'q'}) = C_{ss'} \, \sigma_q
  R_{qq'} \sigma_{q'}`. The clade kernel :math:`C = \sum_l w_l [l(s) = l(s')]` counts the taxa that two
  species share; in :math:`R` the flows share one factor, and the mass and the flow of an organ another.
- :math:`z_{sk}` is how far species :math:`s` lies off the mammals' line in brain mass, metabolic rate,
  heart or breathing rate, as a thousand species foretell it (:mod:`allometry.clade`). The brain's mass
  follows it whole, its flow and the cardiac output in part; the rates are quantities of their own, for
  conditioning.
- :math:`\epsilon` is the disagreement of the sources (:mod:`allometry.consensus`).

All is normal, so what is known of a species conditions the rest exactly. The sums, masses to BW and flows
to CO, are observed too: the conditional mean is found by Gauss-Newton, and stays a normal distribution. The
deviations :math:`\sigma, \tau, w` and the shares in :math:`R` maximise the posterior probability; all folds
of a leave-one-out are found at once, as one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from allometry.clade import Clades, same_taxon
from allometry.consensus import Consensus
from allometry.mammals import HEADS
from allometry.power import fixed_exponents
from allometry.species import FLOWS, MASSES, QUANTITIES
from allometry.taxonomy import TAXA, Taxon

NAMES: tuple[str, ...] = (*QUANTITIES, *HEADS[1:])
_KINDS = torch.tensor(
    [0 if n.startswith("M_") else 1 if n.startswith("Q_") else 3 if n == "HCT" else 2 for n in NAMES]
)
# Loads: the brain's mass is the head itself; its flow follows, less than in proportion, as small brains burn
# more per gram; the cardiac output follows the oxygen it carries (Fick), among much else. [ours]
_DRIVEN = {
    "M_brain": ("brain", 1.0),
    "Q_brain": ("brain", 0.8),
    "CO": ("BMR", 0.3),
    **{head: (head, 1.0) for head in HEADS[1:]},
}
_WHOLE = torch.tensor([_DRIVEN.get(n, ("", 0.0))[1] == 1.0 for n in NAMES])  # have no law of their own
_BRAIN_SD = 0.15  # of ln M_brain: laboratory strains against wild species [ours]
_DRIVEN_SD = torch.tensor([_BRAIN_SD * (n == "M_brain") for n in NAMES], dtype=torch.float64)
_SIGMA = (-0.9, -0.8, -1.2, -2.8)  # ln of the deviation of each kind before any data [ours]
_SIGMA_SD, _SIGMA_OWN_SD = 0.7, 0.3  # of ln sigma: of a kind, of a quantity within its kind [ours]
_TAU, _TAU_SD = -2.5, 0.5  # ln tau: exponents differ by 0.08 [ours]
_LEVELS = 4  # superorder, order, family, the species itself
_LOGIT_SD = 1.5  # of the weights w and of the shares in R [ours]
_FLAT = 25.0
_STEPS = 60
_SUM_SD = 0.02  # of ln of a sum: the rest is in it, so it holds but for the normal approximation [ours]
_ROUNDS = 20


@dataclass(frozen=True)
class Hyper:
    """The deviations and shares of the model.

    Attributes:
        sigma: Of the residuals by name, with shape (*, p).
        tau: Of the exponents by name, with shape (*, p).
        level: Of the clade kernel, with shape (*, 4), summing to one.
        share: Of each quantity's own, of all flows', and of an organ's variance, with shape (*, 3).
    """

    sigma: Tensor
    tau: Tensor
    level: Tensor
    share: Tensor

    def __getitem__(self, which: int) -> Hyper:
        """Returns the hyperparameters of one fold."""
        return Hyper(self.sigma[which], self.tau[which], self.level[which], self.share[which])


@dataclass(frozen=True)
class Normal:
    r"""A normal distribution of :math:`\ln` of :data:`NAMES`.

    Attributes:
        mean: With shape :math:`(*, p)`.
        cov: With shape (p, p).
    """

    mean: Tensor
    cov: Tensor

    @property
    def sd(self) -> Tensor:
        """The standard deviations, with shape (p,)."""
        return self.cov.diagonal().clamp(min=0.0).sqrt()

    def given(self, known: Mapping[str, tuple[float, float]]) -> Normal:
        """Conditions on measurements.

        Arguments:
            known: By name, the logarithm of the value and its standard deviation.
        """
        if not known:
            return self
        at = [NAMES.index(name) for name in known]
        values = self.mean.new_tensor(list(known.values()))
        gain = torch.linalg.solve(self.cov[at][:, at] + torch.diag(values[:, 1] ** 2), self.cov[at]).T
        mean = self.mean + (values[:, 0] - self.mean[..., at]) @ gain.T
        return Normal(mean, self.cov - gain @ self.cov[at])

    def onto_sums(self, values: Tensor, x: float) -> Tensor:
        r"""Moves vectors until their sums hold, masses to BW and flows to CO: the least certain moves most.

        .. math:: v \leftarrow v_0 - C H^\top (H C H^\top + s^2 I)^{-1} (h(v) + H (v_0 - v)),

        with :math:`h` the excesses of the logarithms of the two sums and :math:`H` their slope: Gauss-Newton.
        A draw of this distribution becomes one of the distribution conditioned on the sums.

        Arguments:
            values: The logarithms of :data:`NAMES`, with shape (n, p).
            x: :math:`\ln BW` [kg].

        Returns:
            The vectors moved, with shape (n, p).
        """
        at, noise = values, _SUM_SD**2 * torch.eye(2, dtype=values.dtype)
        for _ in range(_ROUNDS):
            excess, slope = _sums(at, x)
            spread = self.cov @ slope.mT
            wrong = excess + (slope @ (values - at).unsqueeze(-1)).squeeze(-1)
            step = torch.linalg.solve(slope @ spread + noise, wrong.unsqueeze(-1))
            at = values - (spread @ step).squeeze(-1)
        return at

    def closed(self, x: float) -> Normal:
        r"""Conditions on the sums: masses to BW, flows to CO.

        Arguments:
            x: :math:`\ln BW` [kg].
        """
        mean = self.onto_sums(self.mean.unsqueeze(0), x)
        slope = _sums(mean, x)[1].squeeze(0)
        noise = _SUM_SD**2 * torch.eye(2, dtype=mean.dtype)
        gain = self.cov @ slope.T @ torch.linalg.inv(slope @ self.cov @ slope.T + noise)
        return Normal(mean.squeeze(0), self.cov - gain @ slope @ self.cov)


@dataclass(frozen=True)
class Hierarchical:
    """The model, learnt from some species.

    Attributes:
        known: The species it has learnt from.
        taxa: Where they stand.
        clades: The mammals' law of each of :data:`allometry.mammals.HEADS`.
        hyper: Its deviations and shares, of one fold.
    """

    known: Consensus
    taxa: tuple[Taxon, ...]
    clades: Mapping[str, Clades]
    hyper: Hyper

    def predict(
        self, x: Tensor, taxa: Sequence[Taxon], shift: Tensor | None = None, closing: bool = True
    ) -> list[Normal]:
        r"""Foretells species.

        Arguments:
            x: :math:`\ln BW` [kg], with shape (m,).
            taxa: Where they stand, m of them.
            shift: What the members of an ensemble add to the prior mean of the species known and then of
                these, with shape (e, s + m, p); None is nothing. Their disagreement adds to the variance.
            closing: Whether the sums are observed.

        Returns:
            Of each, the distribution of the logarithms of :data:`NAMES`.
        """
        s, m, p = len(self.known.x), len(x), len(NAMES)
        every = torch.cat([self.known.x, x])
        mean, cov = prior(every, (*self.taxa, *taxa), self.clades, self.hyper, self.known.x.mean())
        mean = mean + (mean.new_zeros(1, (s + m) * p) if shift is None else shift.flatten(-2))  # (e, ...)
        y, var = observations(self.known)
        seen = torch.isfinite(var.reshape(-1)).nonzero().squeeze(-1)
        new = torch.arange(s * p, (s + m) * p)
        within = cov[seen][:, seen] + torch.diag(var.reshape(-1)[seen])
        gain = torch.linalg.solve(within, cov[seen][:, new]).T
        each = mean[:, new] + (y.reshape(-1)[seen] - mean[:, seen]) @ gain.T
        mean_new, apart = each.mean(0), each - each.mean(0)
        cov_new = cov[new][:, new] - gain @ cov[seen][:, new] + apart.T @ apart / len(each)
        found = []
        for i in range(m):
            own = slice(i * p, (i + 1) * p)
            normal = Normal(mean_new[own], cov_new[own, own])
            found.append(normal.closed(x[i].item()) if closing else normal)
        return found


def _sums(values: Tensor, x: float) -> tuple[Tensor, Tensor]:
    """Returns by how much the logarithms of the sums are off, (n, 2), and their slope, (n, 2, p)."""
    masses, flows = ([NAMES.index(name) for name in names] for names in (MASSES, FLOWS))
    CO = NAMES.index("CO")
    slope = values.new_zeros(len(values), 2, values.shape[-1])
    slope[:, 0, masses] = torch.softmax(values[:, masses], -1)
    slope[:, 1, flows] = torch.softmax(values[:, flows], -1)
    slope[:, 1, CO] = -1.0
    excess = [values[:, masses].logsumexp(-1) - x, values[:, flows].logsumexp(-1) - values[:, CO]]
    return torch.stack(excess, -1), slope


def observations(known: Consensus) -> tuple[Tensor, Tensor]:
    """Returns the logarithms of :data:`NAMES` and their variance, infinite where unknown, each (s, p)."""
    s, more = len(known.x), len(NAMES) - len(QUANTITIES)
    y = torch.cat([known.y, known.y.new_zeros(s, more)], -1)
    var = torch.cat([known.sd**2, known.sd.new_full((s, more), torch.inf)], -1)
    return y, var


def prior(
    x: Tensor, taxa: Sequence[Taxon], clades: Mapping[str, Clades], hyper: Hyper, centre: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Returns the mean and the covariance before any body is seen.

    Arguments:
        x: :math:`\ln BW` [kg], with shape (s,).
        taxa: Where the species stand.
        clades: The mammals' laws.
        hyper: The deviations and shares, with batch shape :math:`(*)`.
        centre: The :math:`\ln BW` at which the intercepts are taken, with shape :math:`(*)`.

    Returns:
        The mean, with shape :math:`(*, s p)`, and the covariance, with shape :math:`(*, s p, s p)`.
    """
    s, p = len(x), len(NAMES)
    dx = x - centre.unsqueeze(-1)  # (*, s)
    batch = dx.shape[:-1]
    beta = torch.cat([fixed_exponents(), torch.zeros(p - len(QUANTITIES), dtype=x.dtype)])
    mean = dx.unsqueeze(-1) * beta.masked_fill(_WHOLE, 0.0)
    level = torch.cat([same_taxon(taxa)[:3], torch.eye(s).unsqueeze(0)]).to(x)
    kinship = torch.einsum("...l,lij->...ij", hyper.level, level)
    sigma = torch.where(_WHOLE, _DRIVEN_SD, hyper.sigma)
    residual = sigma.unsqueeze(-1) * _correlation(hyper.share) * sigma.unsqueeze(-2)
    cov = torch.einsum("...ij,...qr->...iqjr", kinship, residual)
    slopes = hyper.tau.unsqueeze(-2).unsqueeze(-2) ** 2
    law = (_FLAT + slopes * (dx.unsqueeze(-1) * dx.unsqueeze(-2)).unsqueeze(-1)) * ~_WHOLE
    cov = cov + torch.einsum("...ijq,qr->...iqjr", law, torch.eye(p, dtype=x.dtype))
    drivers, drift = _drivers(x, taxa, clades)
    mean = (mean + drift).reshape(*batch, s * p)
    return mean, cov.reshape(*batch, s * p, s * p) + drivers


def _drivers(x: Tensor, taxa: Sequence[Taxon], clades: Mapping[str, Clades]) -> tuple[Tensor, Tensor]:
    """Returns the covariance and the mean that the mammals' laws bring, with shapes (s p, s p) and (s, p)."""
    s, p = len(x), len(NAMES)
    cov, mean = x.new_zeros(s, p, s, p), x.new_zeros(s, p)
    for head, law in clades.items():
        driven = [_DRIVEN.get(name, ("", 0.0)) for name in NAMES]
        load = x.new_tensor([share if driver == head else 0.0 for driver, share in driven])
        centre, spread, line = law.at(x, taxa)
        cov += torch.einsum("ij,q,r->iqjr", spread, load, load)
        whole = load == 1.0
        mean += torch.where(whole, centre.unsqueeze(-1), load * (centre - line).unsqueeze(-1)) * (load > 0)
    return cov.reshape(s * p, s * p), mean


def _correlation(share: Tensor) -> Tensor:
    """Returns R with shape (*, p, p): each quantity's own, one factor of all flows, one of each organ."""
    eye = torch.eye(len(NAMES), dtype=share.dtype)
    flow = torch.tensor([n.startswith("Q_") or n == "CO" for n in NAMES])
    organ = ["kidney" if n == "GFR" else n[2:] if n[:2] in ("M_", "Q_") else n for n in NAMES]
    organs = torch.tensor([[a == b for a in organ] for b in organ]).to(share)
    flows = torch.where(flow.unsqueeze(-1) & flow, 1.0, eye)
    return torch.einsum("...k,kqr->...qr", share, torch.stack([eye, flows, organs]))


def fit_hyper(known: Consensus, clades: Mapping[str, Clades], weights: Tensor) -> Hyper:
    r"""Finds the hyperparameters of several folds at once.

    Arguments:
        known: Every species.
        clades: The mammals' laws.
        weights: Which species each fold may see, bool with shape (f, s).

    Returns:
        The hyperparameters, with batch shape (f,).
    """
    folds = len(weights)
    start = torch.tensor(_SIGMA, dtype=torch.float64)
    raw = {
        "kind": start.expand(folds, 4).clone(),
        "own": torch.zeros(folds, len(NAMES), dtype=torch.float64),
        "tau": torch.full((folds, 4), _TAU, dtype=torch.float64),
        "level": torch.zeros(folds, _LEVELS, dtype=torch.float64),
        "share": torch.zeros(folds, 3, dtype=torch.float64),
    }
    for value in raw.values():
        value.requires_grad_()
    taxa = tuple(TAXA[name] for name in known.species)
    w = weights.double()
    centre = (w * known.x).sum(-1) / w.sum(-1)
    y, var = observations(known)
    mask = (weights.unsqueeze(-1) & torch.isfinite(var)).reshape(folds, -1).double()
    noise = torch.where(torch.isfinite(var), var, 0.0).reshape(-1)

    def loss() -> Tensor:
        hyper = _hyper(raw)
        mean, cov = prior(known.x, taxa, clades, hyper, centre)
        seen = mask.unsqueeze(-1) * mask.unsqueeze(-2)
        cov = seen * (cov + torch.diag(noise)) + torch.diag_embed(1.0 - mask)
        factor = torch.linalg.cholesky(cov)
        left = (mask * (y.reshape(-1) - mean)).unsqueeze(-1)
        white = torch.linalg.solve_triangular(factor, left, upper=False)
        misfit = 0.5 * (white**2).sum() + factor.diagonal(dim1=-2, dim2=-1).log().sum()
        return misfit + _penalty(raw, start)

    optimiser = torch.optim.LBFGS(list(raw.values()), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    return _hyper({name: value.detach() for name, value in raw.items()})


def _hyper(raw: Mapping[str, Tensor]) -> Hyper:
    return Hyper(
        sigma=(raw["kind"][..., _KINDS] + raw["own"]).exp(),
        tau=raw["tau"][..., _KINDS].exp(),
        level=torch.softmax(raw["level"], -1),
        share=torch.softmax(raw["share"], -1),
    )


def _penalty(raw: Mapping[str, Tensor], start: Tensor) -> Tensor:
    def square(value: Tensor, sd: float) -> Tensor:
        return 0.5 * ((value / sd) ** 2).sum()

    return (
        square(raw["kind"] - start, _SIGMA_SD)
        + square(raw["own"], _SIGMA_OWN_SD)
        + square(raw["tau"] - _TAU, _TAU_SD)
        + square(raw["level"], _LOGIT_SD)
        + square(raw["share"], _LOGIT_SD)
    )


def fit_folds(known: Consensus, clades: Mapping[str, Clades], weights: Tensor) -> list[Hierarchical]:
    """Returns the model of each fold; arguments as of :func:`fit_hyper`."""
    hyper = fit_hyper(known, clades, weights)
    models = []
    for fold, seen in enumerate(weights.tolist()):
        which = [i for i, kept in enumerate(seen) if kept]
        taxa = tuple(TAXA[known.species[i]] for i in which)
        models.append(Hierarchical(known[which], taxa, clades, hyper[fold]))
    return models
