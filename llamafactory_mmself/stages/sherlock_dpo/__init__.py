# SPDX-License-Identifier: Apache-2.0
"""Stage `sherlock_dpo`: preference learning that also trains self-correction (Sherlock)."""
