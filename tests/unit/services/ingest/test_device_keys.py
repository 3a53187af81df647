"""Keys of devices in memory: those that were asked for, not for ever, and no more than there is room for."""

from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from schemas import device_signing
from services.ingest.device_keys import HELD_FOR, DeviceKeys
from tests.support.ingest_builders import DEVICE_KEY, GATEWAY_KEY, NOW, keys_of

KID, OTHER = (device_signing.key_id(each.public_key()) for each in (DEVICE_KEY, GATEWAY_KEY))


def test_a_device_that_renews_has_two_keys_and_nobody_has_another_s() -> None:
    keys = DeviceKeys()
    keys.hold([1], keys_of(DEVICE_KEY, GATEWAY_KEY), now=NOW)
    assert keys.find(1, KID, now=NOW) == DEVICE_KEY.public_key()
    assert keys.find(1, OTHER, now=NOW) == GATEWAY_KEY.public_key()
    assert keys.find(2, KID, now=NOW) is None
    keys.hold([1], keys_of(GATEWAY_KEY), now=NOW)  # the first one is revoked
    assert keys.find(1, KID, now=NOW) is None
    keys.hold([1, 2], {}, now=NOW)
    assert len(keys) == 0


def test_a_key_is_good_until_its_certificate_runs_out() -> None:
    keys = DeviceKeys()
    keys.hold([1], keys_of(DEVICE_KEY, not_after=NOW + timedelta(minutes=1)), now=NOW)
    assert keys.find(1, KID, now=NOW + timedelta(seconds=59)) is not None
    assert keys.find(1, KID, now=NOW + timedelta(minutes=1)) is None


def test_what_was_read_long_ago_or_called_changed_is_read_again() -> None:
    keys = DeviceKeys()
    for device_no in (1, 2, 3):
        keys.hold([device_no], keys_of(DEVICE_KEY, device_no=device_no), now=NOW)
    assert keys.find(1, KID, now=NOW + HELD_FOR) is not None
    assert keys.find(1, KID, now=NOW + HELD_FOR + timedelta(milliseconds=1)) is None
    keys.forget(2)
    assert [keys.find(each, KID, now=NOW) is not None for each in (1, 2, 3)] == [True, False, True]
    keys.forget(None)
    assert len(keys) == 0


def test_there_is_room_for_so_many_and_the_oldest_make_way() -> None:
    keys, key = DeviceKeys(room=3), ec.derive_private_key(5, ec.SECP256R1())
    for device_no in (1, 2, 3, 1, 4):
        keys.hold([device_no], keys_of(key, device_no=device_no), now=NOW)
    kid = device_signing.key_id(key.public_key())
    assert [each for each in range(1, 5) if keys.find(each, kid, now=NOW) is not None] == [1, 3, 4]
