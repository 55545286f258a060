package zones

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Dirs are the folders of a configuration. A folder that does not exist is empty.
type Dirs struct {
	System  string // the administrator's, usually /etc/firewalld
	Default string // the shipped one, usually /usr/lib/firewalld; kinds that it has no folder for are the embedded ones
}

// Load reads a configuration: the administrator's files over the shipped ones. The problems are everything that is wrong;
// the Config is nil when one of them is an Error.
func Load(dirs Dirs) (*Config, Problems) { return LoadAgain(dirs, &Config{}) }

// LoadAgain is Load by one who has read the configuration before. Objects of files that have not changed since are the ones
// of before.
func LoadAgain(dirs Dirs, before *Config) (*Config, Problems) {
	c, problems := read(dirs, before)
	problems = append(problems, Check(c)...)
	return usable(c, problems)
}

// Read reads a configuration as Load does, but without Check: for the commands that mend one which does not pass it. The
// Config is nil when a file cannot be read.
func Read(dirs Dirs) (*Config, Problems) { return usable(read(dirs, &Config{})) }

// usable is a configuration if nothing of what is wrong is an Error, and the problems in order.
func usable(c *Config, problems Problems) (*Config, Problems) {
	problems.sort()
	if problems.Err() != nil {
		return nil, problems
	}
	return c, problems
}

// read reads what there is, and notes what is wrong with each file.
func read(dirs Dirs, before *Config) (*Config, Problems) {
	l := loader{dirs: dirs, before: before}
	shipped := builtin()
	c := &Config{
		Conf: DefaultConf(), Own: DefaultOwnConf(), Direct: &Direct{}, ZoneParts: map[string]*Zone{},
		IPSets:    loadKind(&l, "ipsets", shipped.IPSets, before.IPSets, ReadIPSet, func(o *IPSet) *Meta { return &o.Meta }),
		ICMPTypes: loadKind(&l, "icmptypes", shipped.ICMPTypes, before.ICMPTypes, ReadICMPType, func(o *ICMPType) *Meta { return &o.Meta }),
		Helpers:   loadKind(&l, "helpers", shipped.Helpers, before.Helpers, ReadHelper, func(o *Helper) *Meta { return &o.Meta }),
		Services:  loadKind(&l, "services", shipped.Services, before.Services, ReadService, func(o *Service) *Meta { return &o.Meta }),
		Zones:     loadKind(&l, "zones", shipped.Zones, before.Zones, ReadZone, func(o *Zone) *Meta { return &o.Meta }),
		Policies:  loadKind(&l, "policies", shipped.Policies, before.Policies, ReadPolicy, func(o *Policy) *Meta { return &o.Meta }),
	}
	c = l.zoneFolders(c)
	loadFile(&l, "firewalld.conf", &c.Conf, ReadConf)
	loadFile(&l, "richwall.conf", &c.Own, ReadOwnConf)
	loadFile(&l, "direct.xml", &c.Direct, ReadDirect)
	l.defaultZone(c)
	return c, l.problems
}

// loader collects the problems of all files.
type loader struct {
	dirs     Dirs
	before   *Config
	problems Problems
}

func (l *loader) add(p *Problem) { l.problems = append(l.problems, p) }

// entries is what is in a folder, sorted by name; exists is false when there is no such folder.
func (l *loader) entries(folder string) (entries []os.DirEntry, exists bool) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		l.add(unreadable(folder, err))
	}
	return entries, true
}

func unreadable(path string, err error) *Problem {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return &Problem{Path: path, Code: InvalidFilename, Msg: fmt.Sprintf("cannot read it: %v", err)}
}

// objectName is the name of the object that a file is for.
func objectName(e os.DirEntry) (name string, ok bool) {
	name, ok = strings.CutSuffix(e.Name(), ".xml")
	return name, ok && !e.IsDir()
}

// loadKind reads all objects of a kind. A file of the administrator hides a shipped object, whose file is not even read.
func loadKind[T any](l *loader, kind string, embedded, before map[string]*T,
	read func(string, []byte, string) (*T, Problems), meta func(*T) *Meta) map[string]*T {
	own := map[string]string{}
	folder := filepath.Join(l.dirs.System, kind)
	entries, _ := l.entries(folder)
	for _, e := range entries {
		if name, ok := objectName(e); ok {
			own[name] = filepath.Join(folder, e.Name())
		}
	}
	objects := map[string]*T{}
	shipped := l.shipped(kind, Names(embedded))
	for name, path := range shipped {
		switch {
		case own[name] != "":
		case path == "":
			objects[name] = embedded[name]
		default:
			objects[name] = loadObject(l, Meta{Name: name, Origin: Origin{Path: path, Builtin: true}}, before[name], read, meta)
		}
	}
	for name, path := range own {
		_, shadows := shipped[name]
		objects[name] = loadObject(l, Meta{Name: name, Origin: Origin{Path: path, Shadows: shadows}}, before[name], read, meta)
	}
	return objects
}

