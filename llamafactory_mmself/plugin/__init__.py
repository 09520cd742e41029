# SPDX-License-Identifier: Apache-2.0
"""The seam with LLaMA-Factory: the only package that touches its inside."""
