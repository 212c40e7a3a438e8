"""The inside of the private Sigstore: everything that runs in its network namespace.

    unshare --net python -m tests.support.sigstoreinside DIRECTORY BINARY

Fulcio and the timestamp authority listen on all interfaces for their metrics, whatever one asks; in a namespace that
has nothing but loopback, that is loopback, and nothing in it can reach anybody. The identity providers and the
certificate log are small servers of this process. Unix sockets in DIRECTORY lead to the three services from outside.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import http.server
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.support import oidc
from tests.support.process import LEASH
from tests.support.relay import Relay

CERTIFICATE_LOG_PORT = 15062
FULCIO_PORT, TIMESTAMP_PORT, REKOR_PORT = 15070, 15073, 15074
PORTS = {"fulcio": FULCIO_PORT, "timestamp": TIMESTAMP_PORT, "rekor": REKOR_PORT}
PASSWORD = "loopback"
POISON = "1.3.6.1.4.1.11129.2.4.3"
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41


def commands(directory: Path, binary: Path) -> dict[str, list[str]]:
    """The services' command lines."""
    log = str(CERTIFICATE_LOG_PORT)
    return {
        "fulcio": [
            str(binary), "fulcio", "serve", "--host", "127.0.0.1", "--grpc-host", "127.0.0.1",
            "--port", str(FULCIO_PORT), "--grpc-port", "15071", "--metrics-port", "15072",
            "--ca", "fileca", "--fileca-cert", str(directory / "fulcio.pem"),
            "--fileca-key", str(directory / "fulcio.key"), "--fileca-key-passwd", PASSWORD, "--fileca-watch=false",
            "--ct-log-url", f"http://127.0.0.1:{log}/test",
            "--config-path", str(directory / "fulcio.json"), "--legacy-unix-domain-socket", f"@{directory.name}",
        ],
        "timestamp": [
            str(binary), "timestamp", "serve", "--host", "127.0.0.1", "--port", str(TIMESTAMP_PORT),
            "--timestamp-signer", "file", "--file-signer-key-path", str(directory / "tsa.key"),
            "--file-signer-passwd", PASSWORD, "--certificate-chain-path", str(directory / "tsa.pem"),
            "--disable-ntp-monitoring",
        ],
        "rekor": [
            str(binary), "rekor", "serve", "--http-address", "127.0.0.1", "--http-port", str(REKOR_PORT),
            "--grpc-address", "127.0.0.1", "--grpc-port", "15075", "--http-metrics-port", "15076",
            "--hostname", "127.0.0.1", "--storage-dir", str(directory / "rekor"),
            "--signer-filepath", str(directory / "rekor.key"), "--checkpoint-interval", "1s", "--persistent-antispam",
        ],
    }  # fmt: skip


def loopback_up() -> None:
    """A new namespace's loopback interface is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING))


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve_issuer(url: str, key: ec.EllipticCurvePublicKey) -> None:
    """An identity provider: its discovery document and its keys."""

    class Issuer(_Handler):
        def do_GET(self) -> None:
            self.answer(oidc.jwks(key) if self.path == "/keys" else oidc.discovery(url))

    _serve(int(url.rpartition(":")[2]), Issuer)


def serve_certificate_log(key: ec.EllipticCurvePrivateKey) -> None:
    """A certificate log that keeps nothing, and signs true promises."""

    class Log(_Handler):
        def do_POST(self) -> None:
            chain = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["chain"]
            self.answer(promise(key, *(base64.b64decode(item) for item in chain[:2])))

    _serve(CERTIFICATE_LOG_PORT, Log)


def promise(key: ec.EllipticCurvePrivateKey, precertificate: bytes, issuer: bytes) -> dict[str, Any]:
    """The answer to `add-pre-chain`."""
    # The library leaves the promises out of the signed part; here it is the poison that must go.
    tbs = without_extension(x509.load_der_x509_certificate(precertificate).tbs_certificate_bytes, POISON)
    authority = x509.load_der_x509_certificate(issuer).public_key()
    issuer_id = hashlib.sha256(authority.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    milliseconds = int(time.time() * 1000)
    entry = issuer_id + len(tbs).to_bytes(3, "big") + tbs
    signature = key.sign(struct.pack("!BBQH", 0, 0, milliseconds, 1) + entry + b"\0\0", ec.ECDSA(hashes.SHA256()))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "sct_version": 0,
        "id": base64.b64encode(hashlib.sha256(public).digest()).decode(),
        "timestamp": milliseconds,
        "extensions": "",
        "signature": base64.b64encode(b"\x04\x03" + len(signature).to_bytes(2, "big") + signature).decode(),
    }


def without_extension(tbs: bytes, oid: str) -> bytes:
    """A TBSCertificate without one of its extensions."""
    fields = list(_elements(_content(tbs)))
    extensions = list(_elements(_content(_content(fields[-1]))))
    wanted = x509.ObjectIdentifier(oid).dotted_string
    kept = [item for item in extensions if _oid(next(_elements(_content(item)))) != wanted]
    assert len(kept) == len(extensions) - 1
    return _wrap(0x30, b"".join([*fields[:-1], _wrap(fields[-1][0], _wrap(0x30, b"".join(kept)))]))


def _elements(data: bytes) -> Any:
    while data:
        header, length = _header(data)
        yield data[: header + length]
        data = data[header + length :]


def _content(element: bytes) -> bytes:
    return element[_header(element)[0] :]


def _header(data: bytes) -> tuple[int, int]:
    if data[1] < 0x80:
        return 2, data[1]
    count = data[1] & 0x7F
    return 2 + count, int.from_bytes(data[2 : 2 + count], "big")


def _wrap(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _oid(element: bytes) -> str:
    content = _content(element)
    numbers, value = [content[0] // 40, content[0] % 40], 0
    for byte in content[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))


def _serve(port: int, handler: type[_Handler]) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def main() -> None:
    """Runs until it is killed, or until one of the services ends."""
    directory, binary = Path(sys.argv[1]), Path(sys.argv[2])
    loopback_up()
    issuer_key = _key(directory / "oidc.key").public_key()
    for url in oidc.KINDS:
        serve_issuer(url, issuer_key)
    serve_certificate_log(_key(directory / "ct.key"))
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]  # none of them outlives this process
    children = {name: subprocess.Popen([*leash, *command]) for name, command in commands(directory, binary).items()}
    for name, port in PORTS.items():
        Relay.from_path(directory / f"{name}.sock", ("127.0.0.1", port)).start()
    while all(child.poll() is None for child in children.values()):
        time.sleep(0.2)
    ended = ", ".join(f"{name}: {child.returncode}" for name, child in children.items() if child.returncode is not None)
    for child in children.values():
        child.kill()
    sys.exit(f"a service ended ({ended})")


if __name__ == "__main__":
    main()
