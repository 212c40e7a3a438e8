from __future__ import annotations

import pytest

from ocisync.kit.log import redact


@pytest.mark.parametrize(
    "text", ["https://u:p@h/x", "see git+ssh://token@h", "a.b+" * 50_000 + "https://u:p@h"], ids=["url", "text", "long"]
)
def test_logins_in_urls_are_taken_out_of_text_of_any_length(text: str) -> None:
    assert "@" not in redact(text)
    assert redact(text).endswith(("h/x", "h"))


def test_a_password_with_an_at_sign_is_taken_out_whole_and_nothing_else() -> None:
    assert (
        redact("cannot fetch https://user:p@ss@git.example/a@b?c=d@e") == "cannot fetch https://git.example/a@b?c=d@e"
    )
    assert redact("https://git.example?x=a@b") == "https://git.example?x=a@b"
