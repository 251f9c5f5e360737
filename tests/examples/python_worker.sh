#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: python_worker.sh PYTHON_WORKER WORKER.PY PROTOCOL.MD
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || {
	echo "skipped: there is no python3"
	exit 77
}

runs 0 "$1" "$2"
complained
for size in 0 5 4096 65536 1048576 5242880; do
	said "$size bytes came back in upper case"
done
said "1000 requests at once came back in order"
said "16 files beside 3 bytes were measured and came back"
said "2 files beside 1048576 bytes were measured and came back"
said "the worker ended with its channel"

# A parent that is no libipc: what worker.py does with what breaks the protocol, or with nothing.
runs 0 python3 "$(dirname "$0")/worker_peer.py" "$2" "$3"
cat "$work/stdout" "$work/stderr"

runs 1 env -u LIBIPC_CHANNEL python3 "$2"
complained "worker.py: LIBIPC_CHANNEL does not name a channel of this process"
runs 1 env LIBIPC_CHANNEL=0:1 python3 "$2"
complained "worker.py: LIBIPC_CHANNEL does not name a channel of this process"

runs 1 "$1" "$work/missing.py"
runs 2 "$1" one two
complained "usage: python_worker [WORKER.PY]"
finish
