# SPDX-License-Identifier: Apache-2.0
"""Preference data: reading rows, checking them and bringing them into one form.

Reading and checking (`schema`, `rows`, `read`, `images`, `validate`) import neither LLaMA-Factory nor torch nor
transformers, so a data set can be checked in a second on any machine.
"""
