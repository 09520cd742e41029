# SPDX-License-Identifier: Apache-2.0
"""Tiny vision-language models with random weights, complete enough to load, sample from and train."""

from .build import FAMILIES, TEMPLATES, build_tiny_model


__all__ = ["FAMILIES", "TEMPLATES", "build_tiny_model"]
