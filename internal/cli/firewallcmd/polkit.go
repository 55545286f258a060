package firewallcmd

import (
	"fmt"
	"os"
	"path/filepath"
)

// polkitActions is where polkit looks for who may do what. The file of firewalld is a link to one of two.
const (
	polkitActions = "/usr/share/polkit-1/actions"
	polkitFile    = "org.fedoraproject.FirewallD1.policy"
)

// choosePolkit makes the rules for servers or those for desktops the ones that polkit has.
func (s *session) choosePolkit() error {
	if err := linkPolkit(polkitActions, s.option.item); err != nil {
		s.out.complain(err.Error())
		return exitStatus(2)
	}
	s.out.print("success")
	return nil
}

// linkPolkit makes the link in a folder. It is made beside the old one and then put in its place, so that there is one at
// any time.
func linkPolkit(folder, choice string) error {
	target := "org.fedoraproject.FirewallD1." + choice + ".policy.choice"
	if _, err := os.Stat(filepath.Join(folder, target)); err != nil {
		return fmt.Errorf("cannot choose the rules for a %s: %w", choice, err)
	}
	link := filepath.Join(folder, polkitFile)
	if err := os.Symlink(target, link+".new"); err != nil {
		return fmt.Errorf("cannot choose the rules for a %s: %w", choice, err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		return fmt.Errorf("cannot choose the rules for a %s: %w", choice, err)
	}
	return nil
}
