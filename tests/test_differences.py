"""What differs is named by its dotted name, and nothing else is."""

from rltrain.differences import ABSENT, differing, flatten, shared

BASE = {"env": {"id": "X", "kwargs": {}}, "agent": {"gamma": 1, "hidden_sizes": [64, 64]}, "bonuses": [], "seed": 0}


def test_names_are_dotted_and_blocks_in_lists_have_their_index():
    assert flatten({"a": {"b": [1, 2], "c": [{"d": None}, {"d": 3}]}, "e": {}}) == {
        "a.b": [1, 2], "a.c[0].d": None, "a.c[1].d": 3, "e": {},
    }  # fmt: skip


def test_only_what_differs_is_told_and_1_is_equal_to_1_point_0_but_not_to_true():
    assert differing([BASE, BASE | {"agent": {"gamma": 1.0, "hidden_sizes": [64, 64]}}]) == {}
    other = BASE | {"agent": {"gamma": True, "hidden_sizes": [64, 32]}}
    assert differing([BASE, other, BASE]) == {
        "agent.gamma": [1, True, 1],
        "agent.hidden_sizes": [[64, 64], [64, 32], [64, 64]],
    }


def test_a_setting_that_one_lacks_differs_from_null_and_an_empty_block_is_told_by_what_the_other_has_in_it():
    other = BASE | {"env": {"id": "X", "kwargs": {"slippery": None}}, "bonuses": [{"name": "count", "scale": 0.1}]}
    assert differing([BASE, other]) == {
        "env.kwargs.slippery": [ABSENT, None],
        "bonuses[0].name": [ABSENT, "count"],
        "bonuses[0].scale": [ABSENT, 0.1],
    }


def test_blocks_come_in_their_order_and_each_begins_with_its_name():
    other = {"agent": {"gamma": 2, "name": "dqn"}, "env": {"id": "Y"}, "new": 1}
    assert list(differing([BASE, other])) == [
        "env.id", "env.kwargs", "agent.name", "agent.gamma", "agent.hidden_sizes", "bonuses", "seed", "new",
    ]  # fmt: skip


def test_what_a_group_shares_leaves_out_its_seeds_and_can_be_compared_again():
    group = [BASE | {"seed": seed} for seed in range(3)]
    assert shared(group) == {
        "env.id": "X",
        "env.kwargs": {},
        "agent.gamma": 1,
        "agent.hidden_sizes": [64, 64],
        "bonuses": [],
    }
    other = [each | {"env": {"id": "Y", "kwargs": {}}} for each in group]
    assert differing([shared(group), shared(other)]) == {"env.id": ["X", "Y"]}
