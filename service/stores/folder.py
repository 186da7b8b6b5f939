"""Write files so that they are whole and still there after the power fails.

A file is written beside its place, synced to the disk, and only then given its name; then the
folders above are synced, because a name is lost with a folder that never reached the disk. In
another order a crash could leave the name with half of the bytes. Source: the POSIX pages of
fsync, link and rename.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

STAGING = ".staging"


class Folder:
    """Write below one folder; every method blocks and belongs into a thread.

    Args:
        root: absolute path; it is made when it is not there.
    """

    __slots__ = ("_root", "_staging")

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = root / STAGING  # the same file system, or linking would not be possible

    def make(self) -> None:
        """Make the folder and the place for files that are not finished."""
        self._staging.mkdir(parents=True, exist_ok=True)

    def replace(self, key: str, data: bytes) -> None:
        """Write `data` under `key`, in place of what was there.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        place = self._root / key
        with self._staged(data) as staged:
            place.parent.mkdir(parents=True, exist_ok=True)
            staged.replace(place)
        self._sync_folders(place)

    def create(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` unless it is taken; return whether it was written.

        Raises:
            OSError: the disk is full, the folder cannot be written, or it knows no hard links.
        """
        place = self._root / key
        with self._staged(data) as staged:
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                place.hardlink_to(staged)
                created = True
            except FileExistsError:
                created = False
        # also for the loser: it may act on the winner's file before the winner has synced it
        self._sync_folders(place)
        return created

    def sweep(self, before: float) -> None:
        """Remove files that were begun before a moment (seconds since 1970) and never finished."""
        for path in self._staging.iterdir():
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    @contextmanager
    def _staged(self, data: bytes) -> Iterator[Path]:
        self.make()  # somebody may have tidied up
        staged = self._staging / token_hex(16)
        try:
            with staged.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    def _sync_folders(self, place: Path) -> None:
        # all of them: one that was there before may be another writer's that is not synced yet
        for folder in place.parents:
            _sync(folder)
            if folder == self._root.parent:
                return


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
