# SPDX-License-Identifier: Apache-2.0
"""`mmself serve` as a user starts it, used by the clients of training and by `mmself build ovip`."""

import json
import socket
import subprocess
import sys
from random import Random

import httpx
import pytest
import yaml

from llamafactory_mmself.cli import main
from llamafactory_mmself.files import write_jsonl
from llamafactory_mmself.generate.service_config import load_services
from llamafactory_mmself.generate.services import DescribeItem, PaintRequest, ScoreItem
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.recipes.ovip_prompts import read_prompts
from llamafactory_mmself.toyworld.scenes import Scene, caption, contradict
from llamafactory_mmself.toyworld.seeing import look
from llamafactory_mmself.toyworld.world import WorldOptions, write_world
from tests.generate.servers import free_port, running


@pytest.fixture(scope="module")
def toy_services(clean_environment, tmp_path_factory):
    """The file of services of two processes that serve the toy world."""
    folder = tmp_path_factory.mktemp("served")
    judge, painter = free_port(), free_port()
    env = clean_environment(SERVE_KEY="secret")
    commands = {
        judge: ["mmself", "serve", "judge", "--engine", "toy", "--name", "toy", "--port", str(judge)],
        painter: ["mmself", "serve", "painter", "--engine", "toy", "--name", "toy", "--port", str(painter)],
    }
    for command in commands.values():
        command += ["--api_key_env", "SERVE_KEY"]
    with (
        running(commands[judge], judge, env, folder / "judge.txt") as judge_base,
        running(commands[painter], painter, env, folder / "painter.txt") as painter_base,
    ):
        place = {"api_model": "toy", "api_key_env": "SERVE_KEY"}
        sections = {
            "judge": {"api_base": judge_base, **place},
            "painter": {"api_base": painter_base, "size": "56x56", **place},
            "checks": {"engine": "toy"},
        }
        (folder / "services.yaml").write_text(yaml.safe_dump(sections))
        yield folder / "services.yaml"


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("SERVE_KEY", "secret")


def test_clients_and_servers_understand_each_other(toy_services, key):
    scene = Scene.parse("red circle, - / blue square, green circle")
    other = contradict(scene, Random(0))
    question = "Describe the picture."
    with load_services(toy_services) as services:
        items = [ScoreItem("a", question, caption(scene), text) for text in (caption(scene), caption(other), "Hm.")]
        right, wrong, nothing = services.scorer.score(items)
        assert right == 10.0 and nothing == 0.0 and 0 < wrong < 10
        pair = DescribeItem("p", question, caption(scene), caption(other))
        (description,) = services.describer.describe([pair])
        assert description == caption(other)
        (picture,) = services.painter.paint([PaintRequest("p", description, 0)])
        assert look(picture.png) == other


def test_without_the_key_nothing_is_answered(toy_services, monkeypatch):
    monkeypatch.setenv("SERVE_KEY", "wrong")
    with load_services(toy_services) as services, pytest.raises(ValueError, match="SERVE_KEY"):
        services.scorer.score([ScoreItem("a", "?", "b", "c")])
    base = yaml.safe_load(toy_services.read_text())["painter"]["api_base"]
    assert httpx.get(base.removesuffix("/v1") + "/health", trust_env=False).json()["status"] == "ok"


def test_an_offline_set_is_built_with_them(toy_services, key, tmp_path, capsys):
    write_world(tmp_path / "world", WorldOptions(train=1, test=1, captions=6))
    prompts = read_prompts(tmp_path / "world" / "captions.json")
    rng = Random(1)
    samples = []
    for row in prompts:
        scene = look(row.images[0])
        worse = contradict(contradict(contradict(scene, rng), rng), rng)
        for k, text in enumerate((caption(scene), caption(worse), caption(scene))):
            samples.append(Sample(f"{row.key}#{k}", row.key, k, "toy", Completion(text, (), "stop")).to_row())
    write_jsonl(tmp_path / "samples.jsonl", samples)
    line = ["build", "ovip", "--ds_path", str(tmp_path / "world" / "captions.json"), "--services", str(toy_services)]
    line += ["--samples", str(tmp_path / "samples.jsonl"), "--out", str(tmp_path / "set"), "--name", "pairs"]
    assert main(line) == 0
    rows = json.loads((tmp_path / "set" / "pairs.json").read_text())
    assert len(rows) >= 3
    assert f"rows: {len(rows)}" in capsys.readouterr().out
    for row in rows:
        assert look(tmp_path / "set" / row["rejected_images"][0]) != look(row["images"][0])
    assert main(["validate", "pairs", "--dataset_dir", str(tmp_path / "set")]) == 0


def test_a_port_that_is_taken_is_told(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "judge", "--engine", "toy", "--port", port]) == 2
    assert f"127.0.0.1:{port} cannot be used" in capsys.readouterr().err


def test_a_key_has_to_be_there(monkeypatch, capsys):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert main(["serve", "painter", "--engine", "toy", "--port", "0", "--api_key_env", "NO_SUCH_KEY"]) == 2
    assert "NO_SUCH_KEY is not set" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--queue", "0"], ["--size", "huge"]])
def test_limits_make_sense(flags, capsys):
    assert main(["serve", "painter", "--engine", "toy", "--port", "0", *flags]) == 2
    assert "error" in capsys.readouterr().err


def test_the_command_loads_nothing_heavy_for_its_help():
    code = "import sys; from llamafactory_mmself.cli import main\ntry: main(['serve', 'judge', '--help'])\n"
    code += "except SystemExit: pass\nsys.exit(any(name in sys.modules for name in ('torch', 'fastapi', 'httpx')))"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
