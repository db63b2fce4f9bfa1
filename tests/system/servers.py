"""servers.py: nginx and redis-server as the tests start them, ask them, and put them under load."""

import email.utils
import re
import subprocess
import sys
import time
import urllib.request

import stock


def is_real(seconds):
    return abs(seconds - time.time()) < 60


def is_fixed(seconds):
    return seconds == stock.FIXED_TIME


class Nginx:
    """A master and its workers. They answer with their PID and with what they hold for the time of day."""

    def __init__(self, place, workers):
        self.program, self.wrk = stock.need('nginx', 'wrk')
        self.workers, self.folder = workers, place.path
        self.url = f'http://127.0.0.1:{stock.free_port()}/'
        (self.folder / 'nginx.conf').write_text(self.configuration())
        self.command = [self.program, '-c', str(self.folder / 'nginx.conf'), '-p', str(self.folder), '-e', str(self.folder / 'log')]

    def configuration(self):
        temporary = '\n'.join(f'  {what}_temp_path {self.folder}/{what};'
                              for what in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        return f'''
daemon off;
pid {self.folder}/pid;
error_log {self.folder}/log;
worker_processes {self.workers};
events {{ worker_connections 256; }}
http {{
  access_log off;
{temporary}
  server {{
    listen {self.url[7:-1]} reuseport;
    location / {{ default_type text/plain; return 200 "$pid $msec\\n"; }}
  }}
}}
'''

    def times_by_worker(self):
        """What each worker says the time is: in its answer, and in the Date of the answer's head."""
        times = {}
        for _ in range(50 * self.workers):
            with urllib.request.urlopen(self.url, timeout=10) as answer:
                worker, seconds = answer.read().split()
                date = email.utils.parsedate_to_datetime(answer.headers['Date']).timestamp()
                times[int(worker)] = {float(seconds), date}
            if len(times) == self.workers:
                break
        return times

    def all_say(self, is_right):
        times = self.times_by_worker()
        return len(times) == self.workers and all(is_right(one) for pair in times.values() for one in pair)

    def is_up(self):
        try:
            return self.all_say(is_real)
        except OSError:
            return False

    def start_load(self):
        return subprocess.Popen([self.wrk, '-t', '1', '-c', '16', '-d', '5s', self.url],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def check_load(self, output, rounds):
        requests = int(re.search(r'(\d+) requests in', output)[1])
        refused = int((re.search(r'Non-2xx or 3xx responses: (\d+)', output) or [0, 0])[1])
        errors = sum(map(int, re.findall(r'\d+', (re.search(r'Socket errors: (.*)', output) or ['', ''])[1])))
        print(f'nginx, {self.workers} workers: {requests} requests, {refused} not answered with 2xx, {errors} socket errors, '
              f'patch put in and taken out {rounds} times meanwhile')
        if requests == 0 or refused != 0 or errors != 0:
            sys.exit(f'requests failed:\n{output}')


class Redis:
    def __init__(self, place):
        self.program, self.client, self.benchmark = stock.need('redis-server', 'redis-cli', 'redis-benchmark')
        self.port = str(stock.free_port())
        self.command = [self.program, '--port', self.port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no',
                        '--dir', str(place.path)]

    def ask(self, *command):
        return subprocess.run([self.client, '-p', self.port, *command], capture_output=True, text=True).stdout

    def is_up(self):
        return self.ask('PING').strip() == 'PONG'

    def seconds(self):
        return int(self.ask('TIME').split()[0])

    def count(self, section, name):
        line = next(line for line in self.ask('INFO', section).splitlines() if line.startswith(name + ':'))
        return int(line.partition(':')[2])

    def start_load(self):
        return subprocess.Popen([self.benchmark, '-p', self.port, '-c', '20', '-n', '200000', '-t', 'set,get', '--csv'],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def check_load(self, output, rounds):
        errors, requests = self.count('stats', 'total_error_replies'), self.count('stats', 'total_commands_processed')
        print(f'redis-server: {requests} requests, {errors} errors, patch put in and taken out {rounds} times meanwhile')
        if errors != 0 or 'rror' in output or requests < 400000:
            sys.exit(f'requests failed:\n{output}')
