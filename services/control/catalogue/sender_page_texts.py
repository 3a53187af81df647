"""Texts of the page of CAP senders, (Vietnamese, English), by key."""

from __future__ import annotations

SENDER_PAGES: dict[str, tuple[str, str]] = {
    "senders.title": ("Nguồn tin CAP", "CAP senders"),
    "senders.of": ("Nguồn tin CAP được tin cậy: {unit}", "CAP senders that {unit} trusts"),
    "senders.about": (
        "Cơ quan được tin cậy gửi bản tin CAP đến thì hệ thống đề xuất cảnh báo; phát hay không do người quyết định.",
        "What a trusted sender delivers as CAP becomes a proposed alert; whether it sounds is for people to decide.",
    ),
    "senders.trusted": ("Đang tin cậy", "Trusted"),
    "senders.none": ("Chưa tin cậy nguồn nào.", "No sender is trusted."),
    "senders.through": ("gửi qua tài khoản {name}", "delivered by {name}"),
    "senders.since": ("từ {time}", "since {time}"),
    "senders.since_by": ("từ {time}, do {name}", "since {time}, by {name}"),
    "senders.mute": (
        "Tài khoản này không còn quyền gửi ở đây: sẽ không có đề xuất nào đến.",
        "This account may no longer deliver here: nothing will be proposed.",
    ),
    "senders.remove": ("Thôi tin cậy", "Trust it no longer"),
    "senders.remove_of": ("Thôi tin cậy {sender}", "Trust {sender} no longer"),
    "senders.remove_about": (
        "Từ lúc này tin của nguồn bị từ chối. Đề xuất đang chờ vẫn chờ người quyết định.",
        "What it delivers is refused from now on. What it has proposed still waits for people.",
    ),
    "senders.lapsed": ("Cần tin cậy lại sau sắp xếp đơn vị", "To be renewed since the reform"),
    "senders.lapsed_about": (
        "Trước khi sắp xếp, không phải đơn vị cũ nào cũng tin cậy các nguồn này như nhau. Tin của nguồn đang bị từ chối "
        "cho đến khi đơn vị này tin cậy lại.",
        "Not all the units before trusted these senders alike. What they deliver is refused until this unit trusts them.",
    ),
    "senders.renew": ("Tin cậy lại", "Trust it again"),
    "senders.put_away": ("Bỏ, không nhận nữa", "Put it away"),
    "senders.trust": ("Tin cậy một nguồn", "Trust a sender"),
    "senders.sender": ("Tên nguồn", "Sender"),
    "senders.sender_about": (
        "Đúng như trong phần <sender> của bản tin CAP.",
        "Exactly as <sender> of its CAP messages says.",
    ),
    "senders.account": ("Gửi qua tài khoản", "Delivered by the account"),
    "senders.do_trust": ("Tin cậy nguồn này", "Trust it"),
    "senders.no_accounts": (
        "Chưa có tài khoản nào có vai trò nguồn CAP ở đơn vị này hoặc cấp trên: nhờ quản trị viên tạo trước.",
        "No account has the role of a CAP source here or above: have an administrator make one first.",
    ),
}
