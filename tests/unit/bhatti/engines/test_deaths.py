from bhatti.engines.deaths import Deaths


def test_who_listened_last_is_told_and_before_that_nobody() -> None:
    deaths, first, second = Deaths(), list[str](), list[str]()
    deaths.died("s0")
    deaths.listen(first.append)
    deaths.died("s1")
    deaths.listen(second.append)
    deaths.died("s2")
    assert (first, second) == (["s1"], ["s2"])
