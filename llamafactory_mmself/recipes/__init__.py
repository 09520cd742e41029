# SPDX-License-Identifier: Apache-2.0
"""Pure builders of training data between rounds."""
