# SPDX-License-Identifier: Apache-2.0
"""What the toy world says when it is asked for something it cannot do."""


class ToyWorldError(ValueError):
    """A wrong scene, question, model family or output folder; the text says what to change."""
