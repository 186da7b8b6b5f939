"""The page of a summary."""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from typing import Any

from service.capabilities.summarization.page import CONTENT_SECURITY_POLICY, render

NASTY = "<script>alert('x')</script> & \"quoted\""


def reply(text: str) -> dict[str, Any]:
    place = {"text": text, "review_id": text, "start": 0, "end": len(text)}
    sentence = {
        **place,
        "support": {"reviews": 1, "evidence": [place]},
        "sentiment": {"label": "neutral"},
    }
    empty = {"summary": [], "reason": "no_support"}
    return {
        "summary": [sentence],
        "reason": None,
        "aspects": {text: empty},
        "sentiments": {"positive": {**empty, "prevalence": 0.5}},
        "warnings": [text],
        "reviews": 1,
        "sentences": 1,
        "coverage": 1.0,
        "strategy": "consensus",
        "model": text,
    }


def test_nothing_out_of_a_review_is_markup() -> None:
    page = render(reply(NASTY))
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;") == 6
    assert "No sentence speaks of it." in page
    assert "Positive (50% of reviews)" in page


def test_the_policy_allows_this_style_and_nothing_else() -> None:
    style = re.search(r"<style>(.*?)</style>", render(reply("a")), re.DOTALL)
    assert style is not None
    named = base64.b64encode(sha256(style.group(1).encode()).digest()).decode()
    assert f"style-src 'sha256-{named}'" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = render(reply("a"))
    assert not re.search(r"(src|href|url\()", page)
    assert page.count("<details") == page.count("</details>") == 1
