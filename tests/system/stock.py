"""stock.py: a stock server, started with the shim in it, and a folder that the patch is put into and taken out of.

Arguments of a test: SHIM PATCH, and what the test itself wants."""

import contextlib
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from waiting import wait_until

FIXED_TIME = 1000000000  # what the patch makes of the time of day
SHIM, PATCH = map(os.path.abspath, sys.argv[1:3])


def need(*programs):
    """The paths of the programs; skips the test where one is missing."""
    path = os.environ.get('PATH', os.defpath) + ':/usr/sbin:/usr/bin'
    found = [shutil.which(program, path=path) for program in programs]
    for program, where in zip(programs, found):
        if not where:
            print(f'{program} is not installed')
            sys.exit(77)
    return found


def free_port():
    """Below the ports that the kernel gives to clients: who asks again and again whether the server is there yet would get its very
    port, be connected to itself, and keep the server out."""
    clients_begin = int(pathlib.Path('/proc/sys/net/ipv4/ip_local_port_range').read_text().split()[0])
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            port = random.randrange(10000, max(clients_begin, 10100))
            sock.bind(('127.0.0.1', port))
            return port


class Place:
    """A folder of the test's own, which workers that run as another user can enter; in it the one for patches."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.chmod(0o755)
        self.patches = self.path / 'patches'
        self.patches.mkdir(mode=0o755)
        self.errors = self.path / 'stderr'

    def put(self):
        shutil.copyfile(PATCH, self.path / 'new.so')
        (self.path / 'new.so').rename(self.patches / 'fixed_time.so')

    def take(self):
        (self.patches / 'fixed_time.so').unlink()

    def patch_under_load(self, load, shows_fixed_time, shows_real_time):
        """By the folder; see below."""

        def put_in():
            self.put()
            wait_until('the fixed time after the patch was put in', shows_fixed_time)

        def take_out():
            self.take()
            wait_until('the real time after the patch was taken out', shows_real_time)

        return patch_under_load(load, put_in, take_out)

    @contextlib.contextmanager
    def running(self, *command, follows_folder=True):
        """The server with the shim in it. It ends with the block, and must not have ended before."""
        environment = dict(os.environ, LD_PRELOAD=SHIM)
        if follows_folder:
            environment['SHUNT_DIR'] = str(self.patches)
        with open(self.errors, 'w') as errors:
            server = subprocess.Popen(command, env=environment, cwd=self.path, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=errors)
        try:
            yield server
            if server.poll() is not None:
                sys.exit(f'the server has ended with {server.returncode}')
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            print(self.errors.read_text(), end='')
        if self.errors.read_text():
            sys.exit('the server or the shim complained')


@contextlib.contextmanager
def new_place():
    with tempfile.TemporaryDirectory(prefix='shunt-system-') as path:
        yield Place(path)


def patch_under_load(load, put_in, take_out):
    """Calls the two in turn, again and again, while the load runs. Returns how often, and what the load wrote."""
    rounds = 0
    while True:
        put_in()
        take_out()
        if load.poll() is not None:
            break
        rounds += 1
    output = load.communicate()[0]
    if rounds == 0:
        sys.exit(f'the load ended before the patch had been put in and taken out once:\n{output}')
    if load.returncode != 0:
        sys.exit(f'the load ended with {load.returncode}:\n{output}')
    return rounds, output
