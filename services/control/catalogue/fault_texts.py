"""What is wrong with a field and how to mend it, (Vietnamese, English), by code."""

from __future__ import annotations

from services.control.catalogue.cap_texts import CAP_FAULTS
from services.control.catalogue.sensing_texts import SENSING_FAULTS

Parts = dict[str, tuple[str, str]]


def _fault(message: tuple[str, str], mend: tuple[str, str]) -> Parts:
    return {"message": message, "mend": mend}


FAULTS: dict[str, Parts] = {
    # --- forms of values
    "not_json": _fault(
        ("Nội dung không phải JSON hợp lệ (vị trí {position}).", "The body is no valid JSON (position {position})."),
        ("Kiểm tra dấu ngoặc, dấu phẩy và mã hóa UTF-8.", "Check brackets, commas and UTF-8 encoding."),
    ),
    "field_missing": _fault(
        ("Thiếu giá trị bắt buộc.", "A required value is missing."),
        ("Bổ sung trường này.", "Add this field."),
    ),
    "field_unknown": _fault(
        ("Không có trường này.", "There is no such field."),
        ("Xóa trường này hoặc sửa lại tên cho đúng.", "Remove it or correct its name."),
    ),
    "not_valid": _fault(
        ("Giá trị không hợp lệ.", "The value is not valid."),
        ("Xem mô tả của trường trong tài liệu OpenAPI.", "See the field's description in the OpenAPI document."),
    ),
    "csr_malformed": _fault(
        ("Không đọc được yêu cầu cấp chứng thư.", "This is no certificate signing request."),
        ("Gửi PKCS 10 dạng PEM.", "Send PKCS 10 in PEM."),
    ),
    "csr_not_signed_by_its_key": _fault(
        ("Yêu cầu không được ký bằng chính khóa của nó.", "The request is not signed by its own key."),
        ("Ký yêu cầu bằng khóa riêng của thiết bị.", "Sign it with the device's private key."),
    ),
    "csr_key_not_p256": _fault(
        ("Khóa không phải loại được nhận.", "The key is of a kind that is not taken."),
        ("Dùng khóa đường cong elliptic P-256.", "Use an elliptic-curve key on P-256."),
    ),
    "csr_key_of_another_device": _fault(
        ("Khóa này là của một thiết bị khác.", "The key is another device's."),
        ("Tạo khóa riêng trên chính thiết bị này.", "Make a key of its own on this device."),
    ),
    "not_a_certificate": _fault(
        ("Không đọc được chứng thư.", "This is no certificate."),
        ("Gửi chứng thư hiện tại dạng PEM.", "Send the present certificate in PEM."),
    ),
    "not_base64": _fault(
        ("Không phải Base64 hợp lệ.", "This is no valid Base64."),
        ("Mã hóa chữ ký bằng Base64 chuẩn (RFC 4648).", "Encode the signature in standard Base64 (RFC 4648)."),
    ),
    "text_too_short": _fault(
        ("Văn bản quá ngắn hoặc để trống.", "The text is too short or empty."),
        ("Số ký tự tối thiểu: {limit}.", "Characters at least: {limit}."),
    ),
    "text_too_long": _fault(
        ("Văn bản quá dài.", "The text is too long."),
        ("Rút gọn còn tối đa {limit} ký tự.", "Shorten it to {limit} characters."),
    ),
    "text_of_wrong_form": _fault(
        ("Văn bản không đúng dạng.", "The text has the wrong form."),
        ("Nhập theo dạng: {pattern}.", "Follow the form: {pattern}."),
    ),
    "text_has_control_characters": _fault(
        ("Văn bản chứa ký tự điều khiển.", "The text holds control characters."),
        ("Gõ lại văn bản, không dán kèm ký tự ẩn.", "Type it again, without hidden characters."),
    ),
    "too_few": _fault(
        ("Danh sách có quá ít phần tử.", "The list has too few entries."),
        ("Số phần tử tối thiểu: {limit}.", "Entries at least: {limit}."),
    ),
    "too_many": _fault(
        ("Danh sách có quá nhiều phần tử.", "The list has too many entries."),
        ("Tối đa {limit} phần tử.", "At most {limit} are taken."),
    ),
    "number_too_small": _fault(
        ("Số quá nhỏ.", "The number is too small."),
        ("Số phải {limit}.", "It must be {limit}."),
    ),
    "number_too_large": _fault(
        ("Số quá lớn.", "The number is too large."),
        ("Số phải {limit}.", "It must be {limit}."),
    ),
    "not_one_of": _fault(
        ("Giá trị không có trong danh sách cho phép.", "The value is none of those allowed."),
        ("Chọn một trong: {expected}.", "Choose one of: {expected}."),
    ),
    "not_a_uuid": _fault(
        ("Không phải mã định danh UUID.", "This is no UUID."),
        ("Dùng mã định danh mà API đã trả về.", "Use the id that the API has given."),
    ),
    "not_a_date": _fault(
        ("Không phải ngày hợp lệ.", "This is no date."),
        ("Viết theo dạng NĂM-THÁNG-NGÀY, ví dụ 2025-07-01.", "Write YEAR-MONTH-DAY, such as 2025-07-01."),
    ),
    "day_out_of_bounds": _fault(
        ("Ngày nằm ngoài khoảng cho phép.", "The day is out of bounds."),
        ("Chọn ngày từ {first} đến trước {last}.", "Choose a day from {first}, before {last}."),
    ),
    "not_a_time": _fault(
        ("Không phải giờ hợp lệ.", "This is no time of day."),
        ("Viết theo dạng GIỜ:PHÚT, ví dụ 05:30.", "Write HOUR:MINUTE, such as 05:30."),
    ),
    "not_a_local_time": _fault(
        ("Không phải giờ trong ngày hợp lệ.", "This is no local time."),
        (
            "Viết GIỜ:PHÚT hoặc GIỜ:PHÚT:GIÂY từ 00:00 đến 23:59:59, không kèm múi giờ.",
            "Write HH:MM or HH:MM:SS between 00:00 and 23:59:59, without an offset.",
        ),
    ),
    "not_an_instant": _fault(
        ("Không phải thời điểm hợp lệ.", "This is no instant."),
        (
            "Viết theo ISO 8601 kèm múi giờ, ví dụ 2025-07-01T05:30:00+07:00.",
            "Write ISO 8601 with an offset, such as 2025-07-01T05:30:00+07:00.",
        ),
    ),
    "instant_in_the_past": _fault(
        ("Thời điểm đã qua.", "The instant has passed."),
        ("Chọn một thời điểm trong tương lai.", "Choose one in the future."),
    ),
    "instant_too_late": _fault(
        ("Thời điểm quá xa.", "The instant is too far away."),
        ("Muộn nhất là {latest}.", "The latest possible is {latest}."),
    ),
    "not_true_or_false": _fault(
        ("Không phải true hoặc false.", "This is neither true nor false."),
        ("Dùng true hoặc false.", "Use true or false."),
    ),
    "not_a_whole_number": _fault(
        ("Không phải số nguyên.", "This is no whole number."),
        ("Nhập số nguyên, không có dấu phẩy.", "Enter a whole number."),
    ),
    "not_a_number": _fault(
        ("Không phải số.", "This is no number."),
        ("Nhập một số hữu hạn.", "Enter a finite number."),
    ),
    "not_a_text": _fault(
        ("Không phải văn bản.", "This is no text."),
        ("Gửi văn bản trong dấu ngoặc kép.", "Send a text in quotes."),
    ),
    "not_a_list": _fault(
        ("Không phải danh sách.", "This is no list."),
        ("Gửi danh sách trong dấu ngoặc vuông.", "Send a list in square brackets."),
    ),
    "not_an_object": _fault(
        ("Không phải đối tượng JSON.", "This is no JSON object."),
        ("Gửi đối tượng trong dấu ngoặc nhọn.", "Send an object in curly brackets."),
    ),
    "not_a_sha256": _fault(
        ("Không phải mã SHA-256.", "This is no SHA-256."),
        (
            "Dùng giá trị sha256 mà API trả về khi tải tệp lên (64 ký tự 0-9, a-f).",
            "Use the sha256 the upload has answered with (64 characters 0-9, a-f).",
        ),
    ),
    "bad_idempotency_key": _fault(
        ("Khóa chống gửi trùng không đúng dạng.", "The idempotency key has the wrong form."),
        (
            "Dùng 1 đến 200 ký tự ASCII in được, ví dụ một UUID mới.",
            "Use 1 to 200 printable ASCII characters, such as a new UUID.",
        ),
    ),
    "idempotency_key_reused": _fault(
        (
            "Khóa này đã dùng cho một yêu cầu có nội dung khác.",
            "This key was used for a request that asked for something else.",
        ),
        (
            "Gửi đúng nội dung cũ để nhận lại kết quả, hoặc dùng khóa mới.",
            "Send the same body to get its answer again, or use a new key.",
        ),
    ),
    "bad_place": _fault(
        ("Không tiếp tục được từ vị trí này.", "The list cannot go on from here."),
        ("Dùng nguyên giá trị more_after của trang trước.", "Use more_after of the page before as it is."),
    ),
    "bad_device_id": _fault(
        ("Mã thiết bị “{value}” không hợp lệ.", "“{value}” is no device id."),
        (
            "Dùng 3 đến 48 ký tự a-z, 0-9 và dấu gạch nối ở giữa; một số tên dành riêng cho hệ thống.",
            "Use 3 to 48 characters of a-z, 0-9 and inner hyphens; some names are reserved.",
        ),
    ),
    "bad_login": _fault(
        ("Tên đăng nhập không hợp lệ.", "This login cannot be used."),
        (
            "Dùng 3 đến 64 ký tự a-z, 0-9 và . _ @ - ở giữa.",
            "Use 3 to 64 characters of a-z, 0-9 and inner . _ @ -",
        ),
    ),
    "bad_language_tag": _fault(
        ("Mã ngôn ngữ “{value}” không hợp lệ.", "“{value}” is no language tag."),
        ("Dùng mã BCP 47, ví dụ vi, en, hmn.", "Use a BCP 47 tag such as vi, en, hmn."),
    ),
    # --- accounts
    "code_not_taken": _fault(
        ("Mã không đúng, đã hết hạn hoặc đã được dùng.", "The code is wrong, over, or was used."),
        (
            "Chờ mã tiếp theo của ứng dụng; kiểm tra giờ của điện thoại.",
            "Wait for the next code of the app; check the clock of the phone.",
        ),
    ),
    "login_taken": _fault(
        ("Tên đăng nhập {login} đã có.", "The login {login} is taken."),
        ("Chọn tên khác.", "Choose another one."),
    ),
    "password_not_repeated": _fault(
        ("Hai lần nhập mật khẩu mới không giống nhau.", "The new password was not typed the same twice."),
        ("Nhập lại cả hai ô.", "Type it again in both fields."),
    ),
    "password_too_short": _fault(
        ("Mật khẩu quá ngắn.", "The password is too short."),
        ("Dùng ít nhất {minimum} ký tự.", "Use at least {minimum} characters."),
    ),
    "password_too_long": _fault(
        ("Mật khẩu quá dài.", "The password is too long."),
        ("Dùng tối đa {maximum} ký tự.", "Use at most {maximum} characters."),
    ),
    "password_too_easy": _fault(
        ("Mật khẩu quá dễ đoán.", "The password is too easy to guess."),
        ("Đừng dùng tên đăng nhập, dãy số hoặc mật khẩu phổ biến.", "Avoid the login, sequences and common passwords."),
    ),
    "permission_not_held": _fault(
        ("Mình không có quyền {permission} ở đó.", "One does not have the permission {permission} there."),
        ("Bỏ quyền này, hoặc chọn đơn vị khác.", "Leave it out, or choose another unit."),
    ),
    "unit_outside_own_subtree": _fault(
        ("Đơn vị {unit} nằm ngoài phạm vi được giao.", "Unit {unit} lies outside your own area."),
        (
            "Chọn đơn vị trong phạm vi của bạn, hoặc nhờ cấp trên.",
            "Choose a unit of your area, or ask the level above.",
        ),
    ),
    "grant_outlasts_own": _fault(
        ("Quyền được cấp kéo dài hơn quyền của người cấp.", "The grant would outlast your own right."),
        ("Đặt thời hạn không muộn hơn {latest}.", "Let it end no later than {latest}."),
    ),
    # --- files of units
    "more_faults": _fault(
        ("Còn {count} lỗi nữa chưa liệt kê.", "There are {count} more faults."),
        ("Sửa các lỗi trên rồi nhập lại để xem phần còn lại.", "Mend those above and import again to see them."),
    ),
    "file_too_large": _fault(
        ("Tệp quá lớn.", "The file is too large."),
        ("Tệp đơn vị tối đa {limit} byte.", "A file of units has at most {limit} bytes."),
    ),
    "file_is_empty": _fault(
        ("Tệp không có đơn vị nào.", "The file holds no unit."),
        (
            "Dòng đầu là code,parent_code,level,name; mỗi dòng sau là một đơn vị.",
            "The first line is code,parent_code,level,name; each further line is a unit.",
        ),
    ),
    "not_utf8": _fault(
        ("Dòng {line}: tệp không phải mã UTF-8.", "Line {line}: the file is not UTF-8."),
        (
            "Trong Excel, lưu dạng “CSV UTF-8 (Comma delimited)”.",
            "In Excel, save as “CSV UTF-8 (Comma delimited)”.",
        ),
    ),
    "not_text": _fault(
        ("Dòng {line}: tệp chứa byte 0, không phải tệp văn bản.", "Line {line}: the file holds a zero byte."),
        ("Xuất lại tệp dưới dạng CSV UTF-8.", "Export it again as CSV UTF-8."),
    ),
    "not_csv": _fault(
        ("Dòng {line}: dấu ngoặc kép không khép đúng.", "Line {line}: quotes do not close."),
        ("Kiểm tra dấu ngoặc kép ở dòng này.", "Check the quotes in this line."),
    ),
    "bad_header": _fault(
        (
            "Dòng {line}: tiêu đề cột sai (thấy “{found}”).",
            "Line {line}: the header is wrong (found “{found}”).",
        ),
        (
            "Dòng đầu phải là {expected}, ngăn bằng dấu phẩy.",
            "The first line must be {expected}, separated by commas.",
        ),
    ),
    "too_many_rows": _fault(
        ("Tệp có quá nhiều dòng.", "The file holds too many lines."),
        ("Tối đa {limit} dòng.", "At most {limit} are taken."),
    ),
    "wrong_cell_count": _fault(
        (
            "Dòng {line}: có {found} cột thay vì {expected}.",
            "Line {line}: {found} columns instead of {expected}.",
        ),
        ("Đặt tên có dấu phẩy trong ngoặc kép.", "Put names with commas in quotes."),
    ),
    "cell_is_empty": _fault(
        ("Dòng {line}, cột {column}: để trống.", "Line {line}, column {column}: empty."),
        ("Điền giá trị cho ô này.", "Fill in this cell."),
    ),
    "bad_unit_code": _fault(
        ("Dòng {line}, cột {column}: mã “{value}” không hợp lệ.", "Line {line}, column {column}: bad code “{value}”."),
        ("Mã gồm tối đa 32 chữ cái không dấu, chữ số và . _ -", "A code has at most 32 letters, digits and . _ -"),
    ),
    "bad_unit_level": _fault(
        (
            "Dòng {line}, cột {column}: cấp “{value}” không hợp lệ.",
            "Line {line}, column {column}: bad level “{value}”.",
        ),
        (
            "Cấp là một từ tiếng Anh viết thường, ví dụ province, district, commune.",
            "A level is one lower-case word, such as province, district, commune.",
        ),
    ),
    "duplicate_unit_code": _fault(
        (
            "Dòng {line}: mã {value} đã có ở dòng {first}.",
            "Line {line}: code {value} stands in line {first} already.",
        ),
        ("Mỗi mã chỉ xuất hiện một lần trong một cây.", "A code stands once in a tree."),
    ),
    "unknown_parent_code": _fault(
        ("Dòng {line}: không có đơn vị cha mã {value}.", "Line {line}: there is no parent with code {value}."),
        ("Sửa parent_code hoặc bổ sung đơn vị cha.", "Correct parent_code or add the parent."),
    ),
    # --- mappings from old units to new ones
    "unknown_old_code": _fault(
        (
            "Dòng {line}, cột {column}: cây cũ không có đơn vị mã {value}.",
            "Line {line}, column {column}: the old tree has no unit with code {value}.",
        ),
        (
            "Dùng mã của cây đơn vị đang có hiệu lực vào hôm trước ngày sắp xếp.",
            "Use codes of the tree that holds on the day before the reform.",
        ),
    ),
    "unknown_new_code": _fault(
        (
            "Dòng {line}, cột {column}: tệp cây mới không có đơn vị mã {value}.",
            "Line {line}, column {column}: the file of the new tree has no unit with code {value}.",
        ),
        ("Sửa mã, hoặc bổ sung đơn vị vào cây mới.", "Correct the code, or add the unit to the new tree."),
    ),
    "old_unit_twice": _fault(
        (
            "Dòng {line}, cột {column}: đơn vị mã {value} đã có nơi đến ở dòng {first}.",
            "Line {line}, column {column}: unit {value} has been given a successor in line {first} already.",
        ),
        (
            "Mỗi đơn vị cũ chỉ có một dòng; thiết bị đi nơi khác thì ghi thêm dòng có device_id.",
            "An old unit has one line; devices that go elsewhere have lines of their own with device_id.",
        ),
    ),
    "device_twice": _fault(
        (
            "Dòng {line}, cột {column}: thiết bị {value} đã có ở dòng {first}.",
            "Line {line}, column {column}: device {value} stands in line {first} already.",
        ),
        ("Mỗi thiết bị chỉ có một dòng.", "A device has one line."),
    ),
    "unknown_mapped_device": _fault(
        (
            "Dòng {line}, cột {column}: không có thiết bị {value} đang hoạt động.",
            "Line {line}, column {column}: there is no device {value} in service.",
        ),
        ("Sửa mã thiết bị hoặc bỏ dòng này.", "Correct the device's id, or leave the line out."),
    ),
    "device_in_other_unit": _fault(
        (
            "Dòng {line}, cột {column}: thiết bị {value} thuộc đơn vị mã {unit}.",
            "Line {line}, column {column}: device {value} belongs to unit {unit}.",
        ),
        ("Ghi old_code là đơn vị của chính thiết bị.", "Give as old_code the device's own unit."),
    ),
    "mapping_circle": _fault(
        (
            "Dòng {line}, cột {column}: các đơn vị nhập vòng quanh vào nhau, bắt đầu từ mã {value}.",
            "Line {line}, column {column}: units go over into one another in a circle, beginning with {value}.",
        ),
        (
            "Đơn vị giữ nguyên tên và mã ở cả hai cây thì ghi chính mã của nó, hoặc bỏ dòng này.",
            "A unit that both trees call alike goes over into itself: give its own code, or leave the line out.",
        ),
    ),
    "split_without_heir": _fault(
        (
            "Dòng {line}, cột {column}: đơn vị mã {value} chỉ có dòng cho từng thiết bị.",
            "Line {line}, column {column}: unit {value} has lines for single devices only.",
        ),
        (
            "Thêm một dòng không có device_id: nơi phần còn lại, tài khoản và nội dung của đơn vị chuyển đến.",
            "Add a line without device_id: where the rest, the accounts and the content of the unit go.",
        ),
    ),
    "old_unit_unmapped": _fault(
        (
            "{unit} (mã {value}) không còn trong cây mới nhưng chưa có nơi đến: {devices} thiết bị, {accounts} tài "
            "khoản, {others} mục khác.",
            "{unit} (code {value}) is not in the new tree and nothing follows it: {devices} devices, {accounts} "
            "accounts, {others} other things.",
        ),
        ("Thêm một dòng cho đơn vị này vào tệp ánh xạ.", "Add a line for this unit to the mapping."),
    ),
    # --- proof sheets
    "unit_not_in_month": _fault(
        ("Đơn vị không có trong cây vào ngày nào của tháng {month}.", "The unit was in the tree on no day of {month}."),
        (
            "Chọn tháng khác, hoặc đơn vị cũ hay mới tương ứng.",
            "Choose another month, or the unit before or after it.",
        ),
    ),
    "not_a_digest": _fault(
        ("Không phải mã kiểm tra.", "This is no digest."),
        ("Nhập 64 chữ số hệ 16 in ở cuối bảng.", "Enter the 64 hexadecimal digits printed on the sheet."),
    ),
    "no_tree_before": _fault(
        ("Trước ngày này chưa có cây đơn vị nào.", "There is no tree of units before this day."),
        (
            "Nhập cây đầu tiên tại /api/v1/units/import, rồi mới sắp xếp.",
            "Import the first tree at /api/v1/units/import, then reform it.",
        ),
    ),
    "second_root": _fault(
        (
            "Dòng {line}: đơn vị gốc thứ hai; gốc đầu ở dòng {first}.",
            "Line {line}: a second root; the first is in line {first}.",
        ),
        ("Chỉ một đơn vị được để trống parent_code.", "Only one unit may have an empty parent_code."),
    ),
    "no_root": _fault(
        ("Không có đơn vị gốc.", "There is no root."),
        ("Để trống parent_code của đơn vị cấp cao nhất.", "Leave parent_code of the highest unit empty."),
    ),
    "unit_circle": _fault(
        ("Dòng {line}: đơn vị {value} nằm trong một vòng lặp.", "Line {line}: unit {value} lies in a circle."),
        ("Sửa parent_code để mọi đơn vị dẫn lên gốc.", "Correct parent_code so that every unit leads to the root."),
    ),
    "unit_too_deep": _fault(
        ("Dòng {line}: cây quá sâu.", "Line {line}: the tree is too deep."),
        ("Tối đa {limit} cấp dưới gốc.", "At most {limit} levels below the root."),
    ),
    "before_newest_tree": _fault(
        ("Đã có cây đơn vị có hiệu lực từ {newest}.", "There is a tree that holds from {newest}."),
        ("Chọn ngày {newest} hoặc muộn hơn.", "Choose {newest} or a later day."),
    ),
    "unknown_unit": _fault(
        ("Không có đơn vị {unit} vào ngày hôm nay.", "There is no unit {unit} today."),
        ("Tra cứu đơn vị tại /api/v1/units.", "Look units up at /api/v1/units."),
    ),
    # --- devices
    "device_id_taken": _fault(
        ("Mã thiết bị {id} đã được đăng ký.", "Device id {id} is registered already."),
        ("Dùng mã khác; mã cũ không cấp lại.", "Use another id; ids are not given again."),
    ),
    "device_id_repeated": _fault(
        ("Mã thiết bị {id} đã có ở phần tử {first}.", "Device id {id} stands at entry {first} already."),
        ("Xóa phần tử trùng.", "Remove the duplicate."),
    ),
    "volume_above_cap": _fault(
        ("Âm lượng vượt mức trần {cap} %.", "The volume lies above the cap of {cap} %."),
        ("Giảm âm lượng hoặc nâng mức trần.", "Lower the volume or raise the cap."),
    ),
    "position_incomplete": _fault(
        ("Thiếu một nửa tọa độ.", "Half of the position is missing."),
        ("Gửi cả latitude và longitude, hoặc không gửi cả hai.", "Send both latitude and longitude, or neither."),
    ),
    "gateway_behind_gateway": _fault(
        ("Cổng kết nối không thể nằm sau một cổng khác.", "A gateway cannot be behind a gateway."),
        ("Bỏ gateway_id.", "Leave gateway_id out."),
    ),
    "unknown_device": _fault(
        ("Không có thiết bị {id}.", "There is no device {id}."),
        ("Tra cứu thiết bị tại /api/v1/devices.", "Look devices up at /api/v1/devices."),
    ),
    "not_a_gateway": _fault(
        ("Thiết bị {id} không phải cổng kết nối.", "Device {id} is no gateway."),
        ("Chọn một thiết bị loại gateway.", "Choose a device of kind gateway."),
    ),
    "gateway_outside_own_subtree": _fault(
        ("Cổng {id} nằm ngoài phạm vi được giao.", "Gateway {id} lies outside your own area."),
        ("Chọn cổng trong phạm vi của bạn.", "Choose a gateway of your area."),
    ),
    "device_retired": _fault(
        ("Thiết bị {id} đã ngừng sử dụng.", "Device {id} is out of service."),
        ("Chọn thiết bị đang hoạt động.", "Choose one in service."),
    ),
    "device_cannot_play": _fault(
        ("Thiết bị {id} (loại {kind}) không phát được nội dung.", "Device {id} ({kind}) cannot put content out."),
        ("Chọn cụm loa hoặc bảng tin.", "Choose a cluster or a board."),
    ),
    # --- bulletins
    "unknown_subject_field": _fault(
        ("Không có lĩnh vực này.", "There is no such category."),
        ("Chọn một trong: {known}.", "Choose one of: {known}."),
    ),
    "bulletin_without_content": _fault(
        ("Bản tin không có nội dung.", "The bulletin has no content."),
        (
            "Gửi media_sha256 cho loa, board_text hoặc board_media_sha256 cho bảng tin.",
            "Send media_sha256 for loudspeakers, board_text or board_media_sha256 for boards.",
        ),
    ),
    "not_a_sound": _fault(
        ("Tệp này ({mime}) không phải âm thanh.", "This file ({mime}) is no sound."),
        (
            "Ảnh và phim cho bảng tin gửi ở board_media_sha256.",
            "Pictures and films for boards go into board_media_sha256.",
        ),
    ),
    "not_a_picture": _fault(
        ("Tệp này ({mime}) không phải ảnh hoặc phim.", "This file ({mime}) is neither picture nor film."),
        ("Âm thanh cho loa gửi ở media_sha256.", "Sound for loudspeakers goes into media_sha256."),
    ),
    "board_shows_two_things": _fault(
        ("Bảng tin chỉ hiện được một thứ.", "A board shows one thing."),
        (
            "Gửi board_text hoặc board_media_sha256, không gửi cả hai.",
            "Send board_text or board_media_sha256, not both.",
        ),
    ),
    "ticker_of_several_lines": _fault(
        ("Chữ chạy chỉ có một dòng.", "A ticker has one line."),
        ("Bỏ xuống dòng, hoặc dùng board_style “text”.", "Remove line breaks, or use board_style “text”."),
    ),
    "ticker_without_text": _fault(
        ("Chữ chạy nhưng không có chữ.", "There is no text that could run."),
        ("Gửi board_text, hoặc bỏ board_style.", "Send board_text, or leave board_style out."),
    ),
    "film_has_its_own_length": _fault(
        ("Phim đã có thời lượng riêng.", "A film has a length of its own."),
        ("Bỏ board_length_s.", "Leave board_length_s out."),
    ),
    "nothing_shown_that_long": _fault(
        ("Không có gì để hiện trên bảng tin.", "There is nothing that a board would show."),
        (
            "Gửi board_text hoặc board_media_sha256, hoặc bỏ board_length_s.",
            "Send something for boards, or leave it out.",
        ),
    ),
    "jingle_without_sound": _fault(
        ("Nhạc hiệu không có âm thanh.", "A jingle has no sound."),
        ("Gửi media_sha256.", "Send media_sha256."),
    ),
    "unknown_media": _fault(
        ("Chưa có tệp {sha256}.", "There is no file {sha256}."),
        ("Tải tệp lên tại /api/v1/media trước.", "Upload it at /api/v1/media first."),
    ),
    # --- broadcasts
    # --- alerts
    "alert_says_nothing": _fault(
        ("Cảnh báo chưa có nội dung.", "The alert says nothing."),
        ("Thêm ít nhất một ngôn ngữ vào texts.", "Add at least one language to texts."),
    ),
    "alert_without_sound": _fault(
        ("Cụm loa sẽ im lặng: chưa có tệp âm thanh nào.", "Loudspeakers would stay silent: there is no sound."),
        (
            "Gắn một tệp âm thanh (media_sha256), hoặc chỉ gửi tới bảng tin (kinds: board).",
            "Give a text a sound (media_sha256), or address boards only (kinds: board).",
        ),
    ),
    "language_twice": _fault(
        ("Ngôn ngữ {language} xuất hiện hai lần.", "The language {language} is there twice."),
        ("Giữ lại một mục cho mỗi ngôn ngữ.", "Keep one text a language."),
    ),
    "nobody_addressed": _fault(
        ("Chưa nêu nơi nhận.", "Nobody is addressed."),
        ("Nêu ít nhất một đơn vị hoặc một thiết bị.", "Name at least one unit or one device."),
    ),
    "polygon_without_inside": _fault(
        ("Đa giác cần ít nhất ba đỉnh khác nhau.", "A polygon needs three different corners."),
        ("Bổ sung đỉnh.", "Add corners."),
    ),
    "not_a_position": _fault(
        ("Không phải vị trí trên Trái Đất.", "This is no position on Earth."),
        ("Vĩ độ từ -90 đến 90, kinh độ từ -180 đến 180.", "Latitude -90 to 90, longitude -180 to 180."),
    ),
    "device_neither_sounds_nor_shows": _fault(
        ("Thiết bị {id} không phát cũng không hiện được gì.", "Device {id} can neither sound nor show anything."),
        ("Chọn cụm loa hoặc bảng tin.", "Name loudspeaker clusters or boards."),
    ),
    "alert_over_at_once": _fault(
        ("Cảnh báo hết hiệu lực gần như ngay lập tức.", "The alert would be over almost at once."),
        ("Đặt valid_until ít nhất {seconds} giây nữa.", "Set valid_until at least {seconds} seconds ahead."),
    ),
    "no_alert_template_here": _fault(
        ("Không có mẫu cảnh báo {id} đang dùng ở đơn vị này.", "No alert template {id} is in use here."),
        ("Chọn mẫu của đơn vị này hoặc của cấp trên.", "Name a template of this unit or of one above it."),
    ),
    "no_template_for_tests_here": _fault(
        ("Không có mẫu kiểm tra {id} đang dùng ở đơn vị này.", "No template {id} for audible tests is in use here."),
        (
            "Chọn mẫu có mục đích audible_test của đơn vị này hoặc cấp trên.",
            "Name a template with purpose audible_test, of this unit or of one above it.",
        ),
    ),
    "too_many_timetables": _fault(
        (
            "Quá {limit} đơn vị có lịch kiểm tra riêng dưới cùng một đơn vị.",
            "More than {limit} units below one have a timetable of their own.",
        ),
        ("Bỏ bớt lịch riêng, hoặc đặt lịch ở cấp giữa.", "Take some back, or set one at a unit in between."),
    ),
    "only_alerts_repeat": _fault(
        ("Chỉ cảnh báo mới lặp lại.", "Only alerts repeat."),
        ("Bỏ repeat_interval_s.", "Leave repeat_interval_s out."),
    ),
    "unknown_alert": _fault(
        ("Không có cảnh báo {id}.", "There is no alert {id}."),
        ("Kiểm tra lại mã cảnh báo.", "Check the id."),
    ),
    "alert_too_large": _fault(
        ("Cảnh báo quá lớn để gửi tới thiết bị.", "The alert is too large for devices."),
        ("Giảm số đỉnh đa giác, đơn vị hoặc độ dài văn bản.", "Use fewer corners or units, or shorter texts."),
    ),
    "emergency_needs_alert": _fault(
        (
            "Mức khẩn cấp không phát theo lịch.",
            "An emergency is not broadcast by a schedule.",
        ),
        (
            "Tình huống khẩn cấp: phát cảnh báo, loa phát ngay. Nội dung theo lịch: dùng “priority”.",
            "In an emergency issue an alert, which sounds at once. For what is scheduled use “priority”.",
        ),
    ),
    "unknown_bulletin": _fault(
        ("Không có bản tin {id} trong phạm vi của bạn.", "There is no bulletin {id} in your area."),
        ("Tra cứu bản tin tại /api/v1/bulletins.", "Look bulletins up at /api/v1/bulletins."),
    ),
    "bulletin_not_approved": _fault(
        ("Bản tin “{title}” chưa được duyệt (trạng thái {state}).", "Bulletin “{title}” is not approved ({state})."),
        ("Nhờ người có quyền duyệt bản tin trước.", "Have it approved first."),
    ),
    "items_without_bulletin": _fault(
        ("Lịch phát không có bản tin hay tiếp sóng nào.", "The broadcast holds no bulletin and no relay."),
        ("Thêm ít nhất một bản tin hoặc một nguồn tiếp sóng.", "Add at least one bulletin or relay."),
    ),
    "item_is_not_one_thing": _fault(
        ("Mỗi mục là một bản tin, một khoảng nghỉ hoặc một tiếp sóng.", "An item is a bulletin, a pause or a relay."),
        (
            "Gửi đúng một trong bulletin_id, pause_s và relay_source_id.",
            "Send exactly one of bulletin_id, pause_s and relay_source_id.",
        ),
    ),
    "target_is_not_one_thing": _fault(
        (
            "Mỗi đích phát là một đơn vị, một thiết bị, một nhóm hoặc một loại thiết bị.",
            "A target is a unit, a device, a group or a kind.",
        ),
        (
            "Gửi đúng một trong unit_id, device_id, group_id và kind.",
            "Send exactly one of unit_id, device_id, group_id and kind.",
        ),
    ),
    "target_outside_own_subtree": _fault(
        ("{target} nằm ngoài phạm vi của đơn vị phát hành.", "{target} lies outside the issuing unit's area."),
        (
            "Chỉ chọn đơn vị và thiết bị thuộc đơn vị phát hành mà bạn phụ trách.",
            "Choose units and devices of the issuing unit that you are in charge of.",
        ),
    ),
    "targets_only_exclude": _fault(
        ("Chỉ có đích loại trừ, không có đích phát.", "All targets exclude, none includes."),
        ("Thêm ít nhất một đơn vị hoặc thiết bị để phát.", "Add at least one unit or device."),
    ),
    "targets_empty": _fault(
        (
            "Không có thiết bị nào trong các đích phát được nội dung này.",
            "No device among the targets can put this content out.",
        ),
        (
            "Âm thanh cần cụm loa, chữ cần bảng tin đang hoạt động; kiểm tra phần loại trừ.",
            "Sound needs clusters, text needs boards, in service; check the exclusions.",
        ),
    ),
    "broadcast_too_long": _fault(
        ("Lịch phát dài {hours} giờ.", "The broadcast lasts {hours} hours."),
        ("Tổng thời lượng tối đa 23 giờ; chia thành nhiều lịch.", "At most 23 hours in all; split it."),
    ),
    "unknown_time_zone": _fault(
        ("Không có múi giờ “{zone}”.", "There is no time zone “{zone}”."),
        ("Dùng tên IANA, ví dụ Asia/Ho_Chi_Minh.", "Use an IANA name, such as Asia/Ho_Chi_Minh."),
    ),
    "end_before_start": _fault(
        ("Kết thúc không sau ngày bắt đầu {starts_on}.", "The end does not lie after the start, {starts_on}."),
        (
            "ends_on là ngày đầu tiên không phát nữa, phải sau starts_on.",
            "ends_on is the first day on which it no longer starts; it lies after starts_on.",
        ),
    ),
    "end_of_once": _fault(
        ("Phát một lần chỉ diễn ra trong ngày starts_on.", "A broadcast once takes place on starts_on only."),
        ("Bỏ ends_on, hoặc dùng recurrence “daily”.", "Leave ends_on out, or use recurrence “daily”."),
    ),
    "starts_too_late": _fault(
        ("Ngày bắt đầu quá xa.", "The start is too far away."),
        ("Muộn nhất là {latest}.", "The latest possible is {latest}."),
    ),
    "all_in_the_past": _fault(
        ("Mọi lần phát đều đã qua (hôm nay là {today}).", "All of it lies in the past (today is {today})."),
        ("Chọn ngày kết thúc muộn hơn (ends_on, UNTIL hoặc COUNT).", "Choose a later end (ends_on, UNTIL or COUNT)."),
    ),
    "time_in_the_past": _fault(
        ("Giờ phát {time} đã qua.", "The time {time} has passed."),
        ("Chọn giờ hoặc ngày muộn hơn.", "Choose a later time or day."),
    ),
    "time_does_not_exist": _fault(
        ("Giờ {time} không tồn tại vào ngày đó ở múi giờ này.", "The time {time} does not exist on that day there."),
        ("Đồng hồ chuyển giờ vào ngày đó; chọn giờ khác.", "Clocks change on that day; choose another time."),
    ),
    "time_repeated": _fault(
        ("Có giờ phát bị lặp lại.", "A time stands twice."),
        ("Mỗi giờ chỉ ghi một lần.", "Write each time once."),
    ),
    "times_overlap": _fault(
        (
            "Lần phát {second} bắt đầu khi lần {first} chưa xong (dài {minutes} phút).",
            "The one at {second} begins before the one at {first} has ended ({minutes} minutes).",
        ),
        ("Đặt các giờ cách nhau xa hơn hoặc rút ngắn nội dung.", "Put the times further apart, or shorten it."),
    ),
    "member_repeated": _fault(
        ("Thiết bị {id} có mặt hai lần trong nhóm.", "Device {id} stands in the group twice."),
        ("Mỗi thiết bị chỉ ghi một lần.", "Write each device once."),
    ),
    "relay_needs_length": _fault(
        ("Tiếp sóng cần thời lượng, mục khác thì không.", "A relay needs a length, and nothing else has one."),
        ("Gửi length_s cùng relay_source_id.", "Send length_s together with relay_source_id."),
    ),
    "only_relays_are_pinned": _fault(
        ("Chỉ tiếp sóng mới có giờ bắt đầu riêng.", "Only a relay can begin at a time of its own."),
        ("Bỏ starts_after_s, hoặc dùng relay_source_id.", "Leave starts_after_s out, or use relay_source_id."),
    ),
    "only_relays_are_live": _fault(
        ("Chỉ tiếp sóng mới có thể là phát trực tiếp.", "Only a relay can be live."),
        ("Bỏ live, hoặc dùng relay_source_id.", "Leave live out, or use relay_source_id."),
    ),
    "unknown_relay_source": _fault(
        ("Không có nguồn tiếp sóng {id} trong phạm vi của bạn.", "There is no relay source {id} in your area."),
        ("Tra cứu nguồn tại /api/v1/relay-sources.", "Look sources up at /api/v1/relay-sources."),
    ),
    "relay_source_retired": _fault(
        ("Nguồn tiếp sóng “{name}” không còn dùng.", "Relay source “{name}” is out of use."),
        ("Chọn nguồn khác.", "Choose another source."),
    ),
    "bulletin_expired": _fault(
        (
            "Bản tin “{title}” hết hạn lúc {expires_at}, trước lần phát đầu tiên.",
            "Bulletin “{title}” expires at {expires_at}, before it would first be heard.",
        ),
        ("Phát sớm hơn, hoặc dùng bản tin còn hạn.", "Broadcast it earlier, or use one that still holds."),
    ),
    "fill_needs_length": _fault(
        ("Lặp lại cho đầy cần biết thời lượng.", "To fill up, it must be known how long it is to last."),
        ("Gửi length_s, hoặc dùng sessions.", "Send length_s, or use sessions."),
    ),
    "fit_needs_length": _fault(
        ("Cắt hoặc bỏ phần thừa cần biết thời lượng.", "To cut or leave out, it must be known how long it is to last."),
        ("Gửi length_s, hoặc dùng sessions.", "Send length_s, or use sessions."),
    ),
    "nothing_fits": _fault(
        ("Không mục nào vừa thời lượng của buổi phát.", "No item fits into the length of the broadcast."),
        (
            "Tăng length_s, hoặc dùng fit “trim” hay “whole”.",
            "Send a greater length_s, or use fit “trim” or “whole”.",
        ),
    ),
    "pinned_after_the_end": _fault(
        ("Tiếp sóng bắt đầu sau khi buổi phát đã kết thúc.", "The relay begins after the broadcast has ended."),
        ("starts_after_s phải nhỏ hơn {seconds} giây.", "starts_after_s must be less than {seconds} seconds."),
    ),
    "unknown_group": _fault(
        ("Không có nhóm {id} trong phạm vi của bạn.", "There is no group {id} in your area."),
        ("Tra cứu nhóm tại /api/v1/groups.", "Look groups up at /api/v1/groups."),
    ),
    "target_group_closed": _fault(
        ("Nhóm “{name}” đã đóng.", "Group “{name}” was closed."),
        ("Chọn nhóm khác hoặc chọn thiết bị.", "Choose another group, or devices."),
    ),
    "unit_closed_that_day": _fault(
        ("Đơn vị {unit} không còn vào ngày {day}.", "Unit {unit} no longer exists on {day}."),
        ("Chọn đơn vị còn hoạt động vào ngày phát.", "Choose a unit that exists on the day of the broadcast."),
    ),
    "unknown_session": _fault(
        ("{unit} không có khung giờ “{code}”.", "{unit} has no session “{code}”."),
        ("Xem các khung giờ trong chính sách của đơn vị.", "See the sessions in the unit's policy."),
    ),
    "session_not_held": _fault(
        ("Khung giờ “{code}” không có vào ngày {day}.", "Session “{code}” is not held on {day}."),
        ("Chọn ngày khác hoặc khung giờ khác.", "Choose another day, or another session."),
    ),
    "rdate_outside": _fault(
        ("Ngày {day} nằm ngoài thời gian của lịch phát.", "The day {day} lies outside the broadcast's time."),
        ("Ngày thêm phải từ starts_on đến trước ends_on.", "Added days lie from starts_on on and before ends_on."),
    ),
    "exdates_leave_nothing": _fault(
        (
            "Các ngày loại trừ không để lại lần phát nào trong {years} năm tới.",
            "The days that are taken out leave nothing in the next {years} years.",
        ),
        ("Bớt ngày trong exdates.", "Take fewer days out."),
    ),
    "not_a_local_day_or_moment": _fault(
        (
            "Không phải ngày (YYYY-MM-DD) hay ngày giờ địa phương (YYYY-MM-DDTHH:MM).",
            "This is neither a day (YYYY-MM-DD) nor a local day and time (YYYY-MM-DDTHH:MM).",
        ),
        ("Ghi theo giờ địa phương, không kèm múi giờ.", "Write it in local time, without an offset."),
    ),
    # --- recurrence rules (RFC 5545)
    "rrule_without_rule": _fault(
        ("rrule chỉ đi cùng recurrence “rule”.", "An rrule goes with recurrence “rule” only."),
        ("Đổi recurrence thành “rule”, hoặc bỏ rrule.", "Use recurrence “rule”, or leave rrule out."),
    ),
    "rrule_too_long": _fault(
        ("Quy tắc lặp quá dài.", "The rule is too long."),
        ("Tối đa {limit} ký tự.", "At most {limit} characters are taken."),
    ),
    "rrule_not_readable": _fault(
        ("Không đọc được phần “{part}” của quy tắc lặp.", "The part “{part}” of the rule cannot be read."),
        ("Viết theo RFC 5545, ví dụ FREQ=WEEKLY;BYDAY=MO,WE.", "Follow RFC 5545, such as FREQ=WEEKLY;BYDAY=MO,WE."),
    ),
    "rrule_part_unknown": _fault(
        ("Quy tắc lặp không có phần {part}.", "There is no part {part} in a rule."),
        ("Bỏ phần đó, hoặc sửa tên theo RFC 5545.", "Remove it, or correct its name by RFC 5545."),
    ),
    "rrule_part_repeated": _fault(
        ("Phần {part} có mặt hai lần.", "The part {part} stands twice."),
        ("Mỗi phần chỉ ghi một lần.", "Write each part once."),
    ),
    "rrule_without_freq": _fault(
        ("Quy tắc lặp thiếu FREQ.", "The rule has no FREQ."),
        ("Thêm FREQ=DAILY, WEEKLY, MONTHLY hoặc YEARLY.", "Add FREQ=DAILY, WEEKLY, MONTHLY or YEARLY."),
    ),
    "rrule_freq_too_fine": _fault(
        ("Không lặp theo {freq}.", "{freq} is not taken."),
        ("Lặp dày nhất là FREQ=HOURLY.", "The finest is FREQ=HOURLY."),
    ),
    "rrule_freq_unknown": _fault(
        ("Không có tần suất {freq}.", "There is no frequency {freq}."),
        ("Dùng HOURLY, DAILY, WEEKLY, MONTHLY hoặc YEARLY.", "Use HOURLY, DAILY, WEEKLY, MONTHLY or YEARLY."),
    ),
    "rrule_value_out_of_range": _fault(
        ("{part}={value} không hợp lệ.", "{part}={value} is not valid."),
        ("Giá trị từ {low} đến {high}.", "Values lie between {low} and {high}."),
    ),
    "rrule_day_not_readable": _fault(
        ("Không đọc được ngày “{value}” trong BYDAY.", "The day “{value}” in BYDAY cannot be read."),
        ("Dùng MO, TU, WE, TH, FR, SA, SU, có thể kèm số thứ tự.", "Use MO, TU, WE, TH, FR, SA, SU, perhaps numbered."),
    ),
    "rrule_until_not_readable": _fault(
        ("Không đọc được UNTIL “{value}”.", "UNTIL “{value}” cannot be read."),
        ("Ghi YYYYMMDD hoặc YYYYMMDDTHHMMSS.", "Write YYYYMMDD or YYYYMMDDTHHMMSS."),
    ),
    "rrule_count_and_until": _fault(
        ("COUNT và UNTIL không đi cùng nhau.", "COUNT and UNTIL exclude each other."),
        ("Giữ một trong hai.", "Keep one of them."),
    ),
    "rrule_part_out_of_place": _fault(
        ("{part} không dùng được với FREQ={freq}.", "{part} cannot stand beside FREQ={freq}."),
        ("Bỏ phần đó, hoặc đổi FREQ (RFC 5545, 3.3.10).", "Remove it, or change FREQ (RFC 5545, 3.3.10)."),
    ),
    "rrule_ordinal_out_of_place": _fault(
        (
            "Số thứ tự trong BYDAY không dùng được với FREQ={freq}.",
            "Numbered days in BYDAY cannot stand beside FREQ={freq}.",
        ),
        ("Bỏ số, hoặc dùng FREQ=MONTHLY hay YEARLY.", "Remove the number, or use FREQ=MONTHLY or YEARLY."),
    ),
    "rrule_setpos_alone": _fault(
        ("BYSETPOS cần thêm một phần BY khác.", "BYSETPOS needs another BY part."),
        ("Thêm BYDAY, BYMONTHDAY hoặc phần tương tự.", "Add BYDAY, BYMONTHDAY or the like."),
    ),
    "rrule_too_many_a_day": _fault(
        ("Quá nhiều lần phát trong một ngày.", "There are too many occurrences on one day."),
        ("Tối đa {limit} lần mỗi ngày.", "At most {limit} a day are taken."),
    ),
    "rrule_never_occurs": _fault(
        ("Quy tắc này không bao giờ xảy ra.", "The rule never occurs."),
        ("Kiểm tra ngày, tháng và ngày kết thúc.", "Check days, months and the end."),
    ),
    "rrule_names_times_beside_sessions": _fault(
        ("Quy tắc ghi giờ phát trong khi lịch dùng khung giờ.", "The rule names times although sessions are used."),
        ("Bỏ BYHOUR, BYMINUTE, BYSECOND, hoặc bỏ sessions.", "Remove BYHOUR, BYMINUTE, BYSECOND, or the sessions."),
    ),
    "too_many_dates": _fault(
        ("Danh sách ngày quá dài.", "There are too many days in the list."),
        ("Tối đa {limit} ngày.", "At most {limit} are taken."),
    ),
    "starts_on_out_of_range": _fault(
        ("Ngày bắt đầu nằm ngoài giới hạn.", "The start lies out of bounds."),
        ("Chọn ngày từ {low} đến trước {high}.", "Choose a day from {low} on and before {high}."),
    ),
    "recurrence_without_time": _fault(
        ("Lịch phát không có giờ nào.", "The broadcast has no time."),
        ("Thêm local_times hoặc sessions.", "Add local_times or sessions."),
    ),
    # --- what policies are against
    "against_weekday_not_allowed": _fault(
        ("Chính sách của {unit} không cho phát vào ngày {day}.", "The policy of {unit} allows nothing on {day}."),
        ("Chọn thứ trong tuần được phép, hoặc loại trừ đơn vị đó.", "Choose an allowed weekday, or exclude that unit."),
    ),
    "against_outside_session": _fault(
        (
            "Lần phát {day} {time} nằm ngoài khung giờ của {unit}.",
            "The broadcast on {day} at {time} lies outside the sessions of {unit}.",
        ),
        ("Phát trong khung giờ, hoặc loại trừ đơn vị đó.", "Broadcast within a session, or exclude that unit."),
    ),
    "against_quiet_hours": _fault(
        (
            "Lần phát {day} {time} rơi vào giờ yên tĩnh của {unit}.",
            "The broadcast on {day} at {time} falls into the quiet hours of {unit}.",
        ),
        ("Chọn giờ khác, hoặc loại trừ đơn vị đó.", "Choose another time, or exclude that unit."),
    ),
    "against_session_too_long": _fault(
        (
            "Lần phát {day} {time} vượt số phút mỗi buổi của {unit}.",
            "The broadcast on {day} at {time} exceeds the minutes a session of {unit}.",
        ),
        ("Rút ngắn nội dung hoặc chuyển sang buổi khác.", "Shorten it, or move it to another session."),
    ),
    "against_day_full": _fault(
        (
            "Lần phát {day} {time} vượt số phút mỗi ngày của {unit}.",
            "The broadcast on {day} at {time} exceeds the minutes a day of {unit}.",
        ),
        ("Rút ngắn nội dung hoặc chuyển sang ngày khác.", "Shorten it, or move it to another day."),
    ),
    "against_private_board": _fault(
        (
            "Mọi thiết bị nhận đều là bảng tin tư nhân, chưa có quyết định trưng dụng cho giờ phát này ({unit}).",
            "All it reaches are private boards, and no requisition order covers its times ({unit}).",
        ),
        (
            "Ghi nhận quyết định trưng dụng trước, hoặc chọn bảng tin công cộng, cụm loa.",
            "Note the requisition order first, or choose public boards or clusters.",
        ),
    ),
    "against_reserved_slot": _fault(
        (
            "{unit} dành khung giờ này cho chương trình của mình và cấp trên ({day} {time}).",
            "{unit} keeps this slot for its own programmes and those from above ({day} {time}).",
        ),
        ("Chọn giờ khác.", "Choose another time."),
    ),
    "against_relay_not_allowed": _fault(
        (
            "{unit} không cho tiếp sóng trực tiếp từ nguồn không xác thực ({day} {time}).",
            "{unit} allows no relay taken directly from a source nobody signs ({day} {time}).",
        ),
        ("Dùng nguồn qua điểm tiếp sóng của tỉnh.", "Use a source of the province's relay point."),
    ),
    "issuing_unit_is_fixed": _fault(
        ("Không đổi được đơn vị phát hành.", "The issuing unit cannot change."),
        ("Rút lịch này và tạo lịch mới cho đơn vị kia.", "Withdraw this one and make another for that unit."),
    ),
    # --- relays
    "relay_url_malformed": _fault(
        ("Địa chỉ nguồn tiếp sóng không đúng dạng.", "This is no address of a live source."),
        (
            "Viết http://máy-chủ[:cổng]/đường-dẫn bằng chữ không dấu, không khoảng trắng, tối đa {limit} ký tự.",
            "Write http://host[:port]/path in plain characters without blanks, {limit} at most.",
        ),
    ),
    "relay_url_scheme": _fault(
        ("Giao thức của địa chỉ này không được hỗ trợ.", "The address is of a kind that is not read."),
        ("Dùng địa chỉ bắt đầu bằng: {allowed}.", "Use an address that begins with one of: {allowed}."),
    ),
    "relay_url_with_password": _fault(
        (
            "Địa chỉ chứa tên đăng nhập hoặc mật khẩu, mọi người xem nguồn đều thấy.",
            "The address holds a user name or password, which everybody who sees the source would see.",
        ),
        (
            "Cho phép máy chủ tiếp sóng truy cập theo địa chỉ mạng và bỏ phần đăng nhập khỏi địa chỉ.",
            "Let the relay point in by its network address, and leave the login out.",
        ),
    ),
    "relay_host_not_allowed": _fault(
        ("Máy chủ {host} không nằm trong danh sách nguồn được phép.", "The host {host} is none that sources may have."),
        (
            "Nhờ quản trị hệ thống thêm máy chủ vào CONTROL_RELAYS__HOSTS.",
            "Have the platform's operator add it to CONTROL_RELAYS__HOSTS.",
        ),
    ),
    "relay_address_not_allowed": _fault(
        (
            "{host} ({address}) nằm trong mạng nội bộ mà máy chủ tiếp sóng không được kết nối tới.",
            "{host} ({address}) lies in a private network that the relay point may not connect to.",
        ),
        (
            "Dùng địa chỉ công cộng, hoặc nhờ quản trị hệ thống thêm mạng đó vào CONTROL_RELAYS__NETWORKS.",
            "Use a public address, or have the platform's operator add the network to CONTROL_RELAYS__NETWORKS.",
        ),
    ),
    "relay_frequency": _fault(
        ("Đây không phải tần số FM.", "This is no FM frequency."),
        (
            "Viết fm:// và tần số từ {lowest} đến {highest} MHz, ví dụ fm://103.5.",
            "Write fm:// and a frequency from {lowest} to {highest} MHz, such as fm://103.5.",
        ),
    ),
    "relay_fm_is_direct": _fault(
        (
            "Sóng FM do thiết bị tự thu, không qua máy chủ tiếp sóng.",
            "FM is received by the devices themselves, not through the relay point.",
        ),
        (
            "Đặt direct=true; nguồn sẽ được ghi là chưa xác thực.",
            "Set direct=true; the source is then marked as unauthenticated.",
        ),
    ),
    "owning_unit_is_fixed": _fault(
        ("Không đổi được đơn vị quản lý nguồn.", "The unit that keeps a source cannot change."),
        ("Ngừng dùng nguồn này và tạo nguồn mới cho đơn vị kia.", "Retire this one and enter another for that unit."),
    ),
    "fallback_not_approved": _fault(
        ("Bản tin dự phòng “{title}” chưa được duyệt.", "The fallback “{title}” is not approved."),
        ("Chọn bản tin đã duyệt.", "Choose a bulletin that is approved."),
    ),
    "fallback_ends": _fault(
        (
            "Bản tin dự phòng “{title}” có hạn dùng hoặc giới hạn số lần phát.",
            "The fallback “{title}” expires, or may only be played so often.",
        ),
        ("Chọn bản tin không có hạn.", "Choose a bulletin without an end: nobody looks when it sounds."),
    ),
    "fallback_without_sound": _fault(
        ("Bản tin dự phòng “{title}” không có âm thanh.", "There is nothing to hear in the fallback “{title}”."),
        ("Chọn bản tin có tệp âm thanh.", "Choose a bulletin with a sound file."),
    ),
    # --- sound files
    "media_empty": _fault(
        ("Tệp rỗng hoặc không có gì giải mã được.", "The file is empty or holds nothing decodable."),
        ("Xuất lại tệp từ bản gốc.", "Export it again from the original."),
    ),
    "media_not_audio": _fault(
        (
            "Tệp không phải âm thanh, ảnh hoặc phim thuộc loại được nhận.",
            "The file is no sound, picture or film of a kind that is taken.",
        ),
        (
            "Dùng WAV, FLAC, Ogg, MP3, M4A cho loa; PNG, JPEG, MP4 hoặc WebM cho bảng tin.",
            "Use WAV, FLAC, Ogg, MP3 or M4A for loudspeakers; PNG, JPEG, MP4 or WebM for boards.",
        ),
    ),
    "media_has_video": _fault(
        ("Tệp có hình ảnh động.", "The file holds video."),
        ("Chỉ xuất phần âm thanh.", "Export the sound only."),
    ),
    "media_several_sounds": _fault(
        ("Tệp có nhiều luồng âm thanh.", "The file holds several sound tracks."),
        ("Xuất một luồng duy nhất.", "Export a single one."),
    ),
    "media_codec": _fault(
        ("Kiểu nén không được hỗ trợ.", "This codec is not taken."),
        (
            "Âm thanh: WAV, FLAC, Ogg (Opus, Vorbis), MP3, M4A (AAC). "
            "Phim: MP4 (H.264, AAC) hoặc WebM (VP8, VP9, AV1, Opus).",
            "Sounds: WAV, FLAC, Ogg (Opus, Vorbis), MP3, M4A (AAC). Films: MP4 (H.264, AAC) or WebM (VP8, VP9, AV1, "
            "Opus).",
        ),
    ),
    "media_animated": _fault(
        ("Ảnh động không được nhận.", "Animated pictures are not taken."),
        ("Xuất thành phim MP4 hoặc WebM.", "Export it as a film (MP4 or WebM)."),
    ),
    "media_too_many_pixels": _fault(
        ("Ảnh hoặc phim có quá nhiều điểm ảnh.", "The picture or film has too many pixels."),
        (
            "Thu nhỏ: ảnh tối đa 8K (7680 × 4320 điểm ảnh), phim tối đa 4K (3840 × 2160).",
            "Scale it down: pictures up to 8K (7680 × 4320 pixels), films up to 4K (3840 × 2160).",
        ),
    ),
    "media_several_films": _fault(
        ("Tệp có nhiều luồng hình.", "There are several films in the file."),
        ("Xuất lại với một luồng hình.", "Export it with one stream of pictures."),
    ),
    "media_layout": _fault(
        ("Tệp có nhiều hơn hai kênh.", "The file has more than two channels."),
        ("Xuất mono hoặc stereo.", "Export mono or stereo."),
    ),
    "media_rate": _fault(
        ("Tần số lấy mẫu không phù hợp.", "The sample rate is out of bounds."),
        ("Dùng từ 8 đến 192 kHz, tốt nhất 48 kHz.", "Use 8 to 192 kHz, best 48 kHz."),
    ),
    "media_too_short": _fault(
        ("Ngắn hơn 0,4 giây.", "It is shorter than 0.4 seconds."),
        ("Dùng tệp dài hơn.", "Use a longer one."),
    ),
    "media_too_long": _fault(
        ("Dài quá mức cho phép.", "It is too long."),
        ("Chia thành nhiều bản tin.", "Split it into several bulletins."),
    ),
    "media_damaged": _fault(
        ("Tệp bị hỏng, không giải mã trọn vẹn được.", "The file is damaged and cannot be decoded to the end."),
        ("Xuất lại tệp từ bản gốc.", "Export it again from the original."),
    ),
    "media_foreign_bytes": _fault(
        (
            "Tệp chứa dữ liệu không thuộc âm thanh, ảnh hoặc phim.",
            "The file holds bytes that are no part of the sound, picture or film.",
        ),
        (
            "Xuất lại tệp, bỏ dữ liệu đính kèm và phần thừa ở cuối.",
            "Export it again without attachments, and with nothing behind its end.",
        ),
    ),
    "media_unmeasurable": _fault(
        ("Không đo được tệp trong giới hạn cho phép.", "The file cannot be measured within the limits."),
        (
            "Xuất lại dưới dạng WAV hoặc FLAC; phim thì rút ngắn hoặc giảm độ phân giải.",
            "Export it again as WAV or FLAC; make a film shorter, or its pictures smaller.",
        ),
    ),
    # --- the order of priority content
    "priority_not_here": _fault(
        ("Lịch ưu tiên {id} không phát tại đơn vị này.", "No priority broadcast {id} sounds in this unit."),
        ("Chỉ xếp các lịch ưu tiên có trong danh sách của đơn vị.", "Order those that the unit's list shows."),
    ),
    "priority_repeated": _fault(
        ("Lịch ưu tiên này xuất hiện hai lần.", "This priority broadcast stands twice."),
        ("Mỗi lịch chỉ ghi một lần.", "Write each of them once."),
    ),
    "priority_left_out": _fault(
        ("Thiếu lịch ưu tiên “{title}”.", "The priority broadcast “{title}” is left out."),
        (
            "Đơn vị xếp thứ tự chứ không được bỏ: hãy ghi đủ mọi lịch ưu tiên.",
            "A unit orders priority content and does not drop it: write down all of it.",
        ),
    ),
    # --- private boards
    "share_without_agreement": _fault(
        (
            "Chỉ bảng tin tư nhân có thỏa thuận mới có thời lượng công cộng.",
            "Only a private board with an agreement has a public share.",
        ),
        (
            "Đặt ownership là “private_with_public_share”, hoặc gửi public_share_minutes là null.",
            "Set ownership to “private_with_public_share”, or send null for public_share_minutes.",
        ),
    ),
    "not_a_private_board": _fault(
        ("{id} không phải bảng tin tư nhân.", "{id} is no private board."),
        ("Chỉ huy động bảng tin không thuộc sở hữu công.", "Requisition boards that somebody else owns."),
    ),
    "requisition_is_not_of_one_thing": _fault(
        ("Lệnh huy động áp dụng cho một đơn vị hoặc một bảng tin.", "A requisition is of a unit or of one board."),
        ("Gửi đúng một trong unit_id và device_id.", "Send exactly one of unit_id and device_id."),
    ),
    "expires_before_valid": _fault(
        ("Lệnh hết hạn trước khi có hiệu lực.", "The order expires before it is valid."),
        ("Đặt expires_at sau valid_from.", "Let expires_at lie after valid_from."),
    ),
    # --- offers
    "not_a_month": _fault(
        ("Không phải tháng hợp lệ.", "This is no month."),
        ("Viết theo dạng NĂM-THÁNG, ví dụ 2026-03.", "Write YEAR-MONTH, such as 2026-03."),
    ),
    # --- policies
    "policy_crosses_midnight": _fault(
        ("Khung giờ vắt qua nửa đêm.", "The session crosses midnight."),
        (
            "Tách thành hai khung: một đến 00:00 và một từ 00:00.",
            "Make two of it: one until 00:00 and one from 00:00.",
        ),
    ),
    "policy_is_empty": _fault(
        ("Giờ bắt đầu và giờ kết thúc trùng nhau.", "Begin and end are the same time."),
        (
            "Đặt hai giờ khác nhau; cả ngày là 00:00 đến 00:00 của khung giờ.",
            "Set two times; a whole day is a session from 00:00 to 00:00.",
        ),
    ),
    "policy_code_twice": _fault(
        ("Mã khung giờ {detail} xuất hiện hai lần.", "The code {detail} stands twice."),
        ("Đặt mã khác.", "Choose another code."),
    ),
    "policy_overlap": _fault(
        ("Khung giờ chồng lên khung {detail}.", "The session overlaps the session {detail}."),
        ("Đặt các khung giờ không chồng nhau.", "Let sessions follow on one another."),
    ),
    "policy_weekday_unknown": _fault(
        ("Không có thứ {detail}.", "There is no weekday {detail}."),
        ("Dùng số từ 1 (thứ Hai) đến 7 (Chủ nhật).", "Use numbers from 1 (Monday) to 7 (Sunday)."),
    ),
    "policy_no_weekday": _fault(
        ("Không có ngày nào trong tuần.", "There is no weekday."),
        ("Nêu ít nhất một ngày, hoặc bỏ trường này.", "Name at least one, or leave it out."),
    ),
    "policy_not_positive": _fault(
        ("Thời lượng phải lớn hơn 0.", "The time must be more than nothing."),
        ("Nhập số giây dương, hoặc bỏ trường này.", "Enter seconds above 0, or leave it out."),
    ),
    "policy_not_a_volume": _fault(
        ("Âm lượng {detail} nằm ngoài 1 đến 100.", "The volume {detail} is not within 1 to 100."),
        ("Muốn im lặng, hãy dùng giờ yên tĩnh.", "For silence, use quiet hours."),
    ),
    "policy_emergency_cannot_wait": _fault(
        ("Mức khẩn cấp không chờ duyệt.", "An emergency waits for nobody."),
        ("Chỉ dùng normal và priority.", "Use normal and priority only."),
    ),
    "policy_no_time": _fault(
        ("Không có giờ nào.", "There is no time."),
        ("Nêu ít nhất một giờ.", "Name at least one."),
    ),
    "policy_in_quiet_hours": _fault(
        ("Giờ {detail} nằm trong giờ yên tĩnh.", "The time {detail} lies in quiet hours."),
        ("Chọn giờ khác.", "Choose another time."),
    ),
    "policy_loosens": _fault(
        (
            "Nới lỏng quy định của {unit} (giới hạn: {detail}).",
            "This loosens what {unit} has set (its limit: {detail}).",
        ),
        (
            "Chỉ được chặt hơn cấp trên: giữ trong giới hạn đó hoặc bỏ trường này.",
            "A unit may only tighten: stay within that limit, or leave the field out.",
        ),
    ),
    # --- quarantine
    "ids_or_filter": _fault(
        ("Chưa rõ thông điệp nào: cần danh sách số hoặc điều kiện.", "It is not said which: numbers or a filter."),
        (
            "Gửi quarantine_ids, hoặc matching với ít nhất một điều kiện, không gửi cả hai.",
            "Send quarantine_ids, or matching with at least one condition, and not both.",
        ),
    ),
    "unknown_inmate": _fault(
        ("Không có thông điệp số {id}.", "There is no message {id}."),
        ("Bỏ số này; có thể đã quá hạn lưu giữ.", "Leave it out; it may have been kept no longer."),
    ),
    "inmate_is_stored": _fault(
        ("Thông điệp số {id} đã được nhận và lưu.", "Message {id} was replayed and is stored."),
        ("Bỏ số này khỏi yêu cầu.", "Leave it out."),
    ),
    "inmate_cut": _fault(
        (
            "Thông điệp dài {size} byte, chỉ giữ được phần đầu.",
            "It has {size} bytes, of which only the beginning was kept.",
        ),
        (
            "Không xét lại được; sửa bản sao với nội dung đầy đủ, hoặc bỏ qua.",
            "It cannot be replayed; correct a copy with the whole content, or discard it.",
        ),
    ),
    "correction_changes_nothing": _fault(
        ("Bản sửa giống hệt bản gốc.", "The copy is the same as the original."),
        (
            "Nêu điều cần sửa: thiết bị, chủ đề, phiên bản hoặc nội dung.",
            "Say what to change: device, topic, version or payload.",
        ),
    ),
    "only_one_of_two": _fault(
        ("Không dùng {first} và {second} cùng lúc.", "{first} and {second} exclude each other."),
        ("Chỉ gửi một trong hai.", "Send one of them."),
    ),
    "not_an_uplink_topic": _fault(
        ("Chủ đề không phải chủ đề gửi lên của thiết bị.", "This is no topic of an uplink."),
        (
            "Viết như loa/v1/{principal}/up/event hoặc loa/v1/{principal}/up/event/MÃ-THIẾT-BỊ.",
            "Write loa/v1/{principal}/up/event, or loa/v1/{principal}/up/event/DEVICE-ID.",
        ),
    ),
    "principal_changed": _fault(
        ("Bản sửa không được đổi bên gửi.", "A correction cannot change who sent it."),
        ("Giữ nguyên {principal} trong chủ đề.", "Leave {principal} in the topic."),
    ),
    "not_hex": _fault(
        ("Không phải chuỗi thập lục phân.", "This is no hexadecimal text."),
        ("Dùng các cặp chữ số 0-9, a-f cho mỗi byte.", "Use two digits of 0-9 and a-f for each byte."),
    ),
    "not_diagnostic_notation": _fault(
        ("Không đọc được từ ký tự {position}: {problem}.", "It cannot be read from character {position}: {problem}."),
        (
            "Viết theo RFC 8949, ví dụ {{0: 1, 3: \"chữ\", 4: h'00ff'}}.",
            "Follow RFC 8949, such as {{0: 1, 3: \"text\", 4: h'00ff'}}.",
        ),
    ),
    "payload_was_cut": _fault(
        ("Chỉ giữ được phần đầu của nội dung.", "Only the beginning of the payload was kept."),
        ("Gửi toàn bộ nội dung, tối đa {limit} byte.", "Send the whole of it, {limit} bytes at most."),
    ),
    "payload_is_no_map": _fault(
        (
            "Nội dung không phải một bản ghi CBOR nên không đặt phiên bản được.",
            "The payload is no CBOR map, so it has no version.",
        ),
        (
            "Gửi nội dung đúng bằng payload_hex hoặc payload_diagnostic.",
            "Send the right payload as payload_hex or payload_diagnostic.",
        ),
    ),
    "payload_refused": _fault(
        (
            "Bản sửa vẫn chưa đúng hợp đồng truyền tin ({reason}): {detail}.",
            "The copy still breaks the contract ({reason}): {detail}.",
        ),
        ("Sửa trường đã nêu rồi gửi lại.", "Mend the field that is named, and send it again."),
    ),
    "event_number_changed": _fault(
        (
            "Bản sửa đổi nhật ký hoặc số thứ tự của sự kiện, hoặc bản gốc không đọc được số đó.",
            "The copy changes the event's journal or sequence, or the original shows none.",
        ),
        (
            "Giữ nguyên nhật ký và số thứ tự: đổi chúng sẽ làm mất sự kiện thật của thiết bị.",
            "Leave journal and sequence as received: another number would make the device's own event pass for a duplicate.",
        ),
    ),
    **CAP_FAULTS,
    **SENSING_FAULTS,
}
