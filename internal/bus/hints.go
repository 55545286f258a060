package bus

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"richwall/grammar"
	"richwall/internal/daemon"
	"richwall/zones"
)

// The error that a client gets is firewalld's to the letter, because programs compare it. What there is to say besides is kept for
// the client to ask for: in which file and line a mistake is, and which name was meant.

// Bounds of what is kept: for so many clients of root, for as many of all others together, and so many lines for each, of at most
// longest bytes.
const (
	mostHinted = 16
	mostHints  = 20
)

// hints are those of the last refused calls, or of what was done, by client.
type hints struct {
	mu      sync.Mutex
	clients map[bool][]string // of root, and of others; the oldest first
	lines   map[string][]string
}

// keep keeps the hints of a client's call that was refused, in place of former ones.
func (h *hints) keep(client string, uid uint32, lines []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.put(client, uid, lines[:min(len(lines), mostHints)])
}

// add keeps one line more for a client. Of too many the newest stay.
func (h *hints) add(client string, uid uint32, line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lines := append(slices.Clone(h.lines[client]), line)
	h.put(client, uid, lines[max(0, len(lines)-mostHints):])
}

// take are the lines that are kept for a client, which are not kept any longer.
func (h *hints) take(client string, uid uint32) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	lines := h.lines[client]
	h.put(client, uid, nil)
	return lines
}

// put makes lines those that are kept for a client. The lock is held.
func (h *hints) put(client string, uid uint32, lines []string) {
	if h.lines == nil {
		h.clients, h.lines = map[bool][]string{}, map[string][]string{}
	}
	clients := slices.DeleteFunc(h.clients[uid == superuser], func(c string) bool { return c == client })
	delete(h.lines, client)
	if len(lines) > 0 {
		if len(clients) == mostHinted {
			delete(h.lines, clients[0])
			clients = clients[1:]
		}
		clients = append(clients, client)
		for _, line := range lines {
			h.lines[client] = append(h.lines[client], clip(line))
		}
	}
	h.clients[uid == superuser] = clients
}

// forget forgets all hints: on another bus, the names of clients are others'.
func (h *hints) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients, h.lines = nil, nil
}

// of are the hints of a client's last call that was refused.
func (h *hints) of(client string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.lines[client])
}

// reloads are the calls that put the files in force.
var reloads = map[string]bool{"reload": true, "completeReload": true}

// hintsOf is what there is to say of a refused call beyond the error: what of the files is wrong and where, or which name was meant.
func (s *Server) hintsOf(in *inbound, err error) []string {
	if lines := s.inFilesAlone(in, err); len(lines) > 0 {
		return lines
	}
	if lines := daemon.Explain(err); len(lines) > 0 {
		return lines
	}
	var refused *daemon.Error
	if !errors.As(err, &refused) {
		return nil
	}
	if refused.Code == daemon.PanicMode {
		return []string{"in panic mode nothing is changed: firewall-cmd --panic-off ends it"}
	}
	if refused.Msg == "" {
		return nil
	}
	now := s.daemon.Snapshot()
	cfg := now.Runtime
	if strings.HasPrefix(in.iface, base+".config") {
		cfg = now.Permanent
	}
	if names := namesFor(cfg, refused.Code); !slices.Contains(names, refused.Msg) {
		if near := zones.Nearest(refused.Msg, names); near != "" {
			return []string{near}
		}
	}
	return nil
}

// inFilesAlone says of a name that the configuration which was asked for does not have that a reload brings it: the permanent configuration
// has it, or a file that was made since the files were read.
func (s *Server) inFilesAlone(in *inbound, err error) []string {
	if daemon.OfFiles(err) {
		return nil
	}
	code, name, _ := strings.Cut(wire(err), ": ")
	if before, _, found := strings.Cut(name, "' not among existing "); found {
		name = before[strings.LastIndex(before, "'")+1:]
	}
	i := slices.IndexFunc(kinds, func(k *kind) bool { return string(k.missing) == code })
	if i < 0 || zones.CheckName(kinds[i].name, name) != nil {
		return nil
	}
	k, now := kinds[i], s.daemon.Snapshot()
	has := func(cfg *zones.Config) bool { return cfg != nil && slices.Contains(k.objects.names(cfg), name) }
	permanent := has(now.Permanent)
	if permanent && (has(now.Runtime) || strings.HasPrefix(in.iface, base+".config")) {
		return nil
	}
	if !permanent && !s.daemon.HasFile(s.ctx, strings.ToLower(k.plural)+"/"+name+".xml") {
		return nil
	}
	return []string{k.name + " " + name + " is in the files: firewall-cmd --reload puts it in force"}
}

// namesFor are the names of the objects that a code is about; none for other codes.
func namesFor(cfg *zones.Config, code grammar.Code) []string {
	for _, k := range kinds {
		if cfg != nil && k.missing == code {
			return k.objects.names(cfg)
		}
	}
	return nil
}
