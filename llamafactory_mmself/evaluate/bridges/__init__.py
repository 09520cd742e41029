# SPDX-License-Identifier: Apache-2.0
"""Other harnesses, each in an environment of its own: what we know of them are command lines and files."""


class BridgeError(ValueError):
    """Another harness cannot be used as it was asked for, with the reason and what to do."""
