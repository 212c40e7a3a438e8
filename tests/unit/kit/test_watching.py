"""Changes of real files, in real directories."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocisync.kit.watching import Watcher, snapshot

PATIENCE_S = 120.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "deploy"
    (made / "sub").mkdir(parents=True)
    (made / "a.yaml").write_text("a")
    return made


@pytest.fixture
def watcher(directory: Path) -> Iterator[Watcher]:
    with Watcher(directory, look_s=0.5) as started:
        yield started


def test_a_save_wakes(directory: Path, watcher: Watcher) -> None:
    (directory / "sub" / "b.yaml").write_text("b")
    assert watcher.wait(PATIENCE_S)


def test_a_burst_of_saves_wakes_once_or_twice(directory: Path, watcher: Watcher) -> None:
    for number in range(50):
        (directory / f"{number}.yaml").write_text("x")
    wakeups = 0
    while watcher.wait(PATIENCE_S if not wakeups else 2.0):
        wakeups += 1
    assert wakeups in {1, 2}


def test_a_file_replaced_by_a_rename_of_the_same_size_counts(directory: Path, watcher: Watcher) -> None:
    other = directory.parent / "new"
    other.write_text("b")
    other.rename(directory / "a.yaml")
    assert watcher.wait(PATIENCE_S)


def test_files_of_tools_do_not_wake(directory: Path, watcher: Watcher) -> None:
    for name in (".git/index", "node_modules/x", ".a.yaml.swp", "a.yaml~", ".#a.yaml", "4913"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("x")
    assert not watcher.wait(1.2)


def test_a_directory_that_is_deleted_and_made_again_is_watched_again(directory: Path, watcher: Watcher) -> None:
    shutil.rmtree(directory)
    assert watcher.wait(PATIENCE_S)
    while watcher.wait(1.0):
        pass
    directory.mkdir()
    (directory / "a.yaml").write_text("a")
    assert watcher.wait(PATIENCE_S)
    while watcher.wait(1.0):
        pass
    (directory / "a.yaml").write_text("again")
    assert watcher.wait(PATIENCE_S)


def test_a_directory_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    with Watcher(tmp_path / "later", look_s=0.5) as started:
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "a.yaml").write_text("a")
        assert started.wait(PATIENCE_S)


def test_a_loop_of_links_is_no_problem(directory: Path) -> None:
    (directory / "loop").symlink_to(directory)
    (directory / "sub" / "up").symlink_to("..")
    with Watcher(directory, look_s=0.5) as started:
        assert len(snapshot(directory)) == 4
        (directory / "sub" / "b.yaml").write_text("b")
        assert started.wait(PATIENCE_S)


def test_what_happened_before_does_not_count(directory: Path) -> None:
    (directory / "b.yaml").write_text("b")
    with Watcher(directory, look_s=0.5) as started:
        assert not started.wait(1.2)


def test_a_change_during_work_is_kept(directory: Path, watcher: Watcher) -> None:
    (directory / "a.yaml").write_text("one")
    assert watcher.wait(PATIENCE_S)
    (directory / "a.yaml").write_text("two!")
    assert watcher.wait(PATIENCE_S)
