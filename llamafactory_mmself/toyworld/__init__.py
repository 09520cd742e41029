# SPDX-License-Identifier: Apache-2.0
"""A small world with known truth: scenes of coloured shapes, their pictures, questions, answers, and tiny models.

Importing this package imports nothing heavy; `torch` and `transformers` are loaded when a model is built.
"""
