from __future__ import annotations

import numpy as np
import pytest

from onehull.serve import RankRequest
from onehull.serve.refusal import RefusalError


def ids(response):
    return [item.id for item in response.items]


def test_order_is_the_formula_of_the_scores(make_ranker):
    response = make_ranker().rank(RankRequest(user="u1", context={"hour_of_day": 20}, k=200))
    fused = [i.scores["click"] * np.sqrt(1 + i.scores["watch"]) + 4 * i.scores["like"] for i in response.items]
    assert [i.score for i in response.items] == pytest.approx(fused, rel=1e-6)
    assert fused == sorted(fused, reverse=True)
    assert [i.rank for i in response.items] == list(range(1, 101))


def test_a_user_gets_what_the_scorer_says_of_them(make_ranker):
    ranker = make_ranker()
    candidates = ["i0", "i1", "i2"]  # sailing, cooking, music
    sailor = ranker.rank(RankRequest(user="u0", candidates=candidates, formula="click"))
    cook = ranker.rank(RankRequest(user="u1", candidates=candidates, formula="click"))
    assert (ids(sailor)[0], ids(cook)[0]) == ("i0", "i1")


def test_the_context_reaches_the_scorer(make_ranker):
    ranker = make_ranker()
    morning, evening = (
        ranker.rank(RankRequest(user="u0", context={"hour_of_day": hour}, candidates=["i0"])).items[0].scores["click"]
        for hour in (8, "20")
    )
    assert evening == pytest.approx(morning + 0.1)


def test_ties_are_ordered_by_id_whatever_the_order_of_the_candidates(make_ranker):
    def even(inputs):
        return {task: np.ones(len(inputs["item"]), np.float32) for task in ("click", "like", "watch")}

    ranker = make_ranker(even)
    forward = ranker.rank(RankRequest(user="u0", candidates=["i3", "i10", "i1"]))
    backward = ranker.rank(RankRequest(user="u0", candidates=["i1", "i10", "i3"]))
    assert ids(forward) == ids(backward) == ["i1", "i10", "i3"]


def test_recall_takes_the_most_popular(make_ranker):
    response = make_ranker().rank(RankRequest(user="u0", k=200))
    assert set(ids(response)) == {f"i{i}" for i in range(100)}
    assert response.candidates == 100


def test_pages_continue_one_order(make_ranker):
    ranker = make_ranker()
    whole = ranker.rank(RankRequest(user="u3", k=30))
    pages = [ranker.rank(RankRequest(user="u3", k=10, offset=offset)) for offset in (0, 10, 20)]
    assert [item.id for page in pages for item in page.items] == ids(whole)
    assert [item.rank for page in pages for item in page.items] == list(range(1, 31))
    assert ranker.rank(RankRequest(user="u3", offset=100)).items == []


def test_a_user_nobody_knows_is_ranked_with_missing_attributes_and_an_unseen_id(make_ranker):
    seen = {}

    def scorer(inputs):
        seen.update(inputs)
        return {task: np.zeros(len(inputs["item"]), np.float32) for task in ("click", "like", "watch")}

    response = make_ranker(scorer).rank(RankRequest(user="stranger", k=3))
    assert len(response.items) == 3
    assert "not in the bundle" in response.notes[0]
    assert set(seen["user"]) == {1}
    assert set(seen["interest"]) == {0}
    assert np.all(seen["age"] == [[0.0, 1.0]])
    assert response.trace.missing["interest"] == response.trace.unseen["user"] == 100


def test_unknown_candidates_are_reported_and_repeated_ones_count_once(make_ranker):
    response = make_ranker().rank(RankRequest(user="u0", candidates=["i5", "nope", "i5", "i6"]))
    assert sorted(ids(response)) == ["i5", "i6"]
    assert response.unknown_candidates == ["nope"]
    assert any("not in the catalogue" in note for note in response.notes)


def test_no_usable_candidate_gives_an_empty_answer(make_ranker):
    ranker = make_ranker()
    assert ranker.rank(RankRequest(user="u0", candidates=["nope"])).items == []
    assert ranker.rank(RankRequest(user="u0", candidates=[])).items == []


