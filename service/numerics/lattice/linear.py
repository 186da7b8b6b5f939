"""Filter a lattice backward and draw from it forward, with plain numbers instead of logarithms.

For a text of n bytes and arcs (s, e, w), piece w being the bytes s to e, with weight
W[w] = exp(α l[w]):

    B[n] = 1,   B[s] = Σ W[w] B[e] over the arcs that begin at s,   Z = B[0]

B[s] is the mass of all ways to finish from s, so the arc (s, e, w) is drawn with probability
W[w] B[e] / B[s], and a path with exactly exp(α Σ l) / Z. Every term is positive: the relative error
is about n 2⁻⁵² however small Z is. So that B stays in range, what later arcs may still reach is
now and then divided by a power of two, which is exact; the powers go into log Z. The arcs of a
place are kept with their running sums, so a draw looks at nothing else.

A text is a row of segments that no piece crosses; a segment may be fixed to one id.

Source: forward filtering, backward sampling (Scott 2002), turned round so that one trie serves both
passes and pieces come out in reading order.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0917, PLR2004
from __future__ import annotations

import math

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64, Vector64
from service.numerics.kernels import kernel
from service.numerics.lattice.charsmap import char_width
from service.numerics.lattice.philox import philox, unit
from service.numerics.lattice.trie import NOWHERE, rank_at, step

# Places of `rules`, an int64 array that describes the vocabulary to the kernels.
UNKNOWN, BY_CHARS, LONGEST = range(3)
OK, UNCOVERED, OUT_OF_RANGE, FULL = range(4)
_LOST = 1 << 20

_LOW, _HIGH = 1e-100, 1e100  # outside of these the exponent is changed
_LOWEST, _HIGHEST = 1e-250, 1e250  # outside of these precision would be lost
LARGEST_LOG_WEIGHT = 115.0  # exp of it times the lowest B is still a normal number
_LN2 = math.log(2.0)

ENDS = 32  # an arc packs the id of its piece, and below this bit where it ends
END_BITS = (1 << ENDS) - 1


@kernel()
def _rescale(mass: Vector64, first: int, last: int) -> int:
    """Bring `mass[first]` near 1 together with what arcs from before it may reach.

    Returns:
        The power of two taken out, or _LOST where one of them leaves the range of full precision.
    """
    _, power = math.frexp(mass[first])
    factor = math.ldexp(1.0, -power)
    for place in range(first, last + 1):
        moved = mass[place] * factor
        if moved != 0.0 and (moved < _LOWEST or moved > _HIGHEST):
            return _LOST
        mass[place] = moved
    return int(power)


@kernel()
def _filter_text(  # noqa: C901 - the hot loop: a call a position would cost half of it
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    first: int,
    last: int,
    units: Ids64,
    weights: Vector64,
    rules: Ids64,
    mass: Vector64,
    firsts: Ids32,
    parts: Vector64,
    arcs: Ids64,
) -> tuple[int, float]:
    """Fill B and list the arcs of every place for the segments of one text.

    The arcs of place s lie from `firsts[s + 1]` to `firsts[s]`, each with the running sum of W B.

    Returns:
        OK and log Z; UNCOVERED where no path exists, OUT_OF_RANGE where only logarithms keep
        precision, FULL where the arcs need more room.
    """
    origin = bounds[first]
    length = len(data)
    by_chars = rules[BY_CHARS] != 0
    mass[length] = 1.0
    shift = 0
    size = 0
    for segment in range(last - 1, first - 1, -1):
        start, stop = bounds[segment] - origin, bounds[segment + 1] - origin
        if fixed[segment] >= 0:
            mass[start:stop] = 0.0
            mass[start] = mass[stop]
            firsts[start + 1 : stop + 1] = size
            continue
        for place in range(stop - 1, start - 1, -1):
            firsts[place + 1] = size
            lead = data[place]
            if by_chars and lead & 0xC0 == 0x80:
                mass[place] = 0.0  # inside a character
                continue
            if size + stop - place + 1 > len(parts):
                return FULL, 0.0
            alone = place + (char_width(lead) if by_chars else 0)
            seen = not by_chars
            total = 0.0
            node = units[0]
            for here in range(place, stop):
                node = step(units, node, data[here])
                if node == NOWHERE:
                    break
                rank = rank_at(node)
                end = here + 1
                part = weights[rank] * mass[end]
                total += part
                # Where no piece ends the weight is zero, and the next arc takes this place: adding
                # nothing is cheaper than a branch that no processor can foresee.
                parts[size], arcs[size] = total, (rank - 1) << ENDS | end
                size += part > 0.0
                seen |= end == alone and rank > 0
            if not seen:
                end = min(alone, stop)
                total += weights[len(weights) - 1] * mass[end]
                parts[size], arcs[size] = total, -1 << ENDS | end
                size += 1
            mass[place] = total
            if total != 0.0 and (total < _LOW or total > _HIGH):
                power = _rescale(mass, place, min(place + rules[LONGEST], length))
                if power == _LOST:
                    return OUT_OF_RANGE, 0.0
                shift += power
    firsts[0] = size
    if mass[0] == 0.0:
        return UNCOVERED, 0.0
    return OK, math.log(mass[0]) + shift * _LN2


@kernel()
def emit(
    piece: int,
    start: int,
    end: int,
    data: Bytes8,
    origin: int,
    rules: Ids64,
    byte_ids: Ids32,
    ids: Ids32,
    ends: Ids32,
    size: int,
    after_unknown: bool,
) -> int:
    """Write one arc as it is printed: an unknown character as bytes, or fused with the one before.

    Returns:
        The number of ids written so far.
    """
    if piece >= 0:
        ids[size] = piece
        ends[size] = end
        return size + 1
    if len(byte_ids) > 0:
        for place in range(start, end):
            ids[size] = byte_ids[data[origin + place]]
            ends[size] = place + 1
            size += 1
        return size
    if after_unknown:
        ends[size - 1] = end
        return size
    ids[size] = rules[UNKNOWN]
    ends[size] = end
    return size + 1


@kernel()
def _draw_path(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    first: int,
    last: int,
    scores: Vector64,
    rules: Ids64,
    byte_ids: Ids32,
    firsts: Ids32,
    parts: Vector64,
    arcs: Ids64,
    key: Ids64,
    sample: np.uint64,
    name: np.uint64,
    ids: Ids32,
    ends: Ids32,
    size: int,
) -> tuple[int, float]:
    """Write one sampled path; return the number of ids so far and the path's Σ l."""
    origin = bounds[first]
    total = 0.0
    block = np.uint64(0)
    words = (np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0))
    left = 0
    after_unknown = False
    for segment in range(first, last):
        place, stop = bounds[segment] - origin, bounds[segment + 1] - origin
        if fixed[segment] >= 0:
            ids[size], ends[size] = fixed[segment], stop
            size += 1
            after_unknown = False
            continue
        while place < stop:
            if left == 0:
                words = philox(block, sample, name, np.uint64(0), key[0], key[1])
                block += np.uint64(1)
                left = 4
            left -= 1
            arc, final = firsts[place + 1], firsts[place] - 1
            goal = unit(words[3 - left]) * parts[final]
            while arc < final and parts[arc] <= goal:
                arc += 1
            piece, end = arcs[arc] >> ENDS, arcs[arc] & END_BITS
            if piece >= 0:
                total += scores[piece]
                ids[size], ends[size] = piece, end
                size += 1
                after_unknown = False
            else:
                total += scores[len(scores) - 1]
                size = emit(
                    piece, place, end, data, 0, rules, byte_ids, ids, ends, size, after_unknown
                )
                after_unknown = True
            place = end
    return size, total


