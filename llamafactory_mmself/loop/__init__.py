# SPDX-License-Identifier: Apache-2.0
"""Generate, verify, build, train, evaluate, again: resumable runs."""
