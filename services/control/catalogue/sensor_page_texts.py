"""Texts of the pages of sensor rules, (Vietnamese, English), by key."""

from __future__ import annotations

SENSOR_PAGES: dict[str, tuple[str, str]] = {
    "rules.title": ("Quy tắc cảm biến", "Sensor rules"),
    "rules.of": ("Quy tắc cảm biến: {unit}", "Sensor rules of {unit}"),
    "rules.about": (
        "Khi số đo vượt ngưỡng đủ lâu, hệ thống báo động và đề xuất cảnh báo soạn sẵn cho người quyết định.",
        "When readings stay beyond a threshold, an alarm is raised and a prepared alert is proposed to people.",
    ),
    "rules.make": ("Lập quy tắc", "Make a rule"),
    "rules.make_in": ("Lập quy tắc cảm biến: {unit}", "Make a sensor rule in {unit}"),
    "rules.change": ("Sửa quy tắc", "Change the rule"),
    "rules.change_of": ("Sửa quy tắc: {name}", "Change the rule: {name}"),
    "rules.change_about": (
        "Sửa là bắt đầu lại: báo động đang có kết thúc, đề xuất đang chờ được rút, ủy quyền hết hiệu lực.",
        "A changed rule begins anew: its alarms end, what it proposed is taken back, its authorisation ends.",
    ),
    "rules.rule": ("Quy tắc", "Rule"),
    "rules.in_use": ("Đang dùng", "In use"),
    "rules.none": ("Chưa có quy tắc nào.", "There are no rules yet."),
    "rules.alarms": ("Báo động đang có", "Alarms that last"),
    "rules.all_alarms": ("Các lần báo động", "Alarms"),
    "rules.no_alarms": ("Chưa báo động lần nào.", "It has raised none."),
    "rules.alarm": ("Báo động", "Alarm"),
    "rules.begin": ("Bắt đầu", "Began"),
    "rules.end": ("Kết thúc", "Ended"),
    "rules.lasts": ("Đang kéo dài", "Lasts"),
    "rules.alarm_sensors": ("Cảm biến", "Sensors"),
    "rules.alert": ("Cảnh báo đề xuất", "Proposed alert"),
    "rules.threshold": ("Ngưỡng báo động", "Threshold"),
    "rules.limits": ("Ngưỡng", "Limits"),
    "rules.raises": ("Báo động khi", "Raised by"),
    "rules.clears": ("Hết báo động khi", "Cleared by"),
    "rules.for": ("liên tục {span}", "for {span}"),
    "rules.quorum": ("Số cảm biến phải cùng vượt", "Sensors that must agree"),
    "rules.silent_after": ("Coi là mất tín hiệu sau", "Silent after"),
    "rules.sensors": ("Cảm biến", "Sensors"),
    "rules.all_of": ("mọi cảm biến ở {units}", "every sensor below {units}"),
    "rules.proposes": ("Đề xuất", "Proposes"),
    "rules.some_alert": ("Cảnh báo soạn sẵn", "A prepared alert"),
    "rules.alarm_only": ("Chỉ báo động, không đề xuất", "Nothing: an alarm only"),
    "rules.cool_down": ("Giữa hai đề xuất ít nhất", "From one proposal to the next"),
    "rules.open_for": ("Đề xuất chờ tối đa", "A proposal waits at most"),
    "rules.signs": ("Chữ ký", "Signature"),
    "rules.signed": ("Có ký", "Signed"),
    "rules.unsigned": ("Không ký", "Unsigned"),
    "rules.no_sensors": (
        "Chưa có cảm biến nào; danh sách được xem lại mỗi phút.",
        "None yet; they are looked up once a minute.",
    ),
    "rules.retired": ("Đã ngừng dùng", "Out of use"),
    "rules.off": ("Đang tắt", "Switched off"),
    "rules.alarmed": ("Đang báo động", "Raised"),
    "rules.quiet": ("Bình thường", "Quiet"),
    "rules.beyond": ("Vượt ngưỡng", "Beyond the threshold"),
    "rules.retire": ("Ngừng dùng", "Take it out of use"),
    "rules.retire_of": ("Ngừng dùng quy tắc “{name}”", "Take “{name}” out of use"),
    "rules.retire_about": (
        "Báo động đang có kết thúc và đề xuất đang chờ được rút. Không dùng lại được; nếu chỉ tạm nghỉ, hãy sửa và tắt.",
        "Its alarms end and what it proposed is taken back, for good. To rest it for a while, change it and switch it off.",
    ),
    "rules.name": ("Tên quy tắc", "Name"),
    "rules.direction": ("Nguy hiểm khi số đo", "Danger lies"),
    "direction.above": ("cao hơn ngưỡng", "above the threshold"),
    "direction.below": ("thấp hơn ngưỡng", "below the threshold"),
    "rules.raise_at": ("Báo động từ mức", "Raised at"),
    "rules.clear_at": ("Hết báo động ở mức", "Cleared at"),
    "rules.hold": ("Phải giữ liên tục (phút)", "Held for (minutes)"),
    "rules.silent_after_minutes": ("Mất tín hiệu sau (phút)", "Silent after (minutes)"),
    "rules.sensors_of_units": (
        "Mọi cảm biến đo đại lượng này ở các đơn vị:",
        "Every sensor that gives the quantity, below these units:",
    ),
    "rules.single_sensors": ("Từng cảm biến:", "Single sensors:"),
    "rules.other_sensors": ("Mã cảm biến khác, mỗi dòng một mã", "Other sensors by id, one a line"),
    "rules.severity": ("Mức độ của báo động", "Severity of the alarm"),
    "rules.template": ("Mẫu cảnh báo được đề xuất", "Alert that is proposed"),
    "rules.cool_down_minutes": ("Giữa hai đề xuất (phút)", "Between two proposals (minutes)"),
    "rules.open_for_minutes": ("Đề xuất chờ tối đa (phút)", "A proposal waits for (minutes)"),
    "rules.alert_units": (
        "Cảnh báo phát ở (không chọn: toàn bộ {unit}):",
        "The alert is for (nothing chosen: all of {unit}):",
    ),
    "rules.enabled": ("Bật quy tắc", "The rule is switched on"),
    "rules.save": ("Lưu quy tắc", "Save the rule"),
    "rules.leave": ("Không lưu", "Leave it"),
    "sensor_alarm.sensor_threshold": ("Vượt ngưỡng", "Threshold passed"),
    "sensor_alarm.sensor_rule_blind": ("Mất tín hiệu cảm biến", "Sees too little"),
    # --- tried on what was measured
    "trial.title": ("Nếu đã dùng quy tắc này", "What this rule would have done"),
    "trial.try": ("Thử với số đo 7 ngày qua", "Try it on the last 7 days"),
    "trial.over": (
        "{readings} số đo của {sensors} cảm biến, từ {time}. Chưa lưu gì.",
        "{readings} readings of {sensors} sensors, since {time}. Nothing is saved.",
    ),
    "trial.nothing": ("Không báo động lần nào.", "It would have raised no alarm."),
    "trial.peak": ("Cao nhất", "Peak"),
    "trial.proposed": ("Đề xuất lúc", "Would have proposed"),
    # --- released without asking
    "authorisation.title": ("Tự phát không chờ người quyết định", "Released without asking"),
    "authorisation.about": (
        "Chỉ khi hai cán bộ khác nhau cùng cho phép, cảnh báo mà quy tắc này đề xuất mới được phát ngay. Sửa quy tắc hoặc "
        "mẫu là phải cho phép lại.",
        "Only where two different officers allow it is what this rule proposes issued at once. When the rule or the "
        "template changes, it has to be allowed anew.",
    ),
    "authorisation.risk": (
        "Chỉ số đo có chữ ký hợp lệ của cảm biến mới được tính; cảm biến sau cổng (gateway) không có khóa nên không được "
        "tính. Ai chiếm được máy chủ môi giới (broker) không giả được số đo, nhưng có thể giữ lại một phần; ai lấy cắp khóa "
        "của đủ số cảm biến thì làm loa phát được khi chưa ai được hỏi. Chỉ cho phép ở nơi chờ một người quyết định còn "
        "nguy hiểm hơn một lần báo động giả.",
        "Only readings that a sensor has signed count; sensors behind a gateway have no key and do not. Whoever holds the "
        "broker cannot forge them, but can keep some back; whoever stole the keys of as many sensors as have to agree can "
        "make this sound with nobody asked. Allow it only where waiting for a person is worse than a false alarm.",
    ),
    "authorisation.signing": (
        "Cảm biến đang ký số đo: {signing} trên {sensors}; cần {quorum}.",
        "Sensors that sign what they say: {signing} of {sensors}; {quorum} must.",
    ),
    "authorisation.too_few_sign": (
        "Chưa đủ: dù được cho phép, cảnh báo vẫn chờ người quyết định.",
        "Too few: even where it is allowed, what is proposed waits for a person.",
    ),
    "authorisation.none": ("Chưa ai cho phép: mọi đề xuất đều chờ người quyết định.", "Nobody has: proposals wait."),
    "authorisation.holds": ("ĐANG CHO PHÉP TỰ PHÁT", "IT IS RELEASED AT ONCE"),
    "authorisation.first": ("Người thứ nhất", "The first officer"),
    "authorisation.second": ("Người thứ hai", "The second officer"),
    "authorisation.until": ("Đến", "Until"),
    "authorisation.last_day": ("Cho phép đến hết ngày (tối đa một năm)", "Allowed to the end of (a year at most)"),
    "authorisation.ask": ("Cho phép, với tư cách người thứ nhất", "Allow it, as the first of two"),
    "authorisation.confirm": ("Cho phép, với tư cách người thứ hai", "Allow it, as the second of two"),
    "authorisation.own": (
        "Anh/chị là người thứ nhất: cần một cán bộ khác có quyền cho phép tiếp.",
        "You are the first: another officer who may has to allow it too.",
    ),
    "authorisation.end": ("Hủy việc cho phép", "End it"),
    "authorisation_void.not_confirmed": ("Chờ người thứ hai, chưa có hiệu lực", "Waits for the second officer"),
    "authorisation_void.expired": ("Đã hết thời hạn", "It has run out"),
    "authorisation_void.changed_since": (
        "Không còn hiệu lực: quy tắc hoặc mẫu đã đổi",
        "It does not hold: rule or template has changed since",
    ),
    "authorisation_void.officer_without_right": (
        "Không còn hiệu lực: một trong hai người không còn quyền",
        "It does not hold: one of the two may not any more",
    ),
}
