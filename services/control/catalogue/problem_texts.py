"""Titles and details of problem documents, (Vietnamese, English), by code."""

from __future__ import annotations

from services.control.catalogue.cap_texts import CAP_PROBLEMS
from services.control.catalogue.sensing_texts import SENSING_PROBLEMS

Parts = dict[str, tuple[str, str]]


def _problem(title: tuple[str, str], detail: tuple[str, str]) -> Parts:
    return {"title": title, "detail": detail}


PROBLEMS: dict[str, Parts] = {
    # --- the request itself
    "not_understood": _problem(
        ("Không đọc được yêu cầu", "The request cannot be read"),
        (
            "Nội dung gửi lên không đúng định dạng mà địa chỉ này nhận.",
            "The body is not in the form that this address takes.",
        ),
    ),
    "invalid_request": _problem(
        ("Yêu cầu chưa hợp lệ", "The request is not valid"),
        (
            "Có trường chưa đúng; xem từng lỗi và cách sửa bên dưới.",
            "Some fields are not right; see each error and how to mend it.",
        ),
    ),
    "body_too_large": _problem(
        ("Nội dung gửi lên quá lớn", "The body is too large"),
        (
            "Nội dung vượt quá dung lượng mà địa chỉ này cho phép; hãy chia nhỏ rồi gửi lại.",
            "The body is larger than this address takes; send it in smaller parts.",
        ),
    ),
    "alert_not_found": _problem(
        ("Không có cảnh báo này", "There is no such alert"),
        ("Không tìm thấy cảnh báo {id}.", "Alert {id} was not found."),
    ),
    "alert_over": _problem(
        ("Cảnh báo đã kết thúc", "The alert is over"),
        ("“{headline}” đã kết thúc lúc {ended}.", "“{headline}” ended at {ended}."),
    ),
    "alert_not_here": _problem(
        ("Cảnh báo không phát ở đây", "The alert does not sound here"),
        ("Cảnh báo này không gửi tới {unit}.", "This alert is not addressed to {unit}."),
    ),
    "alert_from_above": _problem(
        ("Không được dừng cảnh báo của cấp trên", "An alert from above may not be stopped"),
        (
            "Cảnh báo do {unit} phát; chính sách không cho cấp dưới dừng. Lần thử này đã được ghi lại.",
            "{unit} issued it, and policy does not let units below stop it. This attempt has been recorded.",
        ),
    ),
    "alert_changed_too_often": _problem(
        ("Cảnh báo đã thay đổi quá nhiều lần", "The alert has changed too often"),
        ("Hãy phát một cảnh báo mới.", "Issue a new alert instead."),
    ),
    "request_not_found": _problem(
        ("Không có yêu cầu này", "There is no such request"),
        ("Không tìm thấy yêu cầu {id}.", "Request {id} was not found."),
    ),
    "second_person_is_the_first": _problem(
        ("Cần một người khác", "Another person is needed"),
        (
            "Người đã yêu cầu không thể tự xác nhận, dù bằng phiên hay mã truy cập nào; hãy nhờ đồng nghiệp có cùng quyền.",
            "Whoever asked cannot confirm it, in no session and with no token; ask a colleague with the same right.",
        ),
    ),
    "request_is_another": _problem(
        ("Nội dung xác nhận không khớp", "What was confirmed is not what was asked for"),
        (
            "Hãy đọc lại yêu cầu rồi gửi đúng mã kiểm (digest) đang hiển thị.",
            "Read the request again and send the digest it shows.",
        ),
    ),
    "request_outdated": _problem(
        ("Cảnh báo đã thay đổi", "The alert has changed"),
        (
            "“{headline}” không còn là phiên bản mà người yêu cầu đã đọc; hãy yêu cầu lại.",
            "“{headline}” is not the version any more that was read by who asked; it has to be asked for again.",
        ),
    ),
    "request_reads_otherwise": _problem(
        ("Bản tin nay nói khác", "It would say something else by now"),
        (
            "Từ lúc được yêu cầu, “{headline}” đã đổi nội dung hoặc nơi phát ở đây (thiết bị hay đơn vị đã thay đổi, hoặc một"
            " phần đã hết hạn): không phải điều bạn đã đọc. Chưa phát gì; hãy đưa bản tin vào lại.",
            "Since it was asked for, “{headline}” has come to say something else here, or elsewhere (devices or units have"
            " changed, or part of it is over): it is not what you have read. Nothing was sent; hand the message in again.",
        ),
    ),
    "request_plans_nothing": _problem(
        ("Không có gì trong lịch thay đổi", "Nothing that is planned changes"),
        (
            "Việc này phát ngoài mọi lịch của thiết bị, hoặc không phát gì: không thể thử trước. Nội dung và số thiết bị có"
            " trong chính yêu cầu.",
            "It sounds beside every plan, or not at all, so there is nothing to try out. What it says, and how many devices"
            " it touches, stands in the request.",
        ),
    ),
    "request_expired": _problem(
        ("Yêu cầu đã hết hạn", "The request has run out"),
        ("Không ai xác nhận trước {ended}; hãy yêu cầu lại.", "Nobody confirmed it until {ended}; ask again."),
    ),
    "request_decided": _problem(
        ("Yêu cầu đã được quyết định", "The request has been decided on"),
        ("Trạng thái hiện tại: {state}.", "It stands as: {state}."),
    ),
    "first_person_may_no_longer": _problem(
        ("Người yêu cầu không còn quyền", "Who asked may not do it any more"),
        (
            "Tài khoản {login} đã bị khóa hoặc không còn quyền trên địa bàn này.",
            "The account {login} is disabled, or has no right over all of this ground any more.",
        ),
    ),
    "nothing_to_acknowledge": _problem(
        ("Không có gì để ghi nhận", "There is nothing to acknowledge"),
        (
            "Thao tác này không phải do một người làm một mình, hoặc đã có người ghi nhận.",
            "It was not done by one person alone, or somebody has acknowledged it already.",
        ),
    ),
    "two_files_expected": _problem(
        ("Cần gửi hai tệp trong một biểu mẫu", "A form with two files is expected"),
        (
            "Hãy gửi multipart/form-data với hai tệp: tree (cây mới) và mapping (đơn vị cũ → đơn vị mới).",
            "Send multipart/form-data with two files: tree (the new tree) and mapping (old units → new units).",
        ),
    ),
    "form_expected": _problem(
        ("Cần gửi dạng biểu mẫu", "A form is expected"),
        (
            "Hãy gửi multipart/form-data với các trường unit_id và file.",
            "Send multipart/form-data with the fields unit_id and file.",
        ),
    ),
    "no_such_address": _problem(
        ("Không có địa chỉ này", "No such address"),
        ("Địa chỉ không tồn tại trên hệ thống.", "There is nothing at this address."),
    ),
    "method_not_allowed": _problem(
        ("Phương thức không dùng được ở đây", "Method not allowed"),
        ("Địa chỉ này không nhận phương thức đã gửi.", "This address does not take this method."),
    ),
    "internal_error": _problem(
        ("Lỗi của hệ thống", "Internal error"),
        (
            "Hệ thống gặp lỗi không lường trước; lỗi đã được ghi lại. Hãy thử lại sau.",
            "Something unforeseen happened and has been written down. Try again later.",
        ),
    ),
    "database_unavailable": _problem(
        ("Cơ sở dữ liệu tạm thời bận", "The database is not available just now"),
        ("Yêu cầu chưa được thực hiện; hãy thử lại sau ít giây.", "Nothing was done; try again in a few seconds."),
    ),
    "changed_meanwhile": _problem(
        ("Dữ liệu vừa được người khác thay đổi", "Somebody else was faster"),
        (
            "Một yêu cầu khác vừa thay đổi cùng dữ liệu; hãy xem lại rồi gửi lại.",
            "Another request has just changed the same things; look again and repeat.",
        ),
    ),
    "approval_leaves_refusals": _problem(
        ("Duyệt rồi vẫn có lần không phát", "Some of it will not sound even so"),
        (
            "Ngoài điều đã xin ngoại lệ, các quy định dưới đây vẫn chặn một phần hoặc tất cả; duyệt lại nếu vẫn muốn cho phát"
            " phần còn lại, hoặc không duyệt để đơn vị sửa.",
            "Beside what was asked about, this keeps some of it, or all, from sounding; approve once more for what is left,"
            " or reject it so that it is changed.",
        ),
    ),
    # --- alerts prepared beforehand
    "alert_template_not_found": _problem(
        ("Không có mẫu cảnh báo này", "No such alert template"),
        ("Không có mẫu cảnh báo {id}.", "There is no alert template {id}."),
    ),
    "alert_template_retired": _problem(
        ("Mẫu cảnh báo đã ngừng dùng", "The template is out of use"),
        (
            "Mẫu {name} đã ngừng dùng nên không sửa được nữa; hãy tạo mẫu mới.",
            "{name} is out of use and cannot be changed any more; make a new one.",
        ),
    ),
    # --- who asks
    "login_needed": _problem(
        ("Cần đăng nhập", "Login needed"),
        ("Hãy đăng nhập hoặc gửi mã truy cập API.", "Log in, or send an API token."),
    ),
    "session_over": _problem(
        ("Phiên làm việc đã hết", "The session is over"),
        ("Hãy đăng nhập lại.", "Log in again."),
    ),
    "token_not_valid": _problem(
        ("Mã truy cập không có hiệu lực", "The token is not valid"),
        (
            "Mã truy cập API sai, đã hết hạn hoặc đã bị thu hồi.",
            "The API token is wrong, has expired or was revoked.",
        ),
    ),
    "wrong_login_or_password": _problem(
        ("Sai tên đăng nhập hoặc mật khẩu", "Wrong login or password"),
        ("Hãy kiểm tra tên đăng nhập và mật khẩu.", "Check the login and the password."),
    ),
    "body_too_slow": _problem(
        ("Nội dung gửi lên quá chậm", "The body comes too slowly"),
        ("Kết nối đã dừng giữa chừng; hãy gửi lại.", "The connection stood still half-way; send it again."),
    ),
    "host_not_served": _problem(
        ("Tên máy chủ này không được phục vụ tại đây", "This host name is not served here"),
        ("Hãy dùng địa chỉ chính thức của hệ thống.", "Use the official address of the system."),
    ),
    "too_many_requests": _problem(
        ("Quá nhiều yêu cầu", "Too many requests"),
        ("Hãy thử lại sau {seconds} giây.", "Try again in {seconds} seconds."),
    ),
    "too_many_logins": _problem(
        ("Đăng nhập sai quá nhiều lần", "Too many failed logins"),
        ("Hãy thử lại sau {seconds} giây.", "Try again in {seconds} seconds."),
    ),
    "too_many_codes": _problem(
        ("Nhập sai mã quá nhiều lần", "Too many wrong codes"),
        ("Hãy thử lại sau {seconds} giây.", "Try again in {seconds} seconds."),
    ),
    "second_factor_needed": _problem(
        ("Cần xác thực bước hai", "A second factor is needed"),
        (
            "Hãy nhập mã của ứng dụng xác thực rồi làm lại; mã có hiệu lực mười phút trong phiên này.",
            "Give a code of the authenticator app and try again; it counts for ten minutes of this session.",
        ),
    ),
    "second_factor_not_enrolled": _problem(
        ("Tài khoản chưa có xác thực bước hai", "The account has no second factor"),
        (
            "Thao tác này cần xác thực bước hai; hãy đăng ký ứng dụng xác thực cho tài khoản của mình trước.",
            "This operation needs a second factor; enrol an authenticator app for your account first.",
        ),
    ),
    "second_factor_not_offered": _problem(
        ("Hệ thống chưa bật xác thực bước hai", "Second factors are not set up here"),
        (
            "Người vận hành hệ thống cần khai báo tệp khóa bảo vệ bí mật trước.",
            "Whoever runs the system must first name the file with the keys that protect secrets.",
        ),
    ),
    "second_factor_in_force": _problem(
        ("Tài khoản đã có xác thực bước hai", "The account has a second factor already"),
        ("Hãy gỡ ứng dụng cũ trước khi đăng ký ứng dụng mới.", "Remove the old one before you enrol another."),
    ),
    "no_second_factor_to_confirm": _problem(
        ("Chưa có gì để xác nhận", "There is nothing to confirm"),
        ("Hãy bắt đầu đăng ký ứng dụng xác thực trước.", "Begin to enrol an authenticator app first."),
    ),
    "no_second_factor": _problem(
        ("Tài khoản chưa có xác thực bước hai", "The account has no second factor"),
        ("Hãy đăng ký ứng dụng xác thực trước.", "Enrol an authenticator app first."),
    ),
    "second_factor_not_readable": _problem(
        ("Chưa kiểm tra được mã", "The code cannot be checked now"),
        (
            "Hệ thống không mở được bí mật đã lưu; người vận hành cần khôi phục tệp khóa.",
            "The system cannot open the stored secret; whoever runs it must restore the file with the keys.",
        ),
    ),
    "csrf_token_missing": _problem(
        ("Thiếu mã chống giả mạo yêu cầu", "The CSRF token is missing"),
        (
            "Yêu cầu thay đổi dữ liệu bằng phiên đăng nhập phải kèm X-CSRF-Token của phiên.",
            "A session's request that changes something must carry the session's X-CSRF-Token.",
        ),
    ),
    "cross_site": _problem(
        ("Yêu cầu đến từ trang khác", "The request came from another site"),
        (
            "Hãy mở trang đăng nhập của hệ thống rồi đăng nhập tại đó.",
            "Open this system's own login page and log in there.",
        ),
    ),
    "no_session": _problem(
        ("Không có phiên đăng nhập", "There is no session"),
        (
            "Yêu cầu này dùng mã truy cập API nên không có phiên để kết thúc.",
            "This request came with an API token, so there is no session to end.",
        ),
    ),
    # --- what they may
    "not_permitted": _problem(
        ("Không có quyền", "Not permitted"),
        (
            "Tài khoản không có quyền “{permission}” ở đơn vị nào.",
            "The account has the permission “{permission}” in no unit.",
        ),
    ),
    "not_permitted_here": _problem(
        ("Không có quyền tại đơn vị này", "Not permitted in this unit"),
        (
            "Tài khoản không có quyền làm việc này tại {unit}.",
            "The account may not do this in {unit}.",
        ),
    ),
    "not_permitted_in_root": _problem(
        ("Cần quyền ở cấp cao nhất", "Needs the right over the whole tree"),
        (
            "Việc này liên quan đến toàn bộ cây đơn vị nên cần quyền tại đơn vị gốc.",
            "This concerns the whole tree of units, so it needs the right over its root.",
        ),
    ),
    "target_outside_own_subtree": _problem(
        ("Ngoài phạm vi được giao", "Outside the own area"),
        (
            "Có đơn vị hoặc thiết bị nằm ngoài phạm vi quản lý; không có gì được lưu.",
            "Some units or devices lie outside what you are in charge of; nothing was stored.",
        ),
    ),
    "grant_above_own_rights": _problem(
        ("Cấp quyền vượt quá quyền của mình", "A grant above own rights"),
        (
            "Chỉ được cấp hoặc thu hồi quyền trong phạm vi và thời hạn mà mình đang quản trị.",
            "Roles can be granted or taken back only within one's own administration, and for no longer.",
        ),
    ),
    "token_above_own_rights": _problem(
        ("Mã truy cập vượt quá quyền của mình", "The token would go beyond one's own rights"),
        (
            "Chỉ được cấp cho mã truy cập những quyền và địa bàn mà mình đang có.",
            "A token is given only what one may do oneself, and where one may do it.",
        ),
    ),
    "own_rights_untouchable": _problem(
        ("Không được tự thay đổi quyền của mình", "Own rights cannot be changed"),
        ("Hãy nhờ một quản trị viên khác.", "Ask another administrator."),
    ),
    "account_beyond_own_rights": _problem(
        ("Tài khoản ngoài phạm vi quản trị", "The account is beyond own rights"),
        (
            "Tài khoản {login} thuộc hoặc có quyền ở đơn vị ngoài phạm vi quản trị của bạn.",
            "The account {login} belongs to, or has roles in, units you do not administer.",
        ),
    ),
    "own_bulletin": _problem(
        ("Không được tự duyệt bản tin của mình", "Own bulletins are decided on by others"),
        (
            "Người đã soạn hoặc sửa bản tin không được tự duyệt; hãy nhờ người duyệt khác.",
            "Who had a hand in a bulletin does not decide on it; ask another approver.",
        ),
    ),
    # --- not found
    "unit_not_found": _problem(
        ("Không tìm thấy đơn vị", "No such unit"),
        ("Không có đơn vị {id} vào ngày này.", "There is no unit {id} on this day."),
    ),
    "account_not_found": _problem(
        ("Không tìm thấy tài khoản", "No such account"),
        ("Không có tài khoản {id}.", "There is no account {id}."),
    ),
    "grant_not_found": _problem(
        ("Không tìm thấy quyền", "No such grant"),
        ("Tài khoản không có vai trò {role} tại đơn vị {unit}.", "The account has no role {role} in unit {unit}."),
    ),
    "session_not_found": _problem(
        ("Không tìm thấy phiên", "No such session"),
        ("Không có phiên {id} đang mở.", "There is no open session {id}."),
    ),
    "token_not_found": _problem(
        ("Không tìm thấy mã truy cập", "No such token"),
        ("Không có mã truy cập {id} còn hiệu lực.", "There is no token {id} that still holds."),
    ),
    "device_not_found": _problem(
        ("Không tìm thấy thiết bị", "No such device"),
        ("Không có thiết bị {id}.", "There is no device {id}."),
    ),
    "no_revocation_list": _problem(
        ("Chưa có danh sách thu hồi", "There is no revocation list yet"),
        (
            "Danh sách đầu tiên được ký ngay sau khi dịch vụ khởi động.",
            "The first is signed as soon as the service runs.",
        ),
    ),
    "claim_not_found": _problem(
        ("Không có mã khai báo chờ dùng", "No claim code is waiting"),
        ("Thiết bị {id} không có mã khai báo nào chưa dùng.", "Device {id} has no unused claim code."),
    ),
    "claim_code_not_valid": _problem(
        ("Mã khai báo không dùng được", "The claim code is not valid"),
        (
            "Mã sai, đã hết hạn hoặc đã được dùng; hãy xin quản trị viên cấp mã mới cho thiết bị.",
            "The code is wrong, over or used; ask an administrator for a new one for the device.",
        ),
    ),
    "too_many_enrolments": _problem(
        ("Quá nhiều lần khai báo sai", "Too many failed enrolments"),
        ("Hãy thử lại sau {seconds} giây.", "Try again in {seconds} seconds."),
    ),
    "renewal_not_proven": _problem(
        ("Chưa chứng minh được khóa hiện tại", "The present key is not proven"),
        (
            "Chứng thư không phải của hệ thống này, hoặc chữ ký không phải của khóa trong chứng thư đó.",
            "The certificate is not one of this authority, or its key did not sign the request.",
        ),
    ),
    "certificate_not_good": _problem(
        ("Chứng thư hiện tại không còn giá trị", "The present certificate is no longer good"),
        (
            "Chứng thư đã hết hạn, bị thu hồi, hoặc thiết bị đã ngừng sử dụng; cần mã khai báo mới.",
            "It is over or revoked, or the device is out of service; a new claim code is needed.",
        ),
    ),
    "certificate_renewed_already": _problem(
        ("Chứng thư đã được gia hạn", "The certificate was renewed already"),
        (
            "Chứng thư này của {id} đã được gia hạn bằng một khóa khác; nếu không phải do thiết bị, hãy thu hồi ngay.",
            "This certificate of {id} was renewed with another key; if the device did not do that, revoke it at once.",
        ),
    ),
    "renewed_too_soon": _problem(
        ("Chứng thư vừa mới được cấp", "The certificate was issued only just now"),
        ("Hãy gia hạn sau {seconds} giây nữa.", "Renew it in {seconds} seconds."),
    ),
    "device_has_no_session": _problem(
        ("Thiết bị không tự kết nối", "The device does not connect by itself"),
        (
            "Thiết bị {id} nói qua cổng {gateway} nên không cần chứng thư riêng.",
            "Device {id} speaks through gateway {gateway} and needs no certificate of its own.",
        ),
    ),
    "no_certificate_to_revoke": _problem(
        ("Không có chứng thư nào để thu hồi", "There is no certificate to revoke"),
        (
            "Hệ thống không giữ chứng thư nào còn hiệu lực của {id}. Chứng thư cấp tại xưởng được thu hồi bằng"
            " `./loa installation revoke`.",
            "No certificate of {id} issued here is still good. One made at the factory is revoked with"
            " `./loa installation revoke`.",
        ),
    ),
    "enrolment_not_set_up": _problem(
        ("Chưa thiết lập khai báo thiết bị", "Enrolment is not set up"),
        (
            "Hệ thống chưa được giao khóa cấp chứng thư (CONTROL_ENROLMENT__…). Hãy thiết lập, hoặc cấp chứng thư bằng"
            " `./loa installation devices`.",
            "No issuing key was given to this service (CONTROL_ENROLMENT__…). Give it one, or issue certificates with"
            " `./loa installation devices`.",
        ),
    ),
    "bulletin_not_found": _problem(
        ("Không tìm thấy bản tin", "No such bulletin"),
        ("Không có bản tin {id}.", "There is no bulletin {id}."),
    ),
    "broadcast_not_found": _problem(
        ("Không tìm thấy lịch phát", "No such broadcast"),
        ("Không có lịch phát {id}.", "There is no broadcast {id}."),
    ),
    "group_not_found": _problem(
        ("Không tìm thấy nhóm", "No such group"),
        ("Không có nhóm {id}.", "There is no group {id}."),
    ),
    "media_not_found": _problem(
        ("Không tìm thấy tệp", "No such file"),
        ("Không có tệp {sha256}.", "There is no file {sha256}."),
    ),
    "relay_source_not_found": _problem(
        ("Không tìm thấy nguồn tiếp sóng", "No such relay source"),
        ("Không có nguồn tiếp sóng {id}.", "There is no relay source {id}."),
    ),
    "nothing_relayed": _problem(
        ("Hiện không tiếp sóng", "Nothing is relayed"),
        ("Nguồn {id} hiện không được tiếp sóng.", "The source {id} is not being relayed just now."),
    ),
    # --- conflicts
    "relay_source_retired": _problem(
        ("Nguồn tiếp sóng đã ngừng dùng", "The relay source is out of use"),
        ("Nguồn “{name}” đã ngừng dùng nên không thay đổi được.", "“{name}” is out of use and stays as it is."),
    ),
    "relay_source_in_use": _problem(
        ("Nguồn tiếp sóng còn trong lịch phát", "The relay source is in use"),
        (
            "Có {broadcasts} lịch phát đang hoặc sắp tiếp sóng “{name}”; hãy rút hoặc sửa chúng trước.",
            "{broadcasts} broadcasts relay “{name}” now or in the coming days; withdraw or change them first.",
        ),
    ),
    "login_taken": _problem(
        ("Tên đăng nhập đã có người dùng", "The login is taken"),
        ("Đã có tài khoản {login}; hãy chọn tên khác.", "There is an account {login}; choose another login."),
    ),
    "unit_tree_is_newer": _problem(
        ("Đã có cây đơn vị mới hơn", "A newer tree is there"),
        (
            "Cây đơn vị mới nhất có hiệu lực từ {newest}; hãy nhập theo thứ tự thời gian.",
            "The newest tree holds from {newest}; import trees in the order of their days.",
        ),
    ),
    "units_in_use": _problem(
        ("Đơn vị sắp đóng vẫn còn thiết bị hoặc tài khoản", "Units to be closed are still in use"),
        (
            "Cây mới đóng {units} đơn vị vẫn còn {devices} thiết bị và {accounts} tài khoản. Hãy chuyển chúng trước, "
            "hoặc xác nhận bằng may_strand=true.",
            "The new tree closes {units} units that still have {devices} devices and {accounts} accounts. Move them "
            "first, or confirm with may_strand=true.",
        ),
    ),
    "gateway_in_use": _problem(
        ("Cổng kết nối vẫn đang phục vụ thiết bị", "The gateway still speaks for devices"),
        (
            "Cổng {id} còn phục vụ {devices} thiết bị; hãy chuyển chúng sang cổng khác trước.",
            "Gateway {id} still speaks for {devices} devices; assign them elsewhere first.",
        ),
    ),
    "device_retired": _problem(
        ("Thiết bị đã ngừng sử dụng", "The device is out of service"),
        (
            "Thiết bị {id} đã ngừng sử dụng nên không thay đổi được.",
            "Device {id} is out of service and stays as it is.",
        ),
    ),
    "bulletin_already_decided": _problem(
        ("Bản tin đã có quyết định", "The bulletin was decided on already"),
        ("Trạng thái hiện tại của bản tin: {state}.", "The bulletin's present state: {state}."),
    ),
    "bulletin_frozen": _problem(
        ("Nội dung bản tin đã được chốt", "The bulletin's content is frozen"),
        (
            "Chỉ bản nháp mới sửa và gửi duyệt được; bản tin đang ở trạng thái {state}. "
            "Muốn sửa, hãy tạo phiên bản mới với supersedes.",
            "Only a draft can be edited and submitted; this bulletin is {state}. To change it, make a new version with "
            "supersedes.",
        ),
    ),
    "bulletin_not_submitted": _problem(
        ("Bản tin còn là bản nháp", "The bulletin is still a draft"),
        (
            "Bản nháp chưa được gửi duyệt nên chưa quyết định được.",
            "A draft is not decided on before it was submitted.",
        ),
    ),
    "bulletin_not_as_submitted": _problem(
        ("Nội dung khác với lúc gửi duyệt", "The content is not what was submitted"),
        (
            "Nội dung không còn khớp mã băm đã chốt khi gửi duyệt; hãy báo người quản trị hệ thống và tạo bản tin mới.",
            "The content no longer has the hash it was submitted with; tell whoever runs the system, and make a new "
            "bulletin.",
        ),
    ),
    "bulletin_still_open": _problem(
        ("Bản tin cũ chưa có quyết định", "The old version is still open"),
        (
            "Bản tin cần thay thế đang ở trạng thái {state}; hãy sửa bản nháp đó, hoặc đợi quyết định.",
            "What is to be superseded is {state}: edit that draft, or wait for the decision.",
        ),
    ),
    "bulletin_superseded": _problem(
        ("Đã có phiên bản mới", "There is a new version already"),
        ("Bản tin đã được thay thế bởi {id}.", "The bulletin was superseded by {id}."),
    ),
    "broadcast_withdrawn": _problem(
        ("Lịch phát đã được rút", "The broadcast was withdrawn"),
        ("Lịch phát đã rút không thay đổi được nữa.", "A broadcast that was withdrawn cannot be changed."),
    ),
    "group_in_use": _problem(
        ("Nhóm đang được dùng", "The group is in use"),
        (
            "{count} lịch phát còn hiệu lực hoặc đang chờ duyệt nhắm tới nhóm này; hãy sửa hoặc rút các lịch đó trước.",
            "{count} broadcasts that are scheduled or wait for approval address this group; change or withdraw them first.",
        ),
    ),
    "group_closed": _problem(
        ("Nhóm đã đóng", "The group was closed"),
        ("Nhóm đã đóng không thay đổi được nữa.", "A group that was closed cannot be changed."),
    ),
    "version_mismatch": _problem(
        ("Có người khác vừa sửa", "Somebody else has changed it"),
        (
            "Phiên bản hiện tại là {present}, phiên bản gửi lên là {given}. Xem bản hiện tại rồi gửi lại.",
            "The present version is {present}, yours was {given}. Look at what stands now, then send again.",
        ),
    ),
    "version_required": _problem(
        ("Thiếu phiên bản cần sửa", "The version is missing"),
        (
            "Gửi kèm tiêu đề If-Match với ETag đã đọc; hiện tại là {etag}.",
            "Send If-Match with the ETag you have read; at present it is {etag}.",
        ),
    ),
    # --- quarantine
    "inmate_not_found": _problem(
        ("Không có thông điệp này", "There is no such message"),
        (
            "Không có thông điệp bị giữ lại số {id}; có thể đã quá hạn lưu giữ.",
            "There is no quarantined message {id}; it may have been kept no longer.",
        ),
    ),
    "quarantine_request_not_found": _problem(
        ("Không có yêu cầu này", "There is no such request"),
        ("Không có yêu cầu số {id}.", "There is no request {id}."),
    ),
    "inmate_replayed": _problem(
        ("Thông điệp đã được nhận", "It is stored already"),
        (
            "{count} thông điệp đã được xét lại và lưu, nên không có gì để quyết định; không có gì thay đổi.",
            "{count} of these were replayed and are stored: there is nothing to decide, and nothing was changed.",
        ),
    ),
    "nothing_to_decide": _problem(
        ("Không có thông điệp nào phù hợp", "Nothing matches"),
        (
            "Không có thông điệp chưa xử lý nào khớp điều kiện; hãy xem lại điều kiện lọc.",
            "No open message matches; look at the filter again.",
        ),
    ),
    # --- content that is not taken
    "unit_file_invalid": _problem(
        ("Tệp đơn vị có lỗi", "The file of units has faults"),
        (
            "Không có gì được nhập; xem từng dòng và cột bên dưới.",
            "Nothing was imported; see the lines and columns below.",
        ),
    ),
    "unit_mapping_invalid": _problem(
        ("Tệp ánh xạ đơn vị có lỗi", "The mapping of units has faults"),
        (
            "Không có gì thay đổi; xem từng dòng và cột bên dưới.",
            "Nothing was changed; see the lines and columns below.",
        ),
    ),
    "devices_invalid": _problem(
        ("Danh sách thiết bị có lỗi", "The list of devices has faults"),
        ("Không thiết bị nào được đăng ký; xem từng lỗi bên dưới.", "No device was registered; see each error below."),
    ),
    "idempotency_key_reused": _problem(
        ("Khóa chống gửi trùng đã được dùng", "The idempotency key was used already"),
        (
            "Yêu cầu không được thực hiện: cùng khóa Idempotency-Key nhưng nội dung khác.",
            "Nothing was done: the same Idempotency-Key came with another body.",
        ),
    ),
    "broadcast_against_policy": _problem(
        ("Trái chính sách phát thanh", "Against the policy"),
        (
            "Lịch phát chưa được lưu vì chính sách của đơn vị không cho phép; xem từng quy tắc bên dưới.",
            "The broadcast was not stored because a unit's policy does not allow it; see each rule below.",
        ),
    ),
    "group_invalid": _problem(
        ("Nhóm chưa hợp lệ", "The group is not valid"),
        ("Nhóm chưa được lưu; xem từng lỗi bên dưới.", "The group was not stored; see each error below."),
    ),
    "broadcast_invalid": _problem(
        ("Lịch phát chưa hợp lệ", "The broadcast is not valid"),
        ("Lịch phát chưa được lưu; xem từng lỗi bên dưới.", "The broadcast was not stored; see each error below."),
    ),
    "broadcast_not_awaiting": _problem(
        ("Lịch phát không chờ duyệt", "The broadcast waits for nobody"),
        (
            "Không có ngoại lệ nào chờ quyết định; lịch phát đang ở trạng thái {state}.",
            "There is nothing to let pass; the broadcast is {state}.",
        ),
    ),
    "broadcast_is_over": _problem(
        ("Lịch phát đã qua", "The broadcast is over"),
        (
            "“{title}” không còn lần phát nào: cho qua thì cũng không phát. Từ chối, hoặc sửa thời gian rồi gửi lại.",
            "Nothing of “{title}” is to come any more, so letting it pass would put nothing on. Reject it, or change its times.",
        ),
    ),
    "own_broadcast": _problem(
        ("Không được tự duyệt ngoại lệ cho lịch phát của mình", "Own broadcasts are let pass by others"),
        (
            "Người tạo hoặc sửa lịch phát không được tự cho phép ngoại lệ; hãy nhờ người duyệt khác.",
            "Who made or changed a broadcast does not except from policies for it; ask another approver.",
        ),
    ),
    "offer_not_found": _problem(
        ("Không có lời mời phát này", "No such offer"),
        ("Lịch phát {id} không được gửi cho đơn vị này.", "Broadcast {id} was not offered to this unit."),
    ),
    "offer_is_over": _problem(
        ("Lịch phát từ cấp trên đã qua", "The offer is over"),
        (
            "“{title}” không còn lần phát nào, hoặc đã bị rút; quyết định giữ nguyên.",
            "Nothing of “{title}” is to come any more, or it was taken back; the decision stays.",
        ),
    ),
    "offer_on_air": _problem(
        ("Đang phát", "It is on the air"),
        (
            "“{title}” đang phát trong đơn vị. Hãy đổi quyết định khi lần phát này kết thúc.",
            "“{title}” is on the air in the unit. Change the decision when this occurrence is over.",
        ),
    ),
    "offer_scheduled_already": _problem(
        ("Đơn vị đã xếp lịch rồi", "The unit has scheduled it already"),
        (
            "Lịch phát của đơn vị là {id}; hãy sửa hoặc rút lịch đó.",
            "The unit's own broadcast is {id}: change that one, or withdraw it.",
        ),
    ),
    "requisition_not_found": _problem(
        ("Không tìm thấy lệnh huy động", "No such requisition"),
        ("Không có lệnh huy động {id}.", "There is no requisition {id}."),
    ),
    "requisition_over": _problem(
        ("Lệnh huy động đã hết hiệu lực", "The requisition is over"),
        (
            "Lệnh số {number} đã hết hiệu lực từ {ended}.",
            "Order {number} has given no right since {ended}.",
        ),
    ),
    "unit_does_not_decide": _problem(
        ("Đơn vị này không xếp thứ tự ưu tiên", "This unit does not order priority content"),
        (
            "Thứ tự ưu tiên do {unit} quyết định.",
            "The order of priority content is {unit}'s to decide.",
        ),
    ),
    "policy_invalid": _problem(
        ("Quy định phát chưa hợp lệ", "The policy is not valid"),
        ("Quy định chưa được lưu; xem từng lỗi bên dưới.", "The policy was not stored; see each error below."),
    ),
    "media_too_large": _problem(
        ("Tệp quá lớn", "The file is too large"),
        ("Tệp lớn nhất được nhận là {limit} MiB.", "The largest file taken has {limit} MiB."),
    ),
    "media_refused": _problem(
        ("Tệp không được nhận", "The file is not taken"),
        ("Tệp đã được giải mã thử và không dùng được; xem lý do.", "The file was decoded and cannot be used; see why."),
    ),
    **CAP_PROBLEMS,
    **SENSING_PROBLEMS,
}
