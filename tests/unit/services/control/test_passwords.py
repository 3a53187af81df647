from __future__ import annotations

import asyncio
from typing import Literal

import argon2
import pytest

from services.control import credentials, passwords
from services.control.passwords import Passwords

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.mark.parametrize(
    ("password", "login", "expected"),
    [
        ("mot mat khau rat dai", "an", ()),
        ("ngắn", "an", ("password_too_short",)),
        ("x" * 201, "an", ("password_too_long",)),
        ("88888888", "an", ("password_too_short",)),
        ("8888888888", "an", ("password_too_easy",)),
        ("aaabbbaaabbb", "nguyen", ("password_too_easy",)),
        ("Nguyen.Van.An.2026", "nguyen.van.an", ("password_too_easy",)),
    ],
)
def test_rules_for_new_passwords(password: str, login: str, expected: tuple[str, ...]) -> None:
    assert passwords.faults_of(password, login=login) == expected


def test_generated_passwords_follow_the_rules_and_differ() -> None:
    drawn = {passwords.generated() for _ in range(50)}
    assert len(drawn) == 50
    assert all(passwords.faults_of(each, login="quantri") == () for each in drawn)


async def test_only_the_right_password_matches_and_nobody_s_never_does() -> None:
    hashes = Passwords(CHEAP)
    stored = await hashes.hash("mot mat khau rat dai")
    assert stored.startswith("$argon2id$")
    assert await hashes.matches("mot mat khau rat dai", stored)
    assert not await hashes.matches("mot mat khau rat dai ", stored)
    assert not await hashes.matches("anything", None)
    assert not await hashes.matches("anything", "no hash at all")


async def test_a_login_that_does_not_exist_costs_as_much_as_a_wrong_password() -> None:
    verified = []

    class Counting(argon2.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - theirs
            verified.append(hash)
            return super().verify(hash, password)

    hashes = Passwords(Counting(time_cost=1, memory_cost=8, parallelism=1))
    stored = await hashes.hash("mot mat khau rat dai")
    await hashes.matches("wrong", stored)
    await hashes.matches("wrong", None)
    assert len(verified) == 2
    assert argon2.extract_parameters(str(verified[1])) == argon2.extract_parameters(str(verified[0]))


async def test_a_flood_of_logins_waits_instead_of_eating_the_memory() -> None:
    running, most = 0, 0

    class Watched(argon2.PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                return super().hash(password, salt=salt)
            finally:
                running -= 1

    hashes = Passwords(Watched(time_cost=1, memory_cost=64, parallelism=1))
    await asyncio.gather(*(hashes.hash("mot mat khau rat dai") for _ in range(20)))
    assert most <= 2


def test_tokens_are_long_random_and_recognisable() -> None:
    tokens = {credentials.new_api_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("loa_") and len(token) >= 40 for token in tokens)


def test_a_csrf_token_belongs_to_one_session() -> None:
    one, other = credentials.new_session_token(), credentials.new_session_token()
    assert credentials.is_csrf_token(credentials.csrf_token(one), one)
    for wrong in (credentials.csrf_token(other), None, "", "é", one):
        assert not credentials.is_csrf_token(wrong, one)
