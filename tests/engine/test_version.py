"""Which program made an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import version


def test_code_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("engine/a.py", "conf/b.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(version, "__file__", str(tmp_path / "engine" / "version.py"))
    read = version.code_hash.__wrapped__
    first = read()
    (tmp_path / "engine" / "a.pyc").write_text("1")
    assert read() == first
    (tmp_path / "conf" / "b.yaml").write_text("2")
    second = read()
    (tmp_path / "conf" / "b.yaml").rename(tmp_path / "conf" / "c.yaml")
    assert len({first, second, read()}) == 3
