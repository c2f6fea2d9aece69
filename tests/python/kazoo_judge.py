"""kazoo, the Python client, drives a ZooKeeper server and says what it found.

usage: kazoo_judge.py HOST:PORT

Every check is a function; a check that fails names itself and ends the run with status 1. Waiting is for conditions, with
a deadline. Works the same on Apache ZooKeeper and on our server, since both must pass it.
"""

import sys
import threading
import traceback

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
)
from kazoo.protocol.states import EventType
from kazoo.recipe.lock import Lock
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl

PATIENCE = 30
HOSTS = sys.argv[1]


def client(**options):
    made = KazooClient(hosts=HOSTS, timeout=20, **options)
    made.start(timeout=PATIENCE)
    return made


def stopped(*clients):
    for each in clients:
        each.stop()
        each.close()


class Seen:
    """Watch events in the order they came."""

    def __init__(self):
        self.events = []
        self.more = threading.Condition()

    def __call__(self, event):
        with self.more:
            self.events.append((event.type, event.path))
            self.more.notify_all()

    def wait_for(self, *events):
        with self.more:
            if not self.more.wait_for(lambda: len(self.events) >= len(events), PATIENCE):
                raise AssertionError(f"only {self.events} came, not {events}")
            assert self.events == list(events), (self.events, events)


def raises(error, call, *args, **kwargs):
    try:
        result = call(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"{call.__name__} gave {result!r}, not {error.__name__}")


def check_nodes(zk):
    assert zk.create("/kz", b"one") == "/kz"
    raises(NodeExistsError, zk.create, "/kz", b"")
    raises(NoNodeError, zk.create, "/kz/no/parent", b"")
    data, stat = zk.get("/kz")
    assert data == b"one" and stat.version == 0 and stat.data_length == 3, (data, stat)
    stat = zk.set("/kz", b"two", version=0)
    assert stat.version == 1, stat
    raises(BadVersionError, zk.set, "/kz", b"", version=0)
    path, stat = zk.create("/kz/child", b"", include_data=True)
    assert path == "/kz/child" and stat.czxid == stat.mzxid == stat.pzxid, stat
    assert zk.create("/kz/seq-", b"", sequence=True) == "/kz/seq-0000000001"
    assert zk.create("/kz/seq-", b"", sequence=True) == "/kz/seq-0000000002"
    children, stat = zk.get_children("/kz", include_data=True)
    assert sorted(children) == ["child", "seq-0000000001", "seq-0000000002"], children
    assert stat.cversion == 3 and stat.numChildren == 3, stat
    raises(NotEmptyError, zk.delete, "/kz")
    zk.delete("/kz", recursive=True)
    assert zk.exists("/kz") is None
    raises(NoNodeError, zk.get, "/kz")
    zk.ensure_path("/kz/a/b/c")
    assert zk.exists("/kz/a/b/c") is not None
    assert zk.sync("/kz") == "/kz"


def check_watches(zk):
    other = client()
    seen = Seen()
    zk.create("/kz-watch")
    assert zk.exists("/kz-watch/x", watch=seen) is None
    other.create("/kz-watch/x", b"1")
    seen.wait_for((EventType.CREATED, "/kz-watch/x"))

    seen = Seen()
    zk.get("/kz-watch/x", watch=seen)
    other.set("/kz-watch/x", b"2")
    seen.wait_for((EventType.CHANGED, "/kz-watch/x"))
    other.set("/kz-watch/x", b"3")

    children = Seen()
    deleted = Seen()
    zk.get_children("/kz-watch", watch=children)
    zk.get("/kz-watch/x", watch=deleted)
    other.delete("/kz-watch/x")
    children.wait_for((EventType.CHILD, "/kz-watch"))
    deleted.wait_for((EventType.DELETED, "/kz-watch/x"))
    # The one-shot watch of before saw nothing of the third change.
    assert len(seen.events) == 1, seen.events

    values = []
    more = threading.Condition()

    @zk.DataWatch("/kz-watch/y")
    def on_change(data, stat):
        with more:
            values.append(data)
            more.notify_all()

    def await_value(value):
        with more:
            assert more.wait_for(lambda: values and values[-1] == value, PATIENCE), values

    await_value(None)
    other.create("/kz-watch/y", b"a")
    await_value(b"a")
    other.set("/kz-watch/y", b"b")
    await_value(b"b")
    other.delete("/kz-watch/y")
    await_value(None)
    stopped(other)


