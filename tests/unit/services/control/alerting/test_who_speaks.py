"""Who speaks: whoever has an account has rights that are asked, or signs nothing."""

from __future__ import annotations

import uuid

import pytest

from schemas.identifiers import UnitId
from services.control.alerts import By
from services.control.permissions import Actor, Rights
from services.control.units import UnitTree
from services.shared.clock import utc_now

TREE = UnitTree([])
SOMEBODY = Actor(
    account_id=uuid.UUID(int=1), login="tram", display_name="Trạm", unit_id=UnitId(uuid.UUID(int=2)), grants=()
)


def test_an_account_without_rights_does_not_pass_for_the_platform() -> None:
    with pytest.raises(ValueError, match="passes for the platform"):
        By(tree=TREE, actor=SOMEBODY)
    with pytest.raises(ValueError, match="passes for the platform"):
        By(tree=TREE, rights=Rights((), TREE, now=utc_now()))
    assert By(tree=TREE).account_id is None
    assert By(tree=TREE, actor=SOMEBODY, is_messenger=True).account_id == SOMEBODY.account_id


def test_a_messenger_has_no_rights_of_its_own() -> None:
    with pytest.raises(ValueError, match="has no rights"):
        By(tree=TREE, actor=SOMEBODY, rights=Rights((), TREE, now=utc_now()), is_messenger=True)