def test_ids_may_be_numbers_and_k_may_exceed_the_candidates(make_ranker):
    response = make_ranker().rank(RankRequest.model_validate({"user": 7, "candidates": ["i1", 7.0], "k": 1000}))
    assert ids(response) == ["i1"]
    assert response.unknown_candidates == ["7"]


def test_weights_and_formulas_change_one_request_only(make_ranker):
    ranker = make_ranker()
    heavy = ranker.rank(RankRequest(user="u0", weights={"like.times": 400}))
    assert heavy.formula == "click^1 * (1 + watch)^0.5 + 400 * like"
    assert all(item.attributes["tags"] == ["live"] for item in heavy.items[:5])
    assert ranker.rank(RankRequest(user="u0", formula="watch")).formula == "watch"
    assert ranker.rank(RankRequest(user="u0")).formula == "click^1 * (1 + watch)^0.5 + 4 * like"


def test_every_fault_of_a_request_is_reported_at_once(make_ranker):
    request = RankRequest(
        user="u0",
        context={"hour": 3, "temperature": "warm"},
        weights={"lik.times": 3.0},
        candidates=[f"i{i}" for i in range(201)],
    )
    with pytest.raises(RefusalError) as refused:
        make_ranker().rank(request)
    places = {fault.place for fault in refused.value.faults}
    assert places == {"context.hour", "context.temperature", "weights.lik.times", "candidates"}
    assert "Did you mean 'like.times'?" in str(refused.value)
    assert "hour_of_day" in next(f.remedy for f in refused.value.faults if f.place == "context.hour")


def test_a_formula_that_is_wrong_is_the_clients_fault(make_ranker):
    ranker = make_ranker()
    for formula in ("click +", "clik", "__import__('os')", "(" * 500 + "click", "1", ""):
        with pytest.raises(RefusalError) as refused:
            ranker.rank(RankRequest(user="u0", formula=formula))
        assert refused.value.faults[0].place == "formula"


def test_scores_that_are_no_numbers_stand_last_and_become_null(make_ranker):
    def broken(inputs):
        scores = np.where(inputs["item"] % 2 == 0, np.nan, 0.5).astype(np.float32)
        return dict.fromkeys(("click", "like", "watch"), scores)

    response = make_ranker(broken).rank(RankRequest(user="u0", k=200))
    values = [item.score for item in response.items]
    first_null = values.index(None)
    assert 0 < first_null < len(values)
    assert set(values[first_null:]) == {None}
    assert response.trace.not_numbers == len(values) - first_null
    assert any("not numbers" in note for note in response.notes)


def test_multiclass_scores_are_one_probability_a_class(make_ranker):
    def scorer(inputs):
        count = len(inputs["item"])
        ones = np.full(count, 0.5, np.float32)
        return {
            "click": ones,
            "like": ones,
            "watch": ones,
            "mood": np.tile(np.array([0.2, 0.8], np.float32), (count, 1)),
        }

    base = {"click": {"kind": "binary", "event": "click", "window": "30m"}}
    mood = {"kind": "multiclass", "classes": 2, "event": "mood", "value": "value", "window": "1h"}
    ranker = make_ranker(scorer, tasks={**base, "mood": mood}, fusion={"formula": "click"})
    item = ranker.rank(RankRequest(user="u0", k=1)).items[0]
    assert item.scores["mood"] == pytest.approx([0.2, 0.8])
    assert item.score == 0.5


def test_shares_count_items_and_user(make_ranker):
    trace = make_ranker().rank(RankRequest(user="u9", candidates=[f"i{i}" for i in (0, 1, 110, 111)])).trace
    assert trace.rows == 4
    assert trace.missing == {
        "user": 0, "interest": 0, "age": 4, "hour": 4, "temperature": 4,
        "item": 0, "category": 0, "tags": 1, "duration": 0,
    }  # fmt: skip
    assert trace.unseen["item"] == 2
