# SPDX-License-Identifier: Apache-2.0
"""Our parts of LlamaBoard: stages in the tab Train, data previews, loss curves, and the tab Self-improve.

What they show and do is in `llamafactory_mmself.board`; here it becomes components and events of Gradio.
"""
