"""One attack for each test: a layer that a stranger wrote must be refused before any of it is used."""

from __future__ import annotations

import gzip as stdlib_gzip
import io
import tarfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.model.errors import Refused
from ocisync.model.tree import TreeFile
from ocisync.pack.paths import path_problem
from ocisync.pack.tar import gzip, write_tar
from ocisync.pack.untar import Caps, content_digest, read_layer

END = bytes(1024)


def entry(
    name: bytes,
    data: bytes = b"x",
    *,
    kind: bytes = b"0",
    link: bytes = b"",
    size: bytes | None = None,
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
) -> bytes:
    """A tar entry with a good checksum, whatever else is wrong with it."""
    length = size if size is not None else b"%011o\0" % len(data)
    head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + length + b"%011o\0" % 0
    tail = kind + link.ljust(100, b"\0") + magic + bytes(64) + b"0000000\0" * 2 + prefix.ljust(155, b"\0") + bytes(12)
    header = head + b"%06o\0 " % (sum(head) + 256 + sum(tail)) + tail
    assert len(header) == 512
    return header + data + bytes(-len(data) % 512)


def pax(*records: tuple[str, str]) -> bytes:
    out = b""
    for key, value in records:
        body = f" {key}={value}\n".encode()
        size = len(body)
        while len(str(size)) + len(body) != size:
            size = len(str(size)) + len(body)
        out += str(size).encode() + body
    return out


def refused(tar: bytes, words: str, caps: Caps | None = None) -> None:
    refused_layer(gzip(tar), words, caps)


def refused_layer(layer: bytes, words: str, caps: Caps | None = None) -> None:
    with pytest.raises(Refused, match=words) as caught:
        read_layer(layer, caps or Caps())
    assert caught.value.reason == "BadArtifact"


def test_the_hand_made_entry_itself_is_fine() -> None:
    files, _ = read_layer(gzip(entry(b"dir/", b"", kind=b"5") + entry(b"dir/a.yaml") + END))
    assert files == (TreeFile("dir/a.yaml", b"x"),)


def test_other_writers_are_read() -> None:
    for tar_format in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
            for name in ("./a.yaml", "b/c.yaml"):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = 1, 1_700_000_000
                tar.addfile(info, io.BytesIO(b"x"))
        files, _ = read_layer(stdlib_gzip.compress(out.getvalue()))
        assert [file.path for file in files] == ["a.yaml", "b/c.yaml"]


def test_the_comment_that_git_archive_writes_is_read() -> None:
    files, _ = read_layer(gzip(entry(b"h", pax(("comment", "abc")), kind=b"g") + entry(b"a") + END))
    assert [file.path for file in files] == ["a"]


def test_traversal_is_refused() -> None:
    refused(entry(b"../etc/passwd") + END, "leaves its directory")


def test_traversal_in_the_middle_is_refused() -> None:
    refused(entry(b"a/../../b") + END, "leaves its directory")


def test_traversal_by_prefix_field_is_refused() -> None:
    refused(entry(b"b", prefix=b"a/..") + END, "leaves its directory")


def test_traversal_by_pax_path_is_refused() -> None:
    record = pax(("path", "../" * 40 + "x"))
    refused(entry(b"h", record, kind=b"x") + entry(b"a") + END, "leaves|deeper")


def test_traversal_behind_a_leading_dot_is_refused() -> None:
    refused(entry(b"./../x") + END, "leaves its directory")


def test_an_absolute_path_is_refused() -> None:
    refused(entry(b"/etc/passwd") + END, "is absolute")


def test_an_absolute_path_behind_a_leading_dot_is_refused() -> None:
    refused(entry(b".//etc/passwd") + END, "is absolute")


def test_a_windows_path_is_refused() -> None:
    refused(entry(b"..\\x") + END, "backslash")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (b"1", "hard link"),
        (b"2", "symbolic link"),
        (b"3", "character device"),
        (b"4", "block device"),
        (b"6", "FIFO"),
        (b"7", "contiguous"),
        (b"S", "sparse"),
        (b"L", "GNU long name"),
        (b"K", "GNU long link"),
        (b"Z", "unknown entry type"),
    ],
)
def test_anything_but_files_and_directories_is_refused(kind: bytes, words: str) -> None:
    refused(entry(b"a", b"", kind=kind, link=b"/etc/passwd") + END, words)


