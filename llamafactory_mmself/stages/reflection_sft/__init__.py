# SPDX-License-Identifier: Apache-2.0
"""Stage `reflection_sft`: supervised training on rows of several kinds (R3V, STL)."""
