"""Episodes of a report that are played again."""

from rltrain.pictures.recording import Recording
from rltrain.report.episodes import _note, _Played


def test_an_episode_repeats_itself_up_to_rounding():
    def note(total, length):
        return _note(_Played(None, 3, -1743.910750825937, 200), Recording(total=total, length=length))

    assert note(-1743.9107456793768, 200) == ""  # the actions of one observation, and of twenty at once
    assert note(-1743.910750825937, 199) != ""
    assert "returned -1640.5, 200 steps: it does not repeat itself" in note(-1640.5, 200)