@kernel(
    "UniTuple(int64, 2)(uint8[::1], int64[::1], int32[::1], int64[::1], int64[::1], "
    "float64[::1], float64[::1], int64[::1], int32[::1], uint64[::1], uint64[::1], int64, "
    "float64, float64[::1], int32[::1], float64[::1], int64[::1], int32[::1], int32[::1], "
    "int64[::1], float64[::1], float64[::1])"
)
def sample_texts(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    groups: Ids64,
    units: Ids64,
    weights: Vector64,
    scores: Vector64,
    rules: Ids64,
    byte_ids: Ids32,
    key: Ids64,
    names: Ids64,
    samples: int,
    alpha: float,
    mass: Vector64,
    firsts: Ids32,
    parts: Vector64,
    arcs: Ids64,
    ids: Ids32,
    ends: Ids32,
    counts: Ids64,
    log_probs: Vector64,
    log_partitions: Vector64,
) -> tuple[int, int]:
    """Draw `samples` paths of every text, one text after another, into flat arrays.

    Args:
        data: uint8, normalised bytes of all texts.
        bounds: (segments + 1,) where each segment begins.
        fixed: (segments,) the id of a segment that is one piece, -1 for a lattice.
        groups: (texts + 1,) the first segment of each text.
        units: of the trie.
        weights: (v + 2,) exp(α l) by rank, 0 for rank 0; the last is of an unknown character.
        scores: (v + 1,) l.
        rules: see this module's constants.
        byte_ids: (256,) ids of single bytes, or empty where unknown characters are fused.
        key: (2,) uint64, of the random streams.
        names: (texts,) uint64, which stream each text has.
        samples: paths a text.
        alpha: of the law.
        mass: scratch, at least the longest text + 1.
        firsts: scratch, as long as `mass`.
        parts: scratch for arcs.
        arcs: scratch for arcs.
        ids: out, long enough for one id a byte and sample.
        ends: out, where each piece ends in its text.
        counts: out, (texts * samples,) ids of each path.
        log_probs: out, (texts * samples,) of each path, α Σ l - log Z.
        log_partitions: out, (texts,), NaN where no path exists or only logarithms would do.

    Returns:
        Number of ids written, -1 where the arcs of a text need more scratch; and the texts that
        have no log Z.
    """
    size, failed = 0, 0
    for text in range(len(groups) - 1):
        first, last = groups[text], groups[text + 1]
        row = text * samples
        own = data[bounds[first] : bounds[last]]
        status, log_z = _filter_text(
            own, bounds, fixed, first, last, units, weights, rules, mass, firsts, parts, arcs
        )
        if status == FULL:
            return -1, 0
        if status != OK:
            failed += 1
            log_partitions[text] = math.nan
            counts[row : row + samples] = 0
            continue
        log_partitions[text] = log_z
        for sample in range(samples):
            grown, total = _draw_path(
                own,
                bounds,
                fixed,
                first,
                last,
                scores,
                rules,
                byte_ids,
                firsts,
                parts,
                arcs,
                key,
                np.uint64(sample),
                names[text],
                ids,
                ends,
                size,
            )
            counts[row + sample] = grown - size
            log_probs[row + sample] = alpha * total - log_z
            size = grown
    return size, failed
