"""What became of an alert on a device, and what a person does about it, (Vietnamese, English).

Of a silence or a test some of it is said with other words: `reach.silence.…` and `reach.test.…` (`reach_words`).
"""

from __future__ import annotations

_REACH: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "reached": (("Đã phát đúng lúc", "It sounded in time"), ("Không cần làm gì.", "Nothing.")),
    "reached_late": (
        ("Đã phát, nhưng trễ", "It sounded, but late"),
        ("Kiểm tra đường truyền và tệp âm thanh trên thiết bị.", "Check its line, and whether it holds the files."),
    ),
    "reached_by_gateway": (
        ("Chỉ có cổng kết nối báo đã phát", "Only its gateway says that it sounded"),
        ("Cử người nghe tại chỗ: lời của cổng kết nối chưa phải bằng chứng.", "Have somebody listen: it is no proof."),
    ),
    "waiting": (("Đang chờ trả lời", "Waiting for its answer"), ("Chờ vài giây.", "Wait a few seconds.")),
    "offline": (
        ("Mất kết nối", "It is offline"),
        (
            "Báo bằng cách khác (điện thoại, loa tay); nếu kịp kết nối lại trong thời hạn, thiết bị vẫn phát.",
            "Warn people another way (telephone, megaphone); it still sounds if it is back in time.",
        ),
    ),
    "never_heard": (
        ("Chưa từng kết nối", "It was never heard from"),
        ("Báo bằng cách khác; kiểm tra việc lắp đặt.", "Warn people another way; check its installation."),
    ),
    "media_missing": (
        ("Thiếu tệp âm thanh", "It lacks the sound"),
        ("Thiết bị đang tải và sẽ phát ngay khi đủ; kiểm tra đường truyền.", "It is fetching it; check its line."),
    ),
    "silenced": (
        ("Đang bị tắt tiếng", "It has been silenced"),
        (
            "Cho phát lại nếu thiết bị an toàn; nếu không, báo bằng cách khác.",
            "Let it sound again if it is safe, else warn otherwise.",
        ),
    ),
    "refused": (
        ("Thiết bị từ chối lệnh", "It refused the order"),
        ("Báo đội an ninh: khóa hoặc đồng hồ của thiết bị có vấn đề.", "Tell security: its keys or clock are wrong."),
    ),
    "clock_untrusted": (
        ("Đồng hồ không tin cậy", "Its clock is not trusted"),
        ("Báo bằng cách khác; chỉnh giờ thiết bị.", "Warn people another way; have its clock set."),
    ),
    "unsupported": (
        ("Không phát được loại nội dung này", "It cannot put this out"),
        ("Thêm âm thanh hoặc văn bản phù hợp rồi cập nhật cảnh báo.", "Update the alert with a sound or text for it."),
    ),
    "came_too_late": (
        ("Nhận được khi đã hết hiệu lực", "It came when it was over"),
        ("Phát lại nếu vẫn cần.", "Issue it again if it is still needed."),
    ),
    "test_failed": (
        ("Kiểm tra không đạt", "The test failed"),
        ("Xem chi tiết và cử người sửa chữa.", "See the detail and send somebody."),
    ),
    "play_failed": (
        ("Bắt đầu rồi hỏng giữa chừng", "It began and failed"),
        ("Báo bằng cách khác; kiểm tra tăng âm và loa.", "Warn people another way; check amplifier and horns."),
    ),
    "not_started": (
        ("Đã nhận nhưng chưa phát", "It took it and has not begun"),
        (
            "Có thể đang phát cảnh báo ưu tiên hơn; theo dõi hoặc gọi tại chỗ.",
            "A higher alert may sound; watch or call.",
        ),
    ),
    "no_answer": (
        ("Có kết nối nhưng không trả lời", "It is online and says nothing"),
        ("Gọi người tại chỗ nghe; kiểm tra cấu hình đơn vị.", "Have somebody listen; check the unit it is set to."),
    ),
    "stopped_here": (
        ("Không còn gửi tới đây", "It is not meant for here any more"),
        ("Không cần làm gì.", "Nothing."),
    ),
}

_MEANING, _WHAT_TO_DO = "meaning", "what_to_do"

# Nothing of a silence sounds, and whoever is not silent may be in somebody else's hands.
_OF_SILENCES: dict[str, dict[str, tuple[str, str]]] = {
    "reached": {_MEANING: ("Đã tắt tiếng", "It is silent")},
    "reached_by_gateway": {
        _MEANING: ("Chỉ có cổng kết nối báo đã tắt tiếng", "Only its gateway says that it is silent"),
    },
    "offline": {
        _WHAT_TO_DO: (
            "Thiết bị sẽ tắt tiếng khi kết nối lại; cần ngay thì cho người ngắt điện tại chỗ.",
            "It falls silent when it is back; if that cannot wait, have its power cut on the spot.",
        ),
    },
    "never_heard": {
        _WHAT_TO_DO: (
            "Nếu thiết bị đang phát, cho người ngắt điện tại chỗ.",
            "If it sounds, have its power cut on the spot.",
        ),
    },
    "refused": {
        _WHAT_TO_DO: (
            "Báo đội an ninh; cho người ngắt điện tại chỗ.",
            "Tell security; have its power cut on the spot.",
        ),
    },
    "clock_untrusted": {
        _WHAT_TO_DO: (
            "Cho người ngắt điện tại chỗ; chỉnh giờ thiết bị.",
            "Have its power cut on the spot, and its clock set.",
        ),
    },
    "no_answer": {
        _WHAT_TO_DO: (
            "Gọi người tại chỗ nghe; nếu vẫn phát thì ngắt điện.",
            "Have somebody listen; if it still sounds, have its power cut.",
        ),
    },
    "came_too_late": {_WHAT_TO_DO: ("Tắt tiếng lại nếu vẫn cần.", "Silence it again if it is still needed.")},
    "stopped_here": {_MEANING: ("Không còn bị tắt tiếng", "It is silenced no longer")},
}

