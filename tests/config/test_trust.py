import sys
from pathlib import Path

import pytest

from gradkit.config.trust import import_trusted
from gradkit.errors import ConfigError


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A folder with the user's package `mine_trusted`; it is the current directory and not yet importable."""
    folder = tmp_path / "mine_trusted"
    folder.mkdir()
    (folder / "__init__.py").write_text("import os\nfrom functools import partial\nbuilt = partial(dict)\n")
    (folder / "nets.py").write_text(
        "from os import system\nimport collections\n"
        "class Net:\n    class Inner: pass\ndef make(): return Net()\nother = collections.OrderedDict\nnumber = 3\n"
    )
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "failing.py").write_text("raise RuntimeError('no licence')\n")
    (folder / "needy.py").write_text("import not_there_at_all\n")
    (tmp_path / "mine_trusted_too.py").write_text("class Net: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mine_trusted")]:
        del sys.modules[name]


def test_class_and_function_of_a_trusted_package_are_imported_from_the_current_directory(package):
    assert import_trusted("mine_trusted.nets.Net", ["mine_trusted"], "model.target").__name__ == "Net"
    assert import_trusted("mine_trusted.nets.Net.Inner", ["mine_trusted.nets"], "model.target").__name__ == "Inner"
    assert import_trusted("mine_trusted.nets.make", ["other", "mine_trusted"], "model.target").__name__ == "make"


@pytest.mark.parametrize(
    ("path", "prefixes", "said"),
    [
        ("mine_trusted.nets.Net", [], "add: --trust mine_trusted"),
        ("mine_trusted.nets.Net", ["mine"], "add: --trust mine_trusted"),
        ("mine_trusted.nets.Net", ["mine_trusted.other"], "add: --trust"),
        ("mine_trusted_too.Net", ["mine_trusted"], "add: --trust mine_trusted_too"),
        ("mine_trusted.os.system", ["mine_trusted"], "is a builtin_function_or_method"),
        ("mine_trusted.os.makedirs", ["mine_trusted"], "leads to 'os.makedirs', outside of --trust mine_trusted"),
        ("mine_trusted.nets.system", ["mine_trusted"], "is a builtin_function_or_method"),
        ("mine_trusted.nets.other", ["mine_trusted"], "leads to 'collections.OrderedDict'"),
        ("mine_trusted.built", ["mine_trusted"], "is a partial; expected a class or a function"),
        ("mine_trusted.nets.number", ["mine_trusted"], "is a int"),
        ("mine_trusted.nets", ["mine_trusted"], "is a module"),
        ("mine_trusted.nets.Nett", ["mine_trusted"], "there is no 'mine_trusted.nets.Nett'.* Did you mean 'Net'"),
        ("mine_trusted.nets.Net.Inner.x", ["mine_trusted"], "'mine_trusted.nets.Net.Inner' has no 'x'"),
        ("mine_trusted.absent.Net", ["mine_trusted"], "there is no 'mine_trusted.absent'"),
        ("mine_trusted.broken.f", ["mine_trusted"], "SyntaxError"),
        ("mine_trusted.failing.f", ["mine_trusted"], "RuntimeError: no licence"),
        ("mine_trusted.needy.f", ["mine_trusted"], "not_there_at_all"),
        ("Net", ["Net"], "expected a dotted path"),
        ("mine_trusted..Net", ["mine_trusted"], "expected a dotted path"),
        ("mine_trusted.nets.make.__globals__", ["mine_trusted"], "expected a dotted path"),
        ("mine_trusted.nets.Net()", ["mine_trusted"], "expected a dotted path"),
    ],
)
def test_anything_else_is_refused_in_one_line(package, path, prefixes, said):
    with pytest.raises(ConfigError, match=said) as caught:
        import_trusted(path, prefixes, "model.target")
    assert str(caught.value).startswith("model.target")


def test_untrusted_module_is_not_even_imported(package):
    with pytest.raises(ConfigError):
        import_trusted("mine_trusted.failing.f", ["elsewhere"], "model.target")
    assert "mine_trusted" not in sys.modules
