# SPDX-License-Identifier: Apache-2.0
"""LlamaBoard, as our parts of the web UI see it, and what it needs of LLaMA-Factory. Nothing else imports it."""

from __future__ import annotations

from llamafactory.data.template import TEMPLATES
from llamafactory.extras.ploting import smooth
from llamafactory.webui.common import DEFAULT_CACHE_DIR, load_dataset_info
from llamafactory.webui.components.data import PAGE_SIZE


__all__ = ["DEFAULT_CACHE_DIR", "PAGE_SIZE", "TEMPLATES", "load_dataset_info", "smooth"]
