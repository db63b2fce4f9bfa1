"""control.py: a stock server, started with the shim in it and nothing else, and the shunt command that patches it from outside.

Arguments of a test: SHIM PATCH COMMAND."""

import json
import os
import subprocess
import sys

import stock

COMMAND = os.path.abspath(sys.argv[3])


def shunt(*words, expect=0):
    """The command's document; it must end with `expect`."""
    ran = subprocess.run([COMMAND, *map(str, words), '--json'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if ran.returncode != expect:
        sys.exit(f'shunt {" ".join(map(str, words))} ended with {ran.returncode}\n{ran.stdout}{ran.stderr}')
    return json.loads(ran.stdout)


def check_status(pid, patches, processes):
    """What status says is so: these patches, in that many processes, and every slot holds what was written."""
    status = shunt('status', pid, '--verify')
    applied = [[patch['name'] for patch in process['status']['patches'] if patch['state'] == 'applied']
               for process in status['processes']]
    if status['differ'] or applied != [patches] * processes:
        sys.exit(f'expected {patches} in {processes} processes, status says {applied}')


def patch_under_load(pid, load, shows_patched, shows_stock, *, words=(), processes=1):
    """By the command; see stock.py."""

    def put_in():
        shunt('apply', pid, stock.PATCH, '--name', 'fix', *words)
        stock.wait_until('what the patch does', shows_patched)
        check_status(pid, ['fix'], processes)

    def take_out():
        shunt('revert', pid, 'fix')
        stock.wait_until('what the server does without it', shows_stock)
        check_status(pid, [], processes)

    return stock.patch_under_load(load, put_in, take_out)
