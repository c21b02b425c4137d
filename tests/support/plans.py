"""Plans that are made quickly: figures of speed mean nothing then."""

from __future__ import annotations

import pytest

from wdsremux.forecast import choices, forecast, outlooks, study

QUICK = {"LONGER_S": 0.2, "SHORTER_S": 0.1, "PROBED_S": 0.1, "PROBED_PLACES": 8, "LOADED_S": 0.1, "QUALITY_PLACES": 4}


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure nothing for long."""
    for name, value in QUICK.items():
        monkeypatch.setattr(outlooks, name, value)
    monkeypatch.setattr(study, "LEAST_FITTED", 8)
    monkeypatch.setattr(forecast, "TODAY_S", 0.1)


def look_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look only at the first choice beside what is asked for."""
    monkeypatch.setattr(outlooks, "choices", lambda *given: choices.choices(*given)[:2])
