"""Programs with environments of their own: found, named by a variable, or absent, which is an error where services are required."""

import pytest
from tests.services import conftest
from tests.services.conftest import own_program

VARIABLE = "DEEPSEEK_SOME_PROGRAM"


@pytest.fixture
def environments(tmp_path, monkeypatch):
    monkeypatch.setattr(conftest, "OWN_ENVIRONMENTS", tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def test_what_is_absent_is_skipped_or_fails_where_it_is_required(environments, monkeypatch):
    monkeypatch.delenv("DEEPSEEK_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make services"):
        own_program("some", variable=VARIABLE)
    monkeypatch.setenv("DEEPSEEK_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="make services"):
        own_program("some", variable=VARIABLE)


def test_a_variable_goes_before_what_is_installed_and_must_name_something(environments, monkeypatch):
    monkeypatch.delenv("DEEPSEEK_REQUIRE_SERVICES", raising=False)
    there = environments / "some" / "bin" / "some"
    there.parent.mkdir(parents=True)
    there.touch()
    assert own_program("some", variable=VARIABLE) == str(there)
    other = environments / "other"
    monkeypatch.setenv(VARIABLE, str(other))
    with pytest.raises(pytest.fail.Exception, match="other"):
        own_program("some", variable=VARIABLE)
    other.touch()
    assert own_program("some", variable=VARIABLE) == str(other)
