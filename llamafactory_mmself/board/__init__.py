# SPDX-License-Identifier: Apache-2.0
"""What the web UI shows and does, without a web UI: forms, rows, pictures, runs and their processes.

Everything here is a function of files and values. `plugin/webui` puts it into LlamaBoard.
"""