def check_ephemerals(zk):
    zk.create("/kz-eph")
    owner = client()
    owner.create("/kz-eph/e", b"", ephemeral=True)
    stat = zk.exists("/kz-eph/e")
    assert stat.owner_session_id == owner.client_id[0], stat
    name = owner.create("/kz-eph/s-", b"", ephemeral=True, sequence=True)
    seen = Seen()
    zk.exists("/kz-eph/e", watch=seen)
    stopped(owner)
    seen.wait_for((EventType.DELETED, "/kz-eph/e"))
    assert zk.exists(name) is None
    assert zk.get_children("/kz-eph") == []


def check_transactions(zk):
    zk.create("/kz-txn", b"0")
    transaction = zk.transaction()
    transaction.check("/kz-txn", 0)
    transaction.create("/kz-txn/a", b"x")
    transaction.set_data("/kz-txn", b"1", 0)
    transaction.create("/kz-txn/b")
    transaction.delete("/kz-txn/b")
    results = transaction.commit()
    assert results[0] is True and results[1] == "/kz-txn/a" and results[2].version == 1, results
    assert results[3] == "/kz-txn/b" and results[4] is True, results
    assert zk.get_children("/kz-txn") == ["a"]

    transaction = zk.transaction()
    transaction.create("/kz-txn/c")
    transaction.check("/kz-txn", 0)
    transaction.create("/kz-txn/d")
    results = transaction.commit()
    assert isinstance(results[0], RolledBackError), results
    assert isinstance(results[1], BadVersionError), results
    # kazoo has no class of its own for the code -2 in some versions; it is an error in all.
    assert isinstance(results[2], Exception), results
    assert zk.get_children("/kz-txn") == ["a"]


def check_acl(zk):
    owner = client(auth_data=[("digest", "kz:secret")])
    stranger = client()
    acl = [make_digest_acl("kz", "secret", all=True), make_acl("world", "anyone", read=True)]
    owner.create("/kz-acl", b"mine", acl=acl)
    assert stranger.get("/kz-acl")[0] == b"mine"
    raises(NoAuthError, stranger.set, "/kz-acl", b"theirs")
    raises(NoAuthError, stranger.create, "/kz-acl/x")
    owner.set("/kz-acl", b"still mine")
    assert sorted(entry.id.scheme for entry in owner.get_acls("/kz-acl")[0]) == ["digest", "world"]
    owner.set_acls("/kz-acl", [make_digest_acl("kz", "secret", all=True)])
    raises(NoAuthError, stranger.get, "/kz-acl")
    raises(InvalidACLError, stranger.create, "/kz-acl2", b"", acl=[make_acl("nonsense", "x", all=True)])
    stranger.add_auth("digest", "kz:secret")
    assert stranger.get("/kz-acl")[0] == b"still mine"
    owner.set_acls("/kz-acl", OPEN_ACL_UNSAFE)
    owner.delete("/kz-acl")
    stopped(owner, stranger)


def check_lock(_zk):
    count = 4
    inside = []
    order = []
    overlaps = []
    guard = threading.Lock()
    clients = [client() for _ in range(count)]

    def contend(zk, name):
        lock = Lock(zk, "/kz-lock", identifier=name)
        for _ in range(5):
            with lock:
                with guard:
                    inside.append(name)
                    if len(inside) > 1:
                        overlaps.append(list(inside))
                    order.append(name)
                zk.get("/kz-lock")
                with guard:
                    inside.remove(name)

    threads = [threading.Thread(target=contend, args=(zk, f"c{at}")) for at, zk in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a contender is stuck"
    assert not overlaps, overlaps
    assert len(order) == count * 5, order

    holder = Lock(clients[0], "/kz-lock", identifier="holder")
    waiter = Lock(clients[1], "/kz-lock", identifier="waiter")
    assert holder.acquire(timeout=PATIENCE)
    assert not waiter.acquire(blocking=False)
    raises(Exception, waiter.acquire, timeout=0.5)
    assert holder.contenders() == ["holder"], holder.contenders()
    # The session's end frees the lock.
    taken = []
    thread = threading.Thread(target=lambda: taken.append(waiter.acquire(timeout=PATIENCE)))
    thread.start()
    clients[0].stop()
    thread.join(PATIENCE)
    assert taken == [True], taken
    stopped(*clients)


CHECKS = [check_nodes, check_watches, check_ephemerals, check_transactions, check_acl, check_lock]


def main():
    zk = client()
    version = zk.server_version(retries=3)
    print("server version", ".".join(str(part) for part in version), flush=True)
    failed = 0
    for check in CHECKS:
        try:
            check(zk)
            print("passed", check.__name__, flush=True)
        except Exception:
            failed += 1
            print("FAILED", check.__name__, flush=True)
            traceback.print_exc(file=sys.stdout)
    stopped(zk)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed", flush=True)
    sys.exit(1 if failed else 0)


main()
