#!/bin/sh
# SPDX-License-Identifier: MIT
# The whole programs that bench/suite times do the same work.
# Usage: test_whole.sh POOL PIPES MULTI.PY
set -eu

pool=$1 pipes=$2 multi=$3

for workers in 1 3; do
	for requests in 1 100 5000; do
		wanted=$("$pipes" $workers $requests)
		for got in "$("$pool" $workers $requests)" \
			"$("$pool" --sleep $workers $requests)" "$("$pipes" --batch $workers $requests)" \
			"$(python3 "$multi" $workers $requests)"; do
			[ "$got" = "$wanted" ] ||
				{ echo "$workers workers, $requests requests: $got, not $wanted"; exit 1; }
		done
	done
done

for program in "$pool" "$pipes"; do
	! "$program" 2>/dev/null || { echo "$program takes no arguments"; exit 1; }
	! "$program" 65 1 2>/dev/null || { echo "$program takes 65 workers"; exit 1; }
done
