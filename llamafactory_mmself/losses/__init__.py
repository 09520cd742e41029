# SPDX-License-Identifier: Apache-2.0
"""Losses as pure functions of sequence log-probs: no model, no trainer, no LLaMA-Factory."""

from .types import LossOutput


__all__ = ["LossOutput"]
