# SPDX-License-Identifier: Apache-2.0
"""Teachers: remote ones that answer well, badly or not at all, and files of scores."""

import json

import pytest

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.files import FileError
from llamafactory_mmself.generate.client import Refused
from llamafactory_mmself.generate.remote_teacher import RemoteTeacher
from llamafactory_mmself.generate.teacher import Lesson, ReadyScores, TeacherError, load_teacher
from llamafactory_mmself.generate.teacher_config import make_teacher_config

from .fake_server import FakeServer, Reply, choices, error


@pytest.fixture
def serve():
    """Starts servers, and a teacher for each; `answer(body, number)` is what they say."""
    servers = []

    def start(answer, **changes):
        servers.append(FakeServer(answer))
        values = {"api_base": servers[-1].base, "api_model": "m", "retries": 0, "timeout": 5, **changes}
        return RemoteTeacher(make_teacher_config(values, "teacher")), servers[-1]

    yield start
    for server in servers:
        server.close()


def lesson(number=0, images=(), sentences=("Ice is solid.", "It floats.")):
    question = Question(f"q{number}", "Is ice solid?", "A", tuple(images), ("yes", "no"), {"hint": "Look."})
    return Lesson(f"q{number}#0", question, " ".join(sentences), tuple(sentences))


def scores(*values):
    return json.dumps({"scores": [{"index": n, "score": value} for n, value in enumerate(values, start=1)]})


