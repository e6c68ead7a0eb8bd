"""Answers of seeded fits are those on record; ``python tests/recorded.py --write`` records others that are meant."""

import json

import pytest

import recorded

RECORD = json.loads(recorded.RECORD.read_text())


@pytest.mark.parametrize("name", recorded.SCENARIOS)
def test_the_answers_are_those_on_record(name, require):
    require("native")  # the backend that 'auto' takes where it is built
    if name == "mixturelib_names":
        pytest.importorskip("torch")
    found = recorded.changes(name, RECORD)
    assert not found, "\n".join(found)


def test_every_record_has_a_scenario():
    assert set(RECORD) == set(recorded.SCENARIOS)


def test_differences_are_seen():
    array = recorded.digest([[1.0, 2.0], [3.0, 4.0]])
    assert not recorded.differences(recorded.digest([[1.0, 2.0 + 1e-9], [3.0, 4.0]]), array)
    for other in (
        [[1.0, 2.0], [4.0, 3.0]],
        [[1.0, 2.0], [3.0, 4.0 + 1e-5]],
        [1.0, 2.0, 3.0, 4.0],
        [[1.0, float("nan")]] * 2,
    ):
        assert recorded.differences(recorded.digest(other), array)
    for got, want in ((3, 4), (1.0, 1.001), ("a", "b"), ({"a": 1}, {"a": 2}), ({"a": 1}, {})):
        assert recorded.differences(got, want)
    for got, want in ((1.0, 1.0 + 1e-12), (None, None), (float("nan"), float("nan")), ({"a": 1}, {"a": 1})):
        assert not recorded.differences(got, want)
