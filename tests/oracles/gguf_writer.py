"""A GGUF file of true length that has a header and no data: sparse, some kilobytes on the disk."""

import math
import struct

ALIGNMENT = 32
TYPES = {
    "fp32": (0, 1, 4), "fp16": (1, 1, 2), "q8_0": (8, 32, 34), "q4_k": (12, 256, 144), "q5_k": (13, 256, 176),
    "q6_k": (14, 256, 210), "bf16": (30, 1, 2),
}  # fmt: skip
"""ggml's number of a type, elements of a block and its bytes."""


def text(word):
    data = word.encode()
    return struct.pack("<Q", len(data)) + data


def value(given):
    """A value after the number of its kind."""
    if isinstance(given, bool):
        return struct.pack("<I?", 7, given)
    if isinstance(given, float):
        return struct.pack("<If", 6, given)
    if isinstance(given, int):
        return struct.pack("<Ii", 5, given) if given < 0 else struct.pack("<II", 4, given)
    if isinstance(given, str):
        return struct.pack("<I", 8) + text(given)
    items = [value(one) for one in given]
    return (
        struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(i[4:] for i in items)
    )


def write(path, metadata, tensors, version=3):
    """Write tensors of (name, shape) in bf16, or of (name, shape, type); rows come last in a shape."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + value(given) for key, given in metadata.items())
    at = 0
    for name, shape, *kind in tensors:
        number, block, size = TYPES[kind[0] if kind else "bf16"]
        head += text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", number, at)
        at += aligned(math.prod(shape) // block * size)
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(aligned(len(head)) + at)


def aligned(size):
    return -(-size // ALIGNMENT) * ALIGNMENT
