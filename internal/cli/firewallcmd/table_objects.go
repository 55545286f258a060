package firewallcmd

import "strings"

// newObjects are the options that every kind of object has: to make, show and remove one.
func newObjects(kind, plural string) section {
	name, where := strings.ToUpper(kind), permanent|onObjects
	return section{title: strings.ToUpper(plural[:1]) + plural[1:] + " as objects", options: []option{
		{name: "info-" + kind, arg: name, takes: one, use: both | prints, do: doInfo, item: kind, help: "everything about one"},
		{name: "new-" + kind, arg: name, takes: one, use: where, do: doNew, item: kind, help: "make a new one"},
		{name: "new-" + kind + "-from-file", arg: "FILE", takes: one, use: where, do: doNewFromFile, item: kind, help: "make one of a file, named like it or by --name"},
		{name: "delete-" + kind, arg: name, takes: one, use: where, do: doDelete, item: kind, help: "remove one that was not shipped"},
		{name: "load-" + kind + "-defaults", arg: name, takes: one, use: where, do: doDefaults, item: kind, help: "undo all changes to a shipped one"},
		{name: "path-" + kind, arg: name, takes: one, use: where, do: doPath, item: kind, help: "the file that it is in"},
	}}
}

// withMore is a section with a remark and more options.
func withMore(s section, intro string, more ...option) section {
	s.intro, s.options = intro, append(s.options, more...)
	return s
}

// lockdown are options of a feature that firewalld no longer has. Scripts that call them are told so, and succeed.
func lockdown() section {
	s := section{title: "Lockdown", options: []option{
		{name: "lockdown-on", use: alone | hidden, do: doLockdown, help: "without effect"},
		{name: "lockdown-off", use: alone | hidden, do: doLockdown, help: "without effect"},
		{name: "query-lockdown", use: alone | hidden, do: doLockdown, help: "without effect"},
	}}
	for _, what := range []string{"command", "context", "uid", "user"} {
		takes := many
		if what == "uid" {
			takes = number
		}
		s.options = append(s.options, option{
			name: "list-lockdown-whitelist-" + what + "s", use: both | hidden | prints, do: doLockdown, help: "without effect",
		})
		for _, action := range []string{"add", "remove", "query"} {
			s.options = append(s.options, option{
				name: action + "-lockdown-whitelist-" + what, arg: strings.ToUpper(what), takes: takes,
				use: both | hidden, do: doLockdown, help: "without effect",
			})
		}
	}
	return s
}
