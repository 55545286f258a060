package zones

import (
	"bytes"
	"strings"
)

// OwnFiles is the name of the file in which Export lists the files of the administrator's objects, and those of settings that are not
// the default, a path a line. Load passes over it.
const OwnFiles = "OWN"

// Export returns a configuration as the files of one folder, by their paths below it: an administrator's folder that Load
// reads as the same configuration, whatever /usr/lib/firewalld has by then. Definitions that are built into the program are
// left out. OwnFiles says which of the files stand for one of the administrator's.
func Export(c *Config) map[string][]byte {
	files := map[string][]byte{}
	var list []string
	for _, k := range kinds {
		list = append(list, k.export(c, files)...)
	}
	for _, f := range []struct {
		name        string
		text, usual []byte
	}{
		{"firewalld.conf", c.Conf.Text(), DefaultConf().Text()},
		{"richwall.conf", c.Own.text(), DefaultOwnConf().text()},
	} {
		files[f.name] = f.text
		if !bytes.Equal(f.text, f.usual) {
			list = append(list, f.name+"\n")
		}
	}
	files[OwnFiles] = []byte(strings.Join(list, ""))
	return files
}

// text is a richwall.conf with all values.
func (c *OwnConf) text() []byte {
	var b strings.Builder
	for _, k := range ownKeys {
		b.WriteString(k.name + "=" + *k.field(c) + "\n")
	}
	return []byte(b.String())
}

// Text is a firewalld.conf with all values. A default zone that was named and does not exist is still the one that is named.
func (c *Conf) Text() []byte {
	if c.missing != "" {
		named := *c
		named.DefaultZone, named.missing = c.missing, ""
		c = &named
	}
	var b strings.Builder
	for _, k := range confKeys {
		if k.get != nil {
			b.WriteString(k.name + "=" + k.get(c) + "\n")
		}
	}
	return []byte(b.String())
}

// export adds the file of each object of the kind, and returns the lines of OwnFiles.
func (k *objectKind[T]) export(c *Config, files map[string][]byte) (own []string) {
	objects := k.objects(c)
	for _, name := range Names(objects) {
		origin := k.meta(objects[name]).Origin
		if origin.Path != "" || !origin.Builtin {
			files[k.path(name)] = k.write(objects[name])
		}
		if origin.Path != "" && !origin.Builtin {
			own = append(own, k.path(name)+"\n")
		}
	}
	return own
}
