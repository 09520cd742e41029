# SPDX-License-Identifier: Apache-2.0
"""Plays `llamafactory-cli train|export x.yaml`: weights that follow from rows and settings, in a moment."""

import hashlib
import sys
import time
from pathlib import Path


command, config = sys.argv[1:]
values = dict(line.split(": ", 1) for line in Path(config).read_text().splitlines() if ": " in line)
learnt = hashlib.sha256(repr(sorted(values.items())).encode())
if command == "train":
    learnt.update(Path(values["dataset_dir"], values["dataset"] + ".json").read_bytes())
    time.sleep(0.05)
out = Path(values["output_dir" if command == "train" else "export_dir"])
out.mkdir(parents=True, exist_ok=True)
(out / ("adapter_model.safetensors" if command == "train" else "model.safetensors")).write_text(learnt.hexdigest())
with open("trainings.txt", "a") as file:
    file.write(f"{command} {config}\n")
