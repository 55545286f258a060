package zones

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"richwall/grammar"
)

// Exposed is the code of a file or folder that others than root can change.
const Exposed grammar.Code = "EXPOSED"

// exposed are files and folders of a configuration that others than root can write, by name: why that is so.
type exposed map[string]string

// look notes a file or folder that others can write.
func (e exposed) look(name string, info fs.FileInfo) {
	if e == nil {
		return
	}
	if why := exposure(info); why != "" {
		e[name] = why
	}
}

// exposure says who can write a file or folder beside root and who runs this; "" is that nobody can. Its group is the administrator's choice.
func exposure(info fs.FileInfo) string {
	mode := info.Mode().Perm()
	if mode&0o002 != 0 {
		return fmt.Sprintf("every user of this machine can write it, its mode is %04o", mode)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 || int(stat.Uid) == os.Geteuid() || stat.Uid == unknownOwner && !allUsersKnown() {
		return ""
	}
	return fmt.Sprintf("the user with the id %d owns it and can write it, its mode is %04o", stat.Uid, mode)
}

// unknownOwner is the owner of what belongs to a user who is none in a user namespace (user_namespaces(7), overflowuid).
const unknownOwner = 65534

// allUsersKnown says whether all users of the machine are users here: the user namespace is the first one.
func allUsersKnown() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(data)), " ") == "0 0 4294967295"
}

// problems are warnings of them, in order. They keep nothing from being used.
func (e exposed) problems(f *folder) (list Problems) {
	for _, name := range slices.Sorted(maps.Keys(e)) {
		list = append(list, &Problem{
			Path: f.join(name), Code: Exposed, Severity: Warning,
			Msg: fmt.Sprintf("whoever can write here decides what is let in: %s; run chown root and chmod go-w", e[name]),
		})
	}
	return list
}

// warnExposed warns of what of a folder others can write, if it was read as one that only root can write.
func (l *loader) warnExposed(f *folder) {
	if f.exposed == nil {
		return
	}
	if info, err := os.Stat(f.path); err == nil {
		f.exposed.look("", info)
	}
	for _, p := range f.exposed.problems(f) {
		l.problems.add(p)
	}
}
