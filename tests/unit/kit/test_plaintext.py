"""Foreign text does nothing to whoever reads it."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.kit.log import ConsoleFormatter, JsonFormatter
from ocisync.kit.plaintext import plain, plain_json, plain_start

HOSTILE = "\x1b[31m\x9b31m\x07\u202eevil\r\nforged line\u2028\x7f\x00"


@given(st.text())
def test_every_character_of_plain_text_is_printable(text: str) -> None:
    assert plain(text).isprintable()


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_json_keeps_its_meaning_and_loses_what_a_terminal_obeys(text: str) -> None:
    shown = plain_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(shown) == {text: [text]}
    assert not set(shown) & set(HOSTILE) - set("evil forged line[31m")


@pytest.mark.parametrize("name", ["::set-output name=digest::x.yaml", " ::error::x", "##[add-path]x"])
def test_a_path_at_the_start_of_a_line_is_no_command_of_a_ci_system(name: str) -> None:
    assert plain_start(name) == f"./{name}"
    assert plain_start("a::b.yaml") == "a::b.yaml"


@pytest.mark.parametrize("formatter", [ConsoleFormatter(), JsonFormatter()], ids=["console", "json"])
def test_a_record_of_the_log_is_one_line_without_control_characters(formatter: logging.Formatter) -> None:
    record = logging.LogRecord("ocisync.x", logging.WARNING, "f", 1, f"message {HOSTILE}", None, None)
    record.fields = {"said": HOSTILE}
    assert formatter.format(record).isprintable()
