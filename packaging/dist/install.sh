#!/bin/sh
# Installs what is in the folder files, or removes it.
#
#	./install.sh [--root FOLDER]                 below FOLDER in place of /
#	./install.sh [--root FOLDER] --uninstall
#
# The names of the files that were installed are kept in /usr/share/richwall/installed. Files of others are never written over.
set -eu
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
		shift
		;;
	--uninstall) what=uninstall ;;
	*) fail "cannot use $1: see the head of this file" ;;
	esac
	shift
done
list=$root/usr/share/richwall/installed

# booted tells whether the files go to the machine that runs, and systemd runs it.
booted() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# foreign prints the files that somebody else has installed where ours go.
foreign() {
	(cd "$here/files" && find usr -type f) | while IFS= read -r file; do
		if [ -e "$root/$file" ] || [ -L "$root/$file" ]; then
			grep -qsxF "$file" "$list" || echo "$root/$file"
		fi
	done
}

install_files() {
	other=$(foreign | head -n 1)
	[ -z "$other" ] || fail "nothing was installed, since $other is there already: remove the package firewalld or richwall first"
	mkdir -p "$root/usr/share/richwall"
	(cd "$here/files" && find usr -type f | sort) >"$list.new"
	mv "$list.new" "$list"
	(cd "$here/files" && find . -type d) | while IFS= read -r dir; do
		[ -d "$root/$dir" ] || mkdir -p -m "$(stat -c %a "$here/files/$dir")" "$root/$dir"
	done
	while IFS= read -r file; do
		cp "$here/files/$file" "$root/$file.richwall-new"
		mv "$root/$file.richwall-new" "$root/$file" # a program that runs cannot be written
	done <"$list"
	(cd "$here/files" && find etc -type f) | while IFS= read -r file; do
		[ -e "$root/$file" ] || [ -L "$root/$file" ] || cp "$here/files/$file" "$root/$file"
	done
	if command -v restorecon >/dev/null; then
		sed "s|^|$root/|" "$list" | xargs restorecon
	fi
	echo "richwall is installed."
	if booted; then
		systemctl daemon-reload
		systemctl try-restart firewalld
		echo "To start it now and at each boot: systemctl enable --now firewalld"
	fi
}

remove_files() {
	[ -f "$list" ] || fail "nothing was removed, since there is no $list"
	if booted; then
		systemctl disable --now firewalld
	fi
	while IFS= read -r file; do
		rm -f "$root/$file"
	done <"$list"
	rm -f "$list"
	rmdir "$root/usr/share/richwall" 2>/dev/null || true
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
