# SPDX-License-Identifier: Apache-2.0
"""Versioned answer extractors and checkers."""
