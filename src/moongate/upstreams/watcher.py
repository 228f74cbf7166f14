"""The watcher: a small process of its own that is the parent of all hosted servers and outlives the gateway by seconds.

It is run as a script, imports nothing of Moongate, and does one thing at a time in one loop without ever blocking: it
starts programs, says when they end, and ends whole trees. A tree is what a program and its children have started,
wherever that went: on Linux the watcher is a subreaper (prctl(2)), so processes whose parent died become its own
children, and are told apart by session or by the `MOONGATE_PROCESS` variable of their environment. Where there is no
/proc, a tree is a process group. When the gateway is gone, however it ended, the socket to it closes and every tree is
ended.

The socket carries length-prefixed JSON both ways (texts of the system as Latin-1, so that any byte passes). In: `{do:
"spawn", id, argv, env, cwd, path, limits, mark}` with the program's stdin, stdout and stderr as SCM_RIGHTS, or `{do:
"end", id, grace}`. Out: `{id, pid}`, or `{id, error: [stage, errno]}` and no more; then `{id, code}` when the program
has ended (negative: by that signal), then `{id, left}` when nothing of its tree is there any more (or cannot be ended).
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time

if __name__ == "__main__":  # the gateway, which reads some of this module, need not carry it
    import ctypes

MARK = "MOONGATE_PROCESS"
RIGHTS = socket.CMSG_SPACE(3 * array.array("i").itemsize)  # for one message's descriptors: a read never mixes two
CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
LENGTH = struct.Struct("!I")
RECEIVE_BYTES = 256 * 1024
SELF_GRACE = 2.0  # for what a program leaves behind when it ends by itself
ORPHAN_GRACE = 1.0  # for every tree when the gateway is gone
GIVE_UP = 10.0  # after the first SIGKILL; only a process stuck in the kernel lasts that long
PACE = 0.01
SLOWEST_PACE = 0.1
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NEVER = float("inf")
CPU_GRACE = 5  # seconds between SIGXCPU and SIGKILL


class Tree:
    """One program and what it has started. `kill_at` is NEVER until it is being ended."""

    __slots__ = ("code", "empty", "kill_at", "mark", "number", "pid", "report", "told")

    def __init__(self, number: int, pid: int, mark: str, report: int) -> None:
        self.number = number
        self.pid = pid
        self.mark = f"{MARK}={mark}".encode()
        self.report = report  # where an error before exec would be written; -1 once that is known
        self.code: int | None = None
        self.kill_at = NEVER
        self.told: set[tuple[int, int]] = set()
        self.empty = 0


class Program:
    """What to run, as bytes."""

    __slots__ = ("argv", "cwd", "env", "limits", "path")

    def __init__(self, argv: list[str], env: list[list[str]], cwd: str | None, path: str) -> None:
        self.argv = [text.encode("latin-1") for text in argv]
        self.env = {name.encode("latin-1"): value.encode("latin-1") for name, value in env}
        self.cwd = None if cwd is None else cwd.encode("latin-1")
        self.path = path.encode("latin-1")
        self.limits: list[tuple[int, int, int]] = []

    def limit(self, memory: int | None, open_files: int | None, cpu_seconds: int | None) -> None:
        """Note the resource limits; memory comes last, because from then on this process itself is short of it."""
        wanted = [
            (resource.RLIMIT_CPU, cpu_seconds, CPU_GRACE),
            (resource.RLIMIT_NOFILE, open_files, 0),
            (resource.RLIMIT_DATA, memory, 0),
        ]
        for kind, value, more in wanted:
            if value is not None:
                hard = resource.getrlimit(kind)[1]
                top = value + more if hard == resource.RLIM_INFINITY else min(value + more, hard)
                self.limits.append((kind, min(value, top), top))


class Kernel:
    """What only some systems have: being the parent of orphans, and dying with one's parent."""

    def __init__(self) -> None:
        self._prctl = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):
                self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self.subreaper = self._prctl is not None and self._prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    def die_with(self, parent: int) -> None:
        """End this process when `parent` ends, also if it has done so just now."""
        if self._prctl is not None:
            self._prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(127)


