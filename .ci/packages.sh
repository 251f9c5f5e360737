# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by ./run and ./test. Knows how Debian packages get onto this machine.

# need PACKAGE...: install those that are missing. A second time it needs no network.
need() {
	local package missing=() as_root=() log

	if ! command -v dpkg >/dev/null; then
		echo "This is not Debian: what these Debian packages hold is taken to be here: $*"
		return 0
	fi

	for package; do
		dpkg -s "$package" 2>/dev/null | grep -q '^Status: install ok installed' ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	if [ "$(id -u)" -ne 0 ]; then
		as_root=(sudo)
		# Nobody is there to type a password.
		[ -t 0 ] || as_root+=(-n)
		if ! command -v sudo >/dev/null || ! "${as_root[@]}" true; then
			echo "These packages are missing, and this is neither root nor allowed sudo. As root:" >&2
			echo "    apt-get install ${missing[*]}" >&2
			return 1
		fi
	fi

	echo "Installing ${missing[*]} ..."
	log=$(mktemp)
	if "${as_root[@]}" apt-get -qq update >"$log" 2>&1 &&
		"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
			-o DPkg::Lock::Timeout=120 install --no-install-recommends \
			"${missing[@]}" >>"$log" 2>&1; then
		rm -f "$log"
		return 0
	fi
	tail -n 15 "$log" >&2
	echo "apt-get could not install them; all it said is in $log." >&2
	return 1
}
