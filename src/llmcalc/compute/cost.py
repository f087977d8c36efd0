"""Time, energy and money of a run: the leaf formulas."""

from __future__ import annotations

from llmcalc.formula import Quantity, ceil_div, formula


@formula
def gpu_hours(flops: Quantity, peak: Quantity, used: Quantity) -> Quantity:
    """Hours of one GPU that a number of operations takes.

    Parameters
    ----------
    flops : float or ndarray
        Operations. [FLOP]
    peak : float
        Dense peak of one GPU. [FLOP/s]
    used : float or ndarray
        Share of it that is used over all hours: MFU, less what is lost to interruptions. [-]

    Returns
    -------
    float or ndarray
        GPU-hours. [h]

    Examples
    --------
    Llama-2-70B's card has 1,720,320 hours of A100 for 2 T tokens, 42.9 % of their peak over all hours:

    >>> round(gpu_hours(6 * 69e9 * 2e12, 312e12, 0.4285), -3)
    1720000.0

    References
    ----------
    .. [1] H. Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023, table 2.
    """
    return flops / (peak * used) / 3600


@formula
def wall_days(hours: Quantity, gpus: Quantity) -> Quantity:
    """Days that GPU-hours take on a number of GPUs.

    Parameters
    ----------
    hours, gpus : float or ndarray
        GPU-hours, and GPUs. [h], [-]

    Returns
    -------
    float or ndarray
        Days. [d]

    Examples
    --------
    Llama-2-70B's 1,720,320 GPU-hours on 6,000 GPUs:

    >>> round(wall_days(1_720_320, 6000), 1)
    11.9

    References
    ----------
    .. [1] H. Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023, table 2.
    """
    return hours / gpus / 24


@formula
def deadline_gpus(hours: Quantity, days: Quantity) -> Quantity:
    """GPUs that do a number of GPU-hours within some days.

    Parameters
    ----------
    hours, days : float or ndarray
        GPU-hours, and days. [h], [d]

    Returns
    -------
    float or ndarray
        GPUs, rounded up. [-]

    Notes
    -----
    As if more GPUs lost nothing to communication.

    Examples
    --------
    >>> deadline_gpus(1_720_320, 12)
    5974

    References
    ----------
    .. [1] H. Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023, table 2.
    """
    return ceil_div(hours, days * 24)


@formula
def energy_kwh(hours: Quantity, watts: Quantity, share: Quantity, pue: Quantity) -> Quantity:
    """Energy of GPU-hours, with what the building takes besides.

    Parameters
    ----------
    hours : float or ndarray
        GPU-hours. [h]
    watts : float
        Power of a GPU at its limit (TDP). [W]
    share : float
        Share of it that is drawn on average. [-]
    pue : float
        Power usage effectiveness: energy of the building for each unit of the machines. [-]

    Returns
    -------
    float or ndarray
        Energy. [kWh]

    Examples
    --------
    LLaMA 7B, 82,432 hours of A100 at 400 W and a PUE of 1.1: the 36 MWh of its table.

    >>> round(energy_kwh(82_432, 400, 1, 1.1) / 1000)
    36

    References
    ----------
    .. [1] H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, table 15.
    """
    return hours * watts * share * pue / 1000


@formula
def emissions_t(kwh: Quantity, grams: Quantity) -> Quantity:
    """Carbon dioxide of an amount of energy.

    Parameters
    ----------
    kwh : float or ndarray
        Energy. [kWh]
    grams : float
        Intensity of the grid. [g/kWh]

    Returns
    -------
    float or ndarray
        Tonnes of CO2 equivalent. [t]

    Examples
    --------
    LLaMA 7B: 36 MWh at 385 g/kWh are 14 t.

    >>> round(emissions_t(36_270, 385))
    14

    References
    ----------
    .. [1] H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, table 15.
    """
    return kwh * grams / 1e6


@formula
def run_price(hours: Quantity, price: Quantity) -> Quantity:
    """Price of GPU-hours.

    Parameters
    ----------
    hours, price : float or ndarray
        GPU-hours, and the price of one. [h], [money/h]

    Returns
    -------
    float or ndarray
        Price. [money]

    Examples
    --------
    DeepSeek-V3's pre-training, 2,664,000 hours of H800 at $2:

    >>> run_price(2_664_000, 2.0)
    5328000.0

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024, table 1.
    """
    return hours * price