def has_proc() -> bool:
    """Whether processes can be looked at (proc(5))."""
    return os.path.exists("/proc/self/stat")  # noqa: PTH110 - pathlib costs this process a megabyte


def read_file(name: str, limit: int) -> bytes:
    """The first `limit` bytes; empty if there is no such file (any more) or it may not be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, limit)
    except OSError:
        return b""
    finally:
        os.close(fd)


def has_mark(pid: int, mark: bytes) -> bool:
    """Whether the environment that a process was started with holds the entry `mark`, or one that begins so where it
    ends in a dash.
    """
    found = b"\0" + read_file(f"/proc/{pid}/environ", 4 * 1024 * 1024)
    return b"\0" + mark in found if mark.endswith(b"-") else b"\0" + mark + b"\0" in found


def process_table() -> dict[int, tuple[int, int, int]]:
    """Every living process: pid to parent, session, start time (proc(5)). Zombies are no processes."""
    table = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - see has_proc
        if entry.isdigit():
            stat = read_file(f"/proc/{entry}/stat", 4096)
            fields = stat[stat.rfind(b")") + 2 :].split(b" ", 20)
            if len(fields) > 20 and fields[0] not in {b"Z", b"X"}:
                table[int(entry)] = (int(fields[1]), int(fields[3]), int(fields[19]))
    return table


def execute(program: Program) -> tuple[str, int]:
    """Become the program. Returns only if that failed: at which stage, and errno."""
    name = program.argv[0]
    folders = [folder for folder in program.path.split(b":") if folder]
    candidates = [name] if b"/" in name else [folder + b"/" + name for folder in folders]
    for kind, soft, hard in program.limits:
        try:
            resource.setrlimit(kind, (soft, hard))
        except (OSError, ValueError) as error:
            return "limits", getattr(error, "errno", None) or errno.EINVAL
    failure = ("exec", errno.ENOENT)
    for candidate in candidates:
        try:
            os.execve(candidate, program.argv, program.env)  # noqa: S606 - running programs without a shell is the task
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                failure = ("exec", error.errno or errno.EINVAL)
            elif os.path.exists(candidate):  # noqa: PTH110 - see has_proc
                failure = ("interpreter", errno.ENOENT)
    return failure


def become(program: Program, fds: list[int], report: int, kernel: Kernel, parent: int) -> None:
    """In the new process: leave the watcher behind and become the program. Never returns."""
    stage, code = "start", errno.EINVAL
    try:
        kernel.die_with(parent)
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if signal.getsignal(number) == signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        stage = "cwd"
        if program.cwd is not None:
            os.chdir(program.cwd)
        stage, code = execute(program)
    except (OSError, ValueError, MemoryError) as error:
        code = getattr(error, "errno", None) or errno.ENOMEM
    finally:
        with contextlib.suppress(OSError):
            os.write(report, f"{stage} {code}".encode())
        os._exit(127)


class Watcher:
    """The loop. `control` is the socket to the gateway."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.kernel = Kernel()
        self.me = os.getpid()
        self.trees: dict[int, Tree] = {}
        self.over = False
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.fds: list[int] = []
        self.sweep_at = NEVER
        self.pace = PACE
        self.cost = 0.0
        self.selector = selectors.DefaultSelector()
        self.bell, wakeup = socket.socketpair()
        for sock in (control, self.bell, wakeup):
            sock.setblocking(False)
            sock.set_inheritable(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self.selector.register(control, selectors.EVENT_READ, self.on_control)
        self.selector.register(self.bell, selectors.EVENT_READ, self.on_bell)

    def run(self) -> None:
        """Until the gateway is gone and every tree with it."""
        while self.trees or not self.over:
            wait = None if self.sweep_at == NEVER else max(0.0, self.sweep_at - time.monotonic())
            for key, _ in self.selector.select(wait):
                key.data()
            if time.monotonic() >= self.sweep_at:
                self.sweep()

    def on_bell(self) -> None:
        """SIGCHLD: collect everything that has ended, so that there are no zombies."""
        with contextlib.suppress(BlockingIOError):
            self.bell.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.hurry()
            for tree in tuple(self.trees.values()):
                if tree.pid == pid and tree.code is None:
                    self.ended(tree, os.waitstatus_to_exitcode(status))

    def ended(self, tree: Tree, code: int) -> None:
        """The program itself has ended: say so at once, then see to what it left behind."""
        if tree.report >= 0:
            self.on_report(tree)
        if tree.number in self.trees:
            tree.code = code
            self.say({"id": tree.number, "code": code})
            self.end(tree, SELF_GRACE)

    def on_control(self) -> None:
        """Requests of the gateway, or its end."""
        self.flush()
        flags = 0
        try:
            data, ancillary, flags, _ = self.control.recvmsg(RECEIVE_BYTES, RIGHTS, CLOSE_ON_EXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        received = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received.frombytes(content)
        for fd in received:
            os.set_inheritable(fd, False)
        self.fds += received
        if (
            flags & socket.MSG_CTRUNC
        ):  # this process may not open more: keep the count, so that later ones are not mixed up
            self.fds += [-1] * (3 - len(received))
        if not data:
            self.gateway_gone()
        self.inbox += data
        while len(self.inbox) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self.inbox)[0]
            if len(self.inbox) < end:
                return
            text = bytes(self.inbox[LENGTH.size : end])
            del self.inbox[:end]
            self.on_request(text)

    def gateway_gone(self) -> None:
        """Nobody needs the servers any more."""
        self.over = True
        self.selector.unregister(self.control)
        self.control.close()
        for tree in tuple(self.trees.values()):
            self.end(tree, ORPHAN_GRACE)

    def on_request(self, text: bytes) -> None:
        """One request."""
        request = json.loads(text)
        number: int = request["id"]
        if request["do"] == "end":
            if number in self.trees:
                self.end(self.trees[number], request["grace"])
            return
        fds, self.fds = self.fds[:3], self.fds[3:]
        program = Program(request["argv"], request["env"], request["cwd"], request["path"])
        try:
            program.limit(*request["limits"])
            self.spawn(number, program, request["mark"], fds)
        except OSError as error:
            self.say({"id": number, "error": ["fork", error.errno]})
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)

    def spawn(self, number: int, program: Program, mark: str, fds: list[int]) -> None:
        """Start a program; whether it could be started comes through a pipe that exec closes. Raises OSError."""
        if min(fds) < 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        inner, outer = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(inner)
            os.close(outer)
            raise
        if pid == 0:
            become(program, fds, outer, self.kernel, self.me)
        os.close(outer)
        os.set_blocking(inner, False)
        tree = self.trees[number] = Tree(number, pid, mark, inner)
        self.selector.register(inner, selectors.EVENT_READ, lambda: self.on_report(tree))

    def on_report(self, tree: Tree) -> None:
        """The new process has become the program, or says why not. A file system that hangs delays only this."""
        if tree.report < 0:
            return
        try:
            told = os.read(tree.report, 100)
        except BlockingIOError:
            return
        self.selector.unregister(tree.report)
        os.close(tree.report)
        tree.report = -1
        if told:
            stage, _, code = told.decode().partition(" ")
            del self.trees[tree.number]
            self.say({"id": tree.number, "error": [stage, int(code)]})
        else:
            self.say({"id": tree.number, "pid": tree.pid})

    def end(self, tree: Tree, grace: float) -> None:
        """SIGTERM to the whole tree with the next sweep, SIGKILL after `grace` seconds."""
        tree.kill_at = min(tree.kill_at, time.monotonic() + grace)
        self.hurry()

    def hurry(self) -> None:
        """Something has changed: look soon, but spend at most a fifth of the time on looking."""
        self.pace = PACE
        if any(tree.kill_at < NEVER for tree in self.trees.values()):
            self.sweep_at = min(self.sweep_at, time.monotonic() + 4 * self.cost)

    def sweep(self) -> None:
        """Signal what is left of the trees that are being ended. Two empty looks in a row mean that nothing is."""
        began = time.monotonic()
        members = self.members() if has_proc() else self.groups()
        for tree in tuple(self.trees.values()):
            if tree.kill_at < NEVER:
                self.sweep_tree(tree, members.get(tree.number, []), began)
        now = time.monotonic()
        self.cost = now - began
        self.pace = min(self.pace * 2, SLOWEST_PACE)
        ending = any(tree.kill_at < NEVER for tree in self.trees.values())
        self.sweep_at = now + max(self.pace, 4 * self.cost) if ending else NEVER

    def sweep_tree(self, tree: Tree, members: list[tuple[int, int]], now: float) -> None:
        """One tree's turn."""
        if (not members and tree.code is not None and tree.empty) or now > tree.kill_at + GIVE_UP:
            if tree.report >= 0:
                self.selector.unregister(tree.report)
                os.close(tree.report)
            del self.trees[tree.number]
            self.say({"id": tree.number, "left": len(members)})
            return
        tree.empty = not members
        for member in members:
            if now >= tree.kill_at:
                send(member[0], signal.SIGKILL)
            elif member not in tree.told:
                tree.told.add(member)
                send(member[0], signal.SIGTERM)

    def members(self) -> dict[int, list[tuple[int, int]]]:
        """Tree number to the processes (pid, start time) that belong to it."""
        table = process_table()
        children: dict[int, list[int]] = {}
        for pid, (parent, _, _) in table.items():
            children.setdefault(parent, []).append(pid)
        found: dict[int, list[tuple[int, int]]] = {}
        seen = {self.me}
        for root in children.get(self.me, []) if self.kernel.subreaper else list(table):
            number = self.owner(root, table[root][1])
            waiting = [root] if number is not None else []
            while waiting:
                pid = waiting.pop()
                if pid not in seen and number is not None:
                    seen.add(pid)
                    found.setdefault(number, []).append((pid, table[pid][2]))
                    waiting += children.get(pid, [])
        return found

    def owner(self, pid: int, session: int) -> int | None:
        """Whose tree a child of the watcher, or an orphan that came to it, belongs to.

        One that left its session and cleaned its environment tells nothing; it ends with the last tree that may have
        made it.
        """
        for tree in self.trees.values():
            if session == tree.pid or (pid == tree.pid and tree.code is None):
                return tree.number
        for tree in self.trees.values():
            if has_mark(pid, tree.mark):
                return tree.number
        if self.kernel.subreaper and all(tree.kill_at < NEVER for tree in self.trees.values()):
            return next(iter(self.trees), None)
        return None

    def groups(self) -> dict[int, list[tuple[int, int]]]:
        """Without /proc: the process groups of the trees, as pids that stand for groups (kill(2))."""
        return {tree.number: [(-tree.pid, 0)] for tree in self.trees.values() if send(-tree.pid, 0)}

    def say(self, message: dict[str, object]) -> None:
        """Tell the gateway."""
        text = json.dumps(message).encode()
        self.outbox += LENGTH.pack(len(text)) + text
        self.flush()

    def flush(self) -> None:
        """Write what the socket takes; the rest when it takes more."""
        if self.over:
            return
        try:
            while self.outbox:
                del self.outbox[: self.control.send(self.outbox)]
        except BlockingIOError:
            self.selector.modify(self.control, selectors.EVENT_READ | selectors.EVENT_WRITE, self.on_control)
            return
        except OSError:  # it is gone; reading says so too
            self.outbox.clear()
        self.selector.modify(self.control, selectors.EVENT_READ, self.on_control)


def send(pid: int, number: int) -> bool:
    """A signal to a process, or to a group (negative); whether it is there."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    Watcher(socket.socket(fileno=int(sys.argv[1]))).run()
