# SPDX-License-Identifier: Apache-2.0
"""Metrics, intervals and test-time selection."""
