"""command.py: runs the command and checks its answer, for the tests of this folder. Arguments of a test: COMMAND SHIM BUILT.

A test is a function whose name begins with test_; run_tests() runs them all and says which failed."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from waiting import wait_until  # noqa: E402,F401: for the tests

COMMAND, SHIM, BUILT = (os.path.abspath(word) for word in sys.argv[1:4])
DONE, NO, USAGE, UNREACHABLE = range(4)


class Answer:
    def __init__(self, ran):
        self.code, self.out, self.err = ran.returncode, ran.stdout, ran.stderr

    def __str__(self):
        return f'exit status {self.code}\n{self.out}{self.err}'


def shunt(*words, expect, runner=(), **arguments):
    """Runs the command; its exit status must be `expect`."""
    environment = {key: value for key, value in os.environ.items() if key not in ('COLUMNS', 'NO_COLOR')}
    ran = subprocess.run([*runner, COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env={**environment, **arguments.pop('env', {})}, timeout=60, **arguments)
    answer = Answer(ran)
    assert ran.returncode == expect, f'shunt {" ".join(map(str, words))}: expected {expect}, got {answer}'
    return answer


def shunt_json(*words, expect, **arguments):
    answer = shunt(*words, '--json', expect=expect, **arguments)
    document = json.loads(answer.out)
    assert document['schema'] == 1 and document['ok'] == ('error' not in document), document
    return document


def built(name):
    return os.path.join(BUILT, name)


class Server:
    """A process of server.c and the children that it forks, in a folder of their own."""

    def __init__(self, folder, shim=True, runner=(), owner=None, **environment):
        self.folder = pathlib.Path(folder)
        (self.folder / 'run').mkdir(mode=0o700)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.folder / 'test'))
        self.socket.settimeout(20)
        if owner is not None:
            for path in (self.folder, self.folder / 'run', self.folder / 'test'):
                os.chown(path, owner, owner)
        # Only the server itself gets these: what starts it would have sockets as well.
        variables = {'XDG_RUNTIME_DIR': self.folder / 'run', **({'LD_PRELOAD': SHIM} if shim else {}), **environment}
        settings = [f'{name}={value}' for name, value in variables.items()]
        self.log = open(self.folder / 'log', 'w')
        self.process = subprocess.Popen([*runner, 'env', *settings, built('cli_server')], cwd=self.folder,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout.readline() == 'ready\n', (self.folder / 'log').read_text()
        self.children = []
        self.pid = self.process.pid

    def tell(self, text, pid=None):
        self.socket.sendto(text.encode(), str(self.folder / str(pid or self.pid)))
        return self.socket.recv(64).decode()

    def calls(self):
        """What answer() and second() are, in the process and each child."""
        return [self.tell('call', pid) for pid in [self.pid, *self.children]]

    def fork(self, pid=None):
        self.children.append(int(self.tell('fork', pid)))
        return self.children[-1]

    def end(self):
        for pid in [*self.children, self.pid]:
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        self.process.wait()
        self.process.stdout.close()
        self.log.close()
        self.socket.close()


@contextlib.contextmanager
def server(**arguments):
    with tempfile.TemporaryDirectory(prefix='shunt-cli-') as folder:
        os.chmod(folder, 0o755)
        one = Server(folder, **arguments)
        try:
            yield one
        finally:
            one.end()


def listens(pid):
    """Whether shunt finds the process's socket."""
    return any(one['pid'] == pid for one in json.loads(
        subprocess.run([COMMAND, 'ps', '--json'], stdout=subprocess.PIPE, text=True).stdout)['processes'])


def run_tests(module):
    failed = skipped = passed = 0
    for name, test in sorted(vars(module).items()):
        if not name.startswith('test_'):
            continue
        try:
            reason = test()
            print(f'{name}: ' + (f'skipped: {reason}' if reason else 'passed'))
            skipped += reason is not None
            passed += reason is None
        except Exception:
            failed += 1
            print(f'{name}: FAILED')
            traceback.print_exc(file=sys.stdout)
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return 1 if failed else 0
