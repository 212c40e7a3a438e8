from __future__ import annotations

import io
import tarfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput
from ocisync.model.tree import TreeFile
from ocisync.pack.paths import path_problem
from ocisync.pack.tar import gzip, write_tar
from ocisync.pack.untar import content_digest, read_layer

FILES = (
    TreeFile("b/deploy.yaml", b"kind: Deployment\n"),
    TreeFile("a.yaml", b"kind: Namespace\n"),
    TreeFile("b/" + "long-" * 30 + ".yaml", b""),
    TreeFile("b/grün.yaml", b"x" * 512),
)


def test_the_bytes_are_these_forever() -> None:
    # A change of this digest changes the digest of every artifact anyone ever pushed again.
    assert sha256_digest(write_tar(FILES)) == "sha256:e0a242edd36fbb53ba1086e3b15bfc825142d134199cc6d64050a6bf1683fe70"


def test_order_of_input_does_not_matter() -> None:
    assert write_tar(FILES) == write_tar(FILES[::-1])


def test_other_tools_read_the_layer() -> None:
    with tarfile.open(fileobj=io.BytesIO(gzip(write_tar(FILES))), mode="r:gz") as tar:
        members = tar.getmembers()
        contents = {m.name: tar.extractfile(m).read() for m in members if m.isfile()}  # type: ignore[union-attr]
    assert contents == {file.path: file.data for file in FILES}
    assert [m.name for m in members][:2] == ["a.yaml", "b"]
    assert {(m.uid, m.gid, m.mtime, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert {(m.isdir(), m.mode) for m in members} == {(True, 0o755), (False, 0o644)}


def test_the_compressed_header_names_no_time_and_no_system() -> None:
    assert gzip(b"data")[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    assert zlib.decompress(gzip(b"data"), wbits=31) == b"data"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../x", "leaves"),
        ("/x", "absolute"),
        ("a//b", "empty part"),
        ("./a", "'.' part"),
        ("a\\b", "backslash"),
        ("a\nb", "control"),
        (".wh.a", "deletion mark"),
        ("x" * 1025, "longer"),
        ("/".join(["d"] * 33), "deeper"),
        ("\udcff", "not UTF-8"),
        ("", "is empty"),
    ],
)
def test_a_path_that_no_agent_would_take_is_refused(path: str, why: str) -> None:
    assert why in path_problem(path)
    with pytest.raises(InvalidInput, match="no artifact can hold it"):
        write_tar([TreeFile(path, b"")])


def test_a_path_twice_or_as_file_and_directory_is_refused() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        write_tar([TreeFile("a", b""), TreeFile("a", b"")])
    with pytest.raises(InvalidInput, match="a file and a directory"):
        write_tar([TreeFile("a", b""), TreeFile("a/b", b"")])


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=40)
trees = st.dictionaries(st.lists(names, min_size=1, max_size=4).map("/".join), st.binary(max_size=2000), max_size=8)


@settings(deadline=None)
@given(trees)
def test_what_is_packed_unpacks_equal(tree: dict[str, bytes]) -> None:
    files = tuple(TreeFile(path, data) for path, data in tree.items())
    try:
        tar = write_tar(files)
    except InvalidInput:
        paths = set(tree)
        inside = any(path.startswith(other + "/") for path in paths for other in paths)
        assert inside or any(path_problem(path) for path in paths)
        return
    layer = gzip(tar)
    unpacked, diff_id = read_layer(layer)
    assert {file.path: file.data for file in unpacked} == tree
    assert diff_id == sha256_digest(tar) == content_digest(layer)
    with tarfile.open(fileobj=io.BytesIO(tar)) as other:
        assert {m.name for m in other.getmembers() if m.isfile()} == set(tree)


def test_large_files_cross_every_buffer() -> None:
    files = tuple(TreeFile(f"f{size}", bytes(range(256)) * (size // 256)) for size in (0, 256, 512, 1 << 18, 3 << 20))
    unpacked, _ = read_layer(gzip(write_tar(files)))
    assert unpacked == tuple(sorted(files, key=lambda file: file.path))
