"""Hold small sets of reviews to summarize."""

from __future__ import annotations

HOTEL = [
    "The room was very clean. Breakfast was cold and boring. The desk was friendly.",
    "Spotless room and a comfortable bed! The breakfast was cold.",
    "Our room was clean. We paid too much for parking.",
    "Staff at the desk were friendly and quick. The bed was comfortable.",
    "Parking is expensive. The room was clean and quiet.",
    "Cold breakfast, again. The location is great, near the station.",
    "The location is perfect. The people at the desk were kind and helpful.",
    "The bed was soft and comfortable. The parking costs a fortune.",
]
CHINESE = [
    "房间很干净。早餐很难吃。",
    "房间非常干净,床也很舒服。早餐是冷的。",
    "前台服务很热情。房间很干净!",
    "早餐不好吃,而且很冷。停车太贵了。",
]
