"""Staged data that is compressed, where that is worth it, before it is published."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from forebay.errors import SyncFailed, UploadError
from forebay.stores.base import AttributedStore, Publication, Published, Staged
from forebay.stores.compressed.job import LEAST, CompressionJob, Incompressible


class CompressedStaged:
    """See `forebay.stores.base.Staged`. All bytes go to `staged` as they are.

    Args:
        store: where the compressed form is made.
        staged: the data itself.
        choose: whether a file of that name is to be compressed.
        resumable: the data stays locked after publication, until `discard`.
    """

    prepare_waits = True

    def __init__(
        self,
        store: AttributedStore,
        staged: Staged,
        choose: Callable[[str], bool],
        *,
        resumable: bool,
    ) -> None:
        self._store = store
        self._staged = staged
        self._choose = choose
        self._resumable = resumable
        self._job: CompressionJob | None = None
        self._plain = False
        """Published already, or not worth compressing."""
        self._dead = False
        self.write = staged.write
        self.append_from = staged.append_from
        self.reserve = staged.reserve
        self.rollback = staged.rollback
        self.room = staged.room
        self.on_room = staged.on_room
        self.seal = staged.seal
        self.commit_waits = staged.commit_waits
        self.commit = staged.commit
        self.recorded = staged.recorded

    @property
    def offset(self) -> int:
        return self._staged.offset

    @property
    def dead(self) -> bool:
        return self._dead or self._staged.dead

    @property
    def identity(self) -> str:
        return self._staged.identity if self._job is None else self._job.target.identity

    def prepare(self, name: str) -> bool:
        if self.dead or self._plain or self.offset < LEAST or not self._choose(name):
            self._drop_job()
            return True
        try:
            if self._job is None or self._job.size != self.offset:
                self._drop_job()
                self._job = CompressionJob(self._store, self._staged.seal())
            return self._job.turn()
        except (Incompressible, UploadError, MemoryError):  # then it is published as it is
            self._drop_job()
            self._plain = True
            return True

    def _drop_job(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.close()

    def publish(self, how: Publication) -> Published:
        if self.dead:
            raise SyncFailed
        while not self.prepare(how.name):
            pass
        if self._job is None:
            return self._staged.publish(how)
        try:
            published = self._job.target.publish(how)
        except SyncFailed:
            self._dead = True
            raise
        stored = published.file.size
        file = dataclasses.replace(published.file, size=self._job.size, stored_size=stored)
        self._drop_job()
        self.end_writing()
        if not self._resumable:
            self._staged.close()
        return dataclasses.replace(published, file=file)

    def end_writing(self) -> None:
        self._plain = True
        self._staged.end_writing()

    def discard(self) -> None:
        self._drop_job()
        self._staged.discard()

    def close(self) -> None:
        self._drop_job()
        self._staged.close()
