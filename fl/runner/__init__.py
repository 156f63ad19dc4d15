"""A federation of real operating-system processes on this machine.

`federation` drives the rounds and holds the server's machine; `pool` starts, kills and hears
the client processes; `client` is what runs in each of them; `observer` is the auditor, a
process beside the server, that a demo has and a deployment does not. `frames` is what crosses
the pipes.
"""
