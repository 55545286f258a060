package firewallcmd

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"richwall/compile"
	"richwall/internal/lost"
	"richwall/internal/statedir"
	"richwall/zones"
)

// Where the files are unless the command line says otherwise.
const (
	systemConfig  = "/etc/firewalld"
	defaultConfig = "/usr/lib/firewalld"
)

// files is the permanent configuration as firewall-offline-cmd sees it.
type files struct {
	disk     zones.Store
	config   *zones.Config  // what the files say
	problems zones.Problems // what was wrong with them when they were read, and kept nothing but direct.xml from being used
	broken   bool           // some of them cannot be read, and the configuration is without what is wrong in them
	changed  bool           // they were written since they were read
}

// openFiles reads the files in two folders; "" means the usual ones. A change that was cut off is taken back where the files are about to
// change. For who only reads it is an error of the folder.
func openFiles(system, shipped string, changes bool) (*files, zones.Problems) {
	disk := diskOf(system, shipped)
	read := disk.Read
	if changes {
		read = disk.ReadToChange
	}
	config, problems := read()
	if config == nil {
		return nil, problems
	}
	return &files{disk: disk, config: config, problems: problems}, problems
}

// openBroken reads files of which some cannot be read, for a command that changes another one, or takes out of a file what is wrong
// there. The result is nil if more is wrong than objects.
func openBroken(system, shipped string) *files {
	disk := diskOf(system, shipped)
	rest := zones.LoadRest(disk.Dirs, &zones.Config{})
	for _, l := range rest.Losses {
		if o := l.Problem.Object; o.Name == "" || o.Kind == zones.KindConf || o.Kind == zones.KindDirect {
			return nil
		}
	}
	disk.Unchanged = false // a file that is broken may be written anew
	return &files{disk: disk, config: rest.Config, problems: rest.Problems, broken: true}
}

// changing are the verbs that are done although some files cannot be read.
var changing = map[verb]bool{
	doAdd: true, doRemove: true, doChange: true, doAddFile: true, doRemoveFile: true, doSet: true,
	doNew: true, doNewFromFile: true, doDelete: true, doDefaults: true,
}

// writes tells whether a verb changes files of the folder. The others take back nothing that was cut off there.
func writes(v verb) bool {
	switch v {
	case doSetDefaultZone, doSetLogDenied, doDirectAdd, doDirectRemove, doDirectClear, doMigrate:
		return true
	}
	return changing[v]
}

// diskOf is where the files in two folders are; "" means the usual ones. A file that somebody changes between being read and written, such as
// the daemon, is not written over.
func diskOf(system, shipped string) zones.Store {
	return zones.Store{Dirs: zones.Dirs{
		System: cmp.Or(system, systemConfig), Default: cmp.Or(shipped, defaultConfig), Follow: true,
	}, Unchanged: true}
}

// notices are what is wrong with files that keeps nothing but direct.xml from being used: a line as firewalld prints it, and one
// that says where, by file and line, and what to do.
func notices(problems zones.Problems) []string {
	var lines []string
	for _, p := range problems {
		switch {
		case p.Severity == zones.Error && p.Object.Kind == zones.KindDirect:
			code, detail := p.Wire()
			lines = append(lines, fmt.Sprintf("ERROR: Failed to load direct rules file '%s': %s: %s", p.Path, code, detail), p.String())
		case p.Severity == zones.Error:
		case p.Notice != "":
			lines = append(lines, p.Notice, p.String())
		default:
			lines = append(lines, "WARNING: "+p.Unlabelled())
		}
	}
	return lines
}

// errorsOf are the problems of severity Error.
func errorsOf(problems zones.Problems) zones.Problems {
	return slices.DeleteFunc(slices.Clone(problems), func(p *zones.Problem) bool { return p.Severity != zones.Error })
}

// brokenFiles is what is wrong with the files, so that nothing can be done with them.
type brokenFiles struct {
	problems zones.Problems
	asked    bool // the command line asked for it
}

func (b *brokenFiles) Error() string { return b.problems.Error() }
func (b *brokenFiles) Unwrap() error { return b.problems }

// lines are a problem as lines of output. firewalld's words come first where they are known, as scripts look for them.
func (b *brokenFiles) lines(p *zones.Problem) []string {
	what := "Error"
	if b.asked {
		what = "Configuration error"
	}
	switch {
	case p.Wording != nil:
		code, detail := p.Wire()
		return []string{fmt.Sprintf("%s: %s: %s", what, code, detail), p.String()}
	case !b.asked:
		return []string{p.String()}
	}
	place := p.Path
	if p.Line > 0 {
		place = fmt.Sprintf("%s:%d", place, p.Line)
	}
	return []string{fmt.Sprintf("Configuration error: %s: %s (%s)", p.Code, p.Msg, place)}
}

// apply makes edits, checks and compiles what they bring, and writes what differs.
func (f *files) apply(edits ...zones.Edit) error {
	next, err := zones.Apply(f.config, edits...)
	if err != nil {
		return err
	}
	if _, err := (compile.History{}).CheckEdit(f.config, next); err != nil {
		return err
	}
	if err := f.lost(); err != nil {
		return err
	}
	next, err = f.disk.Save(f.config, next)
	if err != nil {
		return err
	}
	f.config, f.changed = next, f.changed || next != f.config
	return nil
}

