#!/usr/bin/env bash
# Four real agents, with two real servers behind spantap and `spantap collect` running: every call on the wire has its
# model call and its turn, with exactly the tokens that the model reported, no prompt, instruction, argument or answer is
# in a file of spantap, and `--forward` passes on what the agents sent, to a real collector.
# Needs REAL_NODE, REAL_SDK2, REAL_TOOLS and REAL_AGENTS (setup/install.sh), and the right to make a network namespace: the agents
# try to reach the world.
exec "$(dirname "${BASH_SOURCE[0]}")/agents/offline.sh" check.py "$@"
