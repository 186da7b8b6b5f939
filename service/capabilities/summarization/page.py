"""Show one summary as a page of its own: no script, nothing from elsewhere, all text escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
details { border-left: .25rem solid #8884; padding: .25rem .75rem; margin: .5rem 0; }
details.positive { border-color: #2a8a4a; }
details.negative { border-color: #b3413a; }
summary { cursor: pointer; }
small, li span { opacity: .7; }
ul { margin: .25rem 0 .5rem; padding-left: 1.25rem; }
"""
_STYLE_DIGEST = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()

# Only this very style may be used; nothing can run, load, or be sent.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_REASONS = {
    "no_sentences": "The reviews hold no sentence.",
    "no_support": "No sentence speaks of it.",
    "filtered": "Every sentence was left out by a filter.",
    "budget": "No sentence fits the budget.",
}


def render(reply: Mapping[str, Any]) -> str:
    """Return the page of a reply: each sentence opens its evidence on click."""
    parts = [_list("What reviewers say", reply)]
    sides = reply["sentiments"] or {}
    for name, side in sides.items():
        share = f"{side['prevalence']:.0%} of reviews"
        parts.append(_list(f"{name.capitalize()} ({share})", side))
    parts += [_list(name, aspect) for name, aspect in reply["aspects"].items()]
    facts = (
        f"{reply['reviews']} reviews, {reply['sentences']} distinct sentences; "
        f"the summary speaks for {reply['coverage']:.0%} of the reviews. "
        f"Strategy {reply['strategy']}, model {reply['model']}."
    )
    warnings = "".join(f"<li>{escape(each)}</li>" for each in reply["warnings"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What reviewers say</title><style>{_STYLE}</style></head><body>"
        f"{''.join(parts)}<p><small>{escape(facts)}</small></p>"
        f"{f'<ul>{warnings}</ul>' if warnings else ''}</body></html>"
    )


def _list(title: str, section: Mapping[str, Any]) -> str:
    sentences: Sequence[Mapping[str, Any]] = section["summary"]
    body = "".join(map(_sentence, sentences)) or f"<p>{escape(_REASONS[section['reason']])}</p>"
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _sentence(sentence: Mapping[str, Any]) -> str:
    support = sentence["support"]
    label = sentence["sentiment"]["label"]
    evidence = "".join(
        f"<li>{escape(each['text'])} <span>review {escape(each['review_id'])}, "
        f"{each['start']} to {each['end']}</span></li>"
        for each in support["evidence"]
    )
    voices = "1 review" if support["reviews"] == 1 else f"{support['reviews']} reviews"
    return (
        f'<details class="{label}"><summary>{escape(sentence["text"])} '
        f"<small>{voices}, {label}</small></summary><ul>{evidence}</ul></details>"
    )
