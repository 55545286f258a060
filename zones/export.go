package zones

import "strings"

// Export returns a configuration as the files of one folder, by their paths below it: an administrator's folder that Load
// reads as the same configuration, whatever /usr/lib/firewalld has by then. Definitions that are built into the program are
// left out.
func Export(c *Config) map[string][]byte {
	files := map[string][]byte{}
	for _, k := range kinds {
		k.export(c, files)
	}
	var conf, own strings.Builder
	for _, k := range confKeys {
		if k.get != nil {
			conf.WriteString(k.name + "=" + k.get(c.Conf) + "\n")
		}
	}
	for _, k := range ownKeys {
		own.WriteString(k.name + "=" + *k.field(c.Own) + "\n")
	}
	files["firewalld.conf"], files["richwall.conf"] = []byte(conf.String()), []byte(own.String())
	return files
}

// export adds the file of each object of the kind.
func (k *objectKind[T]) export(c *Config, files map[string][]byte) {
	for name, o := range k.objects(c) {
		if origin := k.meta(o).Origin; origin.Path != "" || !origin.Builtin {
			files[k.path(name)] = k.write(o)
		}
	}
}
