#!/usr/bin/env bash
# Four real agents, with two real servers behind spantap and `spantap collect` running: every call on the wire has its
# model call, with exactly the tokens that the model reported, and no prompt, argument or answer is in the folder.
# Needs REAL_NODE, REAL_SDK2 and REAL_AGENTS (setup/install.sh), and the right to make a network namespace: the agents
# try to reach the world.
exec "$(dirname "${BASH_SOURCE[0]}")/agents/offline.sh" check.py "$@"
