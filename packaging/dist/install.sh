#!/bin/sh
# Installs what is in the folder files, or removes it.
#
#	./install.sh [--root FOLDER]                 below FOLDER in place of /
#	./install.sh [--root FOLDER] --uninstall
#
# What was installed is kept in /usr/share/richwall/installed, as sha256sum prints it. A file of a package, or one whose sum is another now,
# is somebody else's: it is neither written over nor deleted.
set -eu
export LC_ALL=C
umask 022 # the message bus and polkit, which are not root, read some of the files
here=$(cd "$(dirname "$0")" && pwd)
root=
what=install

fail() {
	echo "install.sh: $1" >&2
	exit 1
}

while [ $# -gt 0 ]; do
	case $1 in
	--root)
		[ $# -gt 1 ] || fail "--root needs a folder"
		root=${2%/}
		case $root in
		"" | /*) ;;
		*) root=$PWD/$root ;;
		esac
		shift
		;;
	--uninstall) what=uninstall ;;
	*) fail "cannot use $1: see the head of this file" ;;
	esac
	shift
done
list=$root/usr/share/richwall/installed
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# booted tells whether the files go to the machine that runs, and systemd runs it.
booted() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# sums prints the sums of the files that are to be installed, by their names below the root.
sums() { (cd "$here/files" && find usr -type f -exec sha256sum {} + | sort -k 2); }

# ours prints the names of the files in the list that are still as they were installed, and no package's.
ours() {
	[ -f "$list" ] || return 0
	sed -E 's/^[0-9a-f]{64}  //' "$list" >"$work/listed"
	packaged "$work/listed" >"$work/packaged"
	# The first versions listed names alone.
	{ grep -vE '^[0-9a-f]{64}  ' "$list" || true; (cd "$root/" && sha256sum -c "$list" 2>/dev/null) | sed -n 's/: OK$//p'; } | while IFS= read -r file; do
		[ -L "$root/$file" ] || grep -qxF "$file" "$work/packaged" || printf '%s\n' "$file"
	done
}

# packaged prints which of the names in a file are those of a package's files.
packaged() {
	if [ -d "$root/var/lib/dpkg/info" ]; then
		cat "$root"/var/lib/dpkg/info/*.list | sed 's|^/lib/|/usr/lib/|; s|^/sbin/|/usr/sbin/|; s|^/bin/|/usr/bin/|; s|^/||' | sort -u >"$work/dpkg"
		grep -xFf "$work/dpkg" "$1" || true
	fi
	if command -v rpm >/dev/null && { [ -d "$root/var/lib/rpm" ] || [ -d "$root/usr/lib/sysimage/rpm" ]; }; then
		while IFS= read -r file; do
			! rpm ${root:+--root "$root"} -qf "/$file" >/dev/null 2>&1 || printf '%s\n' "$file"
		done <"$1"
	fi
	if [ -f "$root/lib/apk/db/installed" ]; then # a line F:FOLDER, then a line R:NAME for each file in it
		awk '/^F:/ { folder = substr($0, 3) } /^R:/ { print folder "/" substr($0, 3) }' "$root/lib/apk/db/installed" >"$work/apk"
		grep -xFf "$work/apk" "$1" || true
	fi
}

# foreign prints the files that somebody else has where ours go.
foreign() {
	cut -c 67- "$work/sums" | while IFS= read -r file; do
		if [ -e "$root/$file" ] || [ -L "$root/$file" ]; then
			grep -qxF "$file" "$work/ours" || echo "$root/$file"
		fi
	done
}

install_files() {
	sums >"$work/sums"
	ours >"$work/ours"
	other=$(foreign | head -n 1)
	[ -z "$other" ] || fail "nothing was installed, since $other is there and somebody else's: remove the package firewalld or richwall first"
	cut -c 67- "$work/sums" >"$work/names"
	mkdir -p "$root/usr/share/richwall"
	(cd "$here/files" && find . -type d) | while IFS= read -r dir; do
		[ -d "$root/$dir" ] || mkdir -p -m "$(stat -c %a "$here/files/$dir")" "$root/$dir"
	done
	# The list has what was there and what comes until all of it is there, so that nothing is forgotten if this is broken off.
	{ [ ! -f "$list" ] || cat "$list"; cat "$work/sums"; } | sort -u >"$list.new"
	mv "$list.new" "$list"
	while IFS= read -r file; do
		install -m "$(stat -c %a "$here/files/$file")" "$here/files/$file" "$root/$file.richwall-new"
		mv "$root/$file.richwall-new" "$root/$file" # a program that runs cannot be written
	done <"$work/names"
	grep -vxFf "$work/names" "$work/ours" | while IFS= read -r file; do # what only the version before had
		rm -f "$root/$file"
	done
	cp "$work/sums" "$list.new"
	mv "$list.new" "$list"
	(cd "$here/files" && find etc -type f) | while IFS= read -r file; do
		[ -e "$root/$file" ] || [ -L "$root/$file" ] || install -m "$(stat -c %a "$here/files/$file")" "$here/files/$file" "$root/$file"
	done
	if command -v restorecon >/dev/null; then
		while IFS= read -r file; do
			restorecon "$root/$file" || echo "install.sh: the SELinux label of $root/$file is not set" >&2
		done <"$work/names"
	fi
	echo "richwall is installed."
	if booted; then
		systemctl daemon-reload
		systemctl try-restart firewalld || echo "install.sh: the firewall that runs was not started anew" >&2
		echo "To start it now and at each boot: systemctl enable --now firewalld"
	fi
}

remove_files() {
	[ -f "$list" ] || fail "nothing was removed, since there is no $list"
	ours >"$work/ours"
	if grep -qx usr/sbin/firewalld "$work/ours" && booted && systemctl --quiet is-active firewalld; then
		systemctl stop firewalld || fail "nothing was removed, since the firewall does not stop"
	fi
	while IFS= read -r file; do
		rm -f "$root/$file"
	done <"$work/ours"
	while IFS= read -r file; do
		[ ! -e "$root/$file" ] || echo "$root/$file stays: it is somebody else's now."
	done <"$work/listed"
	rm -f "$list"
	rmdir "$root/usr/share/richwall" 2>/dev/null || true
	if [ ! -e "$root/usr/lib/systemd/system/firewalld.service" ]; then # systemctl disable needs the unit, and leaves the links of one that is masked
		for link in multi-user.target.wants/firewalld.service dbus-org.fedoraproject.FirewallD1.service; do
			case $(readlink "$root/etc/systemd/system/$link") in
			*/lib/systemd/system/firewalld.service) rm -f "$root/etc/systemd/system/$link" ;;
			esac
		done
	fi
	if booted; then
		systemctl daemon-reload
	fi
	echo "richwall is removed. Its configuration stays in $root/etc/firewalld, and its state in $root/var/lib/firewalld."
}

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "cannot go on, as root is needed"
case $what in
install) install_files ;;
uninstall) remove_files ;;
esac
