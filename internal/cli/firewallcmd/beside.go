package firewallcmd

import (
	"cmp"
	"context"
	"path/filepath"
	"time"
)

// etc is the folder that a firewalld on the system bus has. It is a variable for tests.
var etc = systemConfig

// changingOthers are the verbs that change firewalld.conf, direct.xml or everything. Those that change an object are changing.
var changingOthers = map[verb]bool{
	doReset: true, doSetDefaultZone: true, doSetLogDenied: true, doDirectAdd: true, doDirectRemove: true, doDirectClear: true, doPassthrough: true,
}

// besideDaemon warns, if files were changed without the daemon, that one runs: as in firewalld, it has read the files before, and writes
// what it knows of an object over them. Whether one has another folder than /etc/firewalld cannot be told, and is not asked.
func (s *session) besideDaemon() {
	if files, ok := s.store.(*files); !ok || !files.changed {
		return
	}
	if filepath.Clean(cmp.Or(s.value("system-config"), systemConfig)) == etc && daemonRuns() {
		s.out.hint("firewalld is running, and does not know of this change: run firewall-cmd --reload before anything else is changed, or it is lost " +
			"where firewalld writes the same file; firewall-cmd --permanent makes changes that are not lost")
	}
}

// daemonRuns tells whether a firewalld is on the system bus. A bus that does not answer at once has none.
func daemonRuns() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	found := make(chan bool, 1)
	go func() {
		d, err := dial()
		if err != nil {
			found <- false
			return
		}
		defer d.close()
		var has bool
		err = d.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, busName).Store(&has)
		found <- err == nil && has
	}()
	select {
	case has := <-found:
		return has
	case <-ctx.Done():
		return false
	}
}
