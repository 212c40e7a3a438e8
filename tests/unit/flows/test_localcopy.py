from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ocisync.flows.localcopy import LocalCopies, Saved
from ocisync.model.evidence import EvidenceSet, RawSignature, SignatureFormat

EVIDENCE = EvidenceSet((RawSignature(SignatureFormat.BUNDLE, "sha256:s", b"{bundle}"),), problems=("one was odd",))
SAVED = Saved(
    "registry.example/shop", "shop|tag=production", "application/x", b"manifest", b"config", b"layer", EVIDENCE, "1.2.3"
)


def load(copies: LocalCopies, sync: str = "apps/shop") -> Saved | None:
    return copies.load(sync, SAVED.repository, SAVED.selector)


def blobs(directory: Path) -> list[Path]:
    return sorted((directory / "blobs").iterdir())


def test_what_was_saved_is_loaded_by_another_process(tmp_path: Path) -> None:
    assert LocalCopies(tmp_path).save("apps/shop", SAVED)
    assert load(LocalCopies(tmp_path)) == SAVED


def test_a_copy_of_another_source_is_not_used(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path)
    copies.save("apps/shop", SAVED)
    assert copies.load("apps/shop", "registry.example/other", SAVED.selector) is None
    assert copies.load("apps/shop", SAVED.repository, "other") is None
    assert load(copies, "apps/other") is None


def test_every_damaged_file_is_noticed(tmp_path: Path) -> None:
    for number in range(4):
        directory = tmp_path / str(number)
        LocalCopies(directory).save("apps/shop", SAVED)
        victim = blobs(directory)[number]
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
        assert load(LocalCopies(directory)) is None
        LocalCopies(directory).save("apps/shop", SAVED)
        assert load(LocalCopies(directory)) == SAVED


def test_a_pointer_of_nonsense_is_no_copy(tmp_path: Path) -> None:
    LocalCopies(tmp_path).save("apps/shop", SAVED)
    pointer = next((tmp_path / "syncs").iterdir())
    for text in ("", "[]", "{}", '{"repository": 1}', '{"manifest": "../../etc/passwd"}', "\x00"):
        pointer.write_text(text)
        assert load(LocalCopies(tmp_path)) is None


def test_a_pointer_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    LocalCopies(tmp_path / "cache").save("apps/shop", SAVED)
    (tmp_path / "outside").write_bytes(b"manifest")
    pointer = next((tmp_path / "cache" / "syncs").iterdir())
    pointer.write_text(pointer.read_text().replace('"sha256:', '"sha256:../../outside'))
    assert load(LocalCopies(tmp_path / "cache")) is None


def test_old_content_is_swept_and_shared_content_is_kept(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path)
    copies.save("apps/shop", SAVED)
    copies.save("apps/other", replace(SAVED, manifest=b"other manifest"))
    assert len(blobs(tmp_path)) == 5
    copies.save("apps/shop", replace(SAVED, manifest=b"newer manifest"))
    assert len(blobs(tmp_path)) == 5
    copies.drop("apps/shop")
    copies.drop("apps/other")
    assert blobs(tmp_path) == []


def test_a_disk_that_takes_nothing_costs_only_the_copy_on_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    copies = LocalCopies(tmp_path / "file")
    assert not copies.save("apps/shop", SAVED)
    assert load(copies) == SAVED  # for as long as the process lives
    assert load(LocalCopies(tmp_path / "file")) is None


def test_without_a_directory_the_copy_lives_with_the_process() -> None:
    copies = LocalCopies(None)
    copies.save("apps/shop", SAVED)
    assert load(copies) == SAVED
    copies.drop("apps/shop")
    assert load(copies) is None


def test_a_pointer_that_nests_without_end_is_damage_like_any_other(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path)
    copies.save("apps/shop", SAVED)
    (pointer,) = (tmp_path / "syncs").iterdir()
    pointer.write_bytes(b"[" * 200_000)
    assert load(copies) is None
    assert copies.save("apps/other", SAVED)
