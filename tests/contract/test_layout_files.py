"""Image layouts on disk: whole or not at all, beside other processes, and suspicious of what strangers put there."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ocisync.model.descriptor import EMPTY_JSON, OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.errors import InvalidInput, NotFound, OcisyncError, Refused, Unavailable
from ocisync.model.limits import MIB
from ocisync.model.ref import LayoutReference
from ocisync.oci.layout import LayoutStore, open_layout
from ocisync.oci.layoutindex import REF_NAME
from tests.support.images import EMPTY, described, image, index, push_bundle, push_image
from tests.support.waiting import eventually

FORMS = ["layout", "layout.tar"]


@pytest.fixture(params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place: Path = tmp_path / request.param
    return place


def opened(path: Path) -> LayoutStore:
    return open_layout(LayoutReference(str(path)), sleep=lambda _seconds: None)


def filled(path: Path, tag: str = "v1", content: bytes = b"layer one") -> Descriptor:
    with opened(path) as store:
        return push_image(store, tag, content)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def blob_file(path: Path, digest: str) -> Path:
    return path / "blobs" / "sha256" / digest.removeprefix("sha256:")


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            item.name: file.read() for item in archive.getmembers() if (file := archive.extractfile(item)) is not None
        }


def tar_of(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(path, "w", format=form) as archive:
        for info, data in entries:
            info.size = len(data) if info.isreg() else info.size
            archive.addfile(info, io.BytesIO(data))


def layout_entries(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(tarfile.TarInfo(name), data) for name, data in members(path).items()]


# -- both forms -----------------------------------------------------------------------------------


def test_reading_a_layout_that_is_not_there_creates_nothing(path: Path) -> None:
    with opened(path) as store:
        assert store.resolve("v1") is None
        with pytest.raises(NotFound, match="no such layout"):
            list(store.tags())
        with pytest.raises(NotFound):
            store.manifest("v1")
    assert not path.exists()


def test_what_was_written_is_there_for_the_next(path: Path) -> None:
    subject = filled(path)
    with opened(path) as store:
        assert store.resolve("v1") == subject
        store.attach(push_bundle(store, subject, b"{}"), subject)
    with opened(path) as store:
        assert len(store.referrers(subject.digest).descriptors) == 1
        assert list(store.tags()) == ["v1"]


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        filled(tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_manifest_that_no_index_leads_to_does_not_exist(path: Path) -> None:
    filled(path)
    stray = image(EMPTY, artifactType="application/x.stray")
    with opened(path) as store:
        store.put_blob(described(stray), stray)
        assert store.resolve(described(stray).digest) is None
        with pytest.raises(NotFound):
            store.manifest(described(stray).digest)


def test_referrers_behind_a_fallback_index_are_found(path: Path) -> None:
    subject = filled(path)
    with opened(path) as store:
        referrer = push_bundle(store, subject, b'{"n":1}')
        store.put_blob(described(referrer), referrer)
        listing = index(described(referrer, OCI_MANIFEST).as_dict())
        store.put_manifest(listing, OCI_INDEX, subject.digest.replace(":", "-"))
        assert [item.digest for item in store.referrers(subject.digest).descriptors] == [described(referrer).digest]


def test_a_referrer_whose_blob_is_left_out_costs_only_itself(path: Path) -> None:
    subject = filled(path)
    missing = described(b"gone", OCI_MANIFEST)
    with opened(path) as store:
        store.attach(push_bundle(store, subject, b"{}"), subject)
        store.put_blob(described(b"junk"), b"junk")
        child = index(missing.as_dict(), described(b"junk", OCI_MANIFEST).as_dict())
        store.put_blob(described(b"gone"), b"gone")
        store.put_manifest(child, OCI_INDEX, "others")
        found = store.referrers(subject.digest)
    assert len(found.descriptors) == 1
    assert len(found.problems) == 2


def test_two_tags_that_no_registry_would_have_are_no_tags_here(path: Path) -> None:
    subject = filled(path)
    with opened(path) as store:
        raw = store.manifest("v1").raw
    names = ["registry.example/shop:1.0.0", "ok", "../up", ""]
    entries = [{**subject.as_dict(), "annotations": {REF_NAME: name}} for name in names]
    document = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    if path.is_dir():
        (path / "index.json").write_bytes(document)
    else:
        tar_of(path, [(info, document if info.name == "index.json" else data) for info, data in layout_entries(path)])
    with opened(path) as store:
        assert list(store.tags()) == ["ok"]
        assert store.manifest("ok").raw == raw


@pytest.mark.parametrize("version", [b'{"imageLayoutVersion":"2.0.0"}', b"{}", b"no json"])
def test_a_layout_of_another_version_is_refused(version: bytes, path: Path) -> None:
    filled(path)
    if path.is_dir():
        (path / "oci-layout").write_bytes(version)
    else:
        tar_of(path, [(info, version if info.name == "oci-layout" else data) for info, data in layout_entries(path)])
    with opened(path) as store, pytest.raises(Refused):
        store.resolve("v1")


def test_a_blob_is_read_in_pieces_into_another_layout(path: Path, tmp_path: Path) -> None:
    content = os.urandom(700_001)
    blob = described(content)
    with opened(path) as store, opened(tmp_path / "other") as other:
        store.put_blob(blob, content)
        with store.open_blob(blob) as stream:
            assert other.put_blob(blob, stream) is True
        assert other.blob(blob, max_bytes=MIB) == content
        with pytest.raises(NotFound):
            store.open_blob(described(b"nowhere"))
        with pytest.raises(Refused):
            store.open_blob(Descriptor(blob.media_type, blob.digest, blob.size + 1))


def test_a_damaged_blob_is_never_read_to_its_end(tmp_path: Path) -> None:
    content = os.urandom(700_001)
    with opened(tmp_path / "x") as store:
        store.put_blob(described(content), content)
        blob_file(tmp_path / "x", described(content).digest).write_bytes(content[:-1] + b"!")
        with store.open_blob(described(content)) as stream:
            assert stream.read(100_000) == content[:100_000]
            with pytest.raises(Refused, match="other content"):
                stream.read()


def test_an_upload_of_wrong_data_leaves_nothing(path: Path) -> None:
    filled(path)
    with opened(path) as store:
        for data in (b"two", b"on", b"one more"):
            with pytest.raises(Refused):
                store.put_blob(described(b"one"), io.BytesIO(data))
        assert not store.has_blob(described(b"one").digest)
    if path.is_dir():
        assert not [name for name in names(path) if name.startswith(".new-")]


# -- the directory --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    filled(tmp_path / "layout")
    return tmp_path / "layout"


def test_a_damaged_blob_is_noticed_and_repaired_by_the_next_upload(folder: Path) -> None:
    blob_file(folder, described(b"layer one").digest).write_bytes(b"layer 0ne")
    with opened(folder) as store:
        with pytest.raises(Refused, match="other content"):
            store.blob(described(b"layer one"), max_bytes=MIB)
        assert store.put_blob(described(b"layer one"), b"layer one") is True
        assert store.blob(described(b"layer one"), max_bytes=MIB) == b"layer one"
        assert store.put_blob(described(b"layer one"), b"layer one") is False


def test_a_manifest_with_other_bytes_than_its_digest_is_refused(folder: Path) -> None:
    with opened(folder) as store:
        found = store.manifest("v1")
        blob_file(folder, found.descriptor.digest).write_bytes(found.raw.replace(b"layer", b"lager")[: len(found.raw)])
        with pytest.raises(Refused):
            store.manifest("v1")


@pytest.mark.parametrize("what", ["oci-layout", "index.json", "blobs", "blobs/sha256", "blob"])
def test_a_link_in_the_place_of_any_part_is_refused(what: str, folder: Path, tmp_path: Path) -> None:
    layer = described(b"layer one")
    part = blob_file(folder, layer.digest) if what == "blob" else folder / what
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")
    with opened(folder) as store, pytest.raises(Refused, match="no plain file, or lies behind a link"):
        store.blob(layer, max_bytes=MIB)
        store.resolve("v1")


def test_a_pipe_in_the_place_of_a_blob_does_not_hang(folder: Path) -> None:
    layer = described(b"layer one")
    blob_file(folder, layer.digest).unlink()
    os.mkfifo(blob_file(folder, layer.digest))
    with opened(folder) as store, pytest.raises(Refused, match="no plain file"):
        store.blob(layer, max_bytes=MIB)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with opened(tmp_path) as store, pytest.raises(InvalidInput, match="not an OCI image layout"):
        push_image(store, "v1")
    assert names(tmp_path) == ["notes.txt"]


def test_an_empty_directory_becomes_a_layout(tmp_path: Path) -> None:
    filled(tmp_path)
    assert names(tmp_path) == ["blobs", "index.json", "oci-layout"]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(folder: Path) -> None:
    (folder / ".new-dead").write_bytes(b"half")
    living = subprocess.Popen(
        [sys.executable, "-c",
         "import fcntl,sys,time; f=open(sys.argv[1],'wb'); fcntl.flock(f,fcntl.LOCK_EX); print('ready',flush=True);"
         " time.sleep(600)", str(folder / ".new-alive")],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert living.stdout is not None
        assert living.stdout.readline() == b"ready\n"
        filled(folder, "v2", b"two")
        assert [name for name in names(folder) if name.startswith(".new-")] == [".new-alive"]
    finally:
        living.kill()
        living.wait()
        assert living.stdout is not None
        living.stdout.close()


# A lock is no queue: who gave it back takes it again before others look, maybe until all is done. So they are patient.
WRITER = """
import sys, time
from ocisync.model.ref import LayoutReference
from ocisync.oci.layout import open_layout
from tests.support.images import push_image
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    with open_layout(LayoutReference(sys.argv[1]), sleep=lambda seconds: time.sleep(4 * seconds)) as store:
        push_image(store, f"{sys.argv[2]}-{number}", sys.argv[2].encode() * (number + 1) * 1000)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )


