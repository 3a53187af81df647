"""Texts of the quarantine inbox, (Vietnamese, English), by key. Its reasons in words, and what to do about each."""

from __future__ import annotations

QUARANTINE: dict[str, tuple[str, str]] = {
    # --- the pages
    "quarantine.title": ("Thông điệp bị giữ lại", "Quarantine"),
    "quarantine.one": ("Thông điệp bị giữ lại số {id}", "Quarantined message {id}"),
    "quarantine.about": (
        "Những thông điệp của thiết bị mà hệ thống chưa nhận. Nội dung gốc luôn được giữ nguyên.",
        "Messages of devices that were not admitted. What was received always stays as it is.",
    ),
    "quarantine.empty": ("Không có thông điệp nào ở đây.", "There is nothing here."),
    "quarantine.all": ("Tất cả", "All"),
    "quarantine.by_reason": ("Theo lý do", "By reason"),
    "quarantine.filter": ("Lọc theo tình trạng", "Filter by standing"),
    "quarantine.more": ("Xem tiếp", "More"),
    "quarantine.count": ("{reason} ({count})", "{reason} ({count})"),
    "quarantine.sender": ("Bên gửi", "Sent by"),
    "quarantine.device": ("Về thiết bị", "About"),
    "quarantine.seen": ("Nhận lần cuối", "Last seen"),
    "quarantine.first_seen": ("Nhận lần đầu", "First seen"),
    "quarantine.messages": ("Số lần", "Times"),
    "quarantine.size": ("Kích thước", "Size"),
    "quarantine.bytes": ("{count} byte", "{count} bytes"),
    "quarantine.cut": ("{count} byte, chỉ giữ phần đầu", "{count} bytes, only the beginning was kept"),
    "quarantine.topic": ("Chủ đề", "Topic"),
    "quarantine.detail": ("Chi tiết kỹ thuật", "Detail"),
    "quarantine.why_here": ("Vì sao bị giữ lại", "Why it is here"),
    "quarantine.what_to_do": ("Cách xử lý", "What to do"),
    "quarantine.if_replayed": ("Nếu xét lại bây giờ", "If replayed now"),
    "quarantine.original": ("Nội dung gốc", "As received"),
    "quarantine.correction": ("Bản đã sửa", "Corrected copy"),
    "quarantine.corrected_by": ("{login} sửa lúc {time}: {why}", "by {login}, {time}: {why}"),
    "quarantine.decided_by": ("{login} quyết định lúc {time}: {why}", "{login} decided, {time}: {why}"),
    "quarantine.hex": ("Dạng thập lục phân", "Hexadecimal"),
    "quarantine.history": ("Đã xử lý", "What was done"),
    "quarantine.decide": ("Quyết định", "Decide"),
    "quarantine.reason_given": ("Lý do quyết định", "Why"),
    "quarantine.replay": ("Xét lại", "Replay"),
    "quarantine.replay_matching": ("Xét lại tất cả thông điệp này", "Replay all of these"),
    "quarantine.discard": ("Bỏ qua", "Discard"),
    "quarantine.correct": ("Sửa bản sao", "Correct a copy"),
    "quarantine.set_version": ("Đặt phiên bản 1", "Set version 1"),
    "quarantine.new_device": ("Thiết bị đúng", "The right device"),
    "quarantine.new_payload": ("Nội dung đúng (CBOR diagnostic)", "The right content (CBOR diagnostic)"),
    "quarantine.save": ("Lưu bản sửa", "Keep the copy"),
    "quarantine.register_link": ("Xem thiết bị", "See the device"),
    "quarantine.admitted": ("Sẽ được nhận và lưu.", "It would be admitted and stored."),
    # --- standings
    "quarantine.standing.open": ("Chưa xử lý", "Open"),
    "quarantine.standing.waiting": ("Đang chờ xét lại", "Waiting"),
    "quarantine.standing.replayed": ("Đã nhận", "Replayed"),
    "quarantine.standing.discarded": ("Đã bỏ qua", "Discarded"),
    # --- results of a replay
    "quarantine.result.stored": ("Đã lưu.", "Stored."),
    "quarantine.result.duplicate": ("Đã có từ trước, không lưu lần nữa.", "It was stored already; not stored again."),
    "quarantine.result.refused": ("Vẫn chưa được nhận.", "Still not admitted."),
    "quarantine.result.gone": ("Thông điệp đã quá hạn lưu giữ.", "It was kept no longer."),
    # --- reasons, and their mends
    "quarantine.reason.unknown_topic": (
        "Chủ đề không thuộc hợp đồng truyền tin.",
        "The topic is not one of the contract's.",
    ),
    "quarantine.mend.unknown_topic": (
        "Báo nhà sản xuất; nếu biết chủ đề đúng thì sửa bản sao rồi xét lại.",
        "Tell the vendor; where the right topic is known, correct a copy and replay it.",
    ),
    "quarantine.reason.unknown_principal": (
        "Bên gửi có chứng thư nhưng chưa được đăng ký.",
        "The sender has a certificate but is not registered.",
    ),
    "quarantine.mend.unknown_principal": (
        "Đăng ký thiết bị gửi (POST /api/v1/devices) rồi xét lại; nếu không phải của tỉnh thì thu hồi chứng thư.",
        "Register the sender (POST /api/v1/devices), then replay; if it is not the province's, revoke its certificate.",
    ),
    "quarantine.reason.unknown_device": ("Thiết bị chưa được đăng ký.", "The device is not registered."),
    "quarantine.mend.unknown_device": (
        "Đăng ký thiết bị (POST /api/v1/devices) rồi xét lại; nếu mã thiết bị sai thì sửa bản sao.",
        "Register the device (POST /api/v1/devices), then replay; if its id is wrong, correct a copy.",
    ),
    "quarantine.reason.not_allowed": (
        "Bên gửi không được phép nói thay thiết bị này.",
        "The sender may not speak for this device.",
    ),
    "quarantine.mend.not_allowed": (
        "Gán cổng cho thiết bị (PUT /api/v1/devices/…/gateway) nếu đúng như vậy, rồi xét lại.",
        "If it should, assign the gateway (PUT /api/v1/devices/…/gateway), then replay.",
    ),
    "quarantine.reason.wrong_kind": (
        "Thông điệp thuộc loại thiết bị khác với loại đã đăng ký.",
        "The message is of another kind of device than is registered.",
    ),
    "quarantine.mend.wrong_kind": (
        "Kiểm tra loại thiết bị đã đăng ký; đăng ký lại dưới mã mới nếu đăng ký sai.",
        "Check the kind that is registered; register the device anew if it is wrong.",
    ),
    "quarantine.reason.retained": (
        "Thông điệp được gửi kèm cờ lưu giữ (retain).",
        "The message was published with the retain flag.",
    ),
    "quarantine.mend.retained": (
        "Xét lại nếu nội dung đúng; báo nhà sản xuất bỏ cờ retain.",
        "Replay it if what it says is right; have the vendor drop the retain flag.",
    ),
    "quarantine.reason.malformed_packet": ("Gói MQTT bị hỏng.", "The MQTT packet is malformed."),
    "quarantine.mend.malformed_packet": (
        "Báo nhà sản xuất; nếu đọc được nội dung thì sửa bản sao.",
        "Tell the vendor; where its content can be read, correct a copy.",
    ),
    "quarantine.reason.database_refused": (
        "Cơ sở dữ liệu không lưu được giá trị trong thông điệp.",
        "The database cannot hold a value in it.",
    ),
    "quarantine.mend.database_refused": (
        "Báo nhóm phát triển: lẽ ra phải bị chặn từ khâu kiểm tra.",
        "Tell the developers: it should have been refused before.",
    ),
    "quarantine.reason.unknown_key": (
        "Thông điệp được ký bằng khóa không thuộc chứng thư còn hiệu lực nào của thiết bị.",
        "It is signed by a key that is in no good certificate of the device.",
    ),
    "quarantine.mend.unknown_key": (
        "Có thể bị giả mạo: kiểm tra thiết bị và broker. Nếu thiết bị dùng chứng thư cũ, hãy cấp mã nhận mới để nó ghi danh "
        "lại.",
        "It may be forged: look at the device and at the broker. A device with an old certificate is given a new claim code "
        "to enrol with.",
    ),
    "quarantine.reason.bad_signature": (
        "Chữ ký của thông điệp sai, hoặc được ký dưới tên thiết bị khác.",
        "Its signature is wrong, or made in another device's name.",
    ),
    "quarantine.mend.bad_signature": (
        "Có thể bị giả mạo: kiểm tra broker và đường truyền. Nếu chỉ một loại thiết bị gặp lỗi này, báo nhà sản xuất.",
        "It may be forged: look at the broker and the network. Where one make of device alone does it, tell the vendor.",
    ),
    "quarantine.reason.too_large": ("Thông điệp quá lớn.", "The message is too large."),
    "quarantine.mend.too_large": (
        "Báo nhà sản xuất; thiết bị phải chia nhỏ hoặc bỏ bớt.",
        "Tell the vendor; the device has to say less at once.",
    ),
    "quarantine.reason.truncated": ("Thông điệp bị cắt cụt.", "The message is cut off."),
    "quarantine.mend.truncated": ("Báo nhà sản xuất.", "Tell the vendor."),
    "quarantine.reason.not_cbor": ("Nội dung không phải CBOR.", "The content is no CBOR."),
    "quarantine.mend.not_cbor": (
        "Báo nhà sản xuất; xem dạng thập lục phân để biết thiết bị gửi gì.",
        "Tell the vendor; the hexadecimal form shows what it sends.",
    ),
    "quarantine.reason.forbidden_tag": ("Nội dung có thẻ CBOR không được dùng.", "It holds a CBOR tag."),
    "quarantine.mend.forbidden_tag": ("Báo nhà sản xuất.", "Tell the vendor."),
    "quarantine.reason.duplicate_key": ("Một trường xuất hiện hai lần.", "A field stands in it twice."),
    "quarantine.mend.duplicate_key": ("Báo nhà sản xuất.", "Tell the vendor."),
    "quarantine.reason.too_deep": ("Nội dung lồng quá sâu.", "It is nested too deep."),
    "quarantine.mend.too_deep": ("Báo nhà sản xuất.", "Tell the vendor."),
    "quarantine.reason.indefinite_length": (
        "Nội dung dùng độ dài không xác định.",
        "It uses indefinite lengths.",
    ),
    "quarantine.mend.indefinite_length": ("Báo nhà sản xuất.", "Tell the vendor."),
    "quarantine.reason.trailing_bytes": ("Có byte thừa sau nội dung.", "Bytes follow its end."),
    "quarantine.mend.trailing_bytes": ("Báo nhà sản xuất.", "Tell the vendor."),
    "quarantine.reason.not_deterministic": (
        "Nội dung không ở dạng mã hóa chuẩn.",
        "It is not in deterministic form.",
    ),
    "quarantine.mend.not_deterministic": ("Báo nhà sản xuất.", "Tell the vendor."),
    "quarantine.reason.wrong_type": ("Một trường có kiểu dữ liệu sai.", "A field has the wrong type."),
    "quarantine.mend.wrong_type": (
        "Báo nhà sản xuất; giá trị đúng có thể ghi vào bản sao.",
        "Tell the vendor; the right value may be put into a copy.",
    ),
    "quarantine.reason.missing_field": ("Thiếu một trường bắt buộc.", "A required field is missing."),
    "quarantine.mend.missing_field": (
        "Báo nhà sản xuất; giá trị thiếu có thể ghi vào bản sao.",
        "Tell the vendor; what is missing may be put into a copy.",
    ),
    "quarantine.reason.invalid_value": ("Một trường có giá trị ngoài phạm vi.", "A field's value is out of bounds."),
    "quarantine.mend.invalid_value": (
        "Báo nhà sản xuất; giá trị đúng có thể ghi vào bản sao.",
        "Tell the vendor; the right value may be put into a copy.",
    ),
    "quarantine.reason.unsupported_version": (
        "Phiên bản chính của thông điệp không được hỗ trợ.",
        "Its major version is not supported.",
    ),
    "quarantine.mend.unsupported_version": (
        "Nâng cấp hệ thống; nếu chỉ ghi sai số phiên bản thì sửa bản sao thành phiên bản 1.",
        "Upgrade the platform; if only the number is wrong, correct a copy to version 1.",
    ),
    "quarantine.reason.critical_field": (
        "Có trường bắt buộc phải hiểu mà hệ thống chưa biết.",
        "A field must be understood and is not known.",
    ),
    "quarantine.mend.critical_field": ("Nâng cấp hệ thống.", "Upgrade the platform."),
    # --- why a replay is refused besides
    "quarantine.reason.payload_cut": (
        "Chỉ giữ được phần đầu của nội dung nên không xét lại được.",
        "Only the beginning of its bytes was kept, so it cannot be replayed.",
    ),
    "quarantine.reason.too_old": (
        "Dữ liệu thô của thời điểm đó không còn được giữ.",
        "Raw data of its time are no longer kept.",
    ),
    "quarantine.reason.other_principal": (
        "Bản sửa đổi tên bên gửi.",
        "The copy names another sender.",
    ),
    "quarantine.reason.too_many_journals": (
        "Thiết bị mở quá nhiều nhật ký trong ngày; thử lại vào ngày mai.",
        "The device has opened too many journals today; try again tomorrow.",
    ),
    "quarantine.reason.too_many_gaps": (
        "Nhật ký của thiết bị còn quá nhiều chỗ trống; thử lại sau.",
        "The device's journal has too many gaps; try again later.",
    ),
    "quarantine.reason.quarantine_full": (
        "Hạn mức giữ lại trong ngày đã hết.",
        "The day's quota of quarantine is used up.",
    ),
}
