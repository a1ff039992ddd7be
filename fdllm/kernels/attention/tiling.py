"""How attention is cut into programs: a function of shapes alone, so that one shape always runs one way."""

from dataclasses import dataclass

from fdllm.kernels.launch import power_of_two

MAX_SPLITS = 32
MIN_SPLIT_KEYS = 128


@dataclass(frozen=True)
class Tiling:
    """The cut.

    Attributes:
        block_rows: rows of a program; a row is one query of one head, the heads of a group side by side.
        block_keys: keys a program reads at once.
        block_width: head dim, padded to a power of two.
        splits: programs that share the keys of one tile of rows, a power of two; 1 is the tiled form.
        warps: warps of a program.
        stages: depth of the pipeline that loads keys ahead.

    """

    block_rows: int
    block_keys: int
    block_width: int
    splits: int
    warps: int
    stages: int


# bytes of a number, head dim: most rows and keys of a tile that compile without spills (`fdllm.kernels.aot`)
TILES = {(2, 64): (128, 64), (2, 128): (64, 64), (2, 256): (64, 32), (2, 512): (16, 32), (8, 128): (16, 32)}


def tiling(pairs: int, rows: int, keys: int, width: int, itemsize: int, processors: int) -> Tiling:
    """Choose a cut.

    Tiles are as large as the registers allow. Where they are fewer than the processors, the keys
    are split between programs until the processors are busy or a share would fall under 128 keys:
    a window of few rows is split, a long one only tiled.

    Args:
        pairs: B x G, rows of the batch times key heads; each is a problem of its own.
        rows: R x H / G, queries times heads of a group.
        keys: N, slots of the store.
        width: D, the head dim.
        itemsize: bytes of a number of q, k and v.
        processors: programs the device runs at a time.

    """
    block_width = power_of_two(max(width, 16))
    fits = (tile for (size, wide), tile in TILES.items() if itemsize <= size and block_width <= wide)
    most_rows, block_keys = next(fits, (16, 16))
    block_rows = min(power_of_two(max(rows, 16)), most_rows)
    programs = pairs * -(-rows // block_rows)
    splits = 1
    while splits < MAX_SPLITS and programs * splits < processors and keys >= 2 * splits * MIN_SPLIT_KEYS:
        splits *= 2
    warps = 8 if itemsize > 2 or block_rows >= 64 or block_width > 128 else 4
    return Tiling(block_rows, block_keys, block_width, splits, warps, 2)
