"""Deferred modules: nothing runs before the first use, and then everything is there."""

from __future__ import annotations

import subprocess
import sys


def run(program: str) -> str:
    """In an interpreter of its own: which modules are loaded is a state of the process."""
    command = [sys.executable, "-c", f"import sys\nfrom ocisync.kit.lazymodule import defer\n{program}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_a_deferred_module_is_executed_by_its_first_use() -> None:
    assert run("defer('colorsys'); import colorsys; print('rgb_to_hls' in vars(colorsys))") == "False"
    assert run("defer('colorsys'); import colorsys; print(colorsys.rgb_to_hls(0, 0, 0))") == "(0.0, 0.0, 0.0)"


def test_a_loaded_module_stays_as_it_is() -> None:
    assert run("import json; before = json; defer('json'); import json; print(json is before)") == "True"


def test_a_missing_module_is_the_importers_affair() -> None:
    assert run("defer('no_such_module_anywhere'); print('no_such_module_anywhere' in sys.modules)") == "False"


def test_opening_a_store_does_not_execute_the_validator_of_the_registry_library() -> None:
    program = """
from ocisync.oci.client import open_store
open_store('127.0.0.1:1/a')
print('jsonschema.validators' in sys.modules, 'requests' in sys.modules)
"""
    assert run(program) == "False True"


def test_the_library_that_guesses_encodings_is_there_when_somebody_does_use_it() -> None:
    program = """
from ocisync.oci.client import open_store
open_store('127.0.0.1:1/a')
print('charset_normalizer.cd' in sys.modules)
import requests
answer = requests.Response()
answer._content = 'grüße'.encode()
print(answer.text)
"""
    assert run(program).split() == ["False", "grüße"]
