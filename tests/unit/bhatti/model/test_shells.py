from bhatti.model.shells import LOGIN_SHELL, shown


def test_people_know_it_by_its_name_and_others_by_their_command() -> None:
    assert shown(" ".join(LOGIN_SHELL)) == "login shell"
    assert shown("sh -c echo\n  hello") == "sh -c echo hello"
    assert shown("top") == "top"
