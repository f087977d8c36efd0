"""`llmcalc.fit_law`: a scaling law fitted to runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmcalc.answer.fit_law import LawFit


def fit_law(
    data: Any,
    *,
    form: str = "chinchilla",
    approach: int | None = None,
    loss: str | None = None,
    delta: float | None = None,
    residual: str | None = None,
    fix: Mapping[str, float] | str | None = None,
    tied: bool = False,
    along: str | None = None,
    bootstrap: int = 1000,
    resample: str | None = None,
    level: float = 0.95,
    seed: int = 0,
    compute: Any = None,
    unique_tokens: Any = None,
    experts: Any = None,
    holdout: Any = None,
    params_col: str | None = None,
    tokens_col: str | None = None,
    loss_col: str | None = None,
    compute_col: str | None = None,
    run_col: str | None = None,
    unique_col: str | None = None,
    experts_col: str | None = None,
    sd_col: str | None = None,
    params_convention: str | None = None,
    params_unit: float | None = None,
    tokens_unit: float | None = None,
    compute_unit: float | None = None,
    unique_unit: float | None = None,
    where: str | Sequence[str] | None = None,
    skip_invalid: bool = False,
    executor: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> LawFit:
    """Fit a scaling law to training runs, with intervals for all that follows from it.

    Parameters
    ----------
    data : str, path, DataFrame, dict of arrays or list of dicts
        Runs: a CSV, JSON lines or Parquet file (``-`` is standard input), or a table in memory. Columns of
        usual names (N, D, C, loss, params, tokens, flops ...) are found; of N, D and C two are enough.
    form : str
        ``chinchilla``, ``kaplan``, ``power-law`` (of one quantity, with an offset), ``data-constrained``,
        ``moe``, or ``allocation`` (lines through optima that are given).
    approach : int
        1: envelope of training curves; 2: a parabola at each budget; 3 (the default): the form on all runs.
    loss : str
        ``huber`` (the default), ``l1`` or ``l2``.
    delta : float
        Where Huber's loss turns linear; 0.001. [-]
    residual : str
        ``log`` (the default): ln(predicted / measured); ``linear``: predicted less measured.
    fix : mapping or str, optional
        Parameters that are held: ``{"alpha": 0.34}`` or ``alpha=0.34,E=1.69``.
    tied : bool
        Whether beta is alpha.
    along : str
        Of the power law: ``compute`` (the default), ``params`` or ``tokens``.
    bootstrap : int
        Resamples; 0 for none. [-]
    resample : str
        ``rows`` (the default), or ``runs`` where several rows are checkpoints of one run.
    level : float
        Of the intervals. [-]
    seed : int
        Of the bootstrap; the same seed gives the same samples, whatever runs them.
    compute : float or sequence, optional
        Budgets to give the optimum for; by default three near the largest of the data. [FLOP]
    unique_tokens, experts : float, optional
        For optima of the data-constrained form and of mixtures of experts. [tokens], [-]
    holdout : float, optional
        Compute from which rows are held out to test the fit; by default about a tenth of the rows. [FLOP]
    params_col, tokens_col, loss_col, compute_col, run_col, unique_col, experts_col, sd_col : str, optional
        Names of columns; ``none`` for a compute column that is not to be used. `sd_col` holds the standard
        error of the logarithm of given optima.
    params_convention : str, optional
        How parameters are counted: ``total``, ``non-embedding``, ``active`` or ``matmul``.
    params_unit, tokens_unit, compute_unit, unique_unit : float, optional
        What one of a column stands for, such as 1e6 for parameters in millions.
    where : str or sequence of str, optional
        Conditions on rows: ``dataset=c4``, ``C<1e21``.
    skip_invalid : bool
        Whether rows with missing or impossible values are left out instead of refused.
    executor : optional
        Anything with the ``submit`` of ``concurrent.futures``: a pool of processes, a Dask client.
    progress : callable, optional
        Is told how many resamples of how many are done.

    Returns
    -------
    LawFit
        With ``params``, ``objective``, ``intervals``, ``optimum(compute=...)``, ``predict(...)``,
        ``holdout``, ``outliers``, ``leverage``, and the shapes of a report.

    Raises
    ------
    LlmcalcError
        For data that can't be read, or that can't tell what is asked.

    Notes
    -----
    The objective is a sum over rows. Exponents are searched on a grid with coefficients solved for
    (variable projection); from its best cells damped Newton steps with analytic derivatives lead to minima
    for smaller and smaller delta. Intervals are percentiles of a bootstrap, widened a little for few rows.

    Examples
    --------
    Points that lie on a law give its parameters back:

    >>> import numpy as np
    >>> n, d = np.meshgrid(np.geomspace(1e8, 1e10, 6), np.geomspace(1e9, 1e12, 6))
    >>> n, d = n.ravel(), d.ravel()
    >>> runs = {"N": n, "D": d, "loss": 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28}
    >>> found = fit_law(runs, bootstrap=0)
    >>> {name: round(value, 4) for name, value in found.params.items()}
    {'E': 1.69, 'A': 406.4, 'B': 410.7, 'alpha': 0.34, 'beta': 0.28}

    At Gopher's compute these parameters, printed with few digits, mean 93 tokens a parameter:

    >>> round(found.optimum(compute=5.76e23).tokens_per_param, 2)
    92.65

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, equations 2 and 3.
    .. [2] T. Besiroglu et al., "Chinchilla Scaling: A Replication Attempt", 2024, Table 1.
    """
    asked = dict(locals())
    source = asked.pop("data")
    from llmcalc.answer.fit_law_run import fit

    return fit(source, asked)
