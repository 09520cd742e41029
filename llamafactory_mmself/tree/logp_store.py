# SPDX-License-Identifier: Apache-2.0
"""Log-probs of samples on disk.

A folder holds shards, one for each process that ever wrote. A process only adds lines to its own shard, so several
ranks and several runs fill one folder together without locks. A line has a checksum: what a kill cut short is passed
over, and computed again when it is needed. The first shard that knows a sample is believed; later ones sort behind it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..files import FileError
from .media import media_digest
from .sample import SampleTree


SUFFIX = ".logps"

#: Role -> log-prob of each scored token, [t], fp32.
SampleLogps = Mapping[str, Tensor]


def sample_digest(tree: SampleTree) -> str:
    """All that a sample's log-probs depend on besides the model: token ids, media, which tokens are scored, by role.

    Raises:
        ValueError: if a picture or video cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(tree.roles):
        role = tree.roles[name]
        path = tree.path(role.leaf)
        ids = np.array([token for node in path for token in node.ids], dtype="<i4").tobytes()
        shown = [media_digest(medium) for node in path for medium in node.media]
        for part in (name.encode(), ids, bytes(role.scored), json.dumps(shown).encode()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class _Line:
    """Where the values of a sample are."""

    shard: Path
    start: int
    length: int


class LogpStore:
    """The log-probs in a folder.

    Attributes:
        folder: where the shards are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: dict[str, _Line] = {}
        self._read: dict[Path, int] = {}
        self._own: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, digest: str) -> bool:
        return digest in self._lines

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(shard.stat().st_size for shard in self._shards())

    def load(self) -> int:
        """Finds what is there; a second call finds what was added since.

        Returns:
            the number of lines that were passed over, because a kill or a faulty disk left them damaged.

        Raises:
            FileError: a shard cannot be read.
        """
        try:
            return sum(self._load(shard) for shard in self._shards())
        except OSError as error:
            raise FileError(f"{self.folder} cannot be read: {error.strerror or error}.") from error

    def get(self, digest: str) -> SampleLogps:
        """The log-probs of a sample.

        Raises:
            KeyError: the sample is not there.
        """
        line = self._lines[digest]
        with open(line.shard, "rb") as file:
            file.seek(line.start)
            values = json.loads(file.read(line.length))
        return {role: _tensor(text) for role, text in values.items()}

    def add(self, samples: Mapping[str, SampleLogps]) -> None:
        """Appends samples, by digest, to this process's shard; `load` finds them there.

        Raises:
            FileError: the disk is full, or the folder cannot be written.
        """
        lines = b"".join(_line(digest, logps) for digest, logps in samples.items())
        try:
            if self._own is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{SUFFIX}"
                self._own = open(self.folder / name, "xb")  # noqa: SIM115 - closed by `close`
            self._own.write(lines)
            self._own.flush()
        except OSError as error:
            raise self._not_written(error) from error

    def close(self) -> None:
        """Ends writing: all that was added is on the disk.

        Raises:
            FileError: as for `add`.
        """
        if self._own is None:
            return
        try:
            os.fsync(self._own.fileno())
            self._own.close()
            self._own = None
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> FileError:
        """Gives up this process's shard, and says why."""
        own, self._own = self._own, None
        if own is not None:
            with suppress(OSError):  # it still holds what could not be written, and would try again
                own.close()
        return FileError(
            f"Log-probs cannot be written to {self.folder}: {error.strerror or error}. Make room, or name another "
            "folder with `ref_logps_dir`, and start again; those before these are kept."
        )

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def _load(self, shard: Path) -> int:
        start, damaged = self._read.get(shard, 0), 0
        with open(shard, "rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):  # still being written, or left so by a kill
                    damaged += 1
                    break
                found = _checked(line)
                if found is None:
                    damaged += 1
                else:
                    digest, offset = found
                    self._lines.setdefault(digest, _Line(shard, start + offset, len(line) - offset - 1))
                start += len(line)
        self._read[shard] = start
        return damaged


def _line(digest: str, logps: SampleLogps) -> bytes:
    values = json.dumps({role: _text(values) for role, values in logps.items()}).encode()
    return b"%s %s %s\n" % (digest.encode(), _checksum(digest.encode(), values), values)


def _checked(line: bytes) -> tuple[str, int] | None:
    """A line's digest and where its values begin, or None if it is not what was written."""
    digest, _, rest = line[:-1].partition(b" ")
    checksum, _, values = rest.partition(b" ")
    if checksum != _checksum(digest, values):
        return None
    return digest.decode(), len(digest) + len(checksum) + 2


def _checksum(digest: bytes, values: bytes) -> bytes:
    return hashlib.sha256(digest + values).hexdigest()[:16].encode()


def _text(values: Tensor) -> str:
    return base64.b64encode(values.to("cpu", torch.float32).numpy().astype("<f4").tobytes()).decode()


def _tensor(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32))
