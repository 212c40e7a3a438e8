"""Deferred modules: nothing runs before the first use, and then everything is there."""

from __future__ import annotations

import subprocess
import sys


def run(program: str) -> str:
    """In an interpreter of its own: which modules are loaded is a state of the process."""
    command = [sys.executable, "-c", f"import sys\nfrom ocisync.kit.lazymodule import defer, postpone\n{program}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.strip()


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


def test_a_postponed_part_of_a_package_is_executed_when_something_uses_it() -> None:
    program = """
postpone({'xml.dom.minidom': ()})
from xml.dom import minidom
print('parseString' in vars(minidom))
print(minidom.parseString('<a/>').documentElement.tagName)
"""
    assert run(program).split() == ["False", "a"]


def test_what_an_importer_takes_by_name_from_a_postponed_module_does_its_work_when_called() -> None:
    program = """
postpone({'colorsys': ('rgb_to_hls',)})
from colorsys import rgb_to_hls
print('hls_to_rgb' in vars(sys.modules['colorsys']))
print(rgb_to_hls(0, 0, 0) == (0, 0, 0), 'hls_to_rgb' in vars(sys.modules['colorsys']))
import colorsys
print(colorsys.rgb_to_hls is not rgb_to_hls, colorsys.__spec__.loader.__class__.__name__)
"""
    assert run(program).split() == ["False", "True", "True", "True", "SourceFileLoader"]


def test_a_postponed_module_that_is_missing_is_missing() -> None:
    program = """
postpone({'no_such_module_anywhere': ()})
try:
    import no_such_module_anywhere
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run(program) == "no_such_module_anywhere"


def test_postponing_what_is_loaded_changes_nothing() -> None:
    program = (
        "import json; before = json.loads; postpone({'json': ('loads',)}); import json; print(json.loads is before)"
    )
    assert run(program) == "True"