@formula
def price_per_million(price: Quantity, gpus: Quantity, throughput: Quantity, busy: Quantity) -> Quantity:
    """Price of a million tokens served.

    Parameters
    ----------
    price, gpus : float or ndarray
        Price of a GPU-hour, and GPUs. [money/h], [-]
    throughput : float or ndarray
        Tokens in a second, of all GPUs together, while they work. [tokens/s]
    busy : float
        Share of the time in which they work. [-]

    Returns
    -------
    float or ndarray
        Price of a million tokens. [money]

    Examples
    --------
    2,500 tokens/s on one GPU at $2 an hour:

    >>> round(price_per_million(2, 1, 2500, 1), 3)
    0.222

    References
    ----------
    .. [1] Arithmetic.
    """
    return price * gpus / (throughput * busy * 3600) * 1e6


@formula
def tuning_tokens(examples: Quantity, context: Quantity, epochs: Quantity) -> Quantity:
    """Tokens of a fine-tuning run.

    Parameters
    ----------
    examples, epochs : float or ndarray
        Examples, and how often each is seen. [-]
    context : int or ndarray
        Tokens of an example, padding included. [tokens]

    Returns
    -------
    float or ndarray
        Tokens. [tokens]

    Examples
    --------
    Alpaca: 52,000 examples padded to 512, three epochs.

    >>> tuning_tokens(52_000, 512, 3)
    79872000

    References
    ----------
    .. [1] R. Taori et al., "Stanford Alpaca", 2023, README.
    """
    return examples * context * epochs


@formula
def tuning_steps(examples: Quantity, epochs: Quantity, batch: Quantity) -> Quantity:
    """Optimizer steps of a fine-tuning run.

    Parameters
    ----------
    examples, epochs, batch : int or ndarray
        Examples, how often each is seen, and sequences of a step over all GPUs. [-]

    Returns
    -------
    int or ndarray
        Steps, the last one of each run perhaps smaller. [-]

    Examples
    --------
    >>> tuning_steps(52_000, 3, 128)
    1219

    References
    ----------
    .. [1] R. Taori et al., "Stanford Alpaca", 2023, README.
    """
    return ceil_div(examples * epochs, batch)


@formula
def token_file_bytes(tokens: Quantity, width: Quantity) -> Quantity:
    """Bytes of a file of token ids.

    Parameters
    ----------
    tokens : int or ndarray
        Tokens. [tokens]
    width : int
        Bytes of an id: 2 up to 65,536 words of vocabulary, 4 above. [B]

    Returns
    -------
    int or ndarray
        Bytes. [B]

    Examples
    --------
    nanoGPT's OpenWebText, 9.04 B tokens of GPT-2's vocabulary: about 17 GB.

    >>> token_file_bytes(9_035_582_198, 2)
    18071164396

    References
    ----------
    .. [1] A. Karpathy, nanoGPT, data/openwebtext/prepare.py, 2023: uint16, 9,035,582,198 tokens.
    """
    return tokens * width


@formula
def checkpoint_file_bytes(
    parameters: Quantity, trained: Quantity, width: Quantity, states: Quantity
) -> Quantity:
    """Bytes of a checkpoint: weights, and what a run needs to go on.

    Parameters
    ----------
    parameters, trained : int or ndarray
        Parameters that are stored, and those with optimizer states. [-]
    width, states : int
        Bytes of a stored weight, and of the states of a trained one. [B]

    Returns
    -------
    int or ndarray
        Bytes. [B]

    Examples
    --------
    BLOOM, 176 B parameters: 329 GB of bf16 weights, and 2.3 TB with fp32 weights and two Adam states.

    >>> [round(checkpoint_file_bytes(176_247_271_424, n, 2, 12) / 2**30) for n in (0, 176_247_271_424)]
    [328, 2298]

    References
    ----------
    .. [1] S. Bekman, "The Technology Behind BLOOM Training", 2022: 329 GB and 2.3 TB.
    """
    return parameters * width + trained * states


@formula
def default_utilization(base: Quantity, parameters: Quantity) -> Quantity:
    """MFU over all hours of a run where nothing is known of it: fitted on published runs.

    Parameters
    ----------
    base : float
        Of 10 B parameters on that kind of accelerator. [-]
    parameters : float or ndarray
        Parameters that one token uses. [-]

    Returns
    -------
    float or ndarray
        Operations by 6 N D over all hours and the 16-bit peak, interruptions included. [-]

    Notes
    -----
    From 70 M to 540 B parameters; of 25 published runs nine in ten lie within a factor of 1.5. Each was
    predicted from the others with a median error of 17 %.

    Examples
    --------
    7 B parameters on A100:

    >>> round(default_utilization(0.347, 7e9), 2)
    0.34

    References
    ----------
    .. [1] data/trainings.yaml, runs whose hours are of one pass.
    """
    return base * (parameters / 1e10) ** 0.0634
