"""Draw the lattice of a short text with its marginals."""

from __future__ import annotations

from html import escape
from typing import Any, cast

_WIDTH = 46  # of one character
_TOP, _BASE_GAP, _ROW = 64, 40, 26
_MARGIN = 28
_FAINTEST = 1e-4  # pieces that hardly any path uses would only blur the picture


def lattice_svg(analysis: dict[str, object], alpha: float) -> bytes:
    """Return a picture: a bar for each piece over its characters, as strong as it is likely.

    Args:
        analysis: what `analyze` returned for the text.
        alpha: of the law.
    """
    text = cast(str, analysis["normalized"])
    pieces = [each for each in cast("list[dict[str, Any]]", analysis["pieces"]) if _seen(each)]
    rows = _stack(pieces)
    height = _TOP + _ROW * (max(rows, default=0) + 1) + _BASE_GAP + 44
    width = 2 * _MARGIN + max(_WIDTH * len(text), 420)
    base = height - 44
    box = f'width="{width}" height="{height}"'
    font = 'font-family="system-ui, sans-serif"'
    title, hint = _title(analysis, alpha), "darker: used by more paths; below: chance of a cut"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} viewBox="0 0 {width} {height}" {font}>',
        f'<rect {box} fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="28" font-size="15" fill="#1b2733">{title}</text>',
        f'<text x="{_MARGIN}" y="46" font-size="11" fill="#5c6b7a">{hint}</text>',
    ]
    parts += [_bar(piece, row, base) for piece, row in zip(pieces, rows, strict=True)]
    parts += _characters(text, base)
    parts += _cuts([float(each) for each in cast("Any", analysis["boundary_marginals"])], base)
    return "\n".join([*parts, "</svg>", ""]).encode()


def _seen(piece: dict[str, Any]) -> bool:
    return float(piece["probability"]) >= _FAINTEST


def _title(analysis: dict[str, object], alpha: float) -> str:
    return (
        f"alpha {alpha:g} · entropy {cast(float, analysis['entropy']):.3f} nats · "
        f"{cast(float, analysis['expected_tokens']):.2f} pieces expected"
    )


def _stack(pieces: list[dict[str, Any]]) -> list[int]:
    """Return a row for each piece so that none overlap, the likeliest lowest."""
    rows: dict[int, list[tuple[int, int]]] = {}
    found = [0] * len(pieces)
    order = sorted(range(len(pieces)), key=lambda place: -float(pieces[place]["probability"]))
    for place in order:
        start, end = int(pieces[place]["start"]), int(pieces[place]["end"])
        row = 0
        while any(start < stop and begin < end for begin, stop in rows.get(row, [])):
            row += 1
        rows.setdefault(row, []).append((start, end))
        found[place] = row
    return found


def _bar(piece: dict[str, Any], row: int, base: int) -> str:
    start, end = int(piece["start"]), int(piece["end"])
    chance = float(piece["probability"])
    left, width = _MARGIN + start * _WIDTH + 3, (end - start) * _WIDTH - 6
    top = base - _BASE_GAP - (row + 1) * _ROW
    ink = "#ffffff" if chance > 0.45 else "#1b2733"  # noqa: PLR2004 - where white reads better
    label = escape(str(piece["piece"]))
    return (
        f'<g><title>{label}: {chance:.4f}</title><rect x="{left}" y="{top}" width="{width}" '
        f'height="{_ROW - 5}" rx="5" fill="#1f6feb" fill-opacity="{0.06 + 0.94 * chance:.3f}" '
        f'stroke="#1f6feb" stroke-opacity="0.35"/><text x="{left + width / 2:g}" y="{top + 15}" '
        f'font-size="12" text-anchor="middle" fill="{ink}">{label}</text></g>'
    )


def _characters(text: str, base: int) -> list[str]:
    return [
        f'<text x="{_MARGIN + (place + 0.5) * _WIDTH:g}" y="{base - 12}" font-size="17" '
        f'text-anchor="middle" fill="#1b2733">{escape(character)}</text>'
        for place, character in enumerate(text)
        if character.isprintable()
    ]


def _cuts(chances: list[float], base: int) -> list[str]:
    return [
        f'<g><title>cut: {chance:.4f}</title><circle cx="{_MARGIN + place * _WIDTH}" '
        f'cy="{base + 8}" r="{2 + 5 * chance:.2f}" fill="#d1495b" '
        f'fill-opacity="{0.25 + 0.75 * chance:.3f}"/>'
        f'<text x="{_MARGIN + place * _WIDTH}" y="{base + 30}" font-size="10" '
        f'text-anchor="middle" fill="#5c6b7a">{chance:.2f}</text></g>'
        for place, chance in enumerate(chances)
    ]
