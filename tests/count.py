#!/usr/bin/env python3
"""count.py [--broken TEXT]… CONFIG=LOG…: counts what ran, from the testlog.json that `meson test` leaves in a build.

Every GoogleTest case counts, and every other program as one. A program that crashed, ran too long or failed outside
its cases counts as a failure of its own, and so does each TEXT (a build that broke). Prints the failures with their
output, the skips with their reasons, and last of all `N passed, N failed, N skipped`. The answer is 0 if some passed and
none failed."""

import argparse
import collections
import json
import pathlib
import re
import sys

Case = collections.namedtuple('Case', 'name result text')  # result: 'passed', 'failed' or 'skipped'

EVENT = re.compile(r'\[ +(RUN|OK|FAILED|SKIPPED) +\] ([^\s,]+)')
RAN = re.compile(r'\[==========\] (\d+) tests? from .* ran\.')
TAIL = 60  # lines of output shown for a program that failed as a whole


def gtest_cases(stdout):
    """The cases that a GoogleTest program tells of, and the name of the one that began and never ended, or None."""
    cases, name, text = [], None, []
    for line in stdout.splitlines():
        event = EVENT.search(line)
        word = event[1] if event else ''
        if name is None:
            if word == 'RUN':
                name, text = event[2], []
        elif word in ('OK', 'FAILED', 'SKIPPED') and event[2] == name:
            text.append(line[:event.start()])
            result = {'OK': 'passed', 'FAILED': 'failed', 'SKIPPED': 'skipped'}[word]
            cases.append(Case(name, result, '\n'.join(text).strip()))
            name = None
        else:
            text.append(line)
    return cases, name


def failure(test, why, name=''):
    """A failure that no case of the program tells of, with the end of all that the program wrote."""
    output = '\n'.join([test['stdout'].strip(), test.get('stderr', '').strip()]).strip().splitlines()
    return Case(name, 'failed', '\n'.join(output[-TAIL:] + [f'({why})']))


def program_cases(test):
    """All cases of one program, as `meson test` logged it."""
    test['stdout'] = test['stdout'] or ''
    result, stdout = test['result'], test['stdout']
    ended = f'{result.lower()}, exit status {test["returncode"]}, after {test["duration"]:.0f} s'
    if '[==========] Running' not in stdout:
        if result == 'OK':
            return [Case('', 'passed', '')]
        if result == 'SKIP':
            return [Case('', 'skipped', (stdout.strip().splitlines() or ['no reason given'])[-1])]
        return [failure(test, ended)]

    cases, unfinished = gtest_cases(stdout)
    ran = RAN.search(stdout)
    if unfinished:
        cases.append(failure(test, f'inside this case: {ended}', unfinished))
    elif result != 'OK' and (not ran or all(case.result != 'failed' for case in cases)):
        cases.append(failure(test, ended))
    elif not cases or not ran or int(ran[1]) != len(cases):
        cases.append(failure(test, f'{len(cases)} cases seen, {ran[1] if ran else "none"} said to have run'))
    return cases


def skip_reason(text):
    """What a test gave to GTEST_SKIP(), without the line that says where."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.endswith(': Skipped')]
    return ' '.join(lines) or 'no reason given'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--broken', action='append', default=[], metavar='TEXT')
    parser.add_argument('logs', nargs='*', metavar='CONFIG=LOG')
    arguments = parser.parse_args()

    count = collections.Counter(failed=len(arguments.broken))
    failures, skips = [], []
    for config, _, log in (argument.partition('=') for argument in arguments.logs):
        for line in pathlib.Path(log).read_text().splitlines():
            test = json.loads(line)
            for case in program_cases(test):
                count[case.result] += 1
                name = ' '.join([config, test['name'], case.name]).strip()
                if case.result == 'failed':
                    failures.append(f'---- failed: {name}\n{case.text}\n')
                elif case.result == 'skipped':
                    skips.append(f'skipped: {name}: {skip_reason(case.text)}')

    print('', *failures, *skips, *(f'failed: {text}' for text in arguments.broken), sep='\n')
    print(f'{count["passed"]} passed, {count["failed"]} failed, {count["skipped"]} skipped')
    return 0 if count['passed'] > 0 and count['failed'] == 0 else 1


sys.exit(main())
