# SPDX-License-Identifier: Apache-2.0
"""Stage `ares_ppo`: reinforcement learning with a reward at the end of each sentence (ARES)."""
