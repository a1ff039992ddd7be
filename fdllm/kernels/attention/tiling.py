"""How attention is cut into programs: a function of shapes alone, so that one shape always runs one way."""

from dataclasses import dataclass

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


def power_of_two(n: int) -> int:
    """Round up to a power of two."""
    return 1 << max(n - 1, 0).bit_length()


def tiling(pairs: int, rows: int, keys: int, width: int, itemsize: int, processors: int) -> Tiling:
    """Choose a cut.

    Rows are taken in tiles as large as registers allow, so that a tile of keys is read for as many
    rows as it can serve: 64 rows of half precision with heads up to 128 wide, 128 where the window
    is longer than one such tile, a half for each doubling of width or of the size of a number. If
    the tiles are fewer than the processors, the keys are split between programs (flash-decoding)
    until the processors are busy or a share would fall under 128 keys.

    Args:
        pairs: B x G, rows of the batch times key heads; each is a problem of its own.
        rows: R x H / G, queries times heads of a group.
        keys: N, slots of the store.
        width: D, the head dim.
        itemsize: bytes of a number of q, k and v.
        processors: programs the device runs at a time.

    """
    block_width = power_of_two(max(width, 16))
    shrink = max(block_width // 128, 1) * (2 if itemsize > 2 else 1) * (2 if itemsize > 4 else 1)
    most = max((128 if rows > 64 else 64) // shrink, 16)
    block_rows = min(power_of_two(max(rows, 16)), most)
    block_keys = max(64 // shrink, 16)
    programs = pairs * -(-rows // block_rows)
    splits = 1
    while splits < MAX_SPLITS and programs * splits < processors and keys >= 2 * splits * MIN_SPLIT_KEYS:
        splits *= 2
    return Tiling(block_rows, block_keys, block_width, splits, 8 if block_rows >= 128 else 4, 2)
