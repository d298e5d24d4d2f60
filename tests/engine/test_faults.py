"""What goes wrong over a weekend: kills, interruptions, full disks, flipped bytes, places that cannot be written."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from engine import InputError, locks, open_store
from engine.command import compose
from engine.generate import main
from engine.locks import locked
from engine.places import LEASE_OBJECT, object_store
from engine.store import create_store
from engine.verify import find_damage, mend, verify
from tests.engine.makers import COMMAND, about, assert_equal, completed, generate, run, run_until
from tests.engine.s3_server import s3_server

ROWS = ["samples=48"]


@pytest.fixture(scope="module")
def command_made(tmp_path_factory):
    """What the command makes when nothing happens."""
    place = tmp_path_factory.mktemp("stores") / "whole.zarr"
    subprocess.run([*COMMAND, *ROWS, f"out={place}"], check=True, capture_output=True)
    return open_store(place)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Ten rows of the tiny brain."""
    return generate(tmp_path_factory.mktemp("stores") / "tiny.zarr", 10)


def test_killed_and_resumed_generation_gives_the_same_store(command_made, tmp_path):
    """SIGKILL while it writes; completed rows only grow, and the end is the uninterrupted one."""
    place, counts = tmp_path / "killed.zarr", [0]
    for _ in range(2):
        run_until(place, counts[-1] + 1, signal.SIGKILL, ROWS)
        counts.append(completed(place))
    assert counts[0] < counts[1] < counts[2]
    subprocess.run([*COMMAND, *ROWS, f"out={place}"], check=True, capture_output=True)
    assert_equal(open_store(place), command_made)
    assert not list(place.rglob("*.partial"))


@pytest.mark.parametrize(
    ("sent", "crew"),
    [(signal.SIGINT, []), (signal.SIGTERM, ["cluster=local", "cluster.workers=1", "cluster.dashboard=0"])],
)
def test_an_interruption_ends_the_running_shards_and_says_how_to_resume(tmp_path, sent, crew):
    code, out, err = run_until(tmp_path / "stopped.zarr", 4, sent, ["samples=400", "backend=cpu", *crew])
    assert code == 130
    assert "Traceback" not in out + err
    count = completed(tmp_path / "stopped.zarr")
    assert 4 <= count < 400
    assert f"{count} of 400 rows are complete; run the same command to resume" in out
    assert find_damage(open_store(tmp_path / "stopped.zarr")) == []


def flip(file: Path, share: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(share * (len(data) - 1))] ^= 0xFF
    file.write_bytes(data)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", ["density/c/1/0/0/0", "mu1/c/1", "origin/c/1/0", "checksum/c/1", "complete/c/1"])
def test_a_flipped_byte_is_found_and_only_its_shard_made_again(tiny, tmp_path, capsys, name, share):
    place = tmp_path / "flipped.zarr"
    shutil.copytree(tiny.place, place)
    flip(place / name, share)
    others = {file: file.stat().st_mtime_ns for file in place.rglob("c/[02]*") if file.is_file()}
    assert verify(str(place)) == 1
    assert "repair=" in capsys.readouterr().out
    store = open_store(place, "r+")
    mend(store)
    assert "1 of 3 shards" in capsys.readouterr().out
    assert run(store) == 0
    assert verify(str(place)) == 0
    assert_equal(open_store(place), tiny)
    assert others == {file: file.stat().st_mtime_ns for file in others}


def test_a_shard_that_is_gone_is_made_again_by_the_command(command_made, tmp_path, capsys):
    place = tmp_path / "gone.zarr"
    shutil.copytree(command_made.place, place)
    shutil.rmtree(place / "density" / "c" / "3")
    flip(place / "complete" / "c" / "5", 0.5)
    assert main(compose("generate", [f"verify={place}"])) == 1
    assert main(compose("generate", [f"repair={place}"])) == 0
    assert main(compose("generate", [f"verify={place}"])) == 0
    said = capsys.readouterr().out
    assert "2 of 12 shards to be made again" in said
    assert "made again: the same bytes" in said
    assert_equal(open_store(place), command_made)


