# SPDX-License-Identifier: Apache-2.0
"""Benchmarks as tasks: a versioned YAML file each, and readers of the layouts that their owners publish."""
