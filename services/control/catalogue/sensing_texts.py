"""Rules on readings, and alerts that are proposed: what is wrong and how to mend it, (Vietnamese, English), by code."""

from __future__ import annotations

Parts = dict[str, tuple[str, str]]

SENSING_FAULTS: dict[str, Parts] = {
    "clear_not_below_raise": {
        "message": (
            "Ngưỡng kết thúc phải thấp hơn hẳn ngưỡng báo động ({raise_at}).",
            "The clearing threshold must lie below the raising one ({raise_at}).",
        ),
        "mend": (
            "Đặt ngưỡng kết thúc thấp hơn, để báo động không bật tắt liên tục.",
            "Set it lower, so that the alarm does not flap.",
        ),
    },
    "clear_not_above_raise": {
        "message": (
            "Ngưỡng kết thúc phải cao hơn hẳn ngưỡng báo động ({raise_at}).",
            "The clearing threshold must lie above the raising one ({raise_at}).",
        ),
        "mend": (
            "Đặt ngưỡng kết thúc cao hơn, để báo động không bật tắt liên tục.",
            "Set it higher, so that the alarm does not flap.",
        ),
    },
    "outside_the_rules_unit": {
        "message": (
            "{unit} không nằm dưới đơn vị giữ quy tắc.",
            "{unit} does not lie below the unit that keeps the rule.",
        ),
        "mend": (
            "Chọn trong phạm vi của đơn vị giữ quy tắc, hoặc để cấp trên giữ quy tắc.",
            "Name what lies below it, or have a unit above keep the rule.",
        ),
    },
    "rule_without_sensors": {
        "message": ("Quy tắc chưa chọn cảm biến nào.", "The rule names no sensors."),
        "mend": (
            "Chọn cảm biến, hoặc đơn vị có cảm biến (sensor_units).",
            "Name sensors, or units that have some (sensor_units).",
        ),
    },
    "quorum_never_met": {
        "message": (
            "Chỉ có {sensors} cảm biến, không bao giờ đủ số cần đồng ý.",
            "There are only {sensors} sensors: they can never be enough.",
        ),
        "mend": ("Giảm quorum hoặc thêm cảm biến.", "Lower the quorum or name more sensors."),
    },
    "device_measures_nothing": {
        "message": ("{id} không phải cảm biến.", "{id} is no sensor."),
        "mend": ("Chọn thiết bị loại cảm biến.", "Name a device of kind sensor."),
    },
    "too_many_sensors_below": {
        "message": (
            "Dưới các đơn vị này có hơn {limit} cảm biến.",
            "There are more than {limit} sensors below these units.",
        ),
        "mend": (
            "Chọn đơn vị nhỏ hơn, hoặc ghi tên từng cảm biến.",
            "Name smaller units, or the sensors themselves.",
        ),
    },
    "too_many_sensors": {
        "message": ("Quy tắc có hơn {limit} cảm biến.", "The rule would watch more than {limit} sensors."),
        "mend": ("Chia thành nhiều quy tắc.", "Make several rules of it."),
    },
    "too_many_readings": {
        "message": ("Có hơn {limit} số đo trong thời gian này.", "There are more than {limit} readings in this time."),
        "mend": ("Giảm số ngày hoặc số cảm biến.", "Try fewer days or fewer sensors."),
    },
    "authorisation_too_long": {
        "message": ("Thời hạn không hợp lệ.", "It cannot hold until then."),
        "mend": ("Chọn thời điểm sau hiện tại và trước {latest}.", "Choose an instant after now and before {latest}."),
    },
    "unknown_alert_template": {
        "message": (
            "Không có mẫu cảnh báo {id} dùng được ở đơn vị này.",
            "There is no alert template {id} that holds in this unit.",
        ),
        "mend": (
            "Chọn mẫu của chính đơn vị hoặc của cấp trên.",
            "Choose a template of the unit or of one above it.",
        ),
    },
    "alert_template_not_for_rules": {
        "message": (
            "Mẫu “{name}” đã ngừng dùng hoặc không phải mẫu cảnh báo.",
            "Template “{name}” is out of use, or not meant for alerts.",
        ),
        "mend": ("Chọn mẫu cảnh báo đang dùng.", "Choose a template for alerts that is in use."),
    },
}

SENSING_PROBLEMS: dict[str, Parts] = {
    "sensor_rule_not_found": {
        "title": ("Không có quy tắc cảm biến này", "No such sensor rule"),
        "detail": ("Không tìm thấy quy tắc {id}.", "Sensor rule {id} was not found."),
    },
    "sensor_rule_retired": {
        "title": ("Quy tắc đã ngừng dùng", "The rule is out of use"),
        "detail": ("Quy tắc “{name}” đã ngừng dùng.", "Rule “{name}” is out of use."),
    },
    "alert_template_of_a_rule": {
        "title": ("Mẫu đang được một quy tắc dùng", "A rule uses the template"),
        "detail": (
            "Quy tắc cảm biến “{rule}” đề xuất mẫu “{name}”; hãy đổi quy tắc trước.",
            "Sensor rule “{rule}” proposes template “{name}”; change the rule first.",
        ),
    },
    "sensor_rule_proposes_nothing": {
        "title": ("Quy tắc không đề xuất cảnh báo", "The rule proposes nothing"),
        "detail": (
            "Quy tắc “{name}” không có mẫu cảnh báo hoặc đã ngừng dùng, nên không có gì để cho phép.",
            "Rule “{name}” has no template, or is out of use: there is nothing to be released.",
        ),
    },
    "authorisation_there_already": {
        "title": ("Đã có ủy quyền", "There is an authorisation already"),
        "detail": (
            "Quy tắc “{name}” đã có ủy quyền; hãy hủy nó trước.",
            "Rule “{name}” has an authorisation already; end that first.",
        ),
    },
    "no_authorisation_to_confirm": {
        "title": ("Không có ủy quyền chờ xác nhận", "No authorisation waits"),
        "detail": (
            "Quy tắc “{name}” không có ủy quyền nào chờ người thứ hai.",
            "No authorisation of rule “{name}” waits for a second officer.",
        ),
    },
    "authorisation_of_another_version": {
        "title": ("Quy tắc hoặc mẫu đã thay đổi", "The rule or its template has changed"),
        "detail": (
            "“{name}” hoặc mẫu của nó đã đổi từ khi người thứ nhất đọc; hãy hủy và làm lại.",
            "“{name}” or its template has changed since the first officer read it; end it and begin anew.",
        ),
    },
    "proposal_not_found": {
        "title": ("Không có đề xuất này", "No such proposal"),
        "detail": ("Không tìm thấy đề xuất cảnh báo {id}.", "Proposed alert {id} was not found."),
    },
    "proposal_decided": {
        "title": ("Đề xuất đã được quyết định", "The proposal has been decided"),
        "detail": (
            "“{headline}” đã được quyết định hoặc hết hạn lúc {at}.",
            "“{headline}” was decided, or ran out, at {at}.",
        ),
    },
}
