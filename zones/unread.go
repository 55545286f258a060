package zones

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// What a configuration consists of: files, and folders of files by what one of them holds.
var (
	topFiles   = []string{"firewalld.conf", "richwall.conf", "direct.xml"}
	topFolders = map[string]string{
		"zones": "zone", "policies": "policy", "services": "service", "ipsets": "ipset", "icmptypes": "icmptype", "helpers": "helper",
	}
	formerFiles = []string{"lockdown-whitelist.xml"} // of former versions of firewalld
)

// Unread warns about what is in the administrator's folder as if it were to be read, and is not: a file or folder whose name is nearly
// right. Copies such as public.xml.old, hidden files and what has nothing to do with a firewall are left alone.
func Unread(dirs Dirs) Problems {
	f, err := openFolder(dirs.System, dirs.Follow)
	if err != nil {
		return nil // which a load says
	}
	defer f.close()
	var problems Problems
	warn := func(name, format string, args ...any) {
		problems = append(problems, &Problem{Path: f.join(name), Code: InvalidFilename, Severity: Warning, Msg: "this is not read: " + fmt.Sprintf(format, args...)})
	}
	entries, _ := f.list(".")
	for _, e := range entries {
		if why := strayAtTop(e); why != "" {
			warn(e.Name(), "%s", why)
		}
	}
	for _, folder := range Names(topFolders) {
		entries, _ := f.list(folder)
		for _, e := range entries {
			if why := strayIn(folder, e); why != "" {
				warn(folder+"/"+e.Name(), "%s", why)
			}
		}
	}
	return problems
}

// oldCopy matches the name of what a file held before it was changed.
var oldCopy = regexp.MustCompile(`\.old(\.\d+)?$`)

// strayAtTop says what was meant by a file or folder beside firewalld.conf; "" if it belongs there or nothing is known of it.
func strayAtTop(e fs.DirEntry) string {
	name := e.Name()
	switch {
	case strings.HasPrefix(name, "."), slices.Contains(topFiles, name), topFolders[name] != "", slices.Contains(formerFiles, name):
		return ""
	case e.IsDir():
		for _, folder := range Names(topFolders) {
			if strings.EqualFold(name, topFolders[folder]) {
				return fmt.Sprintf("did you mean %s?", folder)
			}
		}
		return Nearest(name, Names(topFolders))
	case path.Ext(name) == ".xml" && Nearest(name, topFiles) == "":
		return "files of zones are in the folder zones, of policies in policies, and so on"
	case strings.HasSuffix(name, "~"), oldCopy.MatchString(name):
		return ""
	}
	return Nearest(name, topFiles)
}

// strayIn says what was meant by a file or folder in a folder of objects; "" if it is read or plainly not meant to be.
func strayIn(folder string, e fs.DirEntry) string {
	name := e.Name()
	stem, ext := strings.TrimSuffix(name, path.Ext(name)), path.Ext(name)
	switch {
	case strings.HasPrefix(name, "."), ext == ".xml":
		return ""
	case e.IsDir():
		if folder == "zones" { // the parts of a zone
			return ""
		}
		return fmt.Sprintf("files must be in %s itself", folder)
	case ext == "" || ext == ".xml~" || editDistance(strings.ToLower(ext), ".xml") > 1:
		return ""
	}
	return fmt.Sprintf("did you mean %s.xml?", stem)
}
