package zones

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Dirs are the folders of a configuration. A folder that does not exist is empty, as is "".
type Dirs struct {
	System  string // the administrator's, usually /etc/firewalld
	Default string // the shipped one, usually /usr/lib/firewalld; kinds that it has no folder for are the embedded ones
	// Follow is for folders that only root can write: links in them are followed wherever they lead, as firewalld does. Without it,
	// nothing outside of the folders is read, whatever a stranger has put into them. They may be links themselves in either case.
	Follow bool
	// Room is an error if there is no memory for so many bytes more; nil is any amount. What there is no room for is not read, and a
	// problem of its file.
	Room func(bytes int64) error
}

// The memory that it takes to read a file and what is in it, in times of its size: the elements of an ipset are entries, of which
// little is kept; those of other files have attributes and others within them.
const (
	ipsetRoom = 3
	otherRoom = 10
)

// room is an error if there is no memory to read what is in a file of some bytes.
func (d Dirs) room(name string, size int) error {
	switch {
	case d.Room == nil:
		return nil
	case strings.HasPrefix(name, "ipsets/"):
		return d.Room(ipsetRoom * int64(size))
	}
	return d.Room(otherRoom * int64(size))
}

// Load reads a configuration: the administrator's files over the shipped ones. The problems are everything that is wrong;
// the Config is nil when one of them is an Error.
func Load(dirs Dirs) (*Config, Problems) { return LoadAgain(dirs, &Config{}) }

// LoadAgain is Load by one who has read the configuration before. Objects of files that have not changed since are the ones
// of before.
func LoadAgain(dirs Dirs, before *Config) (*Config, Problems) {
	l := &loader{dirs: dirs, before: before}
	c := l.read()
	return usable(c, append(l.problems.report(), Check(c)...))
}

// Read reads a configuration as Load does, but without Check: for the commands that mend one which does not pass it. The
// Config is nil when a file cannot be read, save direct.xml, as in firewalld: it has the direct rules that can be read then, and
// Save refuses to write them.
func Read(dirs Dirs) (*Config, Problems) {
	l := &loader{dirs: dirs, before: &Config{}, mendsDirect: true}
	c := l.read()
	problems := l.problems.report()
	for _, p := range problems.errors() {
		if p.Object.Kind != KindDirect {
			return nil, problems
		}
	}
	return c, problems
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
	dirs         Dirs
	system, rest *folder // the administrator's, and the shipped one
	before       *Config
	problems     collector

	mends       bool // what is broken is left out, as LoadRest says; if not, it stays without content
	mendsDirect bool // mends for direct.xml alone
	losses      []Loss
	passed      Problems // warnings about what is passed over, each of which is a loss when it is known what refers to its object
	noConf      bool     // as of Rest
	conf        *ConfFile
}

// read reads what there is.
func (l *loader) read() *Config {
	l.system, l.rest = l.open(l.dirs.System), l.open(l.dirs.Default)
	defer l.system.close()
	defer l.rest.close()
	if p := l.system.unfinished(); p != nil {
		l.unknown(p)
	}
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
	l.warnExposed(l.system)
	l.warnExposed(l.rest)
	return c
}

// unknown adds a problem because of which it is not known what a whole file or folder says.
func (l *loader) unknown(p *Problem) {
	l.problems.add(p)
	if l.mends {
		l.losses = append(l.losses, Loss{p, Doubtful})
	}
}

// open opens a folder; one that cannot be read is empty, with a problem.
func (l *loader) open(path string) *folder {
	f, err := openFolder(path, l.dirs.Follow)
	if err != nil {
		l.unknown(unreadable(path, err))
		return &folder{}
	}
	f.room = l.dirs.Room
	return f
}

// entries is what is in a folder, sorted by name; none when there is no such folder.
func (l *loader) entries(f *folder, name string) []fs.DirEntry {
	entries, err := f.list(name)
	if err != nil {
		l.unknown(unreadable(f.join(name), err))
	}
	return entries
}

func unreadable(path string, err error) *Problem {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	p := &Problem{Path: path, Code: InvalidFilename, Msg: fmt.Sprintf("cannot read it: %v", err)}
	return p.worded("cannot read %s: %v", path, err) // what goes over D-Bus has no place
}

// objectName is the name of the object that a file is for. A folder of such a name stands where the file should be, so that it is the
// object's as well, and cannot be read.
func objectName(e fs.DirEntry) (name string, ok bool) { return strings.CutSuffix(e.Name(), ".xml") }

