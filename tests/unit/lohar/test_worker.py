import threading

from lohar.loop import Loop
from lohar.worker import Worker


def test_jobs_run_elsewhere_in_order_and_answer_in_the_loop() -> None:
    loop = Loop()
    worker = Worker(loop)
    seen: list[tuple[str, object]] = []

    def job(name: str) -> None:
        seen.append((name, threading.get_ident() == threading.main_thread().ident))

    def done(name: str, last: bool = False) -> None:
        seen.append((name, threading.get_ident() == threading.main_thread().ident))
        if last:
            loop.stop()

    worker.submit(lambda: job("first job"), lambda error: done(f"first done: {error}"))
    worker.submit(lambda: job("second job"), lambda error: done(f"second done: {error}", last=True))
    loop.run()
    loop.close()
    assert [entry for entry in seen if "job" in entry[0]] == [("first job", False), ("second job", False)]
    assert [entry for entry in seen if "done" in entry[0]] == [("first done: None", True), ("second done: None", True)]


def test_a_job_that_fails_says_why() -> None:
    loop = Loop()
    worker = Worker(loop)
    errors: list[OSError | None] = []

    def fail() -> None:
        raise OSError(28, "disk full")

    def done(error: OSError | None) -> None:
        errors.append(error)
        loop.stop()

    worker.submit(fail, done)
    loop.run()
    loop.close()
    assert [str(error) for error in errors] == ["[Errno 28] disk full"]
