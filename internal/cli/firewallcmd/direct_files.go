package firewallcmd

import (
	"strconv"

	"richwall/zones"
)

// filesDirect is direct.xml.
type filesDirect struct{ files *files }

func (f *files) direct() (directStore, error) { return filesDirect{f}, nil }

var directObject = zones.Object{Kind: zones.KindDirect}

// item is a row as package zones takes it.
func (r directRow) item(what string) zones.Item {
	switch what {
	case "chains":
		return zones.Item{Key: zones.KeyChain, Args: []string{r.IPV, r.Table, r.Chain}}
	case "rules":
		return zones.Item{Key: zones.KeyDirectRule, Args: append([]string{r.IPV, r.Table, r.Chain, strconv.Itoa(int(r.Priority))}, r.Args...)}
	}
	return zones.Item{Key: zones.KeyPassthrough, Args: append([]string{r.IPV}, r.Args...)}
}

func (d filesDirect) add(what string, row directRow) error {
	return d.files.apply(zones.Add(zones.Command, directObject, row.item(what)))
}

// remove takes a row out, also one of a table that does not exist, if the file has it.
func (d filesDirect) remove(what string, row directRow) error {
	err := d.files.apply(zones.Remove(zones.Command, directObject, row.item(what)))
	if wrong := row.check(what); wrong != nil && err != nil && harmless(err) {
		return wrong
	}
	return err
}

// check tells what is wrong with the IP version or the table of a row. A passthrough has its table among its words.
func (r directRow) check(what string) error {
	if what == "passthroughs" {
		return nil
	}
	return zones.CheckDirect(r.IPV, r.Table)
}

func (d filesDirect) query(what string, row directRow) (bool, error) {
	if err := row.check(what); err != nil {
		return false, err
	}
	return zones.Has(d.files.config, zones.Command, directObject, row.item(what))
}

func (d filesDirect) clear(where directRow) error {
	return d.files.apply(zones.RemoveDirectRules(where.IPV, where.Table, where.Chain))
}

func (d filesDirect) list(what string) ([]directRow, error) {
	var rows []directRow
	all := d.files.config.Direct
	switch what {
	case "chains":
		for _, c := range all.Chains {
			rows = append(rows, directRow{IPV: c.IPV, Table: c.Table, Chain: c.Chain})
		}
	case "rules":
		for _, r := range all.Rules {
			rows = append(rows, directRow{r.IPV, r.Table, r.Chain, int32(r.Priority), r.Args})
		}
	default:
		for _, p := range all.Passthroughs {
			rows = append(rows, directRow{IPV: p.IPV, Args: p.Args})
		}
	}
	return rows, nil
}

func (d filesDirect) some(what string, where directRow) ([]directRow, error) {
	if err := where.check(what); err != nil {
		return nil, err
	}
	all, err := d.list(what)
	var rows []directRow
	for _, row := range all {
		if row.IPV == where.IPV && row.Table == where.Table && (what == "chains" || row.Chain == where.Chain) {
			rows = append(rows, row)
		}
	}
	return rows, err
}