def test_a_sparse_file_in_pax_form_is_refused() -> None:
    refused(entry(b"h", pax(("GNU.sparse.major", "1")), kind=b"x") + entry(b"a") + END, "not accepted")


def test_a_path_twice_is_refused() -> None:
    refused(entry(b"a") + entry(b"a", b"y") + END, "there twice")


def test_a_path_twice_in_two_spellings_is_refused() -> None:
    refused(entry(b"a") + entry(b"./a", b"y") + END, "there twice")


def test_a_directory_twice_is_one_directory() -> None:
    layer = gzip(entry(b"d/", b"", kind=b"5") * 2 + entry(b"d/a") + END)
    assert [file.path for file in read_layer(layer)[0]] == ["d/a"]


def test_a_file_that_is_also_a_directory_is_refused() -> None:
    refused(entry(b"a") + entry(b"a/b") + END, "a file and a directory")
    refused(entry(b"a") + entry(b"a/", b"", kind=b"5") + END, "a file and a directory")


def test_a_file_named_like_a_directory_is_refused() -> None:
    refused(entry(b"a/") + END, "named like a directory")


def test_a_directory_with_content_is_refused() -> None:
    refused(entry(b"a/", b"hidden", kind=b"5") + END, "has content")


def test_a_deletion_mark_is_refused() -> None:
    refused(entry(b"d/.wh.a") + END, "deletion mark")
    refused(entry(b".wh..wh..opq") + END, "deletion mark")


def test_a_name_that_is_not_utf8_is_refused() -> None:
    refused(entry(b"\xff\xfe") + END, "not UTF-8")


def test_a_pax_name_that_is_not_utf8_is_refused() -> None:
    refused(entry(b"h", b"11 path=\xff\xfe\n"[:11], kind=b"x") + entry(b"a") + END, "not UTF-8|malformed")


def test_a_name_with_a_control_character_is_refused() -> None:
    refused(entry(b"a\x1b[2Jb") + END, "control character")


def test_bytes_hidden_behind_the_end_of_a_name_are_refused() -> None:
    refused(entry(b"a.yaml\0/../../x") + END, "after its end")


def test_a_path_that_is_too_deep_is_refused() -> None:
    refused(entry(b"/".join([b"d"] * 40)) + END, "deeper")


def test_a_path_that_is_too_long_is_refused() -> None:
    refused(entry(b"h", pax(("path", "x" * 2000)), kind=b"x") + entry(b"a") + END, "longer")


def test_too_many_entries_are_refused() -> None:
    refused(b"".join(entry(b"f%d" % i) for i in range(11)) + END, "more than 10 entries", Caps(entries=10))


def test_endless_pax_headers_count_as_entries() -> None:
    refused(entry(b"h", pax(("comment", "x")), kind=b"g") * 11 + END, "more than 10 entries", Caps(entries=10))


def test_a_file_that_is_too_large_is_refused_before_it_is_read() -> None:
    refused(entry(b"a", b"", size=b"%011o\0" % (1 << 30)), "more than the limit")


def test_a_negative_or_huge_binary_size_is_refused() -> None:
    refused(entry(b"a", size=b"\x80" + bytes(10) + b"\x01") + END, "not octal")
    refused(entry(b"a", size=b"\xff" * 12) + END, "not octal")


def test_a_pax_size_override_is_refused() -> None:
    refused(entry(b"h", pax(("size", "0")), kind=b"x") + entry(b"a") + END, "not accepted")


def test_a_pax_path_that_renames_a_plain_name_is_refused() -> None:
    refused(entry(b"h", pax(("path", "b.yaml")), kind=b"x") + entry(b"a.yaml") + END, "renames")


def test_a_global_pax_path_is_refused() -> None:
    refused(entry(b"h", pax(("path", "b.yaml")), kind=b"g") + entry(b"a.yaml") + END, "not accepted")


def test_two_pax_headers_for_one_entry_are_refused() -> None:
    header = entry(b"h", pax(("path", "é")), kind=b"x")
    refused(header * 2 + entry(b"a") + END, "two PAX headers")


def test_a_pax_record_twice_is_refused() -> None:
    refused(entry(b"h", pax(("path", "é"), ("path", "è")), kind=b"x") + entry(b"a") + END, "there twice")


def test_a_pax_header_without_an_entry_is_refused() -> None:
    refused(entry(b"h", pax(("path", "é")), kind=b"x") + END, "no entry after it")


