# SPDX-License-Identifier: Apache-2.0
"""`mmself serve`: a judge and a painter behind the usual HTTP interfaces, for those who have none.

They listen on this machine alone unless told otherwise, take a key if one is set, limit what a request may ask for and
how many wait, and write nothing but pictures of running requests into a folder of their own, which goes with them.
"""
