"""Perplexity of each variant, scheme and scale on the same windows of one text."""

from __future__ import annotations

from benchmarks.decoders.graphs import Family, perplexity
from benchmarks.results import Bar, say
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName, ScaleScheme

# Relation and limit of the perplexity over that of the native graph.
VARIANT_BARS = {
    "mha": ("<=", 1.001),
    "mla": ("<=", 1.001),
    "mla-256": ("<=", 1.05),
    "mla-128": ("<=", 1.35),
    "mqa": (">=", 10.0),
}
FACTOR = 4.0
SCHEMES = {
    "ntk, k = 4": (RopeScheme(name=RopeName.NTK, factor=FACTOR), None, "<=", 1.05),
    "ntk_mixed, k = 4, b = 0.625": (
        RopeScheme(name=RopeName.NTK_MIXED, factor=FACTOR), None, "<=", 1.15,
    ),
    "pi, k = 4": (RopeScheme(name=RopeName.PI, factor=FACTOR), None, ">=", 2.0),
    "log_n, 512": (RopeScheme(), ScaleScheme(name=ScaleName.LOG_N, length=512), "<=", 1.10),
    "log_n_dagger, 512": (
        RopeScheme(), ScaleScheme(name=ScaleName.LOG_N_DAGGER, length=512), "<=", 1.0,
    ),
}  # fmt: skip


def variant_bars(family: Family, windows: list[list[int]]) -> list[Bar]:
    """Return the perplexity of every variant, and its ratio to the native one."""
    variants = family.manifest["variants"]
    native_name = family.manifest["default_variant"]
    native = _of_variant(family, native_name, windows)
    bars = [_shown(f"perplexity of {native_name}", native, windows)]
    for name in variants:
        if name == native_name:
            continue
        found = _of_variant(family, name, windows)
        relation, limit = VARIANT_BARS.get(name, ("<=", None))
        bars.append(_shown(f"perplexity of {name}", found, windows))
        bars.append(
            Bar(f"{name} / {native_name}", found / native, relation=relation, limit=limit, unit="x")
        )
    return bars


def scheme_bars(family: Family, windows: list[list[int]]) -> list[Bar]:
    """Return the perplexity of the native graph under each scheme over the plain one."""
    session = family.session(family.manifest["variants"]["gqa"]["file"])
    native = perplexity(session, family, windows)
    bars = [_shown("perplexity of gqa, direct", native, windows)]
    for name, (rope, scale, relation, limit) in SCHEMES.items():
        found = perplexity(session, family, windows, rope=rope, scale=scale or ScaleScheme())
        say(f"  {name}: {found:.3f}")
        bars.append(
            Bar(f"{name} / direct", found / native, relation=relation, limit=limit, unit="x")
        )
    return bars


def _of_variant(family: Family, name: str, windows: list[list[int]]) -> float:
    session = family.session(family.manifest["variants"][name]["file"])
    found = perplexity(session, family, windows)
    say(f"  {name}: {found:.3f}")
    return found


def _shown(what: str, value: float, windows: list[list[int]]) -> Bar:
    return Bar(what, value, note=f"{len(windows)} windows of {len(windows[0])} tokens")