@pytest.mark.parametrize(
    "record", [b"9 path\n", b"99 path=a\n", b"0 path=a\n", b"x path=a\n", b"7 =aa\n\n", b"garbage"]
)
def test_a_malformed_pax_header_is_refused(record: bytes) -> None:
    refused(entry(b"h", record, kind=b"x") + entry(b"a") + END, "malformed")


def test_a_huge_pax_header_is_refused() -> None:
    refused(entry(b"h", b"", kind=b"x", size=b"%011o\0" % (1 << 20)), "more than the limit")


def test_a_damaged_header_is_refused() -> None:
    tar = bytearray(entry(b"a") + END)
    tar[0] ^= 1
    refused(bytes(tar), "is damaged")


def test_a_header_without_ustar_magic_is_refused() -> None:
    refused(entry(b"a", magic=bytes(8)) + END, "no ustar header")


def test_a_tar_that_is_cut_off_is_refused() -> None:
    refused(entry(b"a", b"x" * 600)[:800], "cut off")
    refused(entry(b"a"), "cut off")
    refused(entry(b"a") + bytes(512), "cut off")


def test_a_single_zero_block_is_no_end() -> None:
    refused(entry(b"a") + bytes(512) + entry(b"b") + END, "two zero blocks")


def test_a_second_tar_after_the_end_is_refused() -> None:
    refused(entry(b"a") + END + entry(b"b") + END, "follows the end of the tar")


def test_data_hidden_in_padding_is_refused() -> None:
    tar = bytearray(entry(b"a") + END)
    tar[600] = 1
    refused(bytes(tar), "padded")


def test_a_second_gzip_member_is_refused() -> None:
    refused_layer(gzip(entry(b"a") + END) + gzip(entry(b"b") + END), "end of the gzip stream")


def test_garbage_after_the_gzip_stream_is_refused() -> None:
    refused_layer(gzip(entry(b"a") + END) + b"x", "end of the gzip stream")
    refused_layer(gzip(entry(b"a") + END) + bytes(1 << 20), "end of the gzip stream")


def test_a_gzip_stream_that_is_cut_off_is_refused() -> None:
    layer = gzip(entry(b"a") + END)
    for end in (0, 5, 20, len(layer) - 9, len(layer) - 1):
        refused_layer(layer[:end], "cut off")


def test_a_wrong_checksum_of_the_stream_is_refused() -> None:
    layer = bytearray(gzip(entry(b"a") + END))
    layer[-5] ^= 1
    refused_layer(bytes(layer), "not gzip")


@pytest.mark.parametrize("other", [zlib.compress, lambda data: data, lambda data: b"BZh9" + data])
def test_another_compression_is_refused(other: Callable[[bytes], bytes]) -> None:
    refused_layer(other(entry(b"a") + END), "not gzip")


def test_a_bomb_stops_at_the_ratio_cap() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = bytes(1 << 20)
    bomb = b"".join(deflate.compress(chunk) for _ in range(300)) + deflate.flush()
    with pytest.raises(Refused, match="times its size"):
        content_digest(bomb)
    refused_layer(bomb, "two zero blocks|follows|times its size")


def test_a_bomb_of_many_small_files_stops_at_the_ratio_cap() -> None:
    files = [TreeFile(f"f{i:05}", bytes(4000)) for i in range(10_000)]
    refused_layer(stdlib_gzip.compress(write_tar(files), 9), "times its size")


def test_a_layer_over_the_size_cap_is_refused() -> None:
    refused(write_tar([TreeFile("a", bytes(5000))]), "more than 4096 bytes", Caps(total_bytes=4096))


honest = write_tar([TreeFile("a.yaml", b"x" * 700), TreeFile("d/é.yaml", b"y")])


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(honest) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_damage_raises_anything_but_a_refusal(changes: list[tuple[int, int]]) -> None:
    tar = bytearray(honest)
    for at, byte in changes:
        tar[at] = byte
    try:
        files, _ = read_layer(gzip(bytes(tar)))
    except Refused as err:
        assert err.reason == "BadArtifact"
        return
    assert all(path_problem(file.path) == "" for file in files)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    for layer in (data, gzip(data), gzip(data + bytes(1024))):
        try:
            read_layer(layer)
        except Refused as err:
            assert err.reason == "BadArtifact"


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_no_pax_header_raises_anything_but_a_refusal(record: bytes) -> None:
    try:
        read_layer(gzip(entry(b"h", record, kind=b"x") + entry(b"a") + END))
    except Refused as err:
        assert err.reason == "BadArtifact"