def test_a_store_of_another_physics_is_not_made_again(command_made, tmp_path, capsys):
    place = tmp_path / "older.zarr"
    shutil.copytree(command_made.place, place)
    metadata = place / "zarr.json"
    version = command_made.attributes["physics_version"]
    metadata.write_text(metadata.read_text().replace(f'"physics_version": {version}', '"physics_version": 0'))
    assert verify(str(place)) == 0
    assert "not made again: the store was made with physics_version=0" in capsys.readouterr().out
    with pytest.raises(InputError, match="physics_version=0"):
        main(compose("generate", [f"repair={place}"]))


def test_metadata_that_cannot_be_read_is_one_sentence(tiny, tmp_path):
    place = tmp_path / "unreadable.zarr"
    shutil.copytree(tiny.place, place)
    (place / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        verify(str(place))


@pytest.fixture
def small_disk(tmp_path):
    """A folder with 3 MB of room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_with_a_sentence_and_goes_on_where_there_is_room(command_made, small_disk):
    place, ballast = small_disk / "fk.zarr", small_disk / "ballast"
    ballast.write_bytes(bytes(2_800_000))
    full = subprocess.run([*COMMAND, *ROWS, f"out={place}"], capture_output=True, text=True, check=False)
    assert full.returncode == 2, full.stderr
    count = completed(place)
    assert 0 < count < 48
    assert f"No space left on device; {count} of 48 rows are complete" in full.stderr
    assert "Traceback" not in full.stderr
    ballast.unlink()
    subprocess.run([*COMMAND, *ROWS, f"out={place}"], check=True, capture_output=True)
    assert_equal(open_store(place), command_made)


@pytest.mark.parametrize("place", ["memory://bucket/fk.zarr", "s3://bucket/folder/fk.zarr"])
def test_an_object_store_is_a_place(tiny, tmp_path, monkeypatch, capsys, place):
    with s3_server() as (environment, _):
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        object_store.cache_clear()
        with locked(place):
            store = generate(place, 10)
        assert_equal(store, tiny)
        assert verify(place) == 0
        key = "density/c/1/0/0/0"
        data = bytearray(object_store(place).get(key).bytes())
        data[len(data) // 2] ^= 0xFF
        object_store(place).put(key, bytes(data))
        assert verify(place) == 1
        store = open_store(place, "r+")
        mend(store)
        assert run(store) == 0
        assert_equal(open_store(place), tiny)
        assert main(compose("generate", [f"describe='{place}'", f"out='{tmp_path}/card'"])) == 0
        with pytest.raises(InputError, match="something else"):
            create_store(place.rsplit("/", 1)[0] if place.startswith("s3") else _occupied(), 4, about())
    object_store.cache_clear()


def _occupied():
    object_store("memory://other/fk.zarr").put("letters.txt", b"dear")
    return "memory://other/fk.zarr"


def test_one_generator_writes_an_object_store_and_a_dead_ones_lease_runs_out(monkeypatch):
    monkeypatch.setattr(locks, "LEASE", 0.5)
    place = "memory://leased/fk.zarr"
    with locked(place):
        with pytest.raises(InputError, match="another generator is writing"), locked(place):
            pass
        assert object_store(place).head(LEASE_OBJECT)
    with pytest.raises(FileNotFoundError):
        object_store(place).head(LEASE_OBJECT)
    object_store(place).put(LEASE_OBJECT, b"of a generator that was killed")
    with locked(place):
        pass


def test_a_place_that_does_not_answer_is_one_sentence(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with pytest.raises(InputError, match=r"s3://nobody/fk\.zarr"):
        main(compose("generate", ["verify='s3://nobody/fk.zarr'"]))
