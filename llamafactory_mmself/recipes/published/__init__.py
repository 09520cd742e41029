# SPDX-License-Identifier: Apache-2.0
"""What the published systems leave behind, as samples, data sets and settings of this package."""
