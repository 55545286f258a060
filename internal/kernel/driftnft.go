package kernel

import (
	"golang.org/x/sys/unix"

	"richwall/compile/ir"
)

// Watch implements Watcher.
func (k *nftables) Watch(f func(Foreign)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch.told = f
	if k.direct != nil {
		k.direct.Watch(f)
	}
	go k.watch.follow(k.look)
}

// Allow implements Watcher. What the user changes directly is not in our tables, but may be in those of iptables.
func (k *nftables) Allow(f func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.direct == nil {
		return f()
	}
	return k.direct.Allow(f)
}

// look reviews what was heard, and returns what nobody was told of yet.
func (k *nftables) look() []Foreign {
	k.mu.Lock()
	defer k.mu.Unlock()
	generation, err := k.socket.generation()
	if err == nil {
		_, err = k.review(generation)
	}
	if err != nil && !k.watch.monitor.ended() {
		k.options.Log.Error(err.Error())
	}
	return k.watch.reports()
}

// review finds out whether what is installed is still there at a generation. It returns a later one if there is one by then.
func (k *nftables) review(generation uint32) (uint32, error) {
	if k.installed == nil || generation == k.watch.generation {
		return generation, nil
	}
	return k.watch.review(generation, k)
}

// concerns implements subject.
func (k *nftables) concerns(p part) bool {
	if p.kind != elementPart || k.installed.Rules == nil {
		return true
	}
	for _, s := range k.installed.Rules.Sets {
		if s.Name == p.name {
			return !expires(s)
		}
	}
	return true
}

// differences implements subject.
func (k *nftables) differences() ([]string, error) {
	var list []string
	if k.installed.Rules != nil {
		want, err := k.installed.live()
		if err != nil {
			return nil, err
		}
		now, err := k.socket.readTable(ir.Table)
		if err != nil {
			return nil, err
		}
		list = want.differences(ir.Table, now)
	}
	if k.installed.Panic {
		now, err := k.socket.readTable(panicTable)
		if err != nil {
			return nil, err
		}
		want := livePanic()
		want.handle = now.handle // it has no rules, so that one is as good as another
		list = append(list, want.differences(panicTable, now)...)
	}
	return list, nil
}

// tableHandle is the handle of a table; 0 if there is none, or if it is not known whether it is that of a generation.
func (s *socket) tableHandle(name string, generation uint32) uint64 {
	var handle uint64
	err := s.dump(unix.NFT_MSG_GETTABLE, unix.NFPROTO_INET, nil, func(body []byte) {
		if text(attribute(body, tableName)) == name {
			handle = number64(attribute(body, tableHandle))
		}
	})
	if now, asked := s.generation(); err != nil || asked != nil || now != generation {
		return 0
	}
	return handle
}