// loadKind reads all objects of a kind, from three layers, name by name: a file of the administrator hides a shipped one, which is not even
// read, and a shipped file hides the object that is built in. A folder hides nothing by being there: where another package has put one file
// into the shipped folder, such as NetworkManager's zones/nm-shared.xml, all else is what is built in.
func loadKind[T any](l *loader, name string, k *objectKind[T], embedded, before map[string]*T) map[string]*T {
	own, shipped := l.objectFiles(l.system, name), l.objectFiles(l.rest, name)
	objects := map[string]*T{}
	add := func(f *folder, file string, m Meta) {
		m.Origin.Path = f.join(file)
		if o := loadObject(l, f, file, m, before[m.Name], k); o != nil {
			objects[m.Name] = o
		}
	}
	for name, object := range embedded {
		if own[name] == "" && shipped[name] == "" {
			objects[name] = object
		}
	}
	for _, name := range Names(shipped) {
		if own[name] == "" {
			add(l.rest, shipped[name], Meta{Name: name, Origin: Origin{Builtin: true}})
		}
	}
	for _, name := range Names(own) {
		shadows := shipped[name] != "" || embedded[name] != nil
		add(l.system, own[name], Meta{Name: name, Origin: Origin{Shadows: shadows}})
	}
	return objects
}

// objectFiles are the files of a folder below one by the names of the objects that they are for; nil, with a problem, if there are more
// in all than may be read.
func (l *loader) objectFiles(f *folder, name string) map[string]string {
	files := map[string]string{}
	for _, e := range l.entries(f, name) {
		if object, ok := objectName(e); ok && !f.isLock(name+"/"+e.Name(), e) && !l.isHidden(f, name, e) {
			files[object] = name + "/" + e.Name()
		}
	}
	if f.files -= len(files); f.files < 0 {
		l.unknown(unreadable(f.join(name), fmt.Errorf("there are more than %d files of objects in all, the most that are read of a folder that is not trusted", maxStrangeFiles)))
		return nil
	}
	return files
}

// isHidden tells whether something in a folder below is hidden, and has a name that no object of that folder can have, such as the swap file
// .public.xml.xml of an editor. It is passed over with a warning. Ipsets and helpers may have such names, as in firewalld.
func (l *loader) isHidden(f *folder, name string, e fs.DirEntry) bool {
	object, _ := objectName(e)
	folder, _, _ := strings.Cut(name, "/")
	kind := topFolders[folder]
	if !strings.HasPrefix(e.Name(), ".") || CheckName(kind, object) == nil {
		return false
	}
	l.problems.add(&Problem{
		Path: f.join(name + "/" + e.Name()), Code: InvalidName, Severity: Warning,
		Msg: fmt.Sprintf("the name of this file begins with a dot, and no %s can have such a name: it is ignored", kind),
	})
	return true
}

// hashSeed is of this process, so that nobody can write two files with one sum.
var hashSeed = maphash.MakeSeed()

// fileSum is the same for the same content, and in all likelihood another one for any other.
func fileSum(data []byte) uint64 { return maphash.Bytes(hashSeed, data) }

// loadObject reads the file of an object. A broken one gives an object without content, so that references to it are not
// reported as well, or what mended makes of it. One whose file nothing was wrong with, and which has not changed, is the one before.
func loadObject[T any](l *loader, f *folder, file string, m Meta, before *T, k *objectKind[T]) *T {
	if !l.mends && l.problems.found[Error] > keptInAll {
		return nil // there is more than enough to mend
	}
	if before != nil && !k.meta(before).lossy && k.meta(before).sum != 0 && k.meta(before).Origin == m.Origin && f.holds(file, maxFileBytes, k.meta(before).sum) {
		return before
	}
	data, err := f.read(file, maxFileBytes)
	var object *T
	var problems Problems
	if err != nil {
		problems = Problems{unreadable(m.Origin.Path, err)}
	} else {
		sum := fileSum(data)
		if err := l.dirs.room(file, len(data)); err != nil {
			data, problems = nil, Problems{unreadable(m.Origin.Path, err)}
		} else if object, problems = k.read(m.Name, data, m.Origin.Path); len(problems) == 0 {
			k.meta(object).sum = sum
		}
	}
	for _, p := range problems {
		p.Object = Object{k.kind, m.Name}
		l.problems.add(p)
	}
	if object != nil && problems.lose() {
		k.meta(object).lossy = true
	}
	switch {
	case !l.mends:
	case problems.Err() == nil:
		l.pass(problems)
	default:
		return mended(l, m, data, problems, k)
	}
	if object == nil {
		object = new(T)
		k.meta(object).Name = m.Name
	}
	k.meta(object).Origin = m.Origin
	return object
}

// pass keeps the warnings about what is passed over.
func (l *loader) pass(problems Problems) {
	for _, p := range problems {
		if p.lost {
			l.passed = append(l.passed, p)
		}
	}
}

