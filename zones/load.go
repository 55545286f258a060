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

// Dirs are the folders of a configuration. A folder that does not exist is empty, as is "".
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
	l := &loader{dirs: dirs, before: before}
	c := l.read()
	return usable(c, append(l.problems, Check(c)...))
}

// Read reads a configuration as Load does, but without Check: for the commands that mend one which does not pass it. The
// Config is nil when a file cannot be read, save direct.xml, as in firewalld: it has the direct rules that can be read then, and
// Save refuses to write them.
func Read(dirs Dirs) (*Config, Problems) {
	l := &loader{dirs: dirs, before: &Config{}, mendsDirect: true}
	c := l.read()
	l.problems.sort()
	for _, p := range l.problems.errors() {
		if p.Object.Kind != KindDirect {
			return nil, l.problems
		}
	}
	return c, l.problems
}

// usable is a configuration if nothing of what is wrong is an Error, and the problems in order.
func usable(c *Config, problems Problems) (*Config, Problems) {
	problems.sort()
	if problems.Err() != nil {
		return nil, problems
	}
	return c, problems
}

// loader reads files, and collects what is wrong with them.
type loader struct {
	dirs     Dirs
	before   *Config
	problems Problems

	mends bool // what is broken is left out, as LoadRest says; if not, it stays without content
	// mendsDirect is mends for direct.xml alone.
	mendsDirect bool
	losses      []Loss
}

// read reads what there is.
func (l *loader) read() *Config {
	shipped, before := builtin(), l.before
	c := &Config{
		Conf: DefaultConf(), Own: DefaultOwnConf(), Direct: &Direct{}, ZoneParts: map[string]*Zone{},
		IPSets:    loadKind(l, "ipsets", ipsetKind, shipped.IPSets, before.IPSets),
		ICMPTypes: loadKind(l, "icmptypes", icmpTypeKind, shipped.ICMPTypes, before.ICMPTypes),
		Helpers:   loadKind(l, "helpers", helperKind, shipped.Helpers, before.Helpers),
		Services:  loadKind(l, "services", serviceKind, shipped.Services, before.Services),
		Zones:     loadKind(l, "zones", zoneKind, shipped.Zones, before.Zones),
		Policies:  loadKind(l, "policies", policyKind, shipped.Policies, before.Policies),
	}
	c = l.zoneFolders(c)
	loadFile(l, "firewalld.conf", &c.Conf, ReadConf, mendConf)
	loadFile(l, "richwall.conf", &c.Own, ReadOwnConf, mendOwnConf)
	loadFile(l, "direct.xml", &c.Direct, ReadDirect, mendDirect)
	l.defaultZone(c)
	return c
}

func (l *loader) add(p *Problem) { l.problems = append(l.problems, p) }

// unknown adds a problem because of which it is not known what a whole file or folder says.
func (l *loader) unknown(p *Problem) {
	l.add(p)
	if l.mends {
		l.losses = append(l.losses, Loss{p, Doubtful})
	}
}

// below is the path of what is in a folder of the configuration; "" if the folder is "", which has nothing.
func below(folder string, names ...string) string {
	if folder == "" {
		return ""
	}
	return filepath.Join(append([]string{folder}, names...)...)
}

// entries is what is in a folder, sorted by name; exists is false when there is no such folder.
func (l *loader) entries(folder string) (entries []os.DirEntry, exists bool) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		l.unknown(unreadable(folder, err))
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
func loadKind[T any](l *loader, folder string, k *objectKind[T], embedded, before map[string]*T) map[string]*T {
	own := map[string]string{}
	path := below(l.dirs.System, folder)
	entries, _ := l.entries(path)
	for _, e := range entries {
		if name, ok := objectName(e); ok {
			own[name] = filepath.Join(path, e.Name())
		}
	}
	objects := map[string]*T{}
	add := func(name string, origin Origin) {
		if o := loadObject(l, Meta{Name: name, Origin: origin}, before[name], k); o != nil {
			objects[name] = o
		}
	}
	shipped := l.shipped(folder, Names(embedded))
	for _, name := range Names(shipped) {
		switch path := shipped[name]; {
		case own[name] != "":
		case path == "":
			objects[name] = embedded[name]
		default:
			add(name, Origin{Path: path, Builtin: true})
		}
	}
	for _, name := range Names(own) {
		_, shadows := shipped[name]
		add(name, Origin{Path: own[name], Shadows: shadows})
	}
	return objects
}

// shipped is the path of each shipped object of a kind, "" for the embedded ones.
func (l *loader) shipped(kind string, embedded []string) map[string]string {
	paths := map[string]string{}
	folder := below(l.dirs.Default, kind)
	entries, exists := l.entries(folder)
	if !exists {
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
// reported as well, or what mended makes of it. One whose file nothing was wrong with, and which has not changed, is the one before.
func loadObject[T any](l *loader, m Meta, before *T, k *objectKind[T]) *T {
	data, err := os.ReadFile(m.Origin.Path)
	var object *T
	var problems Problems
	if err != nil {
		problems = Problems{unreadable(m.Origin.Path, err)}
	} else {
		sum := sha256.Sum256(data)
		if before != nil && k.meta(before).sum == sum && k.meta(before).Origin == m.Origin {
			return before
		}
		if object, problems = k.read(m.Name, data, m.Origin.Path); len(problems) == 0 {
			k.meta(object).sum = sum
		}
	}
	for _, p := range problems {
		p.Object = Object{k.kind, m.Name}
	}
	l.problems = append(l.problems, problems...)
	switch {
	case l.mends && problems.Err() != nil:
		return mended(l, m, data, problems, k)
	case object == nil:
		object = new(T)
		k.meta(object).Name = m.Name
	}
	k.meta(object).Origin = m.Origin
	return object
}

// loadFile reads one of the files that there is one of, if it is there.
func loadFile[T any](l *loader, name string, object **T, read func([]byte, string) (*T, Problems), mend func(*loader, []byte, *T, Problems) *T) {
	path := below(l.dirs.System, name)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		l.unknown(unreadable(path, err))
		return
	}
	result, problems := read(data, path)
	l.problems = append(l.problems, problems...)
	if (l.mends || l.mendsDirect && name == "direct.xml") && problems.Err() != nil {
		result = mend(l, data, result, problems.errors())
	}
	if result != nil {
		*object = result
	}
}

// zoneFolders reads the zones that a folder of files makes up together.
func (l *loader) zoneFolders(c *Config) *Config {
	base := below(l.dirs.System, "zones")
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
				part := loadObject(l, m, l.before.ZoneParts[m.Name], zoneKind)
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
	l.unknown(&Problem{
		Path: filepath.Join(l.dirs.System, "firewalld.conf"), Code: InvalidZone, Severity: Warning,
		Msg:    fmt.Sprintf("the default zone %s does not exist%s: %s is used", missing, hint(missing, Names(c.Zones)), c.Conf.DefaultZone),
		Notice: fmt.Sprintf("ERROR: Default zone '%s' is not valid. Using '%s'.", missing, c.Conf.DefaultZone),
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
