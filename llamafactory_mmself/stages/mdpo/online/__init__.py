# SPDX-License-Identifier: Apache-2.0
"""Online strategies of stage `mdpo`: pairs and groups that are sampled from the policy in training."""
