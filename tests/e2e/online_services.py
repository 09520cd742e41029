# SPDX-License-Identifier: Apache-2.0
"""Judge, describer, painter and checks that tests script; services files name them as `online_services:judge` etc.

Scores follow from texts, pictures from descriptions and seeds, so that a run can be repeated.
"""

import hashlib
import io
import time

from PIL import Image

from llamafactory_mmself.generate.services import NegativeCheck, PaintFailure, Picture, ServiceDead


class _Scripted:
    policy = "scripted"

    def __init__(self, delay: float = 0.0, **settings):
        self.delay = delay
        self.calls = 0
        self.__dict__.update(settings)

    def counts(self):
        return {"asked": self.calls}

    def wait(self):
        self.calls += 1
        time.sleep(self.delay)


class Judge(_Scripted):
    """Scores 0 to 10 by a digest of the text, the first of a call 0; may be dead from a call on, or hard to read."""

    dies_at = unreadable = 0

    def score(self, items):
        self.wait()
        if self.dies_at and self.calls >= self.dies_at:
            raise ServiceDead("judge", "The judge has answered nothing for 1 s.")
        found = [score(item.response) for item in items]
        found[0] = 0.0  # so that every group has a bad response, and makes an entry
        return [
            None if self.unreadable and digest(item.response) % self.unreadable == 0 else value
            for item, value in zip(items, found, strict=True)
        ]


class Vowels(_Scripted):
    """Pays for the share of vowels."""

    def score(self, items):
        self.wait()
        return [10 * sum(letter in "aeiou" for letter in item.response) / max(len(item.response), 1) for item in items]


class Describer(_Scripted):
    def describe(self, items):
        self.wait()
        return [f"a picture of {item.rejected}" for item in items]


class Painter(_Scripted):
    """Paints noise; every n-th description cannot be painted."""

    fails = 0

    def paint(self, requests):
        self.wait()
        found = []
        for request in requests:
            if self.fails and digest(request.prompt) % self.fails == 0:
                found.append(PaintFailure("refused"))
                continue
            colour = tuple(hashlib.sha256(f"{request.prompt}{request.seed}".encode()).digest()[:3])
            file = io.BytesIO()
            Image.new("RGB", (56, 56), colour).save(file, "PNG")
            found.append(Picture(file.getvalue()))
        return found


class Checks(_Scripted):
    def check(self, items):
        return [NegativeCheck(True, figures={"difference": 0.5}) for _ in items]


def digest(text):
    return hashlib.sha256(text.encode()).digest()[0]


def score(text):
    """What the judge says of a text."""
    return float(digest(text) % 11)


judge, vowels, describer, painter, checks = Judge, Vowels, Describer, Painter, Checks
