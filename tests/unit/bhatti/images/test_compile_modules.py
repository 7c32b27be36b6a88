import importlib.util
import subprocess
import sys
from importlib.machinery import SourcelessFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from bhatti.images import compile_modules
from bhatti.images.compile_modules import main


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Documented."""\nVALUE = 7\nassert VALUE\n')
    (package / "inner/deep.py").write_text("def fail():\n    raise ValueError\n")
    (package / "inner/data.txt").write_text("not a module")
    (package / "test").mkdir()
    (package / "test/test_it.py").write_text("import nothing_at_all\n")
    return package


def load(path: Path) -> ModuleType:
    loader = SourcelessFileLoader("loaded", str(path))
    spec = importlib.util.spec_from_loader("loaded", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_modules_are_compiled_beside_each_other_and_run_without_their_source(source: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    main([str(source), str(into), "0", "test"])
    found = sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file())
    assert found == ["__init__.pyc", "inner/deep.pyc"]
    module = load(into / "__init__.pyc")
    assert (module.VALUE, module.__doc__) == (7, "Documented.")


def test_optimised_modules_have_no_docstrings(source: Path, tmp_path: Path) -> None:
    main([str(source), str(tmp_path / "into"), "2", "test"])
    assert load(tmp_path / "into/__init__.pyc").__doc__ is None


def test_equal_sources_give_equal_files_wherever_they_lie(source: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere/package"
    elsewhere.parent.mkdir()
    subprocess.run(["cp", "-r", source, elsewhere], check=True)
    main([str(source), str(tmp_path / "one"), "0", "test"])
    main([str(elsewhere), str(tmp_path / "two"), "0", "test"])
    for name in ("__init__.pyc", "inner/deep.pyc"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_traceback_names_the_module_and_not_the_machine_it_was_compiled_on(source: Path, tmp_path: Path) -> None:
    main([str(source), str(tmp_path / "into"), "0", "test"])
    module = load(tmp_path / "into/inner/deep.pyc")
    assert module.fail.__code__.co_filename == "package/inner/deep.py"


def test_the_script_fails_on_a_module_that_does_not_compile(source: Path, tmp_path: Path) -> None:
    (source / "broken.py").write_text("def (:\n")
    script = compile_modules.__file__
    done = subprocess.run(
        [sys.executable, "-I", "-S", script, source, tmp_path / "into", "0", "test"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "broken.py" in done.stderr