// shipped is the path of each shipped object of a kind, "" for the embedded ones.
func (l *loader) shipped(kind string, embedded []string) map[string]string {
	paths := map[string]string{}
	folder := filepath.Join(l.dirs.Default, kind)
	entries, exists := l.entries(folder)
	if l.dirs.Default == "" || !exists {
		for _, name := range embedded {
			paths[name] = ""
		}
		return paths
	}
	for _, e := range entries {
		if name, ok := objectName(e); ok {
			paths[name] = filepath.Join(folder, e.Name())
		}
	}
	return paths
}

// loadObject reads the file of an object. A broken one gives an object without content, so that references to it are not
// reported as well. One whose file nothing was wrong with, and which has not changed, is the one before.
func loadObject[T any](l *loader, m Meta, before *T, read func(string, []byte, string) (*T, Problems), meta func(*T) *Meta) *T {
	var object *T
	data, err := os.ReadFile(m.Origin.Path)
	if err != nil {
		l.add(unreadable(m.Origin.Path, err))
	} else {
		sum := sha256.Sum256(data)
		if before != nil && meta(before).sum == sum && meta(before).Origin == m.Origin {
			return before
		}
		var problems Problems
		if object, problems = read(m.Name, data, m.Origin.Path); len(problems) == 0 {
			meta(object).sum = sum
		}
		l.problems = append(l.problems, problems...)
	}
	if object == nil {
		object = new(T)
		meta(object).Name = m.Name
	}
	meta(object).Origin = m.Origin
	return object
}

// loadFile reads one of the files that there is one of, if it is there.
func loadFile[T any](l *loader, name string, object **T, read func([]byte, string) (*T, Problems)) {
	path := filepath.Join(l.dirs.System, name)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		l.add(unreadable(path, err))
		return
	}
	result, problems := read(data, path)
	l.problems = append(l.problems, problems...)
	if result != nil {
		*object = result
	}
}

// zoneFolders reads the zones that a folder of files makes up together.
func (l *loader) zoneFolders(c *Config) *Config {
	base := filepath.Join(l.dirs.System, "zones")
	entries, _ := l.entries(base)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		files, _ := l.entries(filepath.Join(base, e.Name()))
		for _, file := range files {
			if name, ok := objectName(file); ok {
				path := filepath.Join(base, e.Name(), file.Name())
				m := Meta{Name: e.Name() + "/" + name, Origin: Origin{Path: path}}
				part := loadObject(l, m, l.before.ZoneParts[m.Name], ReadZone, func(o *Zone) *Meta { return &o.Meta })
				l.lostByMerging(part, c.Zones[e.Name()])
				c.ZoneParts[part.Name] = part
			}
		}
	}
	folders := map[string]bool{}
	for name := range c.ZoneParts {
		folders[filepath.Dir(name)] = true
	}
	for _, folder := range Names(folders) {
		c = c.combine(folder)
	}
	return c
}

// lostByMerging warns about what does not count in a part of a zone, and about a zone that the parts hide.
func (l *loader) lostByMerging(part, hidden *Zone) {
	if part.Target != TargetDefault && part.Target != "" || part.IngressPriority != 0 || part.EgressPriority != 0 {
		l.add(&Problem{
			Path: part.Origin.Path, Code: InvalidTarget, Severity: Warning,
			Msg: "the target and priorities of this file are ignored: a zone made up of several files has the defaults",
		})
	}
	if hidden != nil {
		l.add(&Problem{
			Path: part.Origin.Path, Code: NameConflict, Severity: Warning,
			Msg: fmt.Sprintf("the zone %s is made up of the files of this folder alone: the other definition of %s is ignored", hidden.Name, hidden.Name),
		})
	}
}

// defaultZone replaces a default zone that does not exist.
func (l *loader) defaultZone(c *Config) {
	missing := c.Conf.DefaultZone
	if c.Zones[missing] != nil {
		return
	}
	conf := *c.Conf
	conf.DefaultZone = usableDefault(c)
	c.Conf = &conf
	l.add(&Problem{
		Path: filepath.Join(l.dirs.System, "firewalld.conf"), Code: InvalidZone, Severity: Warning,
		Msg: fmt.Sprintf("the default zone %s does not exist%s: %s is used", missing, hint(missing, Names(c.Zones)), c.Conf.DefaultZone),
	})
}

// usableDefault is the default zone or, when it does not exist, the first of those that firewalld tries instead.
func usableDefault(c *Config) string {
	for _, name := range []string{c.Conf.DefaultZone, "public", "external", "block"} {
		if c.Zones[name] != nil {
			return name
		}
	}
	return c.Conf.DefaultZone
}
