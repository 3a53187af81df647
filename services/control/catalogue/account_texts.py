"""Texts of the page of one's own account, (Vietnamese, English), by key."""

from __future__ import annotations

ACCOUNT: dict[str, tuple[str, str]] = {
    "account.title": ("Tài khoản", "Account"),
    "account.heading": ("Tài khoản của tôi", "My account"),
    "account.login": ("Tên đăng nhập", "Login"),
    "account.unit": ("Đơn vị", "Unit"),
    "account.roles": ("Vai trò", "Roles"),
    "account.role_in": ("{role} tại {unit}", "{role} at {unit}"),
    "account.role_until": ("{role} tại {unit}, đến {time}", "{role} at {unit}, until {time}"),
    "role.viewer": ("Người xem", "Viewer"),
    "role.officer": ("Cán bộ biên tập", "Officer"),
    "role.approver": ("Người duyệt", "Approver"),
    "role.operator": ("Người vận hành", "Operator"),
    "role.cap_source": ("Nguồn bản tin CAP", "CAP source"),
    "role.administrator": ("Quản trị", "Administrator"),
    "account.password": ("Đổi mật khẩu", "Change the password"),
    "account.old_password": ("Mật khẩu hiện nay", "Present password"),
    "account.new_password": ("Mật khẩu mới", "New password"),
    "account.again": ("Nhập lại mật khẩu mới", "New password once more"),
    "account.change": ("Đổi mật khẩu", "Change it"),
    "account.password_about": (
        "Đổi xong, mọi phiên đăng nhập khác của anh/chị kết thúc.",
        "Once it is changed, all your other sessions end.",
    ),
    "account.password_changed": (
        "Đã đổi mật khẩu. Các phiên đăng nhập khác đã kết thúc.",
        "The password is changed. Your other sessions have ended.",
    ),
    "account.factor": ("Xác thực hai lớp", "Second factor"),
    "account.factor_none": (
        "Chưa bật. Khi bật, phát cảnh báo và tắt tiếng cần thêm mã trên điện thoại của anh/chị.",
        "Off. When it is on, alerts and silences ask for a code of your phone as well.",
    ),
    "account.factor_missing": (
        "Chưa bật. Phát cảnh báo, tắt tiếng, tiếp sóng, chỉnh âm lượng, quản lý tài khoản và khóa chỉ làm được khi đã bật: cần "
        "thêm mã trên điện thoại của anh/chị.",
        "Off. Alerts, silences, live sources, volume, accounts and keys are refused until it is on: they ask for a code of "
        "your phone as well.",
    ),
    "account.factor_on": ("Đang bật. Còn {count} mã dự phòng.", "On. {count} recovery codes are left."),
    "account.factor_not_offered": (
        "Hệ thống này chưa cài khóa để dùng xác thực hai lớp.",
        "This installation has no key for second factors.",
    ),
    "account.own_password": ("Mật khẩu của anh/chị", "Your password"),
    "account.factor_begin": ("Bật xác thực hai lớp", "Switch it on"),
    "account.factor_scan": (
        "Quét mã này bằng ứng dụng xác thực trên điện thoại (Google Authenticator, Microsoft Authenticator, …), rồi nhập 6 "
        "số ứng dụng hiện ra.",
        "Scan this with the authenticator app on your phone, then type the six digits it shows.",
    ),
    "account.factor_secret": ("Không quét được? Nhập khóa này vào ứng dụng:", "Cannot scan? Type this into the app:"),
    "account.qr": ("Mã QR cho ứng dụng xác thực", "QR code for the authenticator app"),
    "account.code": ("Mã 6 số trên ứng dụng", "Six digits of the app"),
    "account.code_or": ("Mã 6 số trên ứng dụng, hoặc mã dự phòng", "Six digits of the app, or a recovery code"),
    "account.factor_confirm": ("Xác nhận", "Confirm"),
    "account.factor_remove": ("Tắt xác thực hai lớp", "Switch it off"),
    "account.factor_removed": ("Đã tắt xác thực hai lớp.", "The second factor is off."),
    "account.recovery": (
        "Đã bật. Ghi lại các mã dự phòng này và cất nơi an toàn: mỗi mã dùng một lần, khi mất điện thoại. Chúng chỉ hiện "
        "lần này.",
        "It is on. Write these recovery codes down and keep them safe: each is for one use, for the day you lose your "
        "phone. They are shown this once.",
    ),
    "account.sessions": ("Phiên đăng nhập", "Sessions"),
    "account.session_from": ("Địa chỉ", "Address"),
    "account.session_with": ("Trình duyệt", "Browser"),
    "account.session_since": ("Đăng nhập lúc", "Logged in"),
    "account.session_seen": ("Dùng gần nhất", "Last used"),
    "account.session_this": ("phiên này", "this one"),
    "account.end": ("Kết thúc", "End"),
    "account.end_session_of": ("Kết thúc phiên đăng nhập lúc {time}", "End the session of {time}"),
    "account.tokens": ("Mã API cho chương trình", "API tokens for programs"),
    "account.tokens_about": (
        "Chương trình có mã này làm được mọi việc anh/chị được làm. Cũng dùng làm mật khẩu khi đăng ký lịch điện tử.",
        "A program that has it may do what you may. It is also the password for calendar programs.",
    ),
    "account.no_tokens": ("Chưa có mã nào.", "There is none."),
    "account.token_name": ("Dùng cho", "What for"),
    "account.token_made": ("Tạo lúc", "Made"),
    "account.token_ends": ("Hết hạn", "Expires"),
    "account.token_days": ("Thời hạn", "For"),
    "account.days": ("{count} ngày", "{count} days"),
    "account.token_make": ("Tạo mã", "Make a token"),
    "account.token_shown": ("Chép mã này ngay, nó chỉ hiện lần này:", "Copy it now, it is shown this once:"),
    "account.end_token_of": ("Kết thúc mã {name}", "End the token {name}"),
}
