"""A federation of real operating-system processes on this machine.

`federation` drives the rounds and holds the server's machine; `pool` starts, kills and hears
the processes of clients and helpers; `client` and `helper` are what runs in them; `observer` is
the auditor, a process beside the server, that a demo has and a deployment does not. `frames` is
what crosses the pipes.
"""
