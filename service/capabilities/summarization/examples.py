"""Hold the sentences that show an encoder what praise, complaint and other subjects look like.

Each complaint speaks of what its praise speaks of, so that the difference of the two means is about
the opinion and not about the subject. The same sentences are the background of aspects.
"""

from __future__ import annotations

from collections.abc import Sequence

_ENGLISH = (
    ("The food was delicious.", "The food was awful."),
    ("The service was excellent.", "The service was terrible."),
    ("The staff were friendly and helpful.", "The staff were rude and unhelpful."),
    ("I love this product.", "I hate this product."),
    ("It works perfectly.", "It does not work at all."),
    ("The room was clean and comfortable.", "The room was dirty and uncomfortable."),
    ("Great value for the money.", "A waste of money."),
    ("I would definitely recommend it.", "I would not recommend it."),
    ("The quality is outstanding.", "The quality is poor."),
    ("It fits well and looks beautiful.", "It does not fit and looks ugly."),
    ("The battery lasts a long time.", "The battery dies quickly."),
    ("We had a wonderful time.", "We had a horrible time."),
    ("Fast delivery and well packed.", "Late delivery and a damaged box."),
    ("I will come back again.", "I will never come back."),
    ("It is easy to use.", "It is hard to use."),
    ("The screen is bright and clear.", "The screen is dim and blurry."),
    ("Very happy with this purchase.", "Very disappointed with this purchase."),
    ("The location is convenient.", "The location is inconvenient."),
    ("The price is fair.", "It is overpriced."),
    ("It exceeded my expectations.", "It did not meet my expectations."),
    ("The sound is rich and crisp.", "The sound is tinny and distorted."),
    ("The bed was soft and it was quiet all night.", "The bed was hard and it was noisy."),
    ("They fixed the problem quickly.", "They never fixed the problem."),
    ("It is sturdy and well made.", "It broke after one week."),
)
_CHINESE = (
    ("菜很好吃。", "菜很难吃。"),
    ("服务非常好。", "服务非常差。"),
    ("工作人员热情友好。", "工作人员态度恶劣。"),
    ("我很喜欢这个产品。", "我很讨厌这个产品。"),
    ("用起来很顺手。", "根本用不了。"),
    ("房间干净舒适。", "房间又脏又不舒服。"),
    ("性价比很高。", "太贵了,不值这个价。"),
    ("强烈推荐。", "不推荐。"),
    ("质量非常好。", "质量很差。"),
    ("下次还会再来。", "再也不会来了。"),
    ("物流很快,包装完好。", "物流很慢,包装破损。"),
    ("非常满意。", "非常失望。"),
)


def opinion_pairs(languages: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return pairs of praise and complaint for an encoder that reads some languages.

    Sentences that an encoder cannot read would only blur the line, so an English encoder gets
    English ones.
    """
    return _ENGLISH if tuple(languages) == ("en",) else _ENGLISH + _CHINESE
