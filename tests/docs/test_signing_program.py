"""The signing program that docs/trust.md shows works, with an `aws` that answers as the real one is documented to."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from ocisync.signing.keys import dump_private, generate
from ocisync.signing.plugin import open_plugin
from tests.support.signingprogram import script

DOCUMENT = Path(__file__).parents[2] / "docs" / "trust.md"
AWS = """
import base64, sys
from pathlib import Path
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

service, command, *rest = sys.argv[1:]
options = dict(zip(rest[::2], rest[1::2], strict=True))
assert (service, options["--key-id"], options["--output"]) == ("kms", "alias/release", "text")
key = serialization.load_pem_private_key(Path(KEY).read_bytes(), None)
if command == "get-public-key":
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    answer = key.public_key().public_bytes(serialization.Encoding.DER, spki)
else:
    assert (options["--message-type"], options["--signing-algorithm"]) == ("DIGEST", "ECDSA_SHA_256")
    answer = key.sign(base64.b64decode(options["--message"]), ec.ECDSA(Prehashed(hashes.SHA256())))
print(base64.b64encode(answer).decode())
"""


def test_the_program_for_a_kms_signs(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(#!.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "shown.py").write_text(block)
    key = generate()
    (tmp_path / "k.key").write_bytes(dump_private(key, password=None))
    (tmp_path / "aws.py").write_text(f"KEY = {str(tmp_path / 'k.key')!r}\n{AWS}")
    python = shlex.quote(sys.executable)
    script(tmp_path, f'exec {python} {shlex.quote(str(tmp_path / "aws.py"))} "$@"', "aws")
    script(tmp_path, f'exec {python} {shlex.quote(str(tmp_path / "shown.py"))} "$@"', "aws-kms")
    opened = open_plugin("exec:aws-kms?alias/release", {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert opened.public == key.public
    assert key.public.verify(opened.sign(b"message"), b"message")
