# SPDX-License-Identifier: Apache-2.0
"""Multimodal self-improvement stages for LLaMA-Factory.

Every Python process of an environment that has this package reads this file at start-up, so it imports nothing.
"""

__version__ = "0.1.0"
