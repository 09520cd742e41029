# SPDX-License-Identifier: Apache-2.0
"""Judge, describer and witness against a scripted chat endpoint."""

import json
import threading

import pytest

from llamafactory_mmself.generate import client
from llamafactory_mmself.generate.service_config import TOY, load_services
from llamafactory_mmself.generate.services import CheckItem, DescribeItem, Picture, ScoreItem, ServiceDead
from llamafactory_mmself.generate.types import EngineError
from tests.generate.fake_server import Reply, choices, error


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


@pytest.fixture
def services(tmp_path):
    """Makes services whose judge and describer are one server."""
    made = []

    def make(base, *, cache=False, describer=None, checks=None, **judge):
        sections = {"judge": {"api_base": base, "api_model": "m", **judge}, "describer": describer or {}}
        sections["checks"] = checks or {}
        made.append(load_services({**sections, **({"cache": str(tmp_path / "cache")} if cache else {})}))
        return made[-1]

    yield make
    for item in made:
        item.close()


def item(response, id="a", **more):
    return ScoreItem(id, "What is it?", "A red bus.", response, **more)


def text_of(body):
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def test_scores_come_in_order_with_what_the_judge_is_shown(serve, services):
    def answer(body, number):
        return choices("Score: 9" if "A bus." in text_of(body) else "Score: [2]")

    server = serve(answer)
    scorer = services(server.base).scorer
    assert scorer.score([item("A dog."), item("A bus."), item("A dog.")]) == [2.0, 9.0, 2.0]
    assert len(server.bodies) == 2  # equal items are asked about once
    body = server.bodies[0]
    assert all(text in text_of(body) for text in ("What is it?", "A red bus.", "You do not see it."))
    assert body["response_format"]["json_schema"]["schema"]["properties"]["score"]["maximum"] == 10
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.1, 128, "m")
    assert scorer.counts()["asked"] == 2


def test_a_server_without_schemas_is_found_out_once(serve, services):
    def answer(body, number):
        return error(400, "response_format is not supported") if "response_format" in body else choices("Score: 4")

    server = serve(answer)
    scorer = services(server.base, concurrency=1).scorer
    assert scorer.score([item("x")]) == [4.0]
    assert scorer.score([item("y"), item("z")]) == [4.0, 4.0]
    assert ["response_format" in body for body in server.bodies] == [True, False, False, False]


def test_a_server_with_another_name_for_the_limit_is_found_out_once(serve, services):
    def answer(body, number):
        if "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return choices('{"score": 5}')

    server = serve(answer)
    scorer = services(server.base).scorer
    assert scorer.score([item("x")]) == scorer.score([item("y")]) == [5.0]
    assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 128, 128]
    assert all("response_format" in body for body in server.bodies)


def test_several_requests_may_find_out_at_once(serve, services):
    """All are under way with the old name when the first refusal comes: none is lost, and the form stays."""
    together = threading.Barrier(4)

    def answer(body, number):
        if "max_tokens" in body:
            together.wait(10)
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return choices('{"score": 5}')

    server = serve(answer)
    assert services(server.base).scorer.score([item(name) for name in "wxyz"]) == [5.0] * 4
    assert all("response_format" in body for body in server.bodies) and len(server.bodies) == 8


def test_unparsable_answers_are_asked_for_again_then_counted(serve, services):
    said = {"x": ["Hm.", "Score: 3"], "y": ["Hm.", "Score: 30"]}

    def answer(body, number):
        return choices(said["x" if "x!" in text_of(body) else "y"].pop(0))

    server = serve(answer)
    scorer = services(server.base).scorer
    assert scorer.score([item("x!"), item("y!")]) == [3.0, None]
    assert scorer.counts()["unparsed"] == 1
    assert len({body["seed"] for body in server.bodies}) == 4
    assert sorted(body["temperature"] for body in server.bodies) == [0.1, 0.1, 0.7, 0.7]


@pytest.mark.parametrize("garbage", [[], [3], [{}], [{"message": "Score: 3"}], [{"message": {"content": None}}]])
def test_answers_without_a_text_are_unparsed_and_not_kept(serve, services, garbage):
    server = serve(lambda body, number: Reply({"choices": garbage}))
    assert services(server.base, cache=True, tries=1).scorer.score([item("x")]) == [None]
    again = services(server.base, cache=True, tries=1).scorer
    assert again.score([item("x")]) == [None]
    assert again.counts()["cached"] == 0 and again.counts()["unparsed"] == 1


def test_the_end_of_a_cut_answer_is_not_guessed(serve, services):
    server = serve(lambda body, number: choices("Score: 1", finish_reason="length"))
    assert services(server.base, tries=1).scorer.score([item("x")]) == [None]
    whole = serve(lambda body, number: choices('{"score": 1}', finish_reason="length"))
    assert services(whole.base, tries=1).scorer.score([item("x")]) == [1.0]


def test_answers_are_kept_for_the_next_run(serve, services):
    server = serve(lambda body, number: choices("Score: 4"))
    assert services(server.base, cache=True).scorer.score([item("x"), item("y")]) == [4.0, 4.0]
    again = services(server.base, cache=True)
    assert again.scorer.score([item("y"), item("x"), item("z")]) == [4.0, 4.0, 4.0]
    assert again.scorer.counts()["cached"] == 2
    assert len(server.bodies) == 3


