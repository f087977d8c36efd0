"""pandas: one row an item, an element or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.formula import is_array


def as_frame(reports: Sequence[Any]) -> Any:
    """One row an item; with array inputs one row an element; for several reports one row a GPU."""
    import pandas as pd

    if len(reports) > 1 or reports[0].scheme:
        return _by_gpu(reports)
    report = reports[0]

    if is_array(report.total_bytes):
        import numpy as np

        size = np.size(report.total_bytes)
        columns: dict[str, Any] = {}
        for name in ("context", "sequences", "micro_batch", "lora_r"):
            if name in report.scenario:
                columns[name] = np.broadcast_to(np.ravel(report.scenario[name]), size)
        for item in report.items:
            columns[item.name] = np.broadcast_to(np.ravel(item.bytes_at_peak), size)
        columns["total_bytes"] = np.ravel(report.total_bytes)
        if report.device is not None:
            columns["headroom_bytes"] = np.ravel(report.headroom_bytes)
            columns["verdict"] = np.broadcast_to(np.ravel(report.verdict), size)
        return pd.DataFrame(columns)
    rows = [
        {
            "item": item.name,
            "bytes": item.bytes,
            "bytes_at_peak": item.bytes_at_peak,
            "low": item.range_bytes[0],
            "high": item.range_bytes[1],
            "where": item.where,
            "grade": item.grade,
            "formula": item.formula,
            "note": item.note,
        }
        for item in report.items
    ]
    return pd.DataFrame(rows).set_index("item")


def _by_gpu(reports: Sequence[Any]) -> Any:
    """One row a GPU or a model."""
    import pandas as pd

    rows = []
    for report in reports:
        row = {
            "model": report.model["name"],
            "params": report.model["params"],
            "active_params": report.model["active_params"],
            "quant": report.scenario.get("quant"),
            "engine": report.scenario.get("engine"),
            "gpu": None if report.device is None else report.device.name,
            "count": report.gpus,
            "usable_bytes": None if report.device is None else report.device.usable_bytes,
            **{item.name: item.bytes_at_peak for item in report.items},
            "minimum_bytes": report.minimum_bytes,
            "total_bytes": report.total_bytes,
            "verdict": report.verdict,
            "headroom_bytes": report.headroom_bytes,
        }
        if report.scheme:
            own = {key: value for key, value in report.scheme.items() if key != "fits"}
            row = {"format": own.pop("name"), **own, **row}
        if report.capacity is not None:
            row["max_context"] = report.capacity.max_context
        rows.append(row)
    return pd.DataFrame(rows)
