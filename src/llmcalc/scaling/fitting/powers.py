"""A sum of powers in logarithms: ln L = s ln(sum over terms of exp(intercept + slopes x features)).

All forms are of this kind. Features are centred, which makes intercepts and exponents nearly
independent, and the sum is taken with its largest term factored out, so that no start overflows.
Parameters come in batches: R points are evaluated at once over the n rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLOOR = -60.0
"""Logarithm at which a term is as good as absent. [-]"""

STEEPEST, OUTER = 4.0, 5.0
"""Exponents, and logarithms of the outer power, that a search goes to. [-]"""


class Term:
    """One power: its intercept (the logarithm of a coefficient) and what its exponents multiply.

    Parameters
    ----------
    intercept : str
        Name of the coefficient.
    slopes : mapping of str to ndarray
        Exponents by name, and the feature of each row.
    offset : ndarray, optional
        What is added without a parameter.
    """

    def __init__(
        self, intercept: str, slopes: Mapping[str, Array] | None = None, offset: Array | None = None
    ) -> None:
        self.intercept, self.slopes, self.offset = intercept, dict(slopes or {}), offset


class Powers:
    """The form on given rows, with gradient and second derivatives.

    Parameters
    ----------
    terms : sequence of Term
        Terms of the sum.
    rows : int
        Number of rows.
    fixed : mapping of str to float
        Values of parameters that are not fitted: coefficients as they are, not their logarithms.
    scale : str, optional
        Name of the power that the whole sum is raised to; 1 without.
    """

    def __init__(
        self, terms: Sequence[Term], rows: int, fixed: Mapping[str, float] | None = None, scale: str = ""
    ) -> None:
        self.fixed = dict(fixed or {})
        self.scale = scale
        self.rows = rows
        self.intercepts = [term.intercept for term in terms]
        names = [*self.intercepts, *(name for term in terms for name in term.slopes)]
        self.names = [name for name in dict.fromkeys(names) if name not in self.fixed]
        self.powers = len(self.names)
        self.features = np.zeros((len(terms), rows, self.powers))
        self.offsets = np.zeros((len(terms), rows))
        self.centres: list[tuple[str, dict[str, float]]] = []
        for place, term in enumerate(terms):
            self._place(place, term)
        if scale:
            self.names.append(scale)
        reach = [self._reach(name) for name in self.names]
        self.limits = np.array([-one for one in reach]), np.array(reach)
        self.products = np.einsum("knp,knq->knpq", self.features, self.features).reshape(
            len(terms) * rows, self.powers**2
        )

    def _reach(self, name: str) -> float:
        """How far from 0 a coordinate may go: farther, a term is absent or all there is."""
        return OUTER if name == self.scale else -FLOOR if name in self.intercepts else STEEPEST

    def _place(self, place: int, term: Term) -> None:
        """Fill the features of one term: centred where its intercept is free to take the shift up."""
        free = term.intercept not in self.fixed
        offset = np.zeros(self.rows) if term.offset is None else term.offset
        if free:
            self.features[place, :, self.names.index(term.intercept)] = 1.0
        else:
            value = self.fixed[term.intercept]
            offset = offset + (np.log(value) if value > 0 else FLOOR)
        means: dict[str, float] = {}
        for name, feature in term.slopes.items():
            if name in self.fixed:
                offset = offset + self.fixed[name] * feature
                continue
            mean = float(feature.mean()) if free else 0.0
            means[name] = mean
            self.features[place, :, self.names.index(name)] += feature - mean
        shift = float(offset.mean()) if free else 0.0
        self.offsets[place] = offset - shift
        if free:
            self.centres.append((term.intercept, {**means, "": shift}))

    # -- the function ---------------------------------------------------------------------------

    def evaluate(self, theta: Array) -> tuple[Array, Array, Any]:
        """Logarithm of the loss, its gradient, and what `bend` needs.

        Parameters
        ----------
        theta : ndarray of (R, p)
            Points in the form's own coordinates.

        Returns
        -------
        tuple
            (R, n), (R, n, p), and a cache.
        """
        linear = theta[:, : self.powers]
        each = np.einsum("knp,rp->rkn", self.features, linear, optimize=True)
        each += self.offsets
        top = each.max(axis=1, keepdims=True)
        each -= top
        np.exp(each, out=each)
        total = each.sum(axis=1, keepdims=True)
        each /= total  # the shares of the terms
        value = np.log(total[:, 0]) + top[:, 0]
        # One product for each row: (R, K) x (K, p).
        gradient = np.matmul(each.transpose(2, 0, 1), self.features.transpose(1, 0, 2)).transpose(1, 0, 2)
        if not self.scale:
            return value, gradient, (each, gradient)
        power = np.exp(theta[:, -1])[:, None]
        whole = np.concatenate([power[..., None] * gradient, (power * value)[..., None]], axis=2)
        return power * value, whole, (each, gradient, power, value)

    def value(self, theta: Array) -> Array:
        """Logarithm of the loss alone. (R, n)"""
        each = np.einsum("knp,rp->rkn", self.features, theta[:, : self.powers], optimize=True)
        each += self.offsets
        top = each.max(axis=1)
        each -= top[:, None]
        np.exp(each, out=each)
        value: Array = np.log(each.sum(axis=1)) + top
        if self.scale:
            value *= np.exp(theta[:, -1])[:, None]
        return value

    def bend(self, theta: Array, weights: Array, cache: Any) -> Array:
        """Second derivatives of the logarithm, summed over rows with weights. (R, p, p)"""
        shares, gradient = cache[0], cache[1]
        if self.scale:
            weights = weights * cache[2]
        mixed = (shares * weights[:, None, :]).reshape(len(theta), -1) @ self.products
        outer = np.matmul((gradient * weights[..., None]).transpose(0, 2, 1), gradient)
        inner: Array = mixed.reshape(len(theta), self.powers, self.powers) - outer
        if not self.scale:
            return inner
        whole = np.zeros((len(theta), self.powers + 1, self.powers + 1))
        whole[:, :-1, :-1] = inner
        side = np.einsum("rn,rnp->rp", weights, gradient)
        whole[:, -1, :-1] = whole[:, :-1, -1] = side
        whole[:, -1, -1] = (weights * cache[3]).sum(axis=1)
        return whole

    # -- coordinates ----------------------------------------------------------------------------

    def public(self, theta: Array) -> dict[str, Array]:
        """Coefficients and exponents of points: no longer centred, no longer logarithms. (R,) each"""
        own = {name: theta[:, place] for place, name in enumerate(self.names)}
        for intercept, means in self.centres:
            own[intercept] = own[intercept] - means[""]
            for name, mean in means.items():
                if name:
                    own[intercept] = own[intercept] - mean * theta[:, self.names.index(name)]
        for name in [*self.intercepts, self.scale]:
            if name in own:
                own[name] = np.exp(np.clip(own[name], -700, 700))
        held = {name: np.full(len(theta), value) for name, value in self.fixed.items()}
        return {**own, **held}

    def own(self, values: Mapping[str, Any]) -> Array:
        """The form's own coordinates of coefficients and exponents. (R, p)"""
        columns = [np.atleast_1d(np.asarray(values[name], dtype=float)) for name in self.names]
        theta = np.stack(np.broadcast_arrays(*columns), axis=1).copy()
        for name in [*self.intercepts, self.scale]:
            if name in self.names:
                place = self.names.index(name)
                with np.errstate(divide="ignore"):
                    theta[:, place] = np.maximum(np.log(theta[:, place]), FLOOR * 10)
        for intercept, means in self.centres:
            place = self.names.index(intercept)
            theta[:, place] += means[""]
            for name, mean in means.items():
                if name:
                    theta[:, place] += mean * theta[:, self.names.index(name)]
        return theta