// lose tells whether a part of a file was passed over that would not be there any more if the file was written anew.
func (l Problems) lose() bool {
	return slices.ContainsFunc(l, func(p *Problem) bool { return p.lost && !p.stays })
}

// loadFile reads one of the files that there is one of, if it is there.
func loadFile[T any](l *loader, name string, object **T, read func([]byte, string) (*T, Problems), mend func(*loader, []byte, *T, Problems) *T) {
	path, limit := l.system.join(name), int64(maxFileBytes)
	if strings.HasSuffix(name, ".conf") {
		limit = maxConfBytes
	}
	data, err := l.system.read(name, limit)
	if err == nil {
		err = l.dirs.room(name, len(data))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.noConf = l.noConf || name == "firewalld.conf"
		return
	case err != nil:
		l.unknown(unreadable(path, err))
		return
	}
	result, problems := read(data, path)
	for _, p := range problems {
		l.problems.add(p)
	}
	if l.mends || l.mendsDirect && name == "direct.xml" {
		result = mend(l, data, result, problems)
	}
	if result != nil {
		*object = result
	}
}

// zoneFolders reads the zones that a folder of files makes up together.
func (l *loader) zoneFolders(c *Config) *Config {
	entries, _ := l.system.list("zones") // what is wrong with it is known
	for _, e := range entries {
		if !l.isZoneFolder(e) {
			continue
		}
		folder := "zones/" + e.Name()
		files := l.objectFiles(l.system, folder)
		if files != nil && len(files) == 0 && CheckName("zone", e.Name()) == nil {
			l.unknown(&Problem{
				Path: l.system.join(folder), Code: InvalidZone, Severity: Warning, Object: Object{KindZone, e.Name()},
				Msg: fmt.Sprintf("the folder has no file of a part of zone %s: it is ignored", e.Name()),
			})
		}
		for _, name := range Names(files) {
			m := Meta{Name: e.Name() + "/" + name, Origin: Origin{Path: l.system.join(files[name])}}
			if part := loadObject(l, l.system, files[name], m, l.before.ZoneParts[m.Name], zoneKind); part != nil {
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

// isZoneFolder tells whether something in the folder of zones is a folder of parts, or a link to one. Hidden folders are what programs
// that swap whole folders keep beside them, such as ..data, and are passed over. A link that cannot be followed may stand for a
// folder of parts, which is a problem, unless no zone can have its name, such as public.xml.old.
func (l *loader) isZoneFolder(e fs.DirEntry) bool {
	if _, object := objectName(e); object || strings.HasPrefix(e.Name(), ".") {
		return false
	}
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	name := "zones/" + e.Name()
	info, err := l.system.stat(name)
	if err != nil && CheckName("zone", e.Name()) != nil {
		return false
	}
	if err != nil {
		p := unreadable(l.system.join(name), l.system.explain(name, err))
		p.Object = Object{KindZone, e.Name()}
		l.unknown(p)
		return false
	}
	return info.IsDir()
}

// lostByMerging warns about what does not count in a part of a zone, and about a zone that the parts hide.
func (l *loader) lostByMerging(part, hidden *Zone) {
	if part.Target != TargetDefault && part.Target != "" || part.IngressPriority != 0 || part.EgressPriority != 0 {
		l.problems.add(&Problem{
			Path: part.Origin.Path, Code: InvalidTarget, Severity: Warning,
			Msg: "the target and priorities of this file are ignored: a zone made up of several files has the defaults",
		})
	}
	if hidden != nil {
		l.problems.add(&Problem{
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
	conf.DefaultZone, conf.missing = usableDefault(c), missing
	c.Conf = &conf
	l.unknown(&Problem{
		Path: filepath.Join(l.dirs.System, "firewalld.conf"), Line: l.lineOf("firewalld.conf", "DefaultZone"), Code: InvalidZone, Severity: Warning,
		Msg:    fmt.Sprintf("the default zone %s does not exist%s", missing, cmp.Or(quotesIn(missing), hint(missing, Names(c.Zones)).String())),
		Then:   fmt.Sprintf("the zone %s is used", c.Conf.DefaultZone),
		Notice: fmt.Sprintf("ERROR: Default zone '%s' is not valid. Using '%s'.", missing, c.Conf.DefaultZone),
	})
}

// lineOf is the line, from 1, of the setting of a key that counts in a file; 0 when it is not known.
func (l *loader) lineOf(name, key string) int {
	if l.system == nil {
		return 0
	}
	data, err := l.system.read(name, maxConfBytes)
	if err != nil {
		return 0
	}
	for i, line := range ParseConfFile(data).lines {
		if set, value, ok := splitSetting(line); ok && set == key && value != "" {
			return i + 1
		}
	}
	return 0
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
