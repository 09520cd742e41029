# SPDX-License-Identifier: Apache-2.0
"""Stage `mdpo`: preference learning on answers and on pictures (mDPO, S-VCO, OViP)."""