// lost is an error, with code COMMAND_FAILED, when the daemon would take the files for lost: it refuses to reload then, and what is written
// into them would hide that.
func (f *files) lost() error {
	state, err := statedir.For(statedir.Base(), f.disk.Dirs.System)
	if err == nil {
		err = lost.Check(f.disk, state)
	}
	if err != nil {
		return &zones.Problem{Code: zones.CommandFailed, Msg: err.Error()}
	}
	return nil
}

func objectOf(k *kind, name string) zones.Object {
	return zones.Object{Kind: zones.Kind(k.name), Name: name}
}

func (f *files) defaultZone() (string, error) { return f.config.Conf.DefaultZone, nil }

func (f *files) names(k *kind) ([]string, error) { return slices.Sorted(maps.Keys(f.metas(k))), nil }

// metas is what every object of a kind has.
func (f *files) metas(k *kind) map[string]*zones.Meta {
	switch k.name {
	case "zone":
		all := metasOf(f.config.ZoneParts, func(o *zones.Zone) *zones.Meta { return &o.Meta })
		for name, zone := range f.config.Zones {
			if all[name] == nil && !f.combined(name) {
				all[name] = &zone.Meta
			}
		}
		return all
	case "policy":
		return metasOf(f.config.Policies, func(o *zones.Policy) *zones.Meta { return &o.Meta })
	case "service":
		return metasOf(f.config.Services, func(o *zones.Service) *zones.Meta { return &o.Meta })
	case "ipset":
		return metasOf(f.config.IPSets, func(o *zones.IPSet) *zones.Meta { return &o.Meta })
	case "icmptype":
		return metasOf(f.config.ICMPTypes, func(o *zones.ICMPType) *zones.Meta { return &o.Meta })
	}
	return metasOf(f.config.Helpers, func(o *zones.Helper) *zones.Meta { return &o.Meta })
}

// combined says whether a zone is made up of the files of a folder, which are changed each on its own.
func (f *files) combined(name string) bool {
	for part := range f.config.ZoneParts {
		if filepath.Dir(part) == name {
			return true
		}
	}
	return false
}

func metasOf[T any](objects map[string]*T, meta func(*T) *zones.Meta) map[string]*zones.Meta {
	all := make(map[string]*zones.Meta, len(objects))
	for name, object := range objects {
		all[name] = meta(object)
	}
	return all
}

func (f *files) get(k *kind, name string) (settings, error) {
	found, err := zones.Get(f.config, zones.Command, objectOf(k, name))
	return fromZones(k, found), err
}

func (f *files) put(k *kind, name string, changed settings) error {
	return f.apply(zones.Update(zones.Command, objectOf(k, name), toZones(k, changed)))
}

func (f *files) create(k *kind, name string, all settings) error {
	return f.apply(zones.New(objectOf(k, name), toZones(k, all)))
}

func (f *files) delete(k *kind, name string) error { return f.apply(zones.Delete(objectOf(k, name))) }

// shipped is the configuration without the administrator's files.
func (f *files) shipped() (*zones.Config, error) {
	config, problems := f.disk.Shipped()
	if config == nil {
		return nil, problems
	}
	return config, nil
}

func (f *files) loadDefaults(k *kind, name string) error {
	shipped, err := f.shipped()
	if err != nil {
		return err
	}
	return f.apply(zones.LoadDefaults(objectOf(k, name), shipped))
}

// path is the file of an object; "" if it is built in.
func (f *files) path(k *kind, name string) (string, error) {
	meta := f.metas(k)[name]
	if meta == nil {
		_, err := f.get(k, name)
		return "", err
	}
	return meta.Origin.Path, nil
}

func (f *files) zoneOf(field *field, value string) (string, error) {
	return zones.ZoneOf(f.config, zones.Command, zones.Item{Key: keyOf[field.key], Args: []string{value}})
}

func (f *files) open(k *kind, name string) (place, error) {
	_, err := f.get(k, name)
	return &filesPlace{files: f, object: objectOf(k, name), next: f.config}, err
}

func (f *files) setDefaultZone(zone string) error {
	return f.apply(zones.SetDefaultZone(zone, f.disk.Says("DefaultZone", zone)))
}
func (f *files) automaticHelpers() (string, error) { return "no", nil }
func (f *files) setAutomaticHelpers(string) error  { return nil }
func (f *files) setLogDenied(value string) error {
	return f.apply(zones.SetLogDenied(value, f.disk.Says("LogDenied", value)))
}
func (f *files) logDenied() (string, error) { return f.config.Conf.LogDenied, nil }

// reset makes the files mean the shipped configuration. They need not be readable for that.
func (f *files) reset() error {
	next, _, err := f.disk.Reset(zones.Always)
	if err == nil {
		f.config, f.changed = next, true
	}
	return err
}

// check looks for what does not fit together, and asks as a reload does whether files are lost. Files that cannot be read are not even opened.
func (f *files) check() error {
	if err := f.lost(); err != nil {
		return err
	}
	for _, problems := range []zones.Problems{f.problems, zones.Check(f.config)} {
		if errors := errorsOf(problems); len(errors) > 0 {
			return &brokenFiles{errors, true}
		}
	}
	return nil
}