def test_the_judge_sees_pictures_if_it_shall(serve, services, shapes):
    server = serve(lambda body, number: choices("Score: 4"))
    services(server.base, show_picture=True).scorer.score([item("x", images=(shapes[0],))])
    first, second = server.bodies[0]["messages"][0]["content"]
    assert first["image_url"]["url"].startswith("data:image/png;base64,")
    assert "It is shown." in second["text"]
    services(server.base).scorer.score([item("x", images=(shapes[0],))])
    assert isinstance(server.bodies[1]["messages"][0]["content"], str)


def test_policies_differ_with_what_decides_answers(services):
    base = "http://127.0.0.1:9/v1"
    settings = [{}, {"temperature": 0.5}, {"api_model": "n"}, {"quirks": "published"}, {"tries": 3}]
    assert len({services(base, **more).scorer.policy for more in settings}) == len(settings)
    assert services(base).scorer.policy == services(base, timeout=9.0).scorer.policy


def test_wrong_keys_end_the_run_only_before_the_first_answer(serve, services):
    server = serve(lambda body, number: error(401, "bad key"))
    with pytest.raises(EngineError, match=r"HTTP 401: bad key .*OPENAI_API_KEY"):
        services(server.base).scorer.score([item("x")])
    later = serve(lambda body, number: error(401, "bad key") if number else choices("Score: 4"))
    scorer = services(later.base).scorer
    assert scorer.score([item("x")]) == [4.0]
    assert scorer.score([item("y")]) == [None]
    assert scorer.counts()["failed"] == 1


def test_a_dead_judge_is_named(services):
    scorer = services("http://127.0.0.1:9/v1", timeout=0.2, dead_after=0.4).scorer
    with pytest.raises(ServiceDead, match=r"The judge at http://127\.0\.0\.1:9/v1 is dead"):
        scorer.score([item("x")])


def test_descriptions_are_of_the_rejected_response(serve, services):
    server = serve(lambda body, number: choices("Description: A green bus."))
    describer = services(server.base).describer
    pair = DescribeItem("p", "What is it?", "A red bus.", "A green bus, I think.")
    assert describer.describe([pair]) == ["A green bus."]
    text = text_of(server.bodies[0])
    assert "Right: A green bus, I think.\nWrong: A red bus." in text
    assert describer.describe([DescribeItem("q", "?", "<image>", "<image>")]) == ["A green bus."]
    assert "<image>" not in text_of(server.bodies[1])


def test_the_text_filter_looks_at_the_painted_picture(serve, services, shapes):
    def answer(body, number):
        return choices("There is one.\nVerdict: " + ("yes" if "red circle" in text_of(body) else "no"))

    server = serve(answer)
    checks = services(server.base, checks={"min_difference": 0.0, "claim": {"api_base": server.base}}).checks
    with open(shapes[0], "rb") as file:
        picture = Picture(file.read())
    pairs = [DescribeItem("p", "?", "A dog.", text) for text in ("A red circle.", "A cat.")]
    found = checks.check([CheckItem(pair, "...", picture) for pair in pairs])
    assert [(check.kept, check.reason) for check in found] == [(True, ""), (False, "the rejected claim is not seen")]
    assert found[0].figures == {"claim_seen": 1.0}
    assert server.bodies[0]["messages"][0]["content"][0]["type"] == "image_url"
    assert checks.counts() == {
        "kept": 1,
        "the rejected claim is not seen": 1,
        "claims_asked": 2,
        "claims_cached": 0,
        "claims_unparsed": 0,
        "claims_failed": 0,
    }


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"critic": {}}, "unknown section `critic`"),
        ({"judge": {"api_bas": "x"}}, "judge: unknown key `api_bas`"),
        ({"judge": {"api_base": "ftp://x"}}, "has to look like http"),
        ({"judge": {"api_base": ["http://a/v1", "http://a/v1/"]}}, "comes twice"),
        ({"judge": {"timeout": 9.0, "dead_after": 5.0}}, "`dead_after` has to be at least `timeout`"),
        ({"judge": {"concurrency": 0}}, "`concurrency`"),
        ({"judge": {"tries": 0}}, "`tries`"),
        ({"judge": {"temperature": "hot"}}, "`temperature` cannot be 'hot'"),
        ({"describer": {"show_picture": True}}, "describer: unknown key `show_picture`"),
        ({"painter": {"size": "big"}}, "`size` has to look like"),
        ({"checks": {"attempts": 0}}, "`attempts` has to be at least 1"),
        ({"judge": []}, "section `judge`"),
        ({"judge": {"engine": "no.such:thing"}}, "cannot be imported"),
        (
            {"judge": {"engine": f"{TOY}:judge", "colour": 1}},
            "does not take these keys",
        ),
        ({"cache": 3}, "`cache` has to be a folder"),
    ],
)
def test_wrong_settings_are_named(config, told):
    with pytest.raises(ValueError, match=told):
        load_services(config)


def test_services_from_a_file(tmp_path):
    path = tmp_path / "services.yaml"
    path.write_text("judge: {engine: toy}\ndescriber: {engine: toy}\npainter: {engine: toy, size: 84}\n")
    with load_services(path) as found:
        assert found.policies["painter"] == "toy painter 1, 84"
        assert found.attempts == 2
        assert json.dumps(found.counts())
    with pytest.raises(ValueError, match=r"none\.yaml cannot be read"):
        load_services(tmp_path / "none.yaml")
