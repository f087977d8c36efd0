"""Where the parameters of a model are: by role, by layer, by tag."""

from __future__ import annotations

from llmcalc.model.inventory import TAGS, Inventory


def breakdown(inventory: Inventory, by: str, stored: bool = False) -> dict[str, dict[str, int]]:
    """Elements by role, layer or tag, and in each by the tensors' own dtype ("" for the model's). [-]

    Roles and layers are those of the main model; components outside the text layers stand as a whole.
    With `stored`, packed elements and their scales are counted as the words they are stored in.
    """
    rows: dict[str, dict[str, int]] = {}
    for group in inventory.groups:
        text = group.component == "text"
        for tensor in group.tensors:
            if tensor.tag != "main" and by != "tag":
                continue
            if by == "tag":
                counts = {tensor.tag: group.count}
            elif by == "role":
                counts = {tensor.role if text else group.component: group.count}
            elif text and group.place == "layer":
                shared = group.stored is not None
                counts = {f"layer {i}": int(not shared or not n) for n, i in enumerate(group.layers)}
            else:
                counts = {group.place if text else group.component: group.count}
            for part in (tensor.stored if stored else ()) or (tensor,):
                if part.tag == "scalar" and by == "tag":
                    continue  # numbers without a shape, which counts pass over
                for row, count in counts.items():
                    if by == "tag" and part is not tensor and part.tag != "main":
                        row = "scale"
                    own = rows.setdefault(row, {})
                    own[part.dtype or ""] = own.get(part.dtype or "", 0) + count * part.numel
    if by == "tag":
        return {tag: rows.get(tag, {}) for tag in TAGS if tag in rows or tag == "main"}
    if by == "layer":
        numbers = sorted(int(row[6:]) for row in rows if row.startswith("layer "))
        order = [f"layer {number}" for number in numbers]
        before = [row for row in rows if row not in order and row != "head"]
        return {row: rows[row] for row in [*before, *order, "head"] if row in rows}
    return rows
