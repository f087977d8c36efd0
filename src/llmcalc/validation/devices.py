"""Lines that name a device or its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.validation import wording as w
from llmcalc.validation.loads import Device, Log

if TYPE_CHECKING:
    from llmcalc.validation.reader import Reader


def device(log: Log, name: str, description: str = "") -> Device:
    """The device of this name, made known if it is new."""
    found = log.devices.setdefault(name, Device(name))
    found.description = found.description or description.strip()
    return found


def read_device(reader: Reader, name: str, rest: str) -> bool:
    """Read a line about a device; False if it is none."""
    log = reader.log
    if found := w.FOUND.search(rest):
        reader.family = found[1]  # lines that follow number the devices of this family
        return True
    start = rest.find("Device ")
    if start >= 0 and (found := w.DEVICE.match(rest, start)):
        one = device(log, f"{reader.family}{found[1]}", found[2])
        if total := w.DEVICE_TOTAL.search(found[3]):
            one.total_mib = float(total[1])
        return True
    if "MiB free" in rest:
        return _memory(log, rest)
    if name == "ggml_vulkan" and (found := w.VULKAN.match(rest)):
        device(log, f"Vulkan{found[1]}", found[2])
        return True
    if found := w.METAL.match(rest):
        device(log, "Metal", found[1])
        return True
    if found := w.METAL_SIZE.match(rest):
        # MB is decimal here since 2024; before, the line said MiB.
        scale = 1.0 if found[2] == "MiB" else 1e6 / 2**20
        device(log, "Metal").total_mib = float(found[1].replace(",", ".")) * scale
        return True
    if " total, " in rest and (found := w.FIT_DEVICE.match(rest)):
        device(log, found[1], found[2]).total_mib = float(found[3])
        return True
    return False


def _memory(log: Log, rest: str) -> bool:
    """A device with its free memory."""
    if found := w.USING.match(rest):
        one = device(log, found[1], w.PCI.sub("", found[2] or ""))
        if one.free_mib is None:
            one.free_mib = float(found[3])
        return True
    if found := w.LISTED.match(rest, max(0, rest.find("- "))):
        one = device(log, found[1], found[2])
        one.total_mib, one.free_mib = float(found[3]), float(found[4])
        return True
    return False
