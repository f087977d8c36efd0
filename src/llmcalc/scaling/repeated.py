"""Repeated tokens and parameters in excess, as formulas."""

from __future__ import annotations

from llmcalc.formula import Quantity, exp, formula


@formula
def repeated_value(U: Quantity, R: Quantity, R_star: Quantity) -> Quantity:
    """What U units and R repetitions of them are worth in fresh units.

    Parameters
    ----------
    U : number or ndarray
        Unique tokens, or the parameters that suit them. [tokens] or [params]
    R : number or ndarray
        Repetitions after the first pass, 0 for one epoch; of parameters the excess over U, as N/U - 1. [-]
    R_star : float
        Repetitions after which a unit has lost 1 - 1/e of its worth. [-]

    Returns
    -------
    float or ndarray
        The worth; at most U (1 + R_star). [as U]

    Notes
    -----
    Fitted up to 1,500 epochs of C4. Past some 4 epochs repeating is clearly worse than fresh tokens.

    Examples
    --------
    Four epochs of 100 B tokens are worth 373 B fresh ones:

    >>> round(repeated_value(100.0, 3, 15.387756))
    373

    References
    ----------
    .. [1] N. Muennighoff et al., "Scaling Data-Constrained Language Models", 2023, Appendix A, eqs. 16 to 20.
    """
    return U + U * R_star * (1 - exp(-R / R_star))
