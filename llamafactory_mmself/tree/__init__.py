# SPDX-License-Identifier: Apache-2.0
"""Sample trees and the engines that score them."""
