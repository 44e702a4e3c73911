"""What systemd does for a socket unit: listen, hand the socket over as number 3, become the command.

python activated.py PORT COMMAND...
"""

import os
import socket
import sys

# As ListenStream=PORT does: IPv6, and IPv4 in it.
listening = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
