"""Alerts that an installation is given to begin with: by key, name and event, then texts, (Vietnamese, English).

Short sentences that say what happens and what to do: they are heard from horns, again and again.
"""

from __future__ import annotations

# key: (name, event), (headline, instruction) in Vietnamese, and in English
PREPARED: dict[str, tuple[tuple[str, str], tuple[str, str], tuple[str, str]]] = {
    "flood": (
        ("Lũ", "Lũ"),
        (
            "Cảnh báo lũ. Nước đang lên nhanh.",
            "Bà con khẩn trương đưa người già, trẻ em và tài sản lên nơi cao. Không đi qua chỗ nước chảy xiết.",
        ),
        (
            "Flood warning. The water is rising fast.",
            "Move to higher ground now. Do not cross flowing water.",
        ),
    ),
    "flash_flood": (
        ("Lũ quét, sạt lở đất", "Lũ quét, sạt lở đất"),
        (
            "Cảnh báo lũ quét và sạt lở đất.",
            "Bà con ở ven suối và chân đồi rời nhà ngay, đến nơi an toàn theo hướng dẫn của chính quyền.",
        ),
        (
            "Warning of flash flood and landslide.",
            "Leave houses near streams and below slopes now. Follow the authorities to a safe place.",
        ),
    ),
    "storm": (
        ("Bão", "Bão"),
        (
            "Cảnh báo bão sắp đổ bộ.",
            "Bà con chằng chống nhà cửa, ở trong nhà kiên cố, không ra đường, tránh xa cây lớn và dây điện.",
        ),
        (
            "Storm warning.",
            "Secure your house, stay inside a solid building, keep away from trees and power lines.",
        ),
    ),
    "fire": (
        ("Cháy", "Cháy"),
        (
            "Báo động cháy.",
            "Bà con rời ngay khu vực có khói, không dùng thang máy, gọi cứu hỏa số 114, nhường đường cho xe chữa cháy.",
        ),
        ("Fire.", "Leave the area of the smoke, use no lift, call 114, and keep the way free for the fire brigade."),
    ),
    "evacuation": (
        ("Sơ tán khẩn cấp", "Sơ tán"),
        (
            "Lệnh sơ tán khẩn cấp.",
            "Bà con rời nhà ngay, mang theo giấy tờ và thuốc, đến điểm tập kết theo hướng dẫn của cán bộ.",
        ),
        (
            "Evacuate now.",
            "Leave your house, take papers and medicine, and go to the meeting point you are shown.",
        ),
    ),
    "all_clear": (
        ("Hết nguy hiểm", "Hết nguy hiểm"),
        (
            "Tình hình đã an toàn. Cảnh báo kết thúc.",
            "Bà con trở về nhà và tiếp tục theo dõi thông tin của chính quyền.",
        ),
        ("All clear. The warning is over.", "You may return. Keep listening to the authorities."),
    ),
    "test": (
        ("Kiểm tra loa", "Kiểm tra"),
        (
            "Đây là kiểm tra hệ thống cảnh báo.",
            "Chỉ là kiểm tra, bà con không cần làm gì.",
        ),
        ("This is a test of the warning system.", "It is only a test. Nothing is to be done."),
    ),
}
