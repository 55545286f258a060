package kernel

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Numbers of linux/netfilter/ipset/ip_set.h.
const (
	ipsetProtocol = 6 // the version that each kernel takes
	ipsetSwap     = 6 // IPSET_CMD_SWAP
)

// errNoSwap is that the kernel refuses an exchange of two sets, as it always will: one of them is not there, or they are of different types.
var errNoSwap = errors.New("the kernel refuses to exchange two sets")

// swapSets exchanges the names of two sets. The kernel itself is asked, and answers: of a program that was ended nobody knows whether it has done
// it. On an error nothing is exchanged; it is errNoSwap unless it may pass.
func (t tools) swapSets(one, other string) error {
	var conn *netlink.Conn
	err := t.enter(func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot open a netlink socket: %w", err)
	}
	defer conn.Close()
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{ // IPSET_ATTR_PROTOCOL, _SETNAME and _SETNAME2
		{Type: 1, Data: []byte{ipsetProtocol}}, {Type: 2, Data: append([]byte(one), 0)}, {Type: 3, Data: append([]byte(other), 0)}})
	if err != nil {
		return err
	}
	for range 50 { // while another program lists one of them, the kernel does not exchange it
		_, err = conn.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_IPSET<<8 | ipsetSwap, Flags: netlink.Request | netlink.Acknowledge},
			Data:   append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, attributes...)})
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var refused *netlink.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && !slices.ContainsFunc([]error{unix.EBUSY, unix.ENOMEM, unix.ENOBUFS, unix.EPERM}, func(e error) bool { return errors.Is(err, e) }):
		return fmt.Errorf("%w, %s and %s: %w", errNoSwap, one, other, err)
	}
	return fmt.Errorf("cannot exchange set %s and set %s: %w", one, other, err)
}
