"""What is wrong with a CAP document and how to mend it, (Vietnamese, English), by code."""

from __future__ import annotations

Parts = dict[str, tuple[str, str]]


def _fault(message: tuple[str, str], mend: tuple[str, str]) -> Parts:
    return {"message": message, "mend": mend}


_ASK_THE_SENDER = (
    "Hỏi lại đơn vị gửi; bản tin phải theo CAP 1.2 của OASIS.",
    "Ask its sender; it must follow CAP 1.2 of OASIS.",
)

CAP_FAULTS: dict[str, Parts] = {
    # --- taking a message in
    "cap_not_public": _fault(
        ("Bản tin có phạm vi {value}, không dành cho công chúng.", "Its scope is {value}: it is not for the public."),
        ("Chỉ phát bản tin có phạm vi Public.", "Only messages of scope Public go on air."),
    ),
    "cap_known_already": _fault(
        ("Bản tin {value} đã được nhận.", "The message {value} was taken in already."),
        ("Không cần gửi lại.", "It need not be sent again."),
    ),
    "cap_self_reference": _fault(
        ("Bản tin nhắc tới chính nó.", "The message refers to itself."),
        _ASK_THE_SENDER,
    ),
    "cap_of_another_sender": _fault(
        ("Bản tin được nhắc tới là của bên gửi khác: {value}.", "It refers to a message of another sender: {value}."),
        ("Chỉ bên gửi mới được sửa hoặc hủy bản tin của mình.", "Only its own sender may update or cancel a message."),
    ),
    "cap_reference_unknown": _fault(
        ("Không bản tin nào được nhắc tới còn hiệu lực ở đây.", "None of the messages it refers to is in force here."),
        ("Nhận bản tin gốc trước, hoặc phát bản tin mới.", "Take in the original first, or send a new alert."),
    ),
    "cap_update_taken_as_new": _fault(
        (
            "Bản tin sửa một bản tin chưa nhận hoặc đã hết hiệu lực ở đây; được phát như cảnh báo mới.",
            "It updates a message that is not in force here, and is put in force as a new alert.",
        ),
        ("Không cần làm gì.", "Nothing needs to be done."),
    ),
    "cap_superseded": _fault(
        (
            "Bản tin {value} đã thay thế hoặc hủy bản tin này.",
            "Message {value} has replaced this one or taken it back.",
        ),
        ("Không cần gửi bản cũ.", "The earlier one need not be sent."),
    ),
    "unknown_account": _fault(
        ("Không có tài khoản {id}.", "There is no account {id}."),
        ("Chọn tài khoản có vai trò cap_source.", "Name an account with the role cap_source."),
    ),
    "account_is_no_cap_source": _fault(
        ("Tài khoản {login} không được gửi bản tin CAP cho {unit}.", "Account {login} may not deliver CAP for {unit}."),
        (
            "Giao cho tài khoản vai trò cap_source tại đơn vị này hoặc cấp trên.",
            "Grant it the role cap_source in this unit or one above.",
        ),
    ),
    "cap_says_nothing": _fault(
        ("Bản tin không có nội dung (info).", "The message has no info block."),
        _ASK_THE_SENDER,
    ),
    "cap_expired": _fault(
        ("Bản tin đã hết hiệu lực lúc {value}.", "The message expired at {value}."),
        ("Không phát bản tin đã hết hiệu lực.", "What has expired does not go on air."),
    ),
    "cap_without_end": _fault(
        (
            "Bản tin gửi lúc {value}, không ghi khi nào hết hiệu lực.",
            "It was sent at {value} and does not say when it ends.",
        ),
        (
            "Quá một ngày sau khi gửi thì không phát; hỏi bên gửi (expires).",
            "A day after it was sent it does not go on air; ask its sender (expires).",
        ),
    ),
    "cap_area_unknown": _fault(
        ("Không rõ khu vực: {value}.", "Unknown area: {value}."),
        (
            "Dùng geocode {name} với mã đơn vị hiện nay, hoặc polygon, circle.",
            "Use the geocode {name} with codes of today's units, or a polygon or circle.",
        ),
    ),
    "cap_all_clear_only": _fault(
        (
            "Bản tin chỉ báo rằng ở đây đã yên; không có gì phải cảnh báo.",
            "The message says only that something is over here; there is nothing to warn of.",
        ),
        ("Muốn báo yên, hãy phát thanh bình thường.", "To tell people so, make an ordinary broadcast."),
    ),
    "cap_all_clear_left": _fault(
        (
            "Phần báo yên của bản tin không được phát; nơi đó chỉ kết thúc cảnh báo mà bản tin thay thế.",
            "What the message says is over is not sounded; there, it only ends the alert that the message replaces.",
        ),
        ("Muốn báo yên, hãy phát thanh bình thường.", "To tell people so, make an ordinary broadcast."),
    ),
    "cap_infos_differ": _fault(
        (
            "Bản tin nói {count} điều khác nhau cho các địa bàn ở đây.",
            "The message says {count} different things to the ground here.",
        ),
        (
            "Tối đa {limit}; hãy nhận bản tin ở từng đơn vị cấp dưới, hoặc đề nghị bên gửi tách bản tin.",
            "At most {limit}; take it in for the units below one by one, or ask its sender for several messages.",
        ),
    ),
    "cap_area_without_place": _fault(
        ("Bản tin không nói rõ khu vực nào.", "The message names no area."),
        _ASK_THE_SENDER,
    ),
    "cap_area_outside": _fault(
        ("Không thiết bị nào ở trong khu vực {value}.", "No device of yours is known to stand inside {value}."),
        ("Kiểm tra đơn vị phát và vị trí thiết bị.", "Check the unit that speaks and the places of devices."),
    ),
    # --- sounds of alerts
    "alert_sound_too_long": _fault(
        ("Âm thanh của cảnh báo dài quá ba phút.", "The sound of the alert is longer than three minutes."),
        ("Rút gọn lời đọc hoặc bản ghi âm.", "Shorten the words or the recording."),
    ),
    "alert_sound_silent": _fault(
        ("Không nghe thấy gì trong âm thanh này.", "There is nothing to hear in this sound."),
        ("Nhập lời đọc, chọn hiệu lệnh hoặc bản ghi âm khác.", "Enter words, or choose a tone or another recording."),
    ),
    "alert_speech_failed": _fault(
        ("Không đọc được lời này thành tiếng.", "These words could not be made into speech."),
        ("Sửa lời đọc, hoặc tải lên bản ghi âm.", "Change the words, or upload a recording."),
    ),
    "alert_sound_unreadable": _fault(
        ("Không đọc được bản ghi âm.", "The recording could not be read."),
        ("Tải lên lại bản ghi âm ở dạng khác.", "Upload the recording again in another form."),
    ),
    "alert_recording_unknown": _fault(
        (
            "Không có bản ghi âm này, hoặc trong đó không có tiếng.",
            "There is no such recording, or nothing sounds in it.",
        ),
        ("Tải bản ghi âm lên trước, rồi dùng mã sha256 của nó.", "Upload it first, then name its sha256."),
    ),
    "alert_language_twice": _fault(
        ("Ngôn ngữ {language} có hai lần.", "The language {language} stands here twice."),
        ("Mỗi ngôn ngữ chỉ một nội dung.", "Give one text a language."),
    ),
    # --- the document
    "cap_too_large": _fault(
        ("Tệp CAP quá lớn.", "The CAP file is too large."),
        (
            "Tối đa {limit} MiB; gửi âm thanh, hình ảnh bằng địa chỉ (uri) thay vì kèm trong tệp.",
            "At most {limit} MiB; name sounds and pictures by their uri instead of enclosing them.",
        ),
    ),
    "cap_malformed": _fault(
        ("Không phải XML hợp lệ (dòng {line}: {reason}).", "It is no well-formed XML (line {line}: {reason})."),
        ("Gửi nguyên tệp như nhận được, mã hóa UTF-8.", "Send the file whole as it came, in UTF-8."),
    ),
    "cap_has_dtd": _fault(
        (
            "Tệp có khai báo DOCTYPE; hệ thống không bao giờ đọc thực thể của tài liệu.",
            "The file has a DOCTYPE; entities of documents are never read here.",
        ),
        ("Bỏ khai báo DOCTYPE; bản tin CAP không cần.", "Remove the DOCTYPE; a CAP message needs none."),
    ),
    "cap_too_deep": _fault(
        ("Các phần tử lồng nhau quá sâu.", "Elements are nested too deeply."),
        ("Tối đa {limit} lớp.", "At most {limit} levels are read."),
    ),
    "cap_too_many_elements": _fault(
        ("Tệp có quá nhiều phần tử.", "The file has too many elements."),
        ("Tối đa {limit} phần tử; hãy chia thành nhiều bản tin.", "At most {limit} are read; send several messages."),
    ),
    "cap_wrong_namespace": _fault(
        (
            "Không gian tên {namespace} không phải của CAP 1.2.",
            "The namespace {namespace} is not that of CAP 1.2.",
        ),
        ("Phải là {expected}.", "It must be {expected}."),
    ),
    "cap_old_version": _fault(
        ("Bản tin theo CAP {version}; ở đây chỉ nhận CAP 1.2.", "This is CAP {version}; only CAP 1.2 is taken here."),
        ("Đề nghị bên gửi phát hành theo CAP 1.2.", "Ask the sender for CAP 1.2."),
    ),
    "cap_wrong_root": _fault(
        ("Phần tử ngoài cùng là {name}.", "The outermost element is {name}."),
        (
            "Gửi chính bản tin CAP (phần tử {expected}), không gửi danh sách tin hay trang web.",
            "Send the CAP message itself (element {expected}), not a feed or a web page.",
        ),
    ),
    "cap_unknown_element": _fault(
        ("Ở đây không có phần tử {name} (dòng {line}).", "There is no element {name} here (line {line})."),
        ("Sửa tên hoặc vị trí theo CAP 1.2.", "Correct its name or place by CAP 1.2."),
    ),
    "cap_missing": _fault(
        ("Thiếu phần tử bắt buộc {name}, hoặc để trống.", "The mandatory element {name} is missing or empty."),
        _ASK_THE_SENDER,
    ),
    "cap_repeated": _fault(
        ("Phần tử {name} chỉ được có một lần.", "The element {name} may stand here once only."),
        _ASK_THE_SENDER,
    ),
    "cap_too_many": _fault(
        ("Có quá nhiều phần tử {name}.", "There are too many of {name}."),
        ("Tối đa {limit}.", "At most {limit} are taken."),
    ),
    # --- its values
    "cap_not_listed": _fault(
        ("Giá trị {value} không có trong danh mục của CAP.", "{value} is not in the list of CAP."),
        ("Dùng một trong: {expected}.", "Use one of: {expected}."),
    ),
    "cap_time_malformed": _fault(
        ("{value} không phải thời điểm.", "{value} is no point in time."),
        ("Viết như 2026-11-29T08:00:00+07:00.", "Write it as 2026-11-29T08:00:00+07:00."),
    ),
    "cap_time_without_offset": _fault(
        ("Thời điểm {value} không ghi múi giờ.", "The time {value} does not say its offset from UTC."),
        ("Viết như 2026-11-29T08:00:00+07:00.", "Write it as 2026-11-29T08:00:00+07:00."),
    ),
    "cap_language_malformed": _fault(
        ("{value} không phải mã ngôn ngữ.", "{value} is no language code."),
        ("Viết như vi-VN hoặc en-US.", "Write it as vi-VN or en-US."),
    ),
    "cap_number_malformed": _fault(
        ("{value} không phải số.", "{value} is no number."),
        ("Chỉ viết chữ số, dấu chấm thập phân.", "Write digits only, with a decimal point."),
    ),
    "cap_reference_malformed": _fault(
        ("{value} không chỉ đúng một bản tin.", "{value} does not name a message."),
        (
            "Viết bên gửi, mã hiệu và thời điểm gửi, cách nhau bằng dấu phẩy.",
            "Write sender, identifier and sent, joined by commas.",
        ),
    ),
    "cap_polygon_malformed": _fault(
        ("Đa giác có phần không phải tọa độ: {value}.", "The polygon holds what are no coordinates: {value}."),
        ("Viết vĩ độ,kinh độ cách nhau bằng khoảng trắng.", "Write latitude,longitude pairs between blanks."),
    ),
    "cap_circle_malformed": _fault(
        ("{value} không phải hình tròn.", "{value} is no circle."),
        ("Viết vĩ độ,kinh độ rồi bán kính (km).", "Write latitude,longitude and the radius in kilometres."),
    ),
    "cap_point_nowhere": _fault(
        ("Tọa độ {value} không có trên Trái Đất.", "{value} is nowhere on Earth."),
        (
            "Viết vĩ độ (-90 đến 90) trước kinh độ (-180 đến 180).",
            "Write latitude (-90 to 90) before longitude (-180 to 180).",
        ),
    ),
    # --- oddities that are taken as meant
    "cap_foreign_element": _fault(
        ("Phần {name} không thuộc CAP, đã bỏ qua.", "{name} is not of CAP and was passed over."),
        ("Chữ ký kèm theo không được kiểm tra.", "A signature that comes along is not verified."),
    ),
    "cap_other_order": _fault(
        ("Các phần tử không theo thứ tự của CAP.", "The elements stand in another order than that of CAP."),
        _ASK_THE_SENDER,
    ),
    "cap_other_letters": _fault(
        ("{value} viết khác chữ hoa, chữ thường của CAP.", "{value} is written in other letters than those of CAP."),
        _ASK_THE_SENDER,
    ),
    "cap_taken_as": _fault(
        ("{value} được hiểu là {taken}.", "{value} was taken as {taken}."),
        _ASK_THE_SENDER,
    ),
    "cap_markup_in_text": _fault(
        (
            "Trong nội dung có phần tử {name}; mọi chữ đều được giữ theo thứ tự, cách trình bày bị bỏ.",
            "There is an element {name} within the text; all words were kept in their order, their looks were not.",
        ),
        _ASK_THE_SENDER,
    ),
    "cap_stray_text": _fault(
        (
            "Có chữ nằm ngoài mọi phần tử, đã bỏ qua: {value}.",
            "Words outside of any element were passed over: {value}.",
        ),
        _ASK_THE_SENDER,
    ),
    "cap_time_other_form": _fault(
        ("Thời điểm {value} viết khác quy định của CAP.", "The time {value} is written otherwise than CAP says."),
        ("Viết như 2026-11-29T01:00:00-00:00.", "Write it as 2026-11-29T01:00:00-00:00."),
    ),
    "cap_polygon_open": _fault(
        ("Đa giác chưa khép kín; đã tự khép.", "The polygon was not closed; it was taken as if it were."),
        ("Lặp lại đỉnh đầu ở cuối.", "Repeat the first corner at the end."),
    ),
    "cap_polygon_too_few": _fault(
        (
            "Đa giác chưa đủ ba đỉnh khác nhau, không bao quanh gì, nên đã bỏ.",
            "A polygon of fewer than three different corners surrounds nothing and was left out.",
        ),
        _ASK_THE_SENDER,
    ),
    "cap_ceiling_alone": _fault(
        ("Có ceiling mà không có altitude.", "There is a ceiling but no altitude."),
        _ASK_THE_SENDER,
    ),
    "cap_name_malformed": _fault(
        (
            "{value} có khoảng trắng, dấu phẩy, < hoặc &, nên bản tin khác không nhắc tới được.",
            "{value} holds blanks, commas, < or &, so other messages cannot refer to it.",
        ),
        _ASK_THE_SENDER,
    ),
}

CAP_PROBLEMS: dict[str, Parts] = {
    "cap_sender_not_found": {
        "title": ("Không có nguồn CAP này", "No such CAP sender"),
        "detail": ("Đơn vị không tin cậy nguồn “{sender}”.", "The unit does not trust sender “{sender}”."),
    },
    "cap_sender_not_trusted": {
        "title": ("Nguồn CAP không được tin cậy", "The CAP sender is not trusted"),
        "detail": (
            "Đơn vị không nhận tin của “{sender}” từ tài khoản này. Lần thử này đã được ghi lại.",
            "The unit takes no messages of “{sender}” from this account. This attempt is on record.",
        ),
    },
    "cap_too_many_waiting": {
        "title": ("Quá nhiều đề xuất đang chờ", "Too many proposals wait"),
        "detail": (
            "{limit} đề xuất của “{sender}” đang chờ người quyết định. Bản tin này chưa được nhận; hãy gửi lại sau.",
            "{limit} proposals of “{sender}” wait for somebody to decide. This message was not taken; send it again later.",
        ),
    },
}
