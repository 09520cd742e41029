# SPDX-License-Identifier: Apache-2.0
"""Sampling engines, the jobs that run on them, and judges."""
