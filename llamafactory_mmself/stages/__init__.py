# SPDX-License-Identifier: Apache-2.0
"""Training stages: one folder per stage, and what they share."""
