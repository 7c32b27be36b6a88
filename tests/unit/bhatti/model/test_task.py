from bhatti.model.task import TaskStatus


def test_what_runs_is_the_only_one_that_is_not_over() -> None:
    assert [status for status in TaskStatus if status is not TaskStatus.RUNNING] == [
        "done",
        "failed",
        "cancelled",
        "interrupted",
    ]
