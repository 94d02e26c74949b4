"""Backups of a served folder that are made of hard links, at every moment of an upload's life."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from engine.running import at, body, resumables, running, wish
from forebay.model import UploadState


def test_backups_of_links_end_no_upload_and_change_no_offset(tmp_path: Path) -> None:
    """Bug: a second link was taken for the published name; acknowledged bytes were discarded."""
    root, taken = tmp_path / "root", 0

    def back_up() -> None:
        nonlocal taken
        taken += 1
        subprocess.run(["cp", "-al", root, tmp_path / f"backup-{taken}"], check=True)

    async def main() -> None:
        async with running(root) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(6))
            back_up()
            await uploads.append(at(record.id, 0), body(b"abc"))
            back_up()
            assert (await uploads.offset(record.id)).offset == 3
        async with running(root) as engine:  # after a restart
            uploads = resumables(engine)
            assert (await uploads.offset(record.id)).offset == 3
            back_up()
            done = await uploads.append(at(record.id, 3), body(b"def"))
            assert done.record.state is UploadState.COMPLETE
            back_up()
            assert (await uploads.offset(record.id)).state is UploadState.COMPLETE

    asyncio.run(main())
    assert (root / "f.bin").read_bytes() == b"abcdef"
    assert sorted(each.name for each in root.iterdir() if each.name != ".forebay") == ["f.bin"]
