"""Runs a command that nobody trusts: as an unprivileged user, without network, in a view of the machine that is read-only.

    python sandbox.py FOLDER READABLE -- COMMAND...

The command sees the system's folders, the paths in READABLE (joined by colons), FOLDER, which alone it may write to, and an
empty /dev/shm for everything temporary. It gets namespaces of its own for the network (only the loopback), processes, mounts,
System V memory and host name. Root becomes `nobody`; any other user stays itself, without a right over anything outside.
All processes of the command end with the first one. It exits with the command's exit code, or 128 + the signal that ended it.

Linux and the standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

NOBODY = 65534
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/etc", "/dev", "/sys")
MEMORY = "/dev/shm"  # noqa: S108  a file system of the command's own, not the machine's
TERMINALS = ("/dev/pts", "/dev/mqueue")  # those of the user are open to all its processes, and so are its queues
ROOT = "/proc"  # where the view is built: the one folder that holds nothing to be seen
PROBE_S = 30.0
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 0x1
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
LIBC = ctypes.CDLL(None, use_errno=True)


def called(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError that names it."""
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind)]
    called("mount", *words, ctypes.c_ulong(flags), data.encode() if data is not None else None)


def separate() -> None:
    """Leave the machine's namespaces; a user other than root gets a user namespace, in which that is allowed."""
    user, group, flags = os.getuid(), os.getgid(), CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    called("unshare", flags if user == 0 else flags | CLONE_NEWUSER)
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    socket.sethostname("localhost")  # what torchrun and gloo look up
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))


def view(folder: str, readable: Iterable[str]) -> None:
    """Build at ROOT all that the command sees; only `folder` and MEMORY can be written to."""
    called("unshare", CLONE_NEWNS)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for path in SYSTEM:
        show(path)
    for path in filter(os.path.isdir, TERMINALS):
        mount("tmpfs", ROOT + path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    mount("tmpfs", ROOT + MEMORY, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for path in sorted(readable):  # a folder before what is in it
        show(path)
    for path in (folder, "/proc"):
        os.makedirs(ROOT + path, exist_ok=True)
    mount("proc", f"{ROOT}/proc", "proc", MS_NOSUID | MS_NODEV)
    protect(ROOT, readonly=True)
    protect(ROOT + MEMORY, readonly=False)
    mount(folder, ROOT + folder, None, MS_BIND)


def show(path: str) -> None:
    """Let the command see a file or folder under its own name; a link of the system's stays a link."""
    target = ROOT + path
    if os.path.lexists(target) or not os.path.exists(path):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path) and path in SYSTEM:
        os.symlink(os.readlink(path), target)
        return
    os.makedirs(target) if os.path.isdir(path) else Path(target).touch()
    mount(path, target, None, MS_BIND | MS_REC)


def protect(path: str, *, readonly: bool) -> None:
    """Make a mount and all below it read-only, or that mount alone writable."""
    attributes = struct.pack("QQQQ", *((MOUNT_ATTR_RDONLY, 0) if readonly else (0, MOUNT_ATTR_RDONLY)), 0, 0)
    where = [ctypes.c_int(AT_FDCWD), path.encode(), ctypes.c_uint(AT_RECURSIVE if readonly else 0)]
    called("syscall", ctypes.c_long(MOUNT_SETATTR), *where, attributes, ctypes.c_size_t(len(attributes)))


def enter(folder: str) -> None:
    """Go into the view for good, without any right that a program started there could use."""
    os.chroot(ROOT)
    os.chdir(folder)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    called("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    called("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ |= {"HOME": MEMORY, "TMPDIR": MEMORY, "USER": "nobody", "LOGNAME": "nobody"}


def run(folder: str, readable: Sequence[str], command: Sequence[str]) -> int:
    """Run the command below this process; return its exit code. Raises OSError where the machine does not allow it."""
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    separate()
    child = os.fork()
    if child == 0:
        begin(folder, readable, command)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def begin(folder: str, readable: Sequence[str], command: Sequence[str]) -> None:
    """Become the command; never return."""
    try:
        view(folder, readable)
        enter(folder)
        os.execvp(command[0], [*command])  # noqa: S606
    except OSError as error:
        print(f"sandbox: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def fault() -> str | None:
    """Return why this machine cannot make a sandbox, in its own words; None if it can."""
    with tempfile.TemporaryDirectory(prefix="seedproof-probe-") as folder:
        command = wrapped([sys.executable, "-c", "import socket"], folder, ())
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{error}"
    said = [line for line in found.stderr.splitlines() if line.strip()]
    return None if found.returncode == 0 else (said or [f"it ended with exit code {found.returncode}"])[-1]


def wrapped(command: Sequence[str], folder: str, readable: Iterable[str]) -> list[str]:
    """Return the command line that runs a command in the sandbox, which also sees this Python and the targets of links."""
    named = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), *readable]
    paths = dict.fromkeys([*named, *map(os.path.realpath, named)])
    return [sys.executable, "-I", __file__, folder, ":".join(paths), "--", *command]


def main(arguments: list[str]) -> int:
    folder, readable, dashes, *command = arguments
    assert dashes == "--", "as `wrapped` writes it"
    try:
        return run(folder, [path for path in readable.split(":") if path], command)
    except OSError as error:
        print(f"sandbox: {error}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
