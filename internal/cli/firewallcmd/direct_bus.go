package firewallcmd

import "github.com/godbus/dbus/v5"

// busDirect is the direct interface of a daemon: the running or the permanent one.
type busDirect struct {
	daemon *daemon
	path   dbus.ObjectPath
	iface  string
}

var directMethod = map[string]string{"chains": "Chain", "rules": "Rule", "passthroughs": "Passthrough"}

// args are the fields of a row that a method takes.
func (r directRow) args(what string) []any {
	switch what {
	case "chains":
		return []any{r.IPV, r.Table, r.Chain}
	case "rules":
		return []any{r.IPV, r.Table, r.Chain, r.Priority, r.Args}
	}
	return []any{r.IPV, r.Args}
}

func (d *busDirect) call(method string, args []any, results ...any) error {
	return d.daemon.call(d.path, d.iface, method, args, results...)
}

func (d *busDirect) add(what string, row directRow) error {
	return d.call("add"+directMethod[what], row.args(what))
}

func (d *busDirect) remove(what string, row directRow) error {
	return d.call("remove"+directMethod[what], row.args(what))
}

func (d *busDirect) query(what string, row directRow) (yes bool, err error) {
	err = d.call("query"+directMethod[what], row.args(what), &yes)
	return yes, err
}

func (d *busDirect) clear(where directRow) error {
	return d.call("removeRules", []any{where.IPV, where.Table, where.Chain})
}

func (d *busDirect) list(what string) ([]directRow, error) {
	var rows []directRow
	var err error
	switch what {
	case "chains":
		var list []struct{ IPV, Table, Chain string }
		err = d.call("getAllChains", nil, &list)
		for _, c := range list {
			rows = append(rows, directRow{IPV: c.IPV, Table: c.Table, Chain: c.Chain})
		}
	case "rules":
		var list []struct {
			IPV, Table, Chain string
			Priority          int32
			Args              []string
		}
		err = d.call("getAllRules", nil, &list)
		for _, r := range list {
			rows = append(rows, directRow(r))
		}
	default:
		var list []struct {
			IPV  string
			Args []string
		}
		err = d.call("getAllPassthroughs", nil, &list)
		for _, p := range list {
			rows = append(rows, directRow{IPV: p.IPV, Args: p.Args})
		}
	}
	return rows, err
}

func (d *busDirect) some(what string, where directRow) ([]directRow, error) {
	var rows []directRow
	var err error
	switch what {
	case "chains":
		var list []string
		err = d.call("getChains", []any{where.IPV, where.Table}, &list)
		for _, chain := range list {
			rows = append(rows, directRow{IPV: where.IPV, Table: where.Table, Chain: chain})
		}
	case "rules":
		var list []struct {
			Priority int32
			Args     []string
		}
		err = d.call("getRules", []any{where.IPV, where.Table, where.Chain}, &list)
		for _, r := range list {
			rows = append(rows, directRow{where.IPV, where.Table, where.Chain, r.Priority, r.Args})
		}
	default:
		var list [][]string
		err = d.call("getPassthroughs", []any{where.IPV}, &list)
		for _, args := range list {
			rows = append(rows, directRow{IPV: where.IPV, Args: args})
		}
	}
	return rows, err
}