def test_scores_by_chat_completions(serve, shapes):
    teacher, server = serve(lambda body, number: choices(scores(0.5, 1.0)))
    (found,) = teacher.score([lesson(images=shapes[:1])])
    assert found.scores == (0.5, 1.0)
    (body,) = server.bodies
    picture, text = body["messages"][0]["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    for part in ("1. Ice is solid.", "2. It floats.", "The right answer: (A) yes", "Look.", "(A) yes (B) no"):
        assert part in text["text"]
    assert body["response_format"]["json_schema"]["strict"]
    assert teacher.counts()["asked"] == 1


def test_scores_by_the_messages_api(serve, shapes, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    said = {"scores": [{"index": 1, "score": 0.5}, {"index": 2, "score": 0.0}]}
    usage = {"input_tokens": 100, "output_tokens": 10}
    reply = Reply({"content": [{"type": "tool_use", "input": said}], "usage": usage})
    prices = {"input_price": 1.0, "output_price": 10.0}
    teacher, server = serve(lambda body, number: reply, api="anthropic", **prices)
    (found,) = teacher.score([lesson(images=shapes[:1])])
    assert found.scores == (0.5, 0.0)
    assert server.paths == ["/v1/messages"]
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert headers["x-api-key"] == "secret"
    assert "authorization" not in headers
    assert server.bodies[0]["messages"][0]["content"][0]["source"]["media_type"] == "image/png"
    assert server.bodies[0]["tool_choice"]["name"] == "scores"
    assert teacher.counts()["cost"] == pytest.approx(2e-4)


def test_the_answer_is_told_only_when_asked_for(serve):
    teacher, server = serve(lambda body, number: choices(scores(0, 0)), show_answer=False)
    teacher.score([lesson()])
    assert "right answer: (A)" not in json.dumps(server.bodies[0])


def test_a_broken_reply_is_mended_once(serve, tmp_path):
    def answer(body, number):
        return choices("I think it is fine." if len(body["messages"]) == 1 else scores(0.5, 1))

    teacher, server = serve(answer)
    assert teacher.score([lesson()])[0].scores == (0.5, 1.0)
    assert [turn["role"] for turn in server.bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert teacher.counts()["repaired"] == 1
    assert teacher.counts()["failed"] == 0


def test_what_fails_is_counted_and_kept_and_stops_nothing(serve, tmp_path):
    def answer(body, number):
        text = json.dumps(body)
        if "first" in text:
            return error(500, "broken")
        if "second" in text:
            return choices(scores(7, 1))
        return error(400, "no such thing") if "third" in text else choices(scores(1, 1))

    failures = tmp_path / "failures.jsonl"
    teacher, _ = serve(answer, failures=str(failures), concurrency=1)
    found = teacher.score(
        [lesson(number, sentences=(word, "x.")) for number, word in enumerate(("good", "first", "second", "third"))]
    )
    assert [item.scores for item in found] == [(1.0, 1.0), None, None, None]
    assert "HTTP 500" in found[1].reason
    assert found[2].reason == "invalid"
    assert found[3].reason.startswith("refused")
    rows = [json.loads(line) for line in failures.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["q2#0", "q3#0", "q1#0"]  # silence is told last
    assert teacher.counts()["failed"] == 3


def test_nothing_is_asked_twice(serve, tmp_path):
    cache = str(tmp_path / "cache.jsonl")
    teacher, server = serve(lambda body, number: choices(scores(0.5, 1)), cache=cache)
    teacher.score([lesson(), lesson(1)])
    teacher.score([lesson()])
    assert len(server.bodies) == 2 or len(server.bodies) == 1  # both lessons show the same
    again = RemoteTeacher(teacher.config)
    before = len(server.bodies)
    assert again.score([lesson()])[0].scores == (0.5, 1.0)
    assert len(server.bodies) == before
    assert again.counts()["cached"] == 1


def test_a_wrong_key_stops_at_once(serve):
    teacher, _ = serve(lambda body, number: error(401, "wrong key"))
    with pytest.raises(Refused, match="OPENAI_API_KEY"):
        teacher.score([lesson()])


def test_servers_without_schemas_are_asked_without(serve):
    def answer(body, number):
        return error(400, "response_format?") if "response_format" in body else choices(scores(0, 1))

    teacher, server = serve(answer, concurrency=1)
    found = teacher.score([lesson(), lesson(1, sentences=("Other.", "It floats."))])
    assert [item.scores for item in found] == [(0.0, 1.0)] * 2
    assert len(server.bodies) == 3


def test_another_name_for_the_limit_is_found_out(serve):
    def answer(body, number):
        if "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return choices(scores(0, 1))

    teacher, server = serve(answer, concurrency=4)
    found = teacher.score([lesson(n, sentences=(f"{n}.", "x.")) for n in range(4)])
    assert [item.scores for item in found] == [(0.0, 1.0)] * 4
    assert all("response_format" in body for body in server.bodies)
    assert [body["max_completion_tokens"] for body in server.bodies if "max_tokens" not in body] == [1024] * 4


def test_a_cut_reply_is_no_reply(serve):
    reply = Reply({"choices": [{"message": {"content": "final_rationale:{Ice is"}, "finish_reason": "length"}]})
    teacher, server = serve(lambda body, number: reply)
    assert teacher.correct([lesson()])[0].reason == "cut"
    assert len(server.bodies) == 2


def test_a_full_disk_ends_it_before_more_is_paid_for(serve, tmp_path):
    teacher, server = serve(lambda body, number: choices(scores(0, 1)), concurrency=1, cache=str(tmp_path / "c"))
    (tmp_path / "c").symlink_to("/dev/full")
    with pytest.raises(FileError, match=r"(?i)make room"):
        teacher.score([lesson(n, sentences=(f"{n}.", "x.")) for n in range(3)])
    assert len(server.bodies) == 1


def test_pictures_that_cannot_be_sent_are_no_silence(serve, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    teacher, server = serve(lambda body, number: choices(scores(0, 1)), concurrency=1, patience=2)
    lessons = [lesson(n, images=[str(tmp_path / "text.png")], sentences=(f"{n}.", "x.")) for n in range(3)]
    found = teacher.score([*lessons, lesson(9)])
    assert [item.scores for item in found] == [None, None, None, (0.0, 1.0)]
    assert "text.png" in found[0].reason and len(server.bodies) == 1


def test_prompts_may_be_your_own(serve, tmp_path):
    names = "{picture} {question} {context} {options} {answer} {example} {sentences}"
    (tmp_path / "own.txt").write_text(f"version: 1\n\nMine: {names}")
    teacher, server = serve(lambda body, number: choices(scores(0, 1)), score_prompt=str(tmp_path / "own.txt"))
    assert teacher.score([lesson()])[0].scores == (0.0, 1.0)
    assert server.bodies[0]["messages"][0]["content"].startswith("Mine: ")


def test_the_budget_is_an_end(serve):
    reply = Reply({"choices": [{"message": {"content": scores(0, 1)}}], "usage": {"prompt_tokens": 10**6}})
    prices = {"input_price": 2.0, "budget": 1.0}
    teacher, server = serve(lambda body, number: reply, concurrency=1, **prices)
    found = teacher.score([lesson(n, sentences=(f"{n}.", "x.")) for n in range(3)])
    assert len(server.bodies) == 1
    assert [item.reason.partition(":")[0] for item in found] == ["", "budget", "budget"]


def test_a_silent_teacher_is_left_alone(serve):
    teacher, server = serve(lambda body, number: error(500, "down"), concurrency=1, patience=2)
    found = teacher.score([lesson(n, sentences=(f"{n}.", "x.")) for n in range(5)])
    assert len([body for body in server.bodies if body]) == 2
    assert found[4].reason.startswith("silent")
    assert teacher.counts()["failed"] == teacher.counts()["unanswered"] == 5


def test_silence_in_between_is_asked_about_again(serve):
    """One that is there again has the rest; one that never answers a lesson fails it, and can be gone on from."""

    def answer(body, number):
        if not body:
            return Reply({"data": []})
        text = json.dumps(body)
        return error(500, "down") if "bad." in text or number < 2 else choices('{"scores": [0.5, 0.5]}')

    teacher, _ = serve(answer, concurrency=1)
    found = teacher.score([lesson(n, sentences=(text, "x.")) for n, text in enumerate(("a.", "bad.", "c."))])
    assert [item.scores for item in found] == [(0.5, 0.5), None, (0.5, 0.5)]
    assert found[1].reason.startswith("silent")
    counts = teacher.counts()
    assert (counts["lessons"], counts["failed"], counts["unanswered"]) == (3, 1, 0)


def test_corrections(serve):
    teacher, server = serve(lambda body, number: choices('{"final_rationale": "Ice is solid, so it is A."}'))
    (found,) = teacher.correct([lesson()])
    assert found.text == "Ice is solid, so it is A."
    assert "Ice is solid. It floats." in json.dumps(server.bodies[0])


def test_files_of_scores(tmp_path):
    path = tmp_path / "scores.jsonl"
    rows = [
        {"question": "q0", "text": "Ice is solid. It floats.", "scores": [0.5, 1]},
        {"question": "q1", "text": "Ice is solid. It floats.", "scores": [0.5]},
        {"question": "q2", "text": "Ice is solid. It floats.", "scores": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = load_teacher(str(path))
    found = teacher.score([lesson(number) for number in range(4)])
    assert [item.scores for item in found] == [(0.5, 1.0), None, None, None]
    assert [item.reason for item in found][1] == "count"
    assert teacher.counts()["failed"] == 3
    path.write_text('{"question": "q0"}\n')
    with pytest.raises(TeacherError, match="line 1"):
        ReadyScores(path)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"api_model": "m"}, "api_base"),
        ({"api_base": "x", "api_model": "m", "modle": 1}, "modle"),
        ({"api_base": "x", "api_model": "m", "api": "other"}, "api"),
        ({"api_base": "x", "api_model": "m", "concurrency": -1}, "concurrency"),
        ({"api_base": "x", "api_model": "m", "budget": 1.0}, "budget"),
    ],
)
def test_configurations_that_cannot_be(values, told):
    with pytest.raises(TeacherError, match=told):
        make_teacher_config(values, "teacher.yaml")


def test_teachers_that_are_none():
    for spec in ("nothing", "no_such_module:x", "json:no_such_function"):
        with pytest.raises(TeacherError):
            load_teacher(spec)


def test_what_a_busy_teacher_was_not_asked_can_be_had_later(serve):
    """The server is there and has no time: only what it was asked twice in vain has failed for good."""
    busy, there = error(503, "busy"), Reply({"data": []})
    teacher, _ = serve(lambda body, number: busy if body else there, concurrency=1, patience=2)
    found = teacher.score([lesson(n, sentences=(f"{n}.", "x.")) for n in range(6)])
    assert all(item.scores is None for item in found)
    assert (teacher.counts()["failed"], teacher.counts()["unanswered"]) == (6, 4)


def test_a_teacher_that_goes_while_it_is_asked_again_has_not_answered(serve):
    there = iter((Reply({"data": []}), error(503, "gone")))
    teacher, _ = serve(lambda body, number: error(503, "busy") if body else next(there), concurrency=1, patience=2)
    teacher.score([lesson(n, sentences=(f"{n}.", "x.")) for n in range(6)])
    assert teacher.counts()["unanswered"] == 6