# Nobody has to be warned because of a test: something has to be mended.
_OF_TESTS: dict[str, dict[str, tuple[str, str]]] = {
    "reached": {_MEANING: ("Đạt: thiết bị tự xác nhận", "Passed, by its own word")},
    "reached_late": {_MEANING: ("Đạt, nhưng trễ", "Passed, but late")},
    "reached_by_gateway": {_MEANING: ("Chỉ có cổng kết nối báo đạt", "Only its gateway says that it passed")},
    "offline": {_WHAT_TO_DO: ("Kiểm tra nguồn điện và đường truyền.", "Check its power and its line.")},
    "never_heard": {_WHAT_TO_DO: ("Kiểm tra việc lắp đặt.", "Check its installation.")},
    "silenced": {_WHAT_TO_DO: ("Cho phát lại nếu thiết bị an toàn.", "Let it sound again if it is safe.")},
    "clock_untrusted": {_WHAT_TO_DO: ("Chỉnh giờ thiết bị.", "Have its clock set.")},
    "unsupported": {
        _WHAT_TO_DO: (
            "Thêm âm thanh hoặc văn bản phù hợp vào mẫu kiểm tra.",
            "Give the test's template a sound or text for it.",
        ),
    },
    "came_too_late": {_WHAT_TO_DO: ("Kiểm tra đường truyền.", "Check its line.")},
    "play_failed": {_WHAT_TO_DO: ("Kiểm tra tăng âm và loa.", "Check amplifier and horns.")},
    "not_started": {
        _WHAT_TO_DO: ("Kiểm tra lại; nếu vẫn vậy, cử người đến.", "Test it again; if it stays so, send somebody."),
    },
    "no_answer": {
        _WHAT_TO_DO: (
            "Kiểm tra lại; nếu vẫn vậy, xem cấu hình đơn vị của thiết bị.",
            "Test it again; if it stays so, check the unit it is set to.",
        ),
    },
}

# What a test of the platform's own says, and what to do about a device that fails.
_TESTS: dict[str, tuple[str, str]] = {
    "silent_test.event": ("Kiểm tra không phát tiếng", "Silent test"),
    "silent_test.headline": ("Kiểm tra hệ thống cảnh báo, không phát tiếng", "Silent test of the warning system"),
    "silent_test.instruction": ("Không cần làm gì.", "Nothing is to be done."),
    "audible_test.event": ("Kiểm tra có phát tiếng", "Audible test"),
    "audible_test.headline": ("Kiểm tra hệ thống cảnh báo. Đây chỉ là kiểm tra.", "Test of the warning system."),
    "audible_test.instruction": ("Bà con không cần làm gì.", "Nothing is to be done."),
    "cap.cancelled": ("Đã hủy: {headline}", "Cancelled: {headline}"),
    "cap.except": ("trừ {what}", "except {what}"),
    "cap.only": ("chỉ {what}", "only {what}"),
    "cap.devices": ("Thiết bị {devices}", "Devices {devices}"),
    "cap.ownership.public": ("thiết bị công", "public devices"),
    "cap.ownership.private": ("thiết bị tư nhân", "private devices"),
    "cap.ownership.private_with_public_share": (
        "thiết bị tư nhân có thời lượng công ích",
        "private devices with a public share",
    ),
    "feed.alerts_in_force": ("Cảnh báo đang có hiệu lực", "Alerts in force"),
    "test_failing.what_to_do": (
        "Thiết bị đã trượt ít nhất hai lần kiểm tra liên tiếp: trong tình huống khẩn cấp sẽ không phát. {what_to_do}",
        "It failed two tests in a row or more: in an emergency it would stay silent. {what_to_do}",
    ),
}

ALERTS: dict[str, tuple[str, str]] = (
    _TESTS
    | {
        key: texts
        for reason, (meaning, what_to_do) in _REACH.items()
        for key, texts in ((f"reach.{reason}.{_MEANING}", meaning), (f"reach.{reason}.{_WHAT_TO_DO}", what_to_do))
    }
    | {
        f"reach.{of}.{reason}.{part}": texts
        for of, others in (("silence", _OF_SILENCES), ("test", _OF_TESTS))
        for reason, parts in others.items()
        for part, texts in parts.items()
    }
)