def state(path: Path) -> list[str] | int:
    return path.stat().st_mtime_ns if path.is_file() else names(path / "blobs" / "sha256")


def test_several_processes_write_at_once_and_no_tag_is_lost(path: Path) -> None:
    running = [writer(path, name, 10) for name in ("a", "b", "c")]
    for process in running:
        process.communicate(timeout=240)
        assert process.returncode == 0
    with opened(path) as store:
        assert sorted(store.tags()) == sorted(f"{name}-{number}" for name in "abc" for number in range(10))
        for tag in store.tags():
            store.manifest(tag)


def test_of_two_writers_that_begin_at_once_the_slower_goes_on_with_the_layout_of_the_faster(tmp_path: Path) -> None:
    path = tmp_path / "out"
    overtaken: list[str] = []

    def overtake(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.link" and arguments[1] == "oci-layout" and not overtaken:
            overtaken.append(str(arguments[0]))
            filled(path, "faster")

    sys.addaudithook(overtake)  # it stays, and does nothing more
    filled(path, "slower")
    assert overtaken
    with opened(path) as store:
        assert sorted(store.tags()) == ["faster", "slower"]


def test_a_writer_killed_at_any_moment_leaves_a_sound_layout(path: Path) -> None:
    filled(path, "first")
    for _ in range(4):
        process = writer(path, "k", 100_000)
        assert process.stdout is not None
        process.stdout.readline()
        before = state(path)
        eventually(lambda before=before: state(path) != before, what="the writer has written", timeout_s=120)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with opened(path) as store:
            for tag in store.tags():
                manifest = store.manifest(tag)
                for layer in json.loads(manifest.raw)["layers"]:
                    assert store.has_blob(layer["digest"])
            push_image(store, "again")
    assert not [name for name in names(path.parent if path.is_file() else path) if ".new-" in name]


def test_a_writer_that_hangs_is_waited_for_not_for_ever(path: Path) -> None:
    filled(path)
    held = path / "oci-layout" if path.is_dir() else path.parent
    holder = subprocess.Popen(
        [sys.executable, "-c",
         "import fcntl,os,sys,time; f=os.open(sys.argv[1],os.O_RDONLY); fcntl.flock(f,fcntl.LOCK_EX);"
         " print('ready',flush=True); time.sleep(600)", str(held)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with opened(path) as store, pytest.raises(Unavailable, match="another process is writing"):
            push_image(store, "v2", b"two")
        with opened(path) as store:
            assert store.resolve("v1") is not None  # reading needs no lock
    finally:
        holder.kill()
        holder.communicate()


# -- the tar file ---------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    filled(tmp_path / "layout.tar")
    return tmp_path / "layout.tar"


def test_a_command_that_fails_leaves_the_tar_file_as_it_was(archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(OcisyncError, match="in the middle"), opened(archive) as store:
        push_image(store, "v2", b"two")
        raise OcisyncError("in the middle")
    assert archive.read_bytes() == before
    assert names(archive.parent) == ["layout.tar"]


def test_nothing_is_seen_of_a_transaction_before_it_ends(archive: Path) -> None:
    with opened(archive) as store:
        push_image(store, "v2", b"two")
        assert store.resolve("v2") is not None
        with opened(archive) as other:
            assert other.resolve("v2") is None
    with opened(archive) as other:
        assert other.resolve("v2") is not None


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_layouts_that_other_tars_packed_are_read(form: int, archive: Path) -> None:
    entries = [(tarfile.TarInfo("./" + info.name), data) for info, data in layout_entries(archive)]
    for info, _ in entries:
        info.mtime = 1.25
    tar_of(archive, entries[::-1], form)
    with opened(archive) as store:
        assert store.blob(described(b"layer one"), max_bytes=MIB) == b"layer one"
        assert list(store.tags()) == ["v1"]


def test_files_of_others_in_the_tar_are_ignored(archive: Path) -> None:
    tar_of(archive, [(tarfile.TarInfo("manifest.json"), b"[]"), *layout_entries(archive)])
    with opened(archive) as store:
        push_image(store, "v2", b"two")
    assert "manifest.json" not in members(archive)


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, archive: Path) -> None:
    tar_of(archive, [*layout_entries(archive), (link(kind), b"")])
    with opened(archive) as store, pytest.raises(Refused, match="no plain file"):
        store.resolve("v1")


def test_a_member_that_appears_twice_is_refused(archive: Path) -> None:
    tar_of(archive, [*layout_entries(archive), (tarfile.TarInfo("./index.json"), b"{}")])
    with opened(archive) as store, pytest.raises(Refused, match="twice"):
        store.resolve("v1")


def test_a_cut_off_tar_is_refused(archive: Path) -> None:
    whole = archive.read_bytes()
    for length in (700, 1024, 3000):
        archive.write_bytes(whole[:length])
        with opened(archive) as store, pytest.raises(OcisyncError):
            store.manifest("v1")


@pytest.mark.parametrize("data", [b"\x1f\x8b" + b"x" * 1000, b"x" * 1000, b"x", b""])
def test_a_file_that_is_no_tar_is_refused_and_left_alone(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(OcisyncError), opened(tmp_path / "x.tar") as store:
        push_image(store, "v1")
    assert (tmp_path / "x.tar").read_bytes() == data


def test_a_tar_without_a_layout_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    tar_of(tmp_path / "x.tar", [(tarfile.TarInfo("notes.txt"), b"mine")])
    before = (tmp_path / "x.tar").read_bytes()
    with pytest.raises(InvalidInput, match="without the member oci-layout"), opened(tmp_path / "x.tar") as store:
        push_image(store, "v1")
    assert (tmp_path / "x.tar").read_bytes() == before


def test_extended_headers_that_lie_are_refused(archive: Path) -> None:
    for records in (
        {"path": "index.json"},
        {"size": "99999999"},
        {"size": "-1"},
        {"GNU.sparse.major": "1"},
        {"comment": "x" * 70_000},
    ):
        info = tarfile.TarInfo("harmless")
        info.pax_headers = records
        tar_of(archive.with_name("lie.tar"), [*layout_entries(archive), (info, b"")], tarfile.PAX_FORMAT)
        with opened(archive.with_name("lie.tar")) as store, pytest.raises(Refused):
            store.resolve("v1")


def test_the_empty_config_is_needed_like_every_part(path: Path) -> None:
    with opened(path) as store:
        store.put_blob(described(b"layer one"), b"layer one")
        with pytest.raises(Refused, match="MANIFEST_BLOB_UNKNOWN"):
            store.put_manifest(image(described(b"layer one")), OCI_MANIFEST, "v1")
        store.put_blob(EMPTY, EMPTY_JSON)
        store.put_manifest(image(described(b"layer one")), OCI_MANIFEST, "v1")
