"""Running a gateway as processes of its own: a supervisor, its workers, the servers they use. What `gatekit run` does.

Nothing below knows of it: a gateway under a server that somebody else started never loads this.
"""
